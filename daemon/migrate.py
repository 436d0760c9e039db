"""Creates and upgrades the ledger (alembic), and the reference schema where asked for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import StringIO
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from daemon import queries
from daemon.database import Database, faults, quoted
from daemon.errors import ConfigurationError
from daemon.ledger import LOCK_CLASS, SCHEMA_VERSION, UPGRADE_CLASS, Ledger

# One constant for all ledgers of a database: migrations are rare, so they may take turns.
_MIGRATION_LOCK = 0x63616C6C73746174
_SQL = queries.load("ledger.sql")

STOPS_WITHIN = 10.0
"""Seconds beyond REQUEST_TIMEOUT that an active instance may take to stop (contract, section 8)."""


def folder() -> Path:
    """Return the migrations: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "_migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


@asynccontextmanager
async def undisturbed(ledger: Ledger, patience: float) -> AsyncIterator[None]:
    """Keep instances away from a ledger while it is upgraded; the active one is asked to stop.

    It hears that with its heartbeat, and drains. Where there is no ledger yet, or nothing to
    change, nobody is asked. Raises `ConfigurationError`, with nothing changed, naming an instance
    that has not stopped after so many seconds.
    """
    if not await ledger.is_outdated():
        yield
        return
    connection = await ledger.database.connect(
        application_name="callstatsd migrate", idle_session_timeout="0"
    )
    try:
        with ledger.database.watched():
            # Wish and lock end with the session, so a migration that is killed leaves neither.
            await connection.fetchval(_SQL["want_upgrade"], UPGRADE_CLASS + int(SCHEMA_VERSION))
            await connection.execute(_SQL["notify"])
            try:
                await connection.fetchval(_SQL["lock_patiently"], LOCK_CLASS, timeout=patience)
            except TimeoutError:
                raise ConfigurationError(await _still_there(ledger)) from None
        yield
    finally:
        connection.terminate()


async def _still_there(ledger: Ledger) -> str:
    async with ledger.database.connection() as connection:
        row = await connection.fetchrow(_SQL["instance"])
    who = "a session" if row is None else f"the instance on {row['host']} (pid {row['pid']})"
    return (
        f"{who} still has the ledger and has not stopped: nothing was changed; stop it, then run "
        "`callstatsd migrate` again"
    )


async def upgrade(database: Database, schema: str) -> None:
    """Bring the ledger to this program's version, in one transaction; safe to run twice at once.

    Raises `UnreachableError`. Whoever may not create schemas lets a DBA run `script()` first.
    """
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=database.connect, poolclass=NullPool
    )
    with faults(database.name):
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
        with faults(database.name):
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
