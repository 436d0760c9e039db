"""How commands show their results: tables on a terminal, plain text when piped, JSON on request."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict

import structlog
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from daemon import backfill, check, logs, story
from daemon.desk import Overview
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
        "watermark": _iso(overview.watermark),
        "last_delivered_at": _iso(overview.last_delivered_at),
        "sender": _sender(overview),
    }


def _sender(overview: Overview) -> SenderStatus:
    """Tell what the sender does; what a dead instance said of itself is not believed."""
    if not overview.active:
        reason = "operator" if overview.held else None
        return {"state": "stopped", "reason": reason, "retry_at": None}
    if overview.held is not None:
        return {"state": "paused", "reason": "operator", "retry_at": None}
    if overview.state == "paused":
        return {"state": "paused", "reason": overview.reason, "retry_at": _iso(overview.retry_at)}
    return {"state": "sending", "reason": None, "retry_at": None}


def show_status(overview: Overview) -> None:
    """Print it for people."""
    console = _console()
    show_counts(overview.lines, "lines")
    status = status_json(overview)
    sender = status["sender"]
    reason = f" ({sender['reason']})" if sender["reason"] else ""
    retry = f", next try {sender['retry_at']}" if sender["retry_at"] else ""
    if overview.held is not None and overview.held.reason:
        retry = f": {overview.held.reason}"
    oldest = status["oldest_pending_seconds"]
    waiting = "nothing is pending" if oldest is None else str(timedelta(seconds=round(oldest)))
    where = f", {overview.host} pid {overview.pid}" if overview.active else ""
    console.print()
    console.print(f"sender          {sender['state']}{reason}{retry}{where}", markup=False)
    console.print(f"oldest pending  {waiting}")
    console.print(f"taken up to     {status['watermark'] or 'not started yet'}")
    console.print(f"last delivered  {status['last_delivered_at'] or 'never'}")


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
    for line in evidence.lines:
        console.print(f"\n{line.key}", markup=False, style="bold")
        console.print(f"  {story.line_sentence(line, rules.zone)}", markup=False, soft_wrap=True)
        if line.salesforce_id:
            console.print(f"  Salesforce record {line.salesforce_id}", markup=False)
        if line.record:
            console.print(f"  {line.record}", markup=False, soft_wrap=True)


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
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} calls"),
        BarColumn(),
        TextColumn("{task.fields[lines]:,} lines, {task.fields[pending]:,} to send"),
        TextColumn("{task.fields[rate]:,.0f}/s"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("backfill", total=0, lines=0, pending=0, rate=0)
        began = time.monotonic()

        def tell(progress: backfill.Progress) -> None:
            sent = progress.lines - progress.pending
            bar.update(
                task,
                total=progress.total,
                completed=progress.calls,
                lines=progress.lines,
                pending=progress.pending,
                rate=max(0, sent) / max(0.001, time.monotonic() - began),
            )

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


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()
