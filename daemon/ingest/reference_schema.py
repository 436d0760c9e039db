"""Creates the ACD's tables as the contracts have them, for demo, tests and a first trial."""

from collections.abc import Sequence

from daemon.database.errors import faults
from daemon.database.pool import Database, quoted
from daemon.ingest.schema import REFERENCE_TABLES
from daemon.ledger.migrate import MIGRATION_LOCK, folder


async def create_reference_schema(database: Database, schema: str) -> list[str]:
    """Create the ACD's tables where they are missing, in the first source schema.

    Returns those that were missing. Raises `UnreachableError`.
    """
    statements = (folder() / "reference_schema.sql").read_text(encoding="utf-8")
    connection = await database.connect()
    try:
        with faults(database.place):
            async with connection.transaction():
                await connection.execute(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
                rows = await connection.fetch(
                    "SELECT tablename FROM pg_tables WHERE schemaname = $1", schema
                )
                await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}")
                await connection.execute(f"SET LOCAL search_path TO {quoted(schema)}")
                await connection.execute(statements)
    finally:
        await connection.close()
    there = {row["tablename"] for row in rows}
    return [table for table in REFERENCE_TABLES if table.lower() not in there]


def reference_schema_sentence(created: Sequence[str], schema: str) -> str:
    """Return a sentence: which of the ACD's tables were created, and which were there."""
    there = [table for table in REFERENCE_TABLES if table not in created]
    if not created:
        return f"The ACD's {len(there)} tables are in schema {schema} already."
    sentence = f"Created in schema {schema}: {', '.join(created)}."
    return f"{sentence} Already there: {', '.join(there)}." if there else sentence
