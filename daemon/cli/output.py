"""How commands show their results: tables on a terminal, plain text when piped, JSON on request."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NotRequired, TypedDict, assert_never
from zoneinfo import ZoneInfo

import structlog
from rich.table import Table

from daemon import logs
from daemon.cli import check, operations
from daemon.command_text import printable
from daemon.ingest.readiness import ReadinessRules
from daemon.ledger.acts import command_line, outcome
from daemon.ledger.operator import LedgerStatus, StatusReport
from daemon.lines import State
from daemon.reports import explain
from daemon.reports.meanings import MEANINGS, NEED_ACTION, PAUSES, REMEDIES, requeue_command
from daemon.service import backfill
from daemon.settings.model import Settings
from daemon.terminal import NARROW, columns, console, progress_bar, say, say_command, wrap

_log = structlog.get_logger()

TELL_EVERY = 10.0
"""Seconds between two `backfill.progress` events."""


class SenderStatus(TypedDict):
    """The sender: `sending`, `paused`, or `stopped` when nobody holds the ledger."""

    state: str
    reason: str | None
    retry_at: str | None


class StreakStatus(TypedDict):
    """Lines that are refused since the endpoint failed, and the command that sends them again."""

    since: str
    until: str
    rejected: int
    not_found: int
    requeue: str


class Status(TypedDict):
    """`status --json` (contract, section 8); times are ISO 8601 with offset."""

    lines: dict[str, int]
    oldest_pending_seconds: float | None
    watermark: str | None
    last_delivered_at: str | None
    sender: SenderStatus
    streaks: NotRequired[list[StreakStatus]]


def status_json(overview: StatusReport, zone: ZoneInfo) -> Status:
    """Put the ledger's word into the fixed form; `streaks` only where there are any."""
    status: Status = {
        "lines": overview.lines,
        "oldest_pending_seconds": overview.oldest_pending_seconds,
        "watermark": _iso(overview.status.watermark),
        "last_delivered_at": _iso(overview.status.last_delivered_at),
        "sender": _sender(overview.status),
    }
    if overview.streaks:
        status["streaks"] = [
            {
                "since": streak.since.isoformat(),
                "until": streak.until.isoformat(),
                "rejected": streak.rejected,
                "not_found": streak.not_found,
                "requeue": printable(explain.streak_command(streak, zone)),
            }
            for streak in overview.streaks
        ]
    return status


def _sender(status: LedgerStatus) -> SenderStatus:
    """Tell what the sender does; what a dead instance said of itself is not believed."""
    if not status.active:
        reason = "operator" if status.operator_pause else None
        return {"state": "stopped", "reason": reason, "retry_at": None}
    if status.operator_pause is not None:
        return {"state": "paused", "reason": "operator", "retry_at": None}
    if status.state == "paused":
        return {"state": "paused", "reason": status.reason, "retry_at": _iso(status.retry_at)}
    return {"state": "sending", "reason": None, "retry_at": None}


