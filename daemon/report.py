"""How commands show their results: tables on a terminal, plain text when piped, JSON on request."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict
from zoneinfo import ZoneInfo

import structlog
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from daemon import backfill, check, logs, story
from daemon.desk import Overview, Standing
from daemon.settings import Settings

_log = structlog.get_logger()

TELL_EVERY = 10.0
"""Seconds between two `backfill.progress` events."""


class SenderStatus(TypedDict):
    """The sender: `sending`, `paused`, or `stopped` when nobody holds the ledger."""

    state: str
    reason: str | None
    retry_at: str | None


class Status(TypedDict):
    """`status --json` (contract, section 8); times are ISO 8601 with offset."""

    lines: dict[str, int]
    oldest_pending_seconds: float | None
    watermark: str | None
    last_delivered_at: str | None
    sender: SenderStatus


def status_json(overview: Overview) -> Status:
    """Put the ledger's word into the fixed form."""
    return {
        "lines": overview.lines,
        "oldest_pending_seconds": overview.oldest_pending_seconds,
        "watermark": _iso(overview.standing.watermark),
        "last_delivered_at": _iso(overview.standing.last_delivered_at),
        "sender": _sender(overview.standing),
    }


def _sender(standing: Standing) -> SenderStatus:
    """Tell what the sender does; what a dead instance said of itself is not believed."""
    if not standing.active:
        reason = "operator" if standing.held else None
        return {"state": "stopped", "reason": reason, "retry_at": None}
    if standing.held is not None:
        return {"state": "paused", "reason": "operator", "retry_at": None}
    if standing.state == "paused":
        return {"state": "paused", "reason": standing.reason, "retry_at": _iso(standing.retry_at)}
    return {"state": "sending", "reason": None, "retry_at": None}


def show_status(overview: Overview, zone: ZoneInfo) -> None:
    """Print it for people, in the ACD's local time."""
    console = _console()
    show_counts(overview.lines, "lines")
    standing = overview.standing
    sender = _sender(standing)
    text = sender["state"]
    if sender["reason"]:
        text += f" ({sender['reason']})"
    if standing.held is not None and standing.held.reason:
        text += f": {standing.held.reason}"
    elif sender["retry_at"]:
        text += f", next try {_local(standing.retry_at, zone)}"
    if standing.active:
        text += f", {standing.host} pid {standing.pid}"
    oldest = overview.oldest_pending_seconds
    waiting = "nothing is pending" if oldest is None else str(timedelta(seconds=round(oldest)))
    console.print()
    console.print(f"sender          {text}", markup=False)
    console.print(f"oldest pending  {waiting}")
    console.print(f"taken up to     {_local(standing.watermark, zone) or 'not started yet'}")
    console.print(f"last delivered  {_local(standing.last_delivered_at, zone) or 'never'}")


def show_counts(counts: dict[str, int], heading: str) -> None:
    """Print lines per state."""
    table = Table("state", heading, box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for state, lines in counts.items():
        table.add_row(state, f"{lines:,}")
    _console().print(table if counts else f"no lines {heading}")


def show_call(evidence: story.Evidence, rules: story.Rules) -> None:
    """Print the story of a call."""
    console = _console()
    for sentence in story.sentences(evidence, rules):
        console.print(sentence, markup=False, soft_wrap=True)
    for line in evidence.lines[: story.SHOWN]:
        console.print(f"\n{line.key}", markup=False, style="bold")
        console.print(f"  {story.line_sentence(line, rules.zone)}", markup=False, soft_wrap=True)
        if line.salesforce_id:
            console.print(f"  Salesforce record {line.salesforce_id}", markup=False)
        if line.record:
            console.print(f"  {line.record}", markup=False, soft_wrap=True)
    if rest := story.rest_sentence(len(evidence.lines), story.SHOWN):
        console.print(
            f"\n{rest} `callstatsd show {evidence.call_id} --json` has all of them.",
            markup=False,
            soft_wrap=True,
        )


def show_finding(finding: check.Finding) -> None:
    """Print one check in one line."""
    style = {"ok": "green", "warn": "yellow", "fail": "red"}[finding.verdict]
    console = _console()
    console.print(f"{finding.verdict:5}", style=style, end="")
    console.print(f" {finding.name:9} {finding.text}", markup=False, soft_wrap=True)


def backfill_json(progress: backfill.Progress, *, dry_run: bool, resend: bool) -> dict[str, Any]:
    """Return `backfill --json` (contract, section 8); with `--resend` also how many it renewed."""
    counts: dict[str, Any] = {
        "calls": progress.calls,
        "lines": progress.lines,
        "new": progress.new,
    }
    if dry_run:
        return counts
    if resend:
        counts["resent"] = progress.resent
    return counts | progress.states | {"seconds": round(progress.seconds, 3)}


def show_backfill(progress: backfill.Progress, *, dry_run: bool) -> None:
    """Print what a backfill came to."""
    console = _console()
    again = f", {progress.resent:,} sent again" if progress.resent else ""
    console.print(
        f"{progress.calls:,} calls, {progress.lines:,} lines, {progress.new:,} of them new{again}"
        + (" (nothing was changed)." if dry_run else f", in {progress.seconds:.1f} s.")
    )
    if not dry_run:
        show_counts({state: n for state, n in progress.states.items() if n}, "lines of the window")


@contextmanager
def telling(settings: Settings) -> Iterator[Callable[[backfill.Progress], None]]:
    """Yield what shows the progress of a backfill: a bar on a terminal, events otherwise."""
    if not sys.stderr.isatty():
        logs.configure(settings.log_format, settings.log_level, settings.log_personal_data)
        teller = Teller()
        yield teller.tell
        teller.done()
        return
    level = settings.log_level if settings.log_level == "error" else "warning"
    logs.configure(settings.log_format, level, settings.log_personal_data)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} lines, {task.fields[rate]:,.0f}/s"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("counting", total=None, rate=0)
        began = time.monotonic()

        def tell(progress: backfill.Progress) -> None:
            # The lines of calls not read yet are taken to be like those that were.
            share = progress.calls / progress.total if progress.total else 1.0
            total = progress.lines / share if share else 0.0
            sent = max(0, progress.lines - progress.pending)
            what = "sending" if progress.taken else f"taking, {progress.calls:,} calls"
            rate = sent / max(0.001, time.monotonic() - began)
            bar.update(task, description=what, total=total, completed=sent, rate=rate)

        yield tell


class Teller:
    """Logs the progress of a backfill now and then."""

    def __init__(self) -> None:
        """Tell nothing yet."""
        self._told_at = time.monotonic()
        self._last: backfill.Progress | None = None

    def tell(self, progress: backfill.Progress) -> None:
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


def _console() -> Console:
    return Console(highlight=False)


def _local(moment: datetime | None, zone: ZoneInfo) -> str:
    return "" if moment is None else moment.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()
