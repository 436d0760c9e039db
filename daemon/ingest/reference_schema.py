"""Creates the ACD's tables as the contracts have them, for demo, tests and a first trial."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from daemon.database.errors import faults
from daemon.database.pool import Database, quoted
from daemon.ingest.schema import REFERENCE_TABLES
from daemon.ledger.migrate import MIGRATION_LOCK, folder


async def create_reference_schema(database: Database, schema: str) -> list[str]:
    """Create the ACD's tables where they are missing, in the first source schema.

    Returns those that were missing. Raises `UnreachableError`.
    """
    async with changed_schema(database, schema) as (connection, there):
        await run_script(connection, "reference_schema.sql")
    return [table for table in REFERENCE_TABLES if table.lower() not in there]


@asynccontextmanager
async def changed_schema(database: Database, schema: str) -> AsyncIterator[tuple[Any, set[str]]]:
    """Make the schema if it is missing and change it in one transaction, that nobody else does.

    Yields a connection whose search path it is, and what tables and views it has, in lower case.
    """
    connection = await database.connect()
    try:
        with faults(database.place):
            async with connection.transaction():
                await connection.execute(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
                there = await tables_in(connection, schema)
                await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}")
                await connection.execute(f"SET LOCAL search_path TO {quoted(schema)}")
                yield connection, there
    finally:
        await connection.close()


async def tables_in(connection: Any, schema: str) -> set[str]:
    """Return the tables and views of a schema, in lower case; none where it is missing."""
    rows = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace($1)"
        " AND relkind IN ('r', 'p', 'v', 'm', 'f')",
        quoted(schema),
    )
    return {row["relname"] for row in rows}


async def run_script(connection: Any, name: str) -> None:
    """Run a script of the migrations' folder; it is safe to repeat."""
    await connection.execute((folder() / name).read_text(encoding="utf-8"))


def reference_schema_sentence(
    created: Sequence[str], schema: str, tables: Sequence[str] = REFERENCE_TABLES
) -> str:
    """Return a sentence: which of the tables were created, and which were there."""
    there = [table for table in tables if table not in created]
    if not created:
        return f"The ACD's {len(there)} tables are in schema {schema} already."
    sentence = f"Created in schema {schema}: {', '.join(created)}."
    return f"{sentence} Already there: {', '.join(there)}." if there else sentence
