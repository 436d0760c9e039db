"""Creates and upgrades the ledger (alembic), and the reference schema where asked for."""

from io import StringIO
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from daemon.database import Database, quoted
from daemon.database_errors import faults

# One constant for all ledgers of a database: migrations are rare, so they may take turns.
_MIGRATION_LOCK = 0x63616C6C73746174


def folder() -> Path:
    """Return the migrations: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "_migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


async def upgrade(database: Database, schema: str) -> None:
    """Bring the ledger to this program's version, in one transaction; safe to run twice at once.

    Raises `UnreachableError`. Whoever may not create schemas lets a DBA run `script()` first.
    """
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=database.connect, poolclass=NullPool
    )
    with faults(database.place):
        try:
            async with engine.begin() as connection:
                await connection.run_sync(_upgrade, schema)
        except DBAPIError as error:
            # SQLAlchemy's error wraps its own adapter's, which wraps asyncpg's.
            raise (error.orig and error.orig.__cause__) or error from None
        finally:
            await engine.dispose()


async def create_reference_schema(database: Database, schema: str) -> None:
    """Create the tables of contract section 2 where they are missing, in the first source schema.

    Raises `UnreachableError`.
    """
    statements = (folder() / "reference_schema.sql").read_text(encoding="utf-8")
    connection = await database.connect()
    try:
        with faults(database.place):
            async with connection.transaction():
                await connection.execute(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
                await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}")
                await connection.execute(f"SET LOCAL search_path TO {quoted(schema)}")
                await connection.execute(statements)
    finally:
        await connection.close()


def script(schema: str) -> str:
    """Return the SQL of all migrations, for a DBA to run instead of `callstatsd migrate`."""
    output = StringIO()
    config = _config(schema)
    config.output_buffer = output
    command.upgrade(config, "head", sql=True)
    return output.getvalue()


def _upgrade(connection: Connection, schema: str) -> None:
    connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
    # CREATE SCHEMA IF NOT EXISTS would need the right to create even where it exists.
    exists = connection.execute(
        text("SELECT to_regnamespace(:schema) IS NOT NULL"), {"schema": quoted(schema)}
    ).scalar_one()
    if not exists:
        connection.execute(text(f"CREATE SCHEMA {quoted(schema)}"))
    connection.execute(text(f"SET LOCAL search_path TO {quoted(schema)}"))
    config = _config(schema)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _config(schema: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(folder()).replace("%", "%%"))
    config.attributes["schema"] = schema
    return config
