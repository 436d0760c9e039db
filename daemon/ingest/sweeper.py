"""Looks again at windows that polls have covered, for rows that became visible late."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from datetime import timedelta
from typing import Any, TypeVar

import structlog

from daemon import logs, metrics
from daemon.errors import ConfigurationError, UnusableError
from daemon.ingest.columns import MIN_TIME
from daemon.ingest.feed import Feed, Page
from daemon.ingest.intake import Intake, TakeResult, log_taken
from daemon.ingest.readiness import Window
from daemon.ledger.taking import TakingStore
from daemon.lines import NON_NUMERIC_ID, LineKey, missing_keys
from daemon.tasks import sleep_or_stop

_log = structlog.get_logger()

S = TypeVar("S")
L = TypeVar("L")

NEAR_EVERY = 60.0
"""Seconds between two frequent sweeps."""
WIDE_EVERY = 900.0
"""Seconds between two sweeps of LOOKBACK before the last one that was completed."""


class Sweeper:
    """Takes what polls could not see: late commits, and ends, codes and ids that came late.

    A sweep compares digests of the keys with the ledger, page by page, and the keys themselves
    where those differ; full rows are read for what is missing. It moves no watermark. The wide one
    begins LOOKBACK before the last one that was completed, so that downtime is covered too.
    """

    def __init__(
        self,
        feed: Feed,
        ledger: TakingStore,
        intake: Intake,
        lookback: timedelta,
        on_taken: Callable[[], None],
    ) -> None:
        """`on_taken` is called when new lines are in the ledger."""
        self._feed = feed
        self._ledger = ledger
        self._intake = intake
        self._lookback = lookback
        self._on_taken = on_taken
        self.swept = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Sweep both windows at the start, then each at its interval; outages are waited out."""
        wide_at = time.monotonic()
        while not stop.is_set():
            try:
                wide = time.monotonic() >= wide_at
                await self.sweep(wide=wide)
                if wide:
                    self.swept.set()
                    wide_at = time.monotonic() + WIDE_EVERY
            except (UnusableError, ConfigurationError) as error:
                _log.debug(logs.SWEEP_FAILED, error=str(error))
            await sleep_or_stop(stop, NEAR_EVERY)

    async def sweep(self, *, wide: bool) -> TakeResult:
        """Look again once, at what is near the watermark or at all of LOOKBACK."""
        started = time.perf_counter()
        clock = await self._feed.clock()
        progress = await self._ledger.progress(self._feed.name)
        taken = TakeResult()
        floor = progress.floor
        if progress.watermark is None or floor is None:
            return taken
        # A watermark ahead of the source's clock makes no call ready.
        ended_by = self._feed.rules.ended_by(clock)
        until = min(progress.watermark, ended_by)
        begin, reach = until, self._feed.rules.near
        if wide:
            begin, reach = min(progress.swept_at or floor, ended_by), self._lookback
        since = max(begin, MIN_TIME + reach) - reach
        seen = self._feed.rules.visible_until(clock)
        try:
            pages = self._feed.late(Window(since, until), floor, clock, wide=wide)
            await self._take_missing(taken, pages)
            taken.add(await self._intake.look_for_ids(max(since, floor), floor))
            if wide and seen > MIN_TIME:
                # Not the watermark: polls still cover what is between. Retention may remove lines
                # that are older than the next sweep reaches.
                await self._ledger.swept(self._feed.name, seen)
        finally:
            seconds = metrics.SWEEP_SECONDS.labels("lookback" if wide else "near")
            seconds.observe(time.perf_counter() - started)
            if taken.lines:
                self._on_taken()
            log_taken(self._feed.name, taken, started, late=True)
        return taken

    async def _take_missing(self, taken: TakeResult, pages: AsyncIterator[Page]) -> None:
        """Take what the ledger lacks of the pages; the next is read while one is compared."""
        reading = asyncio.ensure_future(anext(pages, None))
        try:
            while (page := await reading) is not None:
                reading = asyncio.ensure_future(anext(pages, None))
                take = self._take_missing_calls if page.whole else self._take_missing_codes
                taken.add(await take(page))
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _take_missing_calls(self, page: Page) -> Collection[LineKey]:
        """Take the calls of a page that have a line which the ledger lacks."""
        call_ids = [found.call_id for found in page.found]
        # A call whose own id is not a whole number may have no keys in the source.
        nameless = {call_id for call_id in call_ids if call_id < NON_NUMERIC_ID}
        feed, ledger = self._feed, self._ledger
        if not nameless:
            there, here = await _both(feed.digest(call_ids), ledger.digest(feed.name, call_ids))
            if there == here:
                return ()
        keys, known = await _both(feed.keys(call_ids), ledger.known(feed.name, call_ids))
        missing = {key.call_id for key in missing_keys(keys, known)}
        missing |= nameless - {key.call_id for key in known}
        late = [found for found in page.found if found.call_id in missing]
        return await self._intake.take(late) if late else ()

    async def _take_missing_codes(self, page: Page) -> Collection[LineKey]:
        """Take the codes of a page that have no line."""
        keys = await self._ledger.known(self._feed.name, [found.call_id for found in page.found])
        known = {key.code_id for key in keys}
        late = [found for found in page.found if found.row_id not in known]
        return await self._intake.take(late, whole=False) if late else ()


async def _both(source: Coroutine[Any, Any, S], ledger: Coroutine[Any, Any, L]) -> tuple[S, L]:
    """Ask both databases at once; where the ledger fails, the source's query ends with it."""
    reading = asyncio.create_task(source)
    try:
        answer = await ledger
        return await reading, answer
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
