"""Creates the tables that the receiver writes."""

from daemon.database.pool import Database
from daemon.errors import ConfigurationError
from daemon.ingest.reference_schema import changed_schema, run_script, tables_in
from daemon.telegra.tables import TELEGRA_TABLES


async def create_telegra_tables(database: Database, schema: str) -> list[str]:
    """Create the source tables and the receiver's own, in the first source schema.

    Returns those that were missing. Raises `ConfigurationError`, with nothing changed, where the
    tables are another ACD's.
    """
    async with changed_schema(database, schema) as (connection, there):
        _refuse_others(there, schema)
        await run_script(connection, "reference_schema.sql")
        await run_script(connection, "telegra_schema.sql")
    return [table for table in TELEGRA_TABLES if table.lower() not in there]


async def check_schema(database: Database, schema: str) -> None:
    """Raise `ConfigurationError` for a schema that has another ACD's tables."""
    async with database.connection() as connection:
        _refuse_others(await tables_in(connection, schema), schema)


def _refuse_others(there: set[str], schema: str) -> None:
    if "statisticsparta" in there and "telegracalls" not in there:
        raise ConfigurationError(
            f"schema {schema} has StatisticsPartA without TelegraCalls: these are the tables "
            "of another ACD, and nothing was changed; set CALLSTATSD_SOURCE_SCHEMAS to a "
            "schema of its own, such as telegra"
        )
