"""The commands. Results go to stdout, logs to stderr; `main` turns errors into exit codes."""

import asyncio
import errno
import faulthandler
import gc
import io
import os
import shlex
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import structlog
import typer
import uvloop

from daemon import __version__, logs, terminal
from daemon.cli import check, descriptors, operations, output
from daemon.cli.options import add_settings_options, invocation, invoked
from daemon.command_text import address_commands, printable
from daemon.database.errors import Place
from daemon.database.pool import Database
from daemon.errors import CallstatsdError, ConfigurationError
from daemon.ingest.source import open_source
from daemon.ledger.acts import ActKind, operator
from daemon.ledger.binding import SCHEMA_VERSION, Binding
from daemon.ledger.grants import Grants
from daemon.ledger.operator import LineFilter, OperatorStore, StatusReport
from daemon.ledger.store import open_ledger
from daemon.lines import State
from daemon.reports import explain
from daemon.reports.lookup import look_up, rules_of
from daemon.service import backfill
from daemon.service.instance import check_ledger, open_databases, statistics_feed
from daemon.service.lifecycle import stop_on_signals
from daemon.service.run import run as run_daemon
from daemon.settings.model import Settings, find_settings, log_settings, parse_local_time, validate
from daemon.settings.sources import ETC
from daemon.terminal import say

app = typer.Typer(
    name="callstatsd",
    help="Deliver the statistics of finished ACD calls from Postgres to Salesforce.",
    epilog="Settings are CALLSTATSD_* variables of --env-file or --instance; else of the "
    "environment, .env and systemd credentials; else, but for run and demo, of "
    "/etc/callstatsd/callstatsd.env. Beside FILE.env, FILE.client-secret and so on count too.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


LEAST_ID, LARGEST_ID = -(2**63), 2**63 - 1
REFUSED = {69, 78}
"""Exit codes of a `run` that changes nothing by being repeated as it is."""
UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""What a file says to which nothing more can be written."""
INTERRUPTED = 130
"""What typer returns after Ctrl-C; the command ends with 1."""


def _readable(text: str | None) -> str | None:
    """Refuse what the shell's encoding made unreadable."""
    try:
        (text or "").encode()
    except UnicodeEncodeError:
        raise typer.BadParameter("it is no UTF-8 text") from None
    return text


def main(etc: Path = ETC) -> None:
    """Run a command; a fault of set-up or surroundings is written in plain lines, not a trace.

    `etc` is the folder of the installation's settings.
    """
    descriptors.prepare()
    terminal.prepare()
    with invoked(etc):
        sys.exit(_exit_code())


def _exit_code() -> int:
    try:
        # Not on its own, since typer would let a terminal tear what it prints.
        code = app(standalone_mode=False)
    except CallstatsdError as error:
        for fault in _faults(error):
            say(f"callstatsd: {fault}", err=True, hanging=2)
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - to the end
        say(f"callstatsd: the output cannot be written: {error.strerror or error}", err=True)
        return 1
    except Exception as error:
        # A wrong use, by whatever library typer reads arguments with: it can show itself.
        if not hasattr(error, "show"):
            raise
        shown = io.StringIO()
        error.show(file=shown)
        say(shown.getvalue().rstrip("\n"), err=True)
        return int(getattr(error, "exit_code", 2))
    if code == INTERRUPTED:
        say("Interrupted.", err=True)
        return 1
    return code if isinstance(code, int) else 0


def _faults(error: CallstatsdError) -> tuple[str, ...]:
    return error.faults if isinstance(error, ConfigurationError) else (str(error),)


@contextmanager
def _refusals_logged() -> Iterator[None]:
    """Let the log's last word be what ends a daemon, or the migration before it, for good."""
    try:
        yield
    except CallstatsdError as error:
        if error.exit_code not in REFUSED:
            raise
        logs.configure(*invocation().log)
        for fault in _faults(error):
            text = printable(fault)
            structlog.get_logger().error(logs.DAEMON_REFUSED, exit_code=error.exit_code, error=text)
        raise typer.Exit(error.exit_code) from None


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
    """Run the daemon until told to stop.

    SIGTERM or Ctrl-C finishes what is in flight and exits 0; a second one stops at once.

    Example: callstatsd run
    """
    with _refusals_logged():
        settings = _settings(to_send=True, may_default=False)
        logs.configure(*invocation().log)
        # systemd's watchdog ends a process with SIGABRT: then the log says in which line it stood.
        faulthandler.enable()

        async def serve() -> None:
            with stop_on_signals() as stop:
                await run_daemon(settings, stop)

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
    grant_to: Annotated[
        str | None,
        typer.Option(
            metavar="ROLE",
            callback=_readable,
            help="With --sql: also grant what the daemon's user needs, in both databases.",
        ),
    ] = None,
    from_version: Annotated[
        str | None,
        typer.Option(metavar="N", help="With --sql: only what is newer than this ledger version."),
    ] = None,
) -> None:
    """Create or upgrade the ledger; safe to repeat.

    Examples: callstatsd migrate; callstatsd migrate --sql --grant-to callstatsd
    """
    from daemon.ledger import migrate  # noqa: PLC0415 - alembic is slow to load, and only needed here

    if not sql and (grant_to or from_version):
        raise typer.BadParameter("--grant-to and --from-version go with --sql")
    if from_version and from_version not in migrate.versions():
        raise typer.BadParameter(f"--from-version: one of {', '.join(migrate.versions())}")
    with _refusals_logged():
        settings = _settings(may_default=not (reference_schema or rebind), writes=not sql)
        if sql:
            script = migrate.script(settings.ledger_schema, from_version)
            script = _grants(settings, grant_to).script(script) if grant_to else script
            # Bytes, as a script is UTF-8 whatever the terminal is.
            typer.echo(script.encode())
            return
        _run(_migrate(settings, reference_schema=reference_schema, rebind=rebind))


