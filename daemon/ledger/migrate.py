"""Creates and upgrades the ledger (alembic)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from io import StringIO
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from daemon.database import statements
from daemon.database.errors import faults
from daemon.database.pool import Database, quoted
from daemon.errors import ConfigurationError, DatabaseSetupError
from daemon.ledger.binding import SCHEMA_VERSION, Binding
from daemon.ledger.locks import ACTIVE_LOCK, UPGRADE_LOCK
from daemon.ledger.store import Ledger

# One constant for all ledgers of a database: migrations are rare, so they may take turns.
MIGRATION_LOCK = 0x63616C6C73746174
_NOTIFY = statements.load("ledger/operator.sql")["notify"]
_SQL = statements.load("ledger/migrate.sql")

STOPS_WITHIN = 10.0
"""Seconds beyond REQUEST_TIMEOUT that an active instance may take to stop."""


def folder() -> Path:
    """Return the migrations: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "_migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


@asynccontextmanager
async def undisturbed(ledger: Ledger, patience: float) -> AsyncIterator[None]:
    """Keep instances away from a ledger while it is upgraded; the active one is asked to stop.

    Its next heartbeat reads the request, and it drains. Where there is no ledger yet, or nothing to
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
            await connection.fetchval(_SQL["announce_upgrade"], UPGRADE_LOCK + int(SCHEMA_VERSION))
            await connection.execute(_NOTIFY)
            try:
                await connection.fetchval(_SQL["lock_patiently"], ACTIVE_LOCK, timeout=patience)
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


async def upgrade(database: Database, schema: str) -> str | None:
    """Bring the ledger to this program's version, in one transaction; safe to run twice at once.

    Returns the version that was there, None if there was no ledger. Raises `UnreachableError`.
    Whoever may not create schemas lets a DBA run `script()` first.
    """
    # No limit for a statement: to index all lines of a large ledger takes minutes.
    connect = partial(database.connect, command_timeout=None)
    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    before = None
    try:
        with faults(database.place):
            try:
                async with engine.begin() as connection:
                    before = await connection.run_sync(_locked_version, schema)
                    await connection.run_sync(_upgrade, schema)
            except DBAPIError as error:
                # SQLAlchemy's error wraps its own adapter's, which wraps asyncpg's.
                raise (error.orig and error.orig.__cause__) or error from None
            finally:
                await engine.dispose()
    except DatabaseSetupError as error:
        if before is None:
            raise
        script = database.place.script.replace("--sql", f"--sql --from-version {before}")
        raise DatabaseSetupError(
            f"this user may not upgrade the ledger from version {before} to {SCHEMA_VERSION}: "
            f"let a DBA run what {script} prints, then start again"
        ) from error
    return before


def upgrade_sentence(before: str | None, schema: str) -> str | None:
    """Return what `upgrade` did, in words; None if there was nothing to do."""
    if before is None:
        return f"Created the ledger in schema {schema}, at version {SCHEMA_VERSION}."
    if before != SCHEMA_VERSION:
        return f"Upgraded the ledger in schema {schema} from version {before} to {SCHEMA_VERSION}."
    return None


async def bind(ledger: Ledger, wanted: Binding, *, rebind: bool) -> str | None:
    """Bind the ledger, and say what was done; None if there was nothing to do.

    Raises `ConfigurationError` for one that is bound to other calls, unless `rebind`.
    """
    before = await ledger.binding()
    await ledger.bind(wanted, rebind=rebind)
    if before is None:
        return f"Bound the ledger to {wanted}."
    if before != wanted:
        return f"Rebound the ledger from {before} to {wanted}."
    return None


def script(schema: str, since: str | None = None) -> str:
    """Return the SQL of the migrations after version `since`, or of all, for a DBA to run."""
    output = StringIO()
    config = _config(schema)
    config.output_buffer = output
    command.upgrade(config, f"{since}:head" if since else "head", sql=True)
    return output.getvalue()


def versions() -> list[str]:
    """Return all versions of the ledger, oldest first."""
    return sorted(one.revision for one in ScriptDirectory.from_config(_config("")).walk_revisions())


def _locked_version(connection: Connection, schema: str) -> str | None:
    """Let no other migration run in this transaction; return the version that is there."""
    connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
    options = {"version_table_schema": schema}
    return MigrationContext.configure(connection, opts=options).get_current_revision()


def _upgrade(connection: Connection, schema: str) -> None:
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
