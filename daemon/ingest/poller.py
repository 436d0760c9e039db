"""Takes every ready call into the ledger, by the source's clock and without gaps."""

import asyncio
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from daemon import logs, metrics
from daemon.errors import ConfigurationError, UnusableError
from daemon.ingest.intake import Intake
from daemon.ingest.source import MIN_TIME, Clock, Page, Readiness, Source, Window
from daemon.ledger.store import Binding, Ledger
from daemon.lines import LineKey
from daemon.tasks import sleep_or_stop

_log = structlog.get_logger()
_TICK = timedelta(microseconds=1)

OVERLAP = timedelta(seconds=5)
"""How far a poll reaches back behind the watermark: a row may be committed a moment after the
time that it carries, which matters where SETTLE_DELAY is shorter than that moment."""


@dataclass(frozen=True, slots=True)
class ReadinessRules:
    """When a call is ready (contract 3): durations, and START_FROM where it is set."""

    settle_delay: timedelta
    stale_call_after: timedelta
    start_from: datetime | None


@dataclass(slots=True)
class TakeResult:
    """What a poll or sweep took: lines new to the ledger, and the calls they belong to."""

    lines: int = 0
    call_ids: set[int] = field(default_factory=set)

    def add(self, new: Collection[LineKey]) -> None:
        """Count new lines."""
        self.lines += len(new)
        self.call_ids.update(key.call_id for key in new)


class Poller:
    """Covers (W, T] at each turn; W is the ledger's watermark, T the source's now less the delay.

    Invariant: W is stored in the transaction that stores the lines it covers, so that it never
    passes a line that is not in the ledger.
    """

    def __init__(
        self,
        source: Source,
        ledger: Ledger,
        intake: Intake,
        rules: ReadinessRules,
        on_taken: Callable[[], None],
        on_progress: Callable[[float], None] = lambda _rest: None,
    ) -> None:
        """Call `on_taken` when new lines are in the ledger.

        `on_progress` is called after each page and poll, with the seconds until the next poll.
        """
        self._source = source
        self._ledger = ledger
        self._intake = intake
        self._rules = rules
        self._on_taken = on_taken
        self._on_progress = on_progress

    async def prepare(self, clients_id: int | None, schemas: tuple[str, ...]) -> None:
        """Check that the source is the one this ledger holds; keep START_FROM at the first start.

        Raises `ConfigurationError` for a wrong source, `UnreachableError` while one is away.
        """
        clock = await self._source.clock()
        await self._ledger.check_binding(Binding(clients_id, clock.database, schemas))
        await self._source.prepare()
        start_from = self._rules.start_from or clock.now
        first = min(start_from, clock.now - self._rules.settle_delay) - _TICK
        await self._ledger.start(start_from, first)

    async def run(self, interval: float, stop: asyncio.Event) -> None:
        """Poll every `interval` seconds until told to stop; databases may come and go."""
        fault = None
        while not stop.is_set():
            began = time.monotonic()
            try:
                await self.poll()
                fault = None
            except UnusableError as error:
                _log.debug(logs.POLL_FAILED, error=str(error))
            except ConfigurationError as error:
                # It was right at the start, so somebody is changing it; told once.
                tell = _log.debug if str(error) == fault else _log.error
                tell(logs.POLL_FAILED, error=str(error))
                fault = str(error)
            # From start to start; after a long poll the source has as much peace, up to `interval`.
            took = time.monotonic() - began
            rest = max(interval - took, min(interval, took))
            self._on_progress(rest)
            await sleep_or_stop(stop, rest)

    async def poll(self) -> TakeResult:
        """Take what became ready since the last time."""
        started = time.perf_counter()
        clock = await self._source.clock()
        progress = await self._ledger.progress()
        floor = progress.floor
        if floor is None or progress.watermark is None:
            raise ConfigurationError("the ledger has no START_FROM: its row was changed by hand")
        until = clock.now - self._rules.settle_delay
        watermark = progress.watermark
        if watermark > until:
            # The source's clock was set back, or the delay made longer.
            _log.warning(logs.POLL_PULLED_BACK, watermark=watermark, until=until)
            await self._ledger.pull_back(until, clock.now - self._rules.stale_call_after)
            return TakeResult()
        taken = TakeResult()
        try:
            await self._cover(taken, watermark, progress.never_ended_until, clock, floor)
        finally:
            metrics.POLL_SECONDS.observe(time.perf_counter() - started)
            # What a failing poll took before is in the ledger for good.
            log_taken(taken, started)
        return taken

    async def _cover(
        self,
        taken: TakeResult,
        watermark: datetime,
        never_ended_until: datetime | None,
        clock: Clock,
        floor: datetime,
    ) -> None:
        until = clock.now - self._rules.settle_delay
        started_by = clock.now - self._rules.stale_call_after
        since = watermark + _TICK - OVERLAP
        # STALE_CALL_AFTER may have been longer until now, so that calls without an end are taken
        # less far than the watermark tells.
        reached = never_ended_until or watermark + (started_by - until)
        stale_since = reached + _TICK - OVERLAP
        # Rows are read up to `until`, but only what was surely replayed counts as covered.
        limit = visible_until(clock, self._rules.settle_delay)
        stale_limit = None if limit == MIN_TIME else limit + (started_by - until)
        # Codes of calls that were read before; those read below are taken whole, in their order.
        ready = Readiness(ended_by=since - _TICK, started_by=stale_since - _TICK, floor=floor)
        async for page in self._source.late_codes(Window(since, until), ready):
            await self._take(page, taken, codes=True)
        stale = Window(max(stale_since, floor), started_by)
        async for page in self._source.never_ended(stale):
            await self._take(page, taken)
        async for page in self._source.ended(Window(max(since, floor), until)):
            covered = min(page.covered, limit)
            await self._take(page, taken, watermark=covered, never_ended_until=stale_limit)
        await self._intake.take([], watermark=limit, never_ended_until=stale_limit)

    async def _take(
        self,
        page: Page,
        taken: TakeResult,
        *,
        codes: bool = False,
        watermark: datetime | None = None,
        never_ended_until: datetime | None = None,
    ) -> None:
        new = await self._intake.take(
            page.found,
            only_codes={found.row_id for found in page.found} if codes else None,
            watermark=watermark,
            never_ended_until=never_ended_until,
        )
        taken.add(new)
        if new:
            self._on_taken()  # now: they can be sent while more is taken
        self._on_progress(0.0)


def visible_until(clock: Clock, settle_delay: timedelta) -> datetime:
    """Return up to when all calls that are ready can be seen; FIRST if a standby cannot tell."""
    moment = clock.now
    if clock.standby:
        moment = min(moment, max(clock.replayed or MIN_TIME, MIN_TIME + settle_delay))
    return moment - settle_delay


def log_taken(taken: TakeResult, started: float, *, late: bool = False) -> None:
    """Tell the log of new lines; `started` is by `time.perf_counter`."""
    if not taken.lines:
        return
    (metrics.LATE if late else metrics.TAKEN).inc(taken.lines)
    about = {"late": True} if late else {}
    _log.info(
        logs.POLL_TAKEN,
        lines=taken.lines,
        calls=len(taken.call_ids),
        seconds=round(time.perf_counter() - started, 3),
        **about,
    )