@app.command("status")
def status_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Show lines per state and what the sender does.

    Example: callstatsd status --json
    """
    settings = _settings()

    async def read() -> StatusReport:
        async with _operator_store(settings) as operator_store:
            return await operator_store.overview()

    overview = _run(read())
    if as_json:
        typer.echo(orjson.dumps(output.status_json(overview, settings.source_timezone)))
    else:
        output.show_status(overview, settings.source_timezone)


@app.command("show")
def show_command(
    call_id: Annotated[
        int | None,
        typer.Argument(
            metavar="CALL_ID", help="The ID in StatisticsPartA.", min=LEAST_ID, max=LARGEST_ID
        ),
    ] = None,
    salesforce_id: Annotated[
        str | None,
        typer.Option(
            callback=_readable,
            help="The latest calls of this Salesforce record instead, newest first.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="List each record's fields, one to a line.")
    ] = False,
) -> None:
    """Show what happened to a call, and what is next.

    Examples: callstatsd show 1201; callstatsd show --salesforce-id 0035g00000LnZXkAAN
    """
    if (call_id is None) == (salesforce_id is None):
        raise typer.BadParameter("give a CALL_ID, or --salesforce-id")
    settings = _settings()
    rules = rules_of(settings)
    found = _run(_inquire(settings, call_id, salesforce_id))
    if as_json:
        told = [explain.as_json(history, rules) for history in found]
        for call in told:
            call["note"] = printable(call["note"])
        typer.echo(orjson.dumps(told[0] if call_id is not None else told))
    elif found:
        for history in found:
            output.show_call(history, rules, verbose=verbose)
    else:
        say(f"No line of the ledger is about the record {salesforce_id}.")


@app.command("backfill")
def backfill_command(
    since: Annotated[
        str, typer.Option("--from", metavar="T", help="Calls that ended at T or later.")
    ],
    until: Annotated[str, typer.Option("--to", metavar="T", help="End of call to stop before.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    resend: Annotated[
        bool, typer.Option("--resend", help="Also send settled lines again, made anew.")
    ] = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Only take the lines; a `run` sends them.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Take and deliver the calls of a time window.

    Works beside a running daemon, which then does the sending, and without one. Interrupted, it
    may be started again and goes on. T is YYYY-MM-DD or YYYY-MM-DDThh:mm[:ss], in the ACD's zone.

    Example: callstatsd backfill --from 2026-11-01 --to 2026-11-08 --dry-run
    """
    settings = _settings(to_send=not (dry_run or no_wait), writes=not dry_run)
    period = backfill.Period(*(_time(text, settings) for text in (since, until)))
    if period.since >= period.until:
        raise typer.BadParameter("--from must be before --to")
    with output.show_progress(settings) as tell:
        try:
            progress, complete = _run(
                _backfill(settings, period, tell, dry_run=dry_run, resend=resend, wait=not no_wait)
            )
        except asyncio.CancelledError:
            raise typer.Exit(1) from None
    if as_json:
        typer.echo(orjson.dumps(output.backfill_json(progress, dry_run=dry_run, resend=resend)))
    else:
        output.show_backfill(progress, dry_run=dry_run, resend=resend)
    if not complete:
        goes_on = "`callstatsd run`, or the same command without --resend, sends what is pending."
        if not resend:
            goes_on = "the same command goes on where it was."
        say(f"Interrupted; {goes_on}", err=True)
        raise typer.Exit(1)
    if any(progress.states.get(state) for state in (State.REJECTED, State.EXPIRED, State.INVALID)):
        raise typer.Exit(1)