def show_status(overview: StatusReport, zone: ZoneInfo) -> None:
    """Print it for people, in the ACD's local time."""
    table = Table("state", "lines", "meaning", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for state, lines in overview.lines.items():
        table.add_row(state, f"{lines:,}", MEANINGS[State(state)] if lines else "")
    console().print(table)
    to_do = [state for state in NEED_ACTION if overview.lines.get(state)]
    if to_do:
        say("\nwhat to do about")
    for state in to_do:
        say(f"  {state:10} {REMEDIES[state]}", hanging=13)
        if command := requeue_command(state):
            say_command(command, indent=13)
    status = overview.status
    say(f"\nsender          {_sender_sentence(status, zone)}", hanging=16)
    if advice := _advice(status):
        say(f"what to do      {advice}", hanging=16)
    oldest = overview.oldest_pending_seconds
    waiting = "nothing is pending" if oldest is None else str(timedelta(seconds=round(oldest)))
    say(f"oldest pending  {waiting}")
    say(f"taken up to     {_local(status.watermark, zone) or 'not started yet'}")
    say(f"last delivered  {_local(status.last_delivered_at, zone) or 'never'}")
    for number, recorded in enumerate(overview.acts):
        act = recorded.act
        said = ", ".join(filter(None, (command_line(act, zone), outcome(recorded))))
        heading = "last commands" if number == 0 else ""
        say(f"{heading:16}{_local(recorded.began_at, zone)}  {act.who}: {said}", hanging=16)
    for streak in overview.streaks:
        say(f"\n{explain.streak_sentence(streak)}")
        say_command(explain.streak_command(streak, zone))
    say(explain.times_of(zone))


def _sender_sentence(status: LedgerStatus, zone: ZoneInfo) -> str:
    sender = _sender(status)
    text = sender["state"]
    if sender["reason"]:
        text += f" ({sender['reason']})"
    if status.operator_pause is not None and status.operator_pause.reason:
        text += f": {status.operator_pause.reason}"
    elif sender["retry_at"]:
        text += f", next try {_local(status.retry_at, zone)}"
    if status.active:
        text += f", {status.host} pid {status.pid}"
    return text


def _advice(status: LedgerStatus) -> str | None:
    """Return what to do so that lines are sent; None while they are."""
    if status.operator_pause is not None:
        return "`callstatsd resume` lets sending go on."
    if not status.active:
        return "No daemon runs: start it; by hand that is `callstatsd run`."
    pause = PAUSES.get(status.reason or "") if status.state == "paused" else None
    return None if pause is None else f"{pause.text} {pause.remedy or ''}".rstrip()


def show_resumed(said: operations.AfterResume, zone: ZoneInfo) -> None:
    """Print what is the case after `resume`."""
    say(resumed(said, zone))


def resumed(said: operations.AfterResume, zone: ZoneInfo) -> str:
    """Put into words what is the case after `resume`."""
    match said:
        case operations.Sends():
            return "Sending goes on."
        case operations.Pauses(reason="operator"):
            return "Somebody has paused sending again; `callstatsd status` shows who."
        case operations.Pauses(reason, retry_at, tried, idle):
            why = PAUSES[reason]
            if idle:
                next_try = "Nothing is pending; the next line that is taken is tried at once."
            elif tried:
                next_try = f"It was just tried again; next try at {_local(retry_at, zone)}."
            else:
                next_try = "It tries again now, but has no answer yet: see `callstatsd status`."
            return f"Sending is still paused ({reason}): {why.text} {next_try} {why.remedy}"
        case operations.NotHeard(host, pid):
            return (
                f"The pause is over, but the instance on {host} (pid {pid}) has not said within "
                "10 seconds what it does: see `callstatsd status`."
            )
        case operations.StandsBy():
            return (
                "The pause is over. No instance is active yet, but one stands by and takes over "
                "within seconds."
            )
        case operations.NobodyRuns():
            return "The pause is over, but nobody runs: nothing is sent before `callstatsd run`."
        case _:
            assert_never(said)


def show_counts(counts: dict[str, int], heading: str) -> None:
    """Print lines per state."""
    if not counts:
        say(f"no lines {heading}")
        return
    table = Table("state", heading, box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for state, lines in counts.items():
        table.add_row(state, f"{lines:,}")
    console().print(table)


def show_call(history: explain.CallHistory, rules: ReadinessRules, *, verbose: bool) -> None:
    """Print the story of a call; `verbose` spreads each record over lines."""
    for sentence in explain.sentences(history, rules):
        say(sentence)
    say(explain.times_of(rules.zone))
    for line in history.lines[: explain.SHOWN]:
        console().print(f"\n{line.key}", markup=False, style="bold")
        say(f"  {explain.line_sentence(line, rules.zone)}", hanging=2)
        if step := explain.next_step(line):
            remedy, command = step
            say(f"  Next: {remedy}", hanging=2)
            if command:
                say_command(command, indent=4)
        if line.salesforce_id:
            say(f"  Salesforce record {line.salesforce_id}", hanging=2)
        if line.record:
            _show_record(line.record, verbose=verbose)
    if rest := explain.rest_sentence(len(history.lines), explain.SHOWN):
        say(f"\n{rest} `callstatsd show {history.call_id} --json` has all of them.")


def _show_record(record: str, *, verbose: bool) -> None:
    """Print a record: its JSON in one line, which a terminal breaks between members, or a list."""
    members: dict[str, Any] = json.loads(record)
    if not verbose:
        broken = json.dumps(members, ensure_ascii=False, separators=(", ", ":"))
        say(f"  {record if columns(sys.stdout) is None else broken}", hanging=2)
        return
    names = max(map(len, members), default=0)
    for name, value in members.items():
        text = "(empty)" if value is None or value == "" else value
        say(f"  {name:{names}}  {text}", hanging=names + 4)


def show_finding(finding: check.Finding) -> None:
    """Print one check."""
    style = {"ok": "green", "warn": "yellow", "fail": "red"}[finding.verdict]
    console().print(f"{finding.verdict:5}", style=style, end="")
    head = " " * 6
    # Wrapped with the verdict that is printed already, and less it.
    text = printable(f"{head}{finding.name:9} {finding.text}")
    say(wrap(text, columns(sys.stdout), 16)[5:])


def backfill_json(
    progress: backfill.BackfillProgress, *, dry_run: bool, resend: bool
) -> dict[str, Any]:
    """Return `backfill --json` (contract, section 8); with `--resend` also how many it renewed."""
    counts: dict[str, Any] = {
        "calls": progress.calls,
        "lines": progress.lines,
        "new": progress.new,
    }
    if resend:
        counts["resent"] = progress.resent
    if dry_run:
        return counts
    return counts | progress.states | {"seconds": round(progress.seconds, 3)}


def show_backfill(progress: backfill.BackfillProgress, *, dry_run: bool, resend: bool) -> None:
    """Print what a backfill came to."""
    would = "would be " if dry_run else ""
    again = f", {progress.resent:,} settled lines {would}sent again" if resend else ""
    say(
        f"{progress.calls:,} calls, {progress.lines:,} lines, {progress.new:,} of them new{again}"
        + (" (nothing was changed)." if dry_run else f", in {progress.seconds:.1f} s.")
    )
    if not dry_run:
        show_counts({state: n for state, n in progress.states.items() if n}, "lines of the window")


@contextmanager
def show_progress(settings: Settings) -> Iterator[Callable[[backfill.BackfillProgress], None]]:
    """Yield what shows the progress of a backfill: a bar on a terminal, events otherwise."""
    if not sys.stderr.isatty():
        logs.configure(settings.log_format, settings.log_level, settings.log_personal_data)
        logger = ProgressLogger()
        yield logger.tell
        logger.done()
        return
    level = settings.log_level if settings.log_level == "error" else "warning"
    shown = console(err=True)
    with progress_bar(shown) as bar:
        # After the bar has begun, so that what is logged stands above it.
        logs.configure(settings.log_format, level, settings.log_personal_data)
        task = bar.add_task("counting", total=None, counted="")
        began = time.monotonic()

        def tell(progress: backfill.BackfillProgress) -> None:
            # The lines of calls not read yet are taken to be like those that were.
            share = progress.calls / progress.total if progress.total else 1.0
            total = progress.lines / share if share else None
            done = progress.lines - progress.pending if progress.taken else progress.lines
            counted = f"{done:,} lines" if total is None else f"{done:,} of {total:,.0f} lines"
            if shown.width >= NARROW:
                counted += f", {done / max(0.001, time.monotonic() - began):,.0f}/s"
            what = "sending" if progress.taken else "taking"
            bar.update(task, description=what, total=total, completed=done, counted=counted)

        yield tell


class ProgressLogger:
    """Logs the progress of a backfill now and then."""

    def __init__(self) -> None:
        """Tell nothing yet."""
        self._told_at = time.monotonic()
        self._last: backfill.BackfillProgress | None = None

    def tell(self, progress: backfill.BackfillProgress) -> None:
        """Log it, if the last time is long enough ago."""
        self._last = progress
        if time.monotonic() - self._told_at >= TELL_EVERY:
            self._told_at = time.monotonic()
            _log.info(
                logs.BACKFILL_PROGRESS,
                calls=progress.calls,
                total=progress.total,
                lines=progress.lines,
                new=progress.new,
                pending=progress.pending,
            )

    def done(self) -> None:
        """Log the end."""
        if self._last is not None:
            _log.info(
                logs.BACKFILL_DONE,
                calls=self._last.calls,
                lines=self._last.lines,
                new=self._last.new,
                seconds=round(self._last.seconds, 3),
                **{state: n for state, n in self._last.states.items() if n},
            )


def _local(moment: datetime | None, zone: ZoneInfo) -> str:
    return "" if moment is None else moment.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()
