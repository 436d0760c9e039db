"""Takes every row that becomes ready into the ledger, by the source's clock and without gaps."""

import asyncio
import time
from collections.abc import Callable

import structlog

from daemon import logs, metrics
from daemon.errors import ConfigurationError, UnusableError
from daemon.ingest.feed import Feed
from daemon.ingest.intake import Intake, TakeResult, log_taken
from daemon.ledger.binding import Binding
from daemon.ledger.store import Ledger
from daemon.lines import MICROSECOND, Covered
from daemon.tasks import sleep_or_stop

_log = structlog.get_logger()

REPORTED = 100_000
"""Lines after which a poll that catches up says what it has taken so far."""


class Poller:
    """Covers (W, T] at each poll; W is the ledger's watermark, T the source's now less the delay.

    Invariant: W is stored in the transaction that stores the lines it covers, so that it never
    passes a line that is not in the ledger.
    """

    def __init__(
        self,
        feed: Feed,
        ledger: Ledger,
        intake: Intake,
        on_taken: Callable[[], None],
        on_progress: Callable[[float], None] = lambda _rest: None,
        reported: int = REPORTED,
    ) -> None:
        """Call `on_taken` when new lines are in the ledger.

        `on_progress` is called after each page and poll, with the seconds until the next poll.
        """
        self._feed = feed
        self._ledger = ledger
        self._intake = intake
        self._on_taken = on_taken
        self._on_progress = on_progress
        self._reported = reported

    async def prepare(self, clients_id: int | None, schemas: tuple[str, ...]) -> None:
        """Check that the source is the one this ledger holds; keep START_FROM at the first start.

        Raises `ConfigurationError` for a wrong source, `UnreachableError` while one is away.
        """
        clock = await self._feed.clock()
        await self._ledger.check_binding(Binding(clients_id, clock.database, schemas))
        await self._feed.prepare()
        start_from = self._feed.rules.start_from or clock.now
        watermark = min(start_from, self._feed.rules.ended_by(clock)) - MICROSECOND
        await self._ledger.start(self._feed.name, start_from, watermark)

    async def run(self, interval: float, stop: asyncio.Event) -> None:
        """Poll every `interval` seconds until `stop`; outages of a database are waited out."""
        fault = None
        while not stop.is_set():
            began = time.monotonic()
            try:
                await self.poll()
                fault = None
            except UnusableError as error:
                _log.debug(logs.POLL_FAILED, error=str(error))
            except ConfigurationError as error:
                # It was right at the start, so somebody is changing it; an error once.
                log = _log.debug if str(error) == fault else _log.error
                log(logs.POLL_FAILED, error=str(error))
                fault = str(error)
            # From start to start; after a long poll the source rests as long, up to `interval`.
            took = time.monotonic() - began
            rest = max(interval - took, min(interval, took))
            self._on_progress(rest)
            await sleep_or_stop(stop, rest)

    async def poll(self) -> TakeResult:
        """Take what became ready since the last time; returns what is logged at its end."""
        started = since = time.perf_counter()
        clock = await self._feed.clock()
        progress = await self._ledger.progress(self._feed.name)
        floor, watermark = progress.floor, progress.watermark
        if floor is None or watermark is None:
            raise ConfigurationError("the ledger has no START_FROM: its row was changed by hand")
        taken = TakeResult()
        until = self._feed.rules.ended_by(clock)
        if watermark > until:
            # The source's clock was set back, or the delay made longer.
            _log.warning(logs.POLL_PULLED_BACK, watermark=watermark, until=until)
            back = Covered(until, self._feed.rules.started_by(clock))
            await self._ledger.pull_back(self._feed.name, back)
            return taken
        covered = Covered(watermark, progress.never_ended_until)
        try:
            async for due in self._feed.due(covered, floor, clock):
                new = await self._intake.take(
                    due.page.found, whole=due.page.whole, covered=due.covered
                )
                taken.add(new)
                if new:
                    self._on_taken()  # now: they can be sent while more is taken
                self._on_progress(0.0)
                if taken.lines >= self._reported:
                    log_taken(self._feed.name, taken, since)
                    taken, since = TakeResult(), time.perf_counter()
        finally:
            metrics.POLL_SECONDS.observe(time.perf_counter() - started)
            # What a failing poll took before is in the ledger for good.
            log_taken(self._feed.name, taken, since)
        return taken
