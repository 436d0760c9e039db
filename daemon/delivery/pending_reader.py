"""Reads pending lines from the ledger into the lanes: enough to send, and what becomes due."""

import asyncio
import time
from collections.abc import Callable
from heapq import heappop, heappush

import structlog

from daemon import logs
from daemon.delivery.flow_control import FlowControl
from daemon.delivery.lanes import Lanes
from daemon.errors import UnusableError
from daemon.ledger.store import Ledger
from daemon.lines import FeedName, PendingLine
from daemon.tasks import sleep_or_stop

_log = structlog.get_logger()

FETCH = 2500
"""Lines to read from the ledger at once, beside those that may be known already."""
LOW_WATER = 500
"""With fewer lines in memory, not counting those of truncated lanes, more are read."""


class PendingReader:
    """Keeps enough lines in the lanes, and reads the newest line where a probe needs it.

    It takes `write_lock` to read: lines read before an outcome was written must not come back
    after it. `on_lines` is called when lines may have been added, `on_progress` after each read,
    also one that failed. `lane_tries` counts how often a record was locked or unanswered in a row.
    """

    def __init__(
        self,
        ledger: Ledger,
        feed: FeedName,
        lanes: Lanes[PendingLine],
        flow: FlowControl,
        write_lock: asyncio.Lock,
        lane_tries: dict[str, int],
        *,
        concurrency: int,
        idle: float,
        backfill_waits: Callable[[], bool],
        on_lines: Callable[[], None],
        on_progress: Callable[[], None],
    ) -> None:
        self._ledger = ledger
        self._feed = feed
        self._lanes = lanes
        self._flow = flow
        self._write_lock = write_lock
        self._limit = FETCH + 2 * concurrency
        self._idle = idle
        self._backfill_waits = backfill_waits
        self._on_lines = on_lines
        self._on_progress = on_progress
        self._wake = asyncio.Event()
        self._refill_wanted = True
        self._has_more = False
        self._reloads = 0
        self._due: list[float] = []
        self._newest_wanted = False
        self._newest: PendingLine | None = None
        self._lane_tries = lane_tries

    def wake(self) -> None:
        """Read now: there are new lines."""
        self._refill_wanted = True
        self._wake.set()

    def reload(self) -> None:
        """Read the lines in memory again: an operator has changed which are to be sent."""
        self._lanes.clear()
        self._reloads += 1
        self.wake()

    def refill_if_low(self) -> None:
        """Read more if few lines are left and the ledger has more."""
        if self._lanes.untruncated < LOW_WATER and (self._has_more or self._lanes.needs_refill):
            self._wake.set()

    def read_again(self, wait: float | None) -> None:
        """Read when a line that waits so many seconds is due; None means now."""
        if wait is None:
            self.wake()
            return
        due = time.monotonic() + wait
        if not self._due or due < self._due[0]:
            self._wake.set()
        heappush(self._due, due)

    def pop_newest(self) -> PendingLine | None:
        """Return the newest line for a probe if it was just read; else have it read."""
        line, self._newest = self._newest, None
        if line is None:
            self._newest_wanted = True
            self._wake.set()
        return line

    async def run(self) -> None:
        """Read until cancelled, at least once per idle interval; the ledger may come and go."""
        while True:
            self._wake.clear()
            try:
                await self._read()
                if self._newest_wanted and self._flow.newest:
                    await self._read_newest()
            except UnusableError as error:
                _log.debug(logs.SENDER_UNREAD, error=str(error))
                await asyncio.sleep(self._idle)
                self._refill_wanted = True
            self._on_lines()
            self._newest = None  # by the next call it may be another one
            self._on_progress()
            await self._wait_for_work()

    async def _read(self) -> None:
        """Read pending lines when asked to, and until enough are here or none are left."""
        while self._refill_wanted or self._lanes.untruncated < LOW_WATER:
            self._refill_wanted = False
            while self._due and self._due[0] <= time.monotonic():
                heappop(self._due)
            async with self._write_lock:
                reloads = self._reloads
                lines = await self._ledger.pending(self._feed, self._limit, self._lanes.full)
                if reloads != self._reloads:
                    continue  # read before a command, which may have withdrawn some of it
                for line in lines:
                    self._keep_tries(line)
                added = self._lanes.add(lines)
            # A full page that brought nothing new was read while enough is here.
            self._has_more = len(lines) == self._limit and (
                added > 0 or self._lanes.untruncated >= LOW_WATER
            )
            self._on_lines()
            if not self._has_more:
                self._lanes.reopen_truncated()
                return

    async def _read_newest(self) -> None:
        """Read the newest line that may be the next probe, for `on_lines` to take."""
        async with self._write_lock:
            reloads = self._reloads
            line = await self._ledger.newest(self._feed, backfill=False)
            if line is None and not self._backfill_waits():
                line = await self._ledger.newest(self._feed, backfill=True)
        if reloads != self._reloads:
            self._wake.set()  # read before a command, which may have withdrawn it
            return
        self._newest_wanted = False
        if line is None:
            self._flow.probe_first()
            return
        self._keep_tries(line)
        self._newest = line

    def _keep_tries(self, line: PendingLine) -> None:
        if line.lane_tries:
            self._lane_tries.setdefault(line.lane, line.lane_tries)

    async def _wait_for_work(self) -> None:
        seconds = self._idle
        if self._due:
            seconds = min(seconds, max(0.0, self._due[0] - time.monotonic()))
        if not await sleep_or_stop(self._wake, seconds):
            self._refill_wanted = True
