"""The commands. Results go to stdout, logs to stderr; `main` turns errors into exit codes."""

import asyncio
import sys
from collections.abc import Coroutine
from typing import Annotated, Any

import orjson
import typer
import uvloop

from daemon import __version__, logs, service, status
from daemon.database import Database
from daemon.desk import Desk
from daemon.errors import CallstatsdError, ConfigurationError
from daemon.ledger import Binding, open_ledger
from daemon.lifecycle import stop_on_signals
from daemon.settings import Settings, load_settings
from daemon.source import open_source

app = typer.Typer(
    name="callstatsd",
    help="Deliver the statistics of finished ACD calls from Postgres to Salesforce.",
    epilog="Settings are CALLSTATSD_* variables, also read from .env; see .env.example.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def main() -> None:
    """Run a command; a fault of set-up or surroundings is told in plain lines, not a trace."""
    try:
        app()
    except CallstatsdError as error:
        faults = error.faults if isinstance(error, ConfigurationError) else (str(error),)
        for fault in faults:
            sys.stderr.write(f"callstatsd: {fault}\n")
        sys.exit(error.exit_code)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"callstatsd {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    """Deliver the statistics of finished ACD calls from Postgres to Salesforce."""


@app.command()
def run() -> None:
    """Run the daemon: take finished calls and send them until told to stop.

    SIGTERM or Ctrl-C finishes what is in flight and exits 0; a second one stops at once.

    Example: callstatsd run
    """
    settings = load_settings(to_send=True)
    logs.configure(settings.log_format, settings.log_level, settings.log_personal_data)

    async def serve() -> None:
        with stop_on_signals() as stop:
            await service.run(settings, stop)

    try:
        _run(serve())
    except asyncio.CancelledError:
        raise typer.Exit(1) from None


@app.command("migrate")
def migrate_command(
    reference_schema: Annotated[
        bool,
        typer.Option(
            "--reference-schema",
            help="Also create the ACD's tables in the first source schema (demo, tests).",
        ),
    ] = False,
    rebind: Annotated[
        bool,
        typer.Option("--rebind", help="Let the ledger belong to the client and source set now."),
    ] = False,
    sql: Annotated[
        bool,
        typer.Option("--sql", help="Print the script for a DBA instead; changes nothing."),
    ] = False,
) -> None:
    """Create or upgrade the ledger, bind it to its source; safe to repeat.

    Example: callstatsd migrate
    """
    from daemon import migrate  # noqa: PLC0415 - alembic is slow to load, and only needed here

    settings = _settings()
    if sql:
        typer.echo(migrate.script(settings.ledger_schema))
        return
    _run(_migrate(settings, reference_schema=reference_schema, rebind=rebind))
    typer.echo(f"The ledger in schema {settings.ledger_schema} is up to date.")


@app.command("status")
def status_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Show how many lines are in which state, and what the sender does.

    Example: callstatsd status --json
    """
    settings = _settings()

    async def read() -> status.Report:
        ledger_dsn = settings.ledger_dsn.get_secret_value()
        async with open_ledger(ledger_dsn, settings.ledger_schema) as ledger:
            await ledger.check_version()
            return status.report(await Desk(ledger.database).overview())

    report = _run(read())
    if as_json:
        typer.echo(orjson.dumps(report))
    else:
        status.show(report)


@app.command()
def demo(
    calls: Annotated[int, typer.Option(help="How many calls to make.", min=1)] = 200,
    seed: Annotated[int, typer.Option(help="The same seed makes the same calls.")] = 1,
    serve_only: Annotated[
        bool, typer.Option("--serve-only", help="Serve only the Salesforce stand-in.")
    ] = False,
    port: Annotated[int, typer.Option(help="Port of --serve-only; 0 for any free one.")] = 8080,
) -> None:
    """Show the whole way of a call on this machine; needs no settings.

    Starts an embedded Postgres with sample calls and a stand-in for Salesforce, and runs the
    daemon until every line is settled.

    Example: callstatsd demo --calls 500
    """
    from daemon.demo import play  # noqa: PLC0415 - the demo's parts are an extra

    if serve_only:
        _run(play.serve_only(port, seed))
    else:
        raise typer.Exit(_run(play.play(calls, seed)))


async def _migrate(settings: Settings, *, reference_schema: bool, rebind: bool) -> None:
    from daemon import migrate  # noqa: PLC0415

    source_dsn = settings.source_dsn.get_secret_value()
    ledger_dsn = settings.ledger_dsn.get_secret_value()
    schemas = settings.source_schemas
    if reference_schema:
        # Not through the source's own sessions: those are read only.
        async with Database("source", source_dsn, session={}, size=1) as database:
            await migrate.create_reference_schema(database, schemas[0])
    async with open_ledger(ledger_dsn, settings.ledger_schema) as ledger:
        await migrate.upgrade(ledger.database, settings.ledger_schema)
        await ledger.check_version()
        async with open_source(
            source_dsn, schemas, settings.source_timezone, settings.clients_id
        ) as source:
            clock = await source.clock()
        wanted = Binding(settings.clients_id, clock.database, schemas)
        await ledger.bind(wanted, rebind=rebind)


def _settings() -> Settings:
    """Read the settings for a command that answers on stdout; its one fault is told by `main`."""
    settings = load_settings()
    logs.configure(settings.log_format, "critical", settings.log_personal_data)
    return settings


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)
