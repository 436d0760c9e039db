"""The tables that the receiver writes, and whether it may."""

from collections.abc import Sequence

from daemon.database import statements
from daemon.database.pool import Database
from daemon.ingest.schema import REFERENCE_TABLES

RECEIVER_TABLES = ("TelegraEvents", "TelegraCalls", "TelegraCodes")
TELEGRA_TABLES = (*REFERENCE_TABLES, *RECEIVER_TABLES)
"""Tables that `migrate --telegra` creates."""
SEQUENCE = "TelegraIDs"

_SQL = statements.load("telegra/tables.sql")


async def missing_tables(database: Database) -> list[str]:
    """Return the receiver's own tables that are missing: all where it was never set up."""
    async with database.connection() as connection:
        names = [table.lower() for table in RECEIVER_TABLES]
        there = {row["name"] for row in await connection.fetch(_SQL["rights"], names)}
    return [table for table in RECEIVER_TABLES if table.lower() not in there]


def missing_tables_sentence(missing: Sequence[str]) -> str:
    """Return a sentence: which tables are missing, and how to make them."""
    return f"{', '.join(missing)} missing in the source: run `callstatsd migrate --telegra`"


async def table_faults(database: Database) -> list[str]:
    """Return a sentence for each table that is missing or may not be written."""
    async with database.connection() as connection:
        names = [table.lower() for table in TELEGRA_TABLES]
        rights = {row["name"]: row for row in await connection.fetch(_SQL["rights"], names)}
        sequence = await connection.fetchval(_SQL["sequence_right"], SEQUENCE.lower())
    missing = [table for table in TELEGRA_TABLES if table.lower() not in rights]
    if missing:
        return [missing_tables_sentence(missing)]
    refused = [table for table in TELEGRA_TABLES if not rights[table.lower()]["writable"]]
    refused += [] if sequence else [f"the sequence {SEQUENCE}"]
    if not refused:
        return []
    fault = (
        f"the source's user may not write {', '.join(refused)}: grant SELECT, INSERT, UPDATE and "
        "DELETE on the tables and USAGE on the sequence; let a DBA run what "
        f"{database.place.script} prints"
    )
    return [fault]
