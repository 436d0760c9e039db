"""The tables that the receiver writes: making them, and whether it may use them."""

from daemon.database import statements
from daemon.database.pool import Database
from daemon.errors import ConfigurationError
from daemon.ingest.reference_schema import changed_schema, run_script
from daemon.ingest.schema import REFERENCE_TABLES

RECEIVER_TABLES = ("TelegraEvents", "TelegraCalls", "TelegraCodes")
TELEGRA_TABLES = (*REFERENCE_TABLES, *RECEIVER_TABLES)
"""Tables that `migrate --telegra` creates."""
SEQUENCE = "TelegraIDs"

_SQL = statements.load("telegra/tables.sql")


async def create_telegra_tables(database: Database, schema: str) -> list[str]:
    """Create the source tables and the receiver's own, in the first source schema.

    Returns those that were missing. Raises `ConfigurationError`, with nothing changed, where the
    tables are another ACD's.
    """
    async with changed_schema(database, schema) as (connection, there):
        if "statisticsparta" in there and "telegracalls" not in there:
            raise ConfigurationError(
                f"schema {schema} has StatisticsPartA without TelegraCalls: these are the tables "
                "of another ACD, and nothing was changed; set CALLSTATSD_SOURCE_SCHEMAS to a "
                "schema of its own, such as telegra"
            )
        await run_script(connection, "reference_schema.sql")
        await run_script(connection, "telegra_schema.sql")
    return [table for table in TELEGRA_TABLES if table.lower() not in there]


async def table_faults(database: Database) -> list[str]:
    """Return a sentence for each table that is missing or may not be written."""
    async with database.connection() as connection:
        names = [table.lower() for table in TELEGRA_TABLES]
        rights = {row["name"]: row for row in await connection.fetch(_SQL["rights"], names)}
        sequence = await connection.fetchval(_SQL["sequence_right"], SEQUENCE.lower())
    missing = [table for table in TELEGRA_TABLES if table.lower() not in rights]
    if missing:
        return [f"{', '.join(missing)} missing in the source: run `callstatsd migrate --telegra`"]
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
