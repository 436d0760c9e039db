"""Progress and result of a backfill: a bar on a terminal, log events otherwise."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from daemon import logs
from daemon.cli.output import show_counts
from daemon.lines import FeedName
from daemon.service.backfill import BackfillProgress
from daemon.settings.model import Settings
from daemon.terminal import NARROW, console, progress_bar, say

_log = structlog.get_logger()

LOG_EVERY = 10.0
"""Seconds between two `backfill.progress` events."""


NOUNS = {FeedName.STATISTICS: "calls", FeedName.CALLBACKS: "callbacks"}
"""What a backfill of each feed counts."""


def backfill_json(
    progress: BackfillProgress, feed: FeedName, *, dry_run: bool, resend: bool
) -> dict[str, Any]:
    """Return `backfill --json`; with `--resend` also `resent`."""
    counts: dict[str, Any] = {
        NOUNS[feed]: progress.calls,
        "lines": progress.lines,
        "new": progress.new,
    }
    if resend:
        counts["resent"] = progress.resent
    if dry_run:
        return counts
    return counts | progress.states | {"seconds": round(progress.seconds, 3)}


def show_backfill(
    progress: BackfillProgress, feed: FeedName, *, dry_run: bool, resend: bool
) -> None:
    """Print the result of a backfill."""
    would = "would be " if dry_run else ""
    again = f", {progress.resent:,} settled lines {would}sent again" if resend else ""
    say(
        f"{progress.calls:,} {NOUNS[feed]}, {progress.lines:,} lines, "
        f"{progress.new:,} of them new{again}"
        + (" (nothing was changed)." if dry_run else f", in {progress.seconds:.1f} s.")
    )
    if not dry_run:
        show_counts({state: n for state, n in progress.states.items() if n}, "lines of the window")


@contextmanager
def show_progress(
    settings: Settings, feed: FeedName
) -> Iterator[Callable[[BackfillProgress], None]]:
    """Yield a callback that shows progress: as a bar on a terminal, else as log events."""
    if not sys.stderr.isatty():
        logs.configure(settings.log_format, settings.log_level, settings.log_personal_data)
        logger = ProgressLogger(feed)
        yield logger.update
        logger.done()
        return
    level = settings.log_level if settings.log_level == "error" else "warning"
    shown = console(err=True)
    with progress_bar(shown) as bar:
        # After the bar has started, so that log lines are printed above it.
        logs.configure(settings.log_format, level, settings.log_personal_data)
        task = bar.add_task("counting", total=None, counted="")
        began = time.monotonic()

        def update(progress: BackfillProgress) -> None:
            # Estimates the lines of calls not read yet from those that were read.
            share = progress.calls / progress.total if progress.total else 1.0
            total = progress.lines / share if share else None
            done = progress.lines - progress.pending if progress.taken else progress.lines
            counted = f"{done:,} lines" if total is None else f"{done:,} of {total:,.0f} lines"
            if shown.width >= NARROW:
                counted += f", {done / max(0.001, time.monotonic() - began):,.0f}/s"
            what = "sending" if progress.taken else "taking"
            bar.update(task, description=what, total=total, completed=done, counted=counted)

        yield update


class ProgressLogger:
    """Logs the progress of a backfill every `LOG_EVERY` seconds, and its end."""

    def __init__(self, feed: FeedName) -> None:
        self._noun = NOUNS[feed]
        self._logged_at = time.monotonic()
        self._last: BackfillProgress | None = None

    def update(self, progress: BackfillProgress) -> None:
        """Log progress if it was not logged lately."""
        self._last = progress
        if time.monotonic() - self._logged_at >= LOG_EVERY:
            self._logged_at = time.monotonic()
            _log.info(
                logs.BACKFILL_PROGRESS,
                total=progress.total,
                lines=progress.lines,
                new=progress.new,
                pending=progress.pending,
                **{self._noun: progress.calls},
            )

    def done(self) -> None:
        """Log the result."""
        if self._last is not None:
            _log.info(
                logs.BACKFILL_DONE,
                lines=self._last.lines,
                new=self._last.new,
                seconds=round(self._last.seconds, 3),
                **{self._noun: self._last.calls},
                **{state: n for state, n in self._last.states.items() if n},
            )
