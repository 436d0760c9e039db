"""What `migrate` does: the source's tables where asked for, then the ledger and its binding."""

from enum import Enum

import typer

from daemon.cli.grants import Grants
from daemon.database.errors import Place
from daemon.database.pool import Database
from daemon.ingest import reference_schema as reference
from daemon.ingest.schema import REFERENCE_TABLES, TABLES
from daemon.ingest.source import open_source
from daemon.ledger import migrate as migrations
from daemon.ledger.binding import SCHEMA_VERSION, Binding
from daemon.ledger.store import Ledger, open_ledger
from daemon.settings.model import Settings
from daemon.telegra.setup import check_schema, create_telegra_tables
from daemon.telegra.tables import SEQUENCE, TELEGRA_TABLES
from daemon.terminal import say


class SourceTables(Enum):
    """Which tables `migrate` creates in the source."""

    REFERENCE = "reference"
    TELEGRA = "telegra"


async def migrate(settings: Settings, tables: SourceTables | None, *, rebind: bool) -> None:
    """Print each step as soon as it is done, because the next one may fail."""
    ledger_dsn = settings.ledger_dsn.get_secret_value()
    schema = settings.ledger_schema
    async with open_ledger(ledger_dsn, schema) as ledger:
        await ledger.check_upgradable()
        if tables is not None:
            await _check_before(settings, tables, ledger, rebind=rebind)
        patience = settings.request_timeout + migrations.STOPS_WITHIN
        async with migrations.undisturbed(ledger, patience):
            if tables is not None:
                await _create_tables(settings, tables)
            before = await migrations.upgrade(ledger.database, schema)
        upgraded = migrations.upgrade_sentence(before, schema)
        if upgraded:
            say(upgraded)
        await ledger.check_version()
        wanted = await _binding(settings)
        bound = await migrations.bind(ledger, wanted, rebind=rebind)
        if bound:
            say(bound)
        elif not upgraded:
            version = f"is at version {SCHEMA_VERSION}"
            say(f"Nothing to do: the ledger in schema {schema} {version}, bound to {wanted}.")


def print_script(settings: Settings, from_version: str | None, grant_to: str | None) -> None:
    """Print the ledger's script for a DBA, with the rights of a role if one is named."""
    script = migrations.script(settings.ledger_schema, from_version)
    if grant_to:
        script = grants(settings, grant_to).script(script)
    # Bytes, because a script is UTF-8 whatever the terminal's encoding is.
    typer.echo(script.encode())


def grants(settings: Settings, role: str) -> Grants:
    """Return the rights that a role needs in both databases."""
    tables = REFERENCE_TABLES if settings.callback_url else tuple(TABLES)
    receives = bool(settings.telegra_token.get_secret_value())
    return Grants(
        role,
        Place("ledger", settings.ledger_dsn.get_secret_value()),
        settings.ledger_schema,
        Place("source", settings.source_dsn.get_secret_value()),
        settings.source_schemas,
        TELEGRA_TABLES if receives else tables,
        SEQUENCE if receives else None,
    )


async def _check_before(
    settings: Settings, tables: SourceTables, ledger: Ledger, *, rebind: bool
) -> None:
    """Refuse, before anything is changed, what would be refused after it."""
    if tables is SourceTables.TELEGRA:
        async with _source_to_change(settings) as database:
            await check_schema(database, settings.source_schemas[0])
    if not rebind:
        await ledger.check_bindable(await _binding(settings))


async def _create_tables(settings: Settings, wanted: SourceTables) -> None:
    """Create tables in the first source schema, and say which."""
    schema = settings.source_schemas[0]
    async with _source_to_change(settings) as database:
        if wanted is SourceTables.TELEGRA:
            names = TELEGRA_TABLES
            created = await create_telegra_tables(database, schema)
        else:
            names = REFERENCE_TABLES
            created = await reference.create_reference_schema(database, schema)
    say(reference.reference_schema_sentence(created, schema, names))


async def _binding(settings: Settings) -> Binding:
    """Return whose calls the settings name."""
    dsn, schemas = settings.source_dsn.get_secret_value(), settings.source_schemas
    zone, clients_id = settings.source_timezone, settings.clients_id
    async with open_source(dsn, schemas, zone, clients_id) as source:
        clock = await source.clock()
    return Binding(clients_id, clock.database, schemas)


def _source_to_change(settings: Settings) -> Database:
    """Return the source outside its own sessions, which are read only."""
    return Database("source", settings.source_dsn.get_secret_value(), session={}, size=1)
