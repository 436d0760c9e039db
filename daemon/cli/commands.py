"""Commands for all of the ledger, or none: run, migrate, backfill, check, demo."""

import asyncio
import faulthandler
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import orjson
import typer

from daemon import logs
from daemon.cli import check as checks
from daemon.cli import output, progress
from daemon.cli.faults import faults_of, log_refusals
from daemon.cli.finding import Finding, Verdict
from daemon.cli.options import invocation
from daemon.cli.runtime import (
    read_time,
    require_settings,
    require_utf8,
    run_async,
)
from daemon.command_text import printable
from daemon.errors import CallstatsdError
from daemon.lines import FeedName, State
from daemon.service.backfill import BackfillProgress, Period
from daemon.service.backfill import backfill as take_and_deliver
from daemon.service.run import run as run_daemon
from daemon.service.signals import stop_on_signals
from daemon.settings.model import Settings
from daemon.terminal import say


def run() -> None:
    """Run the daemon until it is stopped.

    SIGTERM or Ctrl-C finishes the requests in flight and exits 0; a second one stops at once.

    Example: callstatsd run
    """
    with log_refusals():
        settings = require_settings(to_send=True, may_default=False)
        logs.configure(*invocation().log)
        # systemd's watchdog ends a process with SIGABRT: then the log shows what it was executing.
        faulthandler.enable()

        async def serve() -> None:
            with stop_on_signals() as stop:
                await run_daemon(settings, stop)

        try:
            run_async(serve())
        except asyncio.CancelledError:
            raise typer.Exit(1) from None


def migrate(
    reference_schema: Annotated[
        bool,
        typer.Option(
            "--reference-schema",
            help="Also create the ACD's tables in the first source schema (demo, tests).",
        ),
    ] = False,
    telegra: Annotated[
        bool,
        typer.Option(
            "--telegra",
            help="Also create the tables that notifications of a Telegra ACD are kept in.",
        ),
    ] = False,
    rebind: Annotated[
        bool,
        typer.Option("--rebind", help="Bind the ledger to the client and source set now."),
    ] = False,
    sql: Annotated[
        bool,
        typer.Option("--sql", help="Only print the SQL script for a DBA."),
    ] = False,
    grant_to: Annotated[
        str | None,
        typer.Option(
            metavar="ROLE",
            callback=require_utf8,
            help="With --sql: also grant this role the rights it needs in both databases.",
        ),
    ] = None,
    from_version: Annotated[
        str | None,
        typer.Option(metavar="N", help="With --sql: only the changes since this ledger version."),
    ] = None,
) -> None:
    """Create or upgrade the ledger; may be repeated.

    Examples: callstatsd migrate; callstatsd migrate --sql --grant-to callstatsd
    """
    from daemon.cli import migrating  # noqa: PLC0415 - alembic is slow to load
    from daemon.ledger import migrate  # noqa: PLC0415 - and only needed here

    if not sql and (grant_to or from_version):
        raise typer.BadParameter("--grant-to and --from-version need --sql")
    if sql:
        _require_sql_alone(migrate.folder(), telegra=telegra, reference_schema=reference_schema)
    if from_version and from_version not in migrate.versions():
        raise typer.BadParameter(f"--from-version must be one of {', '.join(migrate.versions())}")
    with log_refusals():
        may_default = not (reference_schema or telegra or rebind)
        settings = require_settings(may_default=may_default, writes=not sql)
        if sql:
            migrating.print_script(settings, from_version, grant_to)
            return
        created = migrating.SourceTables.TELEGRA if telegra else None
        if reference_schema and not telegra:
            created = migrating.SourceTables.REFERENCE
        run_async(migrating.migrate(settings, created, rebind=rebind))


def _require_sql_alone(folder: Path, *, telegra: bool, reference_schema: bool) -> None:
    """Refuse `migrate --sql` with tables that its script would not have."""
    if telegra or reference_schema:
        files = "reference_schema.sql and telegra_schema.sql" if telegra else "reference_schema.sql"
        raise typer.BadParameter(
            "--sql prints the ledger's script only: leave out --telegra and --reference-schema, "
            f"and let a DBA run {files} of {folder} with search_path set to the first "
            "source schema"
        )