States = Annotated[
    list[State],
    typer.Option(
        "--state",
        metavar="STATE",
        help=f"Lines in this state, may be repeated: {', '.join(State)}.",
    ),
]
From = Annotated[
    str | None, typer.Option("--from", metavar="T", help="Only of calls that ended at T or later.")
]
To = Annotated[
    str | None, typer.Option("--to", metavar="T", help="Only of calls that ended before T.")
]
SettledFrom = Annotated[
    str | None,
    typer.Option("--settled-from", metavar="T", help="Only lines settled at T or later."),
]
SettledTo = Annotated[
    str | None, typer.Option("--settled-to", metavar="T", help="Only lines settled before T.")
]
CallId = Annotated[
    int | None, typer.Option(help="Only of this call.", min=LEAST_ID, max=LARGEST_ID)
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count.")]
Yes = Annotated[
    bool,
    typer.Option("--yes", help=f"Do not ask, also for more than {operations.ASK_ABOVE} lines."),
]


@app.command("requeue")
def requeue_command(
    state: States,
    since: From = None,
    until: To = None,
    settled_since: SettledFrom = None,
    settled_until: SettledTo = None,
    call_id: CallId = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Send settled lines again, as they were.

    Asks before more than 100 lines.

    Example: callstatsd requeue --state rejected --from 2026-11-20 --dry-run
    """
    settings = _settings(acting=True, writes=not dry_run)
    choice = _choice(settings, state, (since, until), (settled_since, settled_until), call_id)
    chosen = _chosen(settings, ActKind.REQUEUE, choice, dry_run=dry_run)
    if dry_run or not chosen:
        return
    _confirm(chosen, f"Send {_lines(chosen)} again?", yes=yes)
    changed = operations.Changed()
    with _telling_how_far(changed, lambda: f"{_lines(changed.requeued)} are sent again"):
        _run(_requeue(settings, choice, changed))
    output.show_counts(changed.lines, "now")


@app.command("discard")
def discard_command(
    state: States,
    since: From = None,
    until: To = None,
    settled_since: SettledFrom = None,
    settled_until: SettledTo = None,
    call_id: CallId = None,
    only_backfill: Annotated[
        bool, typer.Option("--backfill", help="Only lines that a backfill took.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Withdraw lines: they end as skipped.

    Takes pending, rejected, expired and invalid lines; asks before more than 100.

    Example: callstatsd discard --state pending --backfill --dry-run
    """
    settings = _settings(acting=True, writes=not dry_run)
    choice = _choice(
        settings,
        state,
        (since, until),
        (settled_since, settled_until),
        call_id,
        backfill=only_backfill,
    )
    chosen = _chosen(settings, ActKind.DISCARD, choice, dry_run=dry_run)
    if dry_run or not chosen:
        return
    _confirm(chosen, f"Discard {_lines(chosen)}?", yes=yes)
    changed = operations.Changed()
    with _telling_how_far(changed, lambda: f"{_lines(changed.lines.total())} are discarded"):
        _run(_discard(settings, choice, changed))
    say(f"{_lines(changed.lines.total())} discarded.")


@app.command("pause")
def pause_command(
    reason: Annotated[
        str | None, typer.Option(callback=_readable, help="Why, for those who look later.")
    ] = None,
) -> None:
    """Stop sending until `resume`, also across restarts.

    Example: callstatsd pause --reason "Salesforce release tonight"
    """
    _run(_pause(_settings(acting=True, writes=True), reason))
    say("Sending is paused; `callstatsd resume` lets it go on.")


@app.command("resume")
def resume_command() -> None:
    """Let sending go on after `pause`.

    A pause of the sender's own tries again at once.
    Waits up to 10 seconds to say what is then the case.

    Example: callstatsd resume
    """
    settings = _settings(acting=True, writes=True)
    output.show_resumed(_run(_resume(settings)), settings.source_timezone)


@app.command("check")
def check_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Check all that is needed, without sending a line.

    Example: callstatsd check
    """
    findings: list[check.Finding] = []

    async def examine(settings: Settings) -> None:
        async for finding in check.check(settings):
            findings.append(finding)
            if not as_json:
                output.show_finding(finding)

    try:
        _run(examine(_settings()))
    except CallstatsdError as error:
        if not as_json:
            raise
        faults = error.faults if isinstance(error, ConfigurationError) else (str(error),)
        name = "check" if findings else "settings"
        findings += [check.Finding(name, check.Verdict.FAIL, f, error.exit_code) for f in faults]
    if as_json:
        rows = [
            {"check": f.name, "verdict": f.verdict, "text": printable(f.text)} for f in findings
        ]
        typer.echo(orjson.dumps(rows))
    if codes := [finding.exit_code for finding in findings if finding.exit_code]:
        raise typer.Exit(max(codes))


@app.command()
def demo(
    calls: Annotated[int, typer.Option(help="How many calls to make.", min=1)] = 200,
    seed: Annotated[int, typer.Option(help="The same seed makes the same calls.")] = 1,
    faults: Annotated[
        bool, typer.Option("--faults", help="Salesforce has a bad day: watch the daemon cope.")
    ] = False,
    stay: Annotated[
        bool, typer.Option("--stay", help="Keep everything running until Ctrl-C, with the page.")
    ] = False,
    serve_only: Annotated[
        bool, typer.Option("--serve-only", help="Serve only the Salesforce stand-in.")
    ] = False,
    port: Annotated[
        int, typer.Option(help="Port of --serve-only; 0 for any free one.", min=0, max=65535)
    ] = 8080,
) -> None:
    """Show the whole way of a call; needs no settings.

    Starts an embedded Postgres with sample calls and a stand-in for Salesforce, and runs the
    daemon until every line is settled; with --stay until Ctrl-C, so that you can look around.

    Example: callstatsd demo --calls 500 --stay
    """
    invocation().refuse_settings()
    from daemon.demo import run as demo_run  # noqa: PLC0415 - its parts are an extra

    if serve_only:
        _run(demo_run.serve_only(port, seed))
    else:
        raise typer.Exit(_run(demo_run.run_demo(demo_run.Show(calls, seed, faults, stay))))


async def _migrate(settings: Settings, *, reference_schema: bool, rebind: bool) -> None:
    """Say what is done as soon as it is: what comes after may fail."""
    from daemon.ledger import migrate  # noqa: PLC0415

    source_dsn = settings.source_dsn.get_secret_value()
    ledger_dsn = settings.ledger_dsn.get_secret_value()
    schemas, schema = settings.source_schemas, settings.ledger_schema
    if reference_schema:
        # Not through the source's own sessions: those are read only.
        async with Database("source", source_dsn, session={}, size=1) as database:
            created = await migrate.create_reference_schema(database, schemas[0])
            say(migrate.reference_schema_sentence(created, schemas[0]))
    async with open_ledger(ledger_dsn, schema) as ledger:
        await ledger.check_upgradable()
        patience = settings.request_timeout + migrate.STOPS_WITHIN
        async with migrate.undisturbed(ledger, patience):
            before = await migrate.upgrade(ledger.database, schema)
        upgraded = migrate.upgrade_sentence(before, schema)
        if upgraded:
            say(upgraded)
        await ledger.check_version()
        async with open_source(
            source_dsn, schemas, settings.source_timezone, settings.clients_id
        ) as source:
            clock = await source.clock()
        wanted = Binding(settings.clients_id, clock.database, schemas)
        bound = await migrate.bind(ledger, wanted, rebind=rebind)
        if bound:
            say(bound)
        elif not upgraded:
            version = f"is at version {SCHEMA_VERSION}"
            say(f"Nothing to do: the ledger in schema {schema} {version}, bound to {wanted}.")


def _grants(settings: Settings, role: str) -> Grants:
    return Grants(
        role,
        Place("ledger", settings.ledger_dsn.get_secret_value()),
        settings.ledger_schema,
        Place("source", settings.source_dsn.get_secret_value()),
        settings.source_schemas,
    )


async def _inquire(
    settings: Settings, call_id: int | None, record: str | None
) -> list[explain.CallHistory]:
    async with open_databases(settings) as (source, ledger):
        await check_ledger(settings, source, ledger)
        return await look_up(source, OperatorStore(ledger.database), call_id, record)


async def _backfill(
    settings: Settings,
    period: backfill.Period,
    tell: Callable[[backfill.BackfillProgress], None],
    *,
    dry_run: bool,
    resend: bool,
    wait: bool,
) -> tuple[backfill.BackfillProgress, bool]:
    with stop_on_signals() as stop:
        progress = await backfill.backfill(
            settings, period, stop, tell, dry_run=dry_run, resend=resend, wait=wait
        )
        return progress, not stop.is_set()


def _chosen(settings: Settings, kind: ActKind, choice: LineFilter, *, dry_run: bool) -> int:
    """Show how many lines a choice has, per state, and return their sum."""
    refused = operations.refusal(kind, choice)
    if refused is not None:
        raise typer.BadParameter(refused)

    async def count() -> dict[str, int]:
        async with _operator_store(settings) as operator_store:
            return await operator_store.count(choice)

    counts: dict[str, int] = _run(count())
    would = "would be sent again" if kind is ActKind.REQUEUE else "would be discarded"
    output.show_counts(counts, would if dry_run else "chosen")
    return sum(counts.values())


def _confirm(chosen: int, question: str, *, yes: bool) -> None:
    """Ask before many lines are changed; ends the command unless somebody says yes."""
    if yes or chosen <= operations.ASK_ABOVE:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise typer.BadParameter(
            f"{_lines(chosen)} are chosen and nobody can be asked here: add --yes to change them "
            "all the same, or choose fewer; nothing was changed"
        )
    if not typer.confirm(question, err=True):
        typer.echo("Nothing was changed.", err=True)
        raise typer.Exit(1)


@contextmanager
def _telling_how_far(changed: operations.Changed, done: Callable[[], str]) -> Iterator[None]:
    """Say how many lines were changed where the work was interrupted; then exit with 1."""
    with suppress(asyncio.CancelledError):
        yield
    if not changed.complete:
        typer.echo(
            f"Interrupted: {done()} so far; the same command goes on with the rest.", err=True
        )
        raise typer.Exit(1)


async def _requeue(settings: Settings, choice: LineFilter, changed: operations.Changed) -> None:
    with stop_on_signals() as stop:
        async with open_databases(settings) as (source, ledger):
            await check_ledger(settings, source, ledger)
            feed = statistics_feed(settings, source)
            operator_store = OperatorStore(ledger.database)
            await operations.requeue(operator_store, feed, choice, operator(), changed, stop)


async def _discard(settings: Settings, choice: LineFilter, changed: operations.Changed) -> None:
    with stop_on_signals() as stop:
        async with _operator_store(settings) as operator_store:
            await operations.discard(operator_store, choice, operator(), changed, stop)


async def _pause(settings: Settings, reason: str | None) -> None:
    async with _operator_store(settings) as operator_store:
        await operations.hold(operator_store, reason, operator())


async def _resume(settings: Settings) -> operations.AfterResume:
    async with _operator_store(settings) as operator_store:
        return await operations.resume(operator_store, operator())


def _lines(count: int) -> str:
    return f"{count:,} line" if count == 1 else f"{count:,} lines"


@asynccontextmanager
async def _operator_store(settings: Settings) -> AsyncIterator[OperatorStore]:
    async with open_databases(settings) as (source, ledger):
        await check_ledger(settings, source, ledger)
        yield OperatorStore(ledger.database)


def _choice(
    settings: Settings,
    states: list[State],
    ended: tuple[str | None, str | None],
    settled: tuple[str | None, str | None],
    call_id: int | None,
    *,
    backfill: bool = False,
) -> LineFilter:
    since, until = _window(settings, ended, "--from must be before --to")
    settled_since, settled_until = _window(
        settings, settled, "--settled-from must be before --settled-to"
    )
    return LineFilter(tuple(states), since, until, call_id, backfill, settled_since, settled_until)


def _window(
    settings: Settings, ends: tuple[str | None, str | None], fault: str
) -> tuple[datetime | None, datetime | None]:
    first, last = (_time(text, settings) if text else None for text in ends)
    if first is not None and last is not None and first >= last:
        raise typer.BadParameter(fault)
    return first, last


def _time(text: str, settings: Settings) -> datetime:
    try:
        return parse_local_time(text, settings.source_timezone)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _settings(
    *, to_send: bool = False, may_default: bool = True, acting: bool = False, writes: bool = False
) -> Settings:
    """Find the settings of a command, and say on stderr what it acts on, if it writes.

    Logs are those of a command that answers on stdout, whose one fault `main` writes; `acting`
    logs what an operator does to lines, as the daemon would. `may_default` allows for
    /etc/callstatsd/callstatsd.env, which no service uses unless its unit names it.
    """
    given = invocation()
    may_default = may_default and "INVOCATION_ID" not in os.environ
    found = find_settings(given.request(may_default=may_default))
    given.log = log_settings(found.texts)
    address_commands(found.option)
    level = given.log.log_level if acting else "critical"
    logs.configure(given.log.log_format, level, given.log.log_personal_data)
    settings = validate(found, to_send=to_send)
    default = f"--env-file {shlex.quote(str(found.file))}" if found.by_default else ""
    address_commands(settings.command_option, default)
    if writes:
        prefix = logs.SYSLOG_PREFIXES["info"] if logs.is_journal(sys.stderr) else ""
        say(f"{prefix}{settings.target}", err=True)
    return settings


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    # By default each 700 new objects start a search for rings of garbage: a tenth of the time.
    gc.freeze()
    gc.set_threshold(50_000)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


add_settings_options(app)