def backfill(
    since: Annotated[
        str,
        typer.Option(
            "--from", metavar="T", help="Calls that ended, callbacks requested, at T or later."
        ),
    ],
    until: Annotated[
        str,
        typer.Option("--to", metavar="T", help="Calls that ended, callbacks requested, before T."),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count the lines.")] = False,
    resend: Annotated[
        bool, typer.Option("--resend", help="Also send settled lines again, with rebuilt records.")
    ] = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Only take the lines; a running daemon sends them.")
    ] = False,
    feed: Annotated[
        FeedName,
        typer.Option(metavar="FEED", help="What to take: statistics (of calls) or callbacks."),
    ] = FeedName.STATISTICS,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Take and deliver calls or callbacks of a time window.

    A running daemon does the sending; without one, this command sends. An interrupted backfill
    continues when it is started again. T is YYYY-MM-DD or YYYY-MM-DDThh:mm[:ss], in the ACD's
    time zone.

    Example: callstatsd backfill --from 2026-11-01 --to 2026-11-08 --dry-run
    """
    settings = require_settings(to_send=not (dry_run or no_wait), writes=not dry_run)
    period = Period(*(read_time(text, settings) for text in (since, until)))
    if period.since >= period.until:
        raise typer.BadParameter("--from must be before --to")
    with progress.show_progress(settings, feed) as update:
        work = _backfill(
            settings, period, feed, update, dry_run=dry_run, resend=resend, wait=not no_wait
        )
        try:
            result, complete = run_async(work)
        except asyncio.CancelledError:
            raise typer.Exit(1) from None
    if as_json:
        shown = progress.backfill_json(result, feed, dry_run=dry_run, resend=resend)
        typer.echo(orjson.dumps(shown))
    else:
        progress.show_backfill(result, feed, dry_run=dry_run, resend=resend)
    if not complete:
        advice = "`callstatsd run`, or the same command without --resend, sends what is pending."
        if not resend:
            advice = "the same command goes on where it was."
        say(f"Interrupted; {advice}", err=True)
        raise typer.Exit(1)
    if any(result.states.get(state) for state in (State.REJECTED, State.EXPIRED, State.INVALID)):
        raise typer.Exit(1)


def check(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check everything that a delivery needs; sends no line.

    Example: callstatsd check
    """
    findings: list[Finding] = []

    async def examine(settings: Settings) -> None:
        async for finding in checks.check(settings):
            findings.append(finding)
            if not as_json:
                output.show_finding(finding.verdict, finding.name, finding.text)

    try:
        run_async(examine(require_settings()))
    except CallstatsdError as error:
        if not as_json:
            raise
        name = "check" if findings else "settings"
        findings += [
            Finding(name, Verdict.FAIL, fault, error.exit_code) for fault in faults_of(error)
        ]
    if as_json:
        rows = [
            {"check": f.name, "verdict": f.verdict, "text": printable(f.text)} for f in findings
        ]
        typer.echo(orjson.dumps(rows))
    if codes := [finding.exit_code for finding in findings if finding.exit_code]:
        raise typer.Exit(max(codes))


def demo(
    calls: Annotated[int, typer.Option(help="Number of calls to generate.", min=1)] = 200,
    seed: Annotated[int, typer.Option(help="The same seed generates the same calls.")] = 1,
    faults: Annotated[
        bool,
        typer.Option("--faults", help="Simulate Salesforce faults: locks, time-outs, outages."),
    ] = False,
    stay: Annotated[
        bool,
        typer.Option("--stay", help="Keep all running until Ctrl-C, with the status page."),
    ] = False,
    serve_only: Annotated[
        bool, typer.Option("--serve-only", help="Only run the Salesforce stand-in.")
    ] = False,
    port: Annotated[
        int, typer.Option(help="Port of --serve-only; 0 takes any free port.", min=0, max=65535)
    ] = 8080,
) -> None:
    """Run the daemon on sample calls; needs no settings.

    Starts an embedded Postgres with sample calls and a stand-in for Salesforce, and runs the
    daemon until every line is settled; with --stay until Ctrl-C, so that you can try commands.

    Example: callstatsd demo --calls 500 --stay
    """
    invocation().refuse_settings()
    from daemon.demo import run as demo_run  # noqa: PLC0415 - its parts are an extra

    if serve_only:
        run_async(demo_run.serve_only(port, seed))
    else:
        raise typer.Exit(
            run_async(demo_run.run_demo(demo_run.DemoOptions(calls, seed, faults, stay)))
        )


async def _backfill(
    settings: Settings,
    period: Period,
    feed: FeedName,
    update: Callable[[BackfillProgress], None],
    *,
    dry_run: bool,
    resend: bool,
    wait: bool,
) -> tuple[BackfillProgress, bool]:
    with stop_on_signals() as stop:
        result = await take_and_deliver(
            settings, period, stop, update, dry_run=dry_run, resend=resend, wait=wait, name=feed
        )
        return result, not stop.is_set()
