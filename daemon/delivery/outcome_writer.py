"""Writes outcomes in batches into the ledger, then logs them; keeps them until that works."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple, assert_never

import structlog

from daemon import logs, metrics
from daemon.delivery.outcome import Delivered, Locked, Outcome
from daemon.errors import SettleTimeoutError, UnusableError
from daemon.ledger.store import Ledger
from daemon.lines import FeedName, LineKey, PendingLine, Settlement, State
from daemon.tasks import in_background

_log = structlog.get_logger()

UNWRITABLE_FOR = 120.0
"""Seconds without being able to write outcomes, after which the process ends."""
MIN_BATCH = 24
"""Write at once from this many outcomes on; smaller batches wait LINGER seconds."""
LINGER = 0.005
"""Seconds that smaller batches wait for more outcomes."""
RETRY_EVERY = 0.5
"""Seconds between two tries to write outcomes."""
CANCELLED_FINISH = 1.0
"""Seconds that a cancelled caller waits for the write under way."""
FINAL_FLUSH = 1.0
"""Seconds to write what is left when the process must end at once."""
DRAIN_EXTRA = 5.0
"""Seconds beyond REQUEST_TIMEOUT for what is in flight at the end, and to write what is left."""


class AttemptResult(NamedTuple):
    """One request, its duration in seconds, and its outcome."""

    line: PendingLine
    seconds: float
    outcome: Outcome
    settlement: Settlement
    error_code: str | None = None


class OutcomeWriter:
    """Holds answered lines until the ledger has their outcomes.

    It outlives the ledger's lock: an outcome is void only if the line is no longer pending in the
    generation that was sent, so that writing needs no lock. Whoever reads pending lines takes
    `write_lock` for it: lines read before an outcome was written must not come back after it.
    """

    def __init__(
        self, ledger: Ledger, retry_for: float, unwritable_for: float = UNWRITABLE_FOR
    ) -> None:
        """Let lines expire that have failed for `retry_for` seconds."""
        self._ledger = ledger
        self._retry_for = retry_for
        self._unwritable_for = unwritable_for
        self._unsettled: list[AttemptResult] = []
        self._notes: list[Callable[[], Awaitable[None]]] = []
        self._work = asyncio.Event()
        self._clean = asyncio.Event()
        self._clean.set()
        self._writing: asyncio.Task[None] | None = None
        self._failing_since: float | None = None
        self._unheard = False
        self._paused: dict[FeedName, bool] = {}
        self._paused_written: dict[FeedName, bool] = {}
        self._proven: set[FeedName] = set()
        self._proven_written: set[FeedName] = set()
        self.write_lock = asyncio.Lock()
        self._on_written: Callable[[Sequence[AttemptResult]], None] | None = None

    @property
    def waiting(self) -> int:
        """How many answered lines are not in the ledger yet."""
        return len(self._unsettled)

    @property
    def writable(self) -> bool:
        """Whether the last try to write worked."""
        return self._failing_since is None

    @contextmanager
    def reporting(self, on_written: Callable[[Sequence[AttemptResult]], None]) -> Iterator[None]:
        """Call this during the block with the outcomes of each write that worked, if any."""
        self._on_written = on_written
        try:
            yield
        finally:
            self._on_written = None

    def add(self, attempt: AttemptResult) -> None:
        """Add an outcome to write."""
        self._unsettled.append(attempt)
        self._clean.clear()
        self._work.set()

    def mark_paused(self, feed: FeedName, *, paused: bool) -> None:
        """Stop or start the clock by which lines expire, before the next outcomes are written."""
        self._paused[feed] = paused
        self._work.set()

    def leave_clock(self) -> None:
        """Leave the clock as it is: the next holder of the ledger corrects it at its start."""
        self._paused.clear()
        self._paused_written.clear()

    def note_streak(self, feed: FeedName, refused: Sequence[LineKey]) -> None:
        """Record that the sender pauses because the endpoint fails, after all outcomes so far."""
        self._note(partial(self._ledger.streak_began, feed, refused))

    def note_failed_probe(self, key: LineKey) -> None:
        """Record that this line failed as a probe in that pause."""
        self._note(partial(self._ledger.probe_failed, key))

    def note_streak_ended(self, feed: FeedName, about: Mapping[str, str]) -> None:
        """Record and log that the endpoint works again, and which lines stay refused.

        `about` has further fields of the event.
        """
        self._note(partial(self._end_streak, feed, about))

    def _note(self, write: Callable[[], Awaitable[None]]) -> None:
        self._notes.append(write)
        self._clean.clear()
        self._work.set()

    async def _end_streak(self, feed: FeedName, about: Mapping[str, str]) -> None:
        streak = await self._ledger.streak_ended(feed)
        if streak is None:
            _log.info(logs.SENDER_RESUMED, **about)
            return
        _log.info(
            logs.SENDER_RESUMED,
            **about,
            rejected=streak.rejected,
            not_found=streak.not_found,
            since=streak.since.isoformat(),
            until=streak.until.isoformat(),
        )

    def mark_proven(self, feed: FeedName) -> None:
        """Record that the endpoint works."""
        self._proven.add(feed)

    async def run(self) -> None:
        """Write outcomes as they come, all that have come at once, until cancelled.

        Raises `SettleTimeoutError` after `unwritable_for` seconds without success.
        """
        while True:
            self._work.clear()
            if await self._try():
                await self._work.wait()
                if len(self._unsettled) < MIN_BATCH:
                    await asyncio.sleep(LINGER)
            else:
                await asyncio.sleep(RETRY_EVERY)

    async def wait_written(self) -> None:
        """Wait until all outcomes are written."""
        await self._clean.wait()

    async def finish(self, seconds: float) -> None:
        """Write what is left within so many seconds; raises `SettleTimeoutError` if it fails."""
        if self._clean.is_set():
            return
        try:
            async with asyncio.timeout(seconds):
                while not self._clean.is_set():
                    if not await self._try():
                        await asyncio.sleep(RETRY_EVERY)
        except TimeoutError:
            if not self._unsettled:
                return  # the next start finds a streak that did not end, and probes at once
            _log.error(logs.SENDER_UNSETTLED, lines=len(self._unsettled))
            raise SettleTimeoutError(
                f"{len(self._unsettled)} outcomes could not be written; "
                "those lines are sent again at the next start"
            ) from None

    async def _try(self) -> bool:
        """Write all outcomes and notes; False if the ledger could not be written."""
        try:
            async with self.write_lock:
                if self._writing is not None:  # by a caller that was cancelled
                    await self._finish_write(self._writing)
                self._writing = asyncio.create_task(self._write())
                await self._finish_write(self._writing)
        except UnusableError as error:
            now = time.monotonic()
            self._failing_since = self._failing_since or now
            if self._unsettled and now - self._failing_since >= self._unwritable_for:
                raise SettleTimeoutError(
                    f"{len(self._unsettled)} outcomes could not be written for "
                    f"{self._unwritable_for:.0f} s: {error}"
                ) from error
            return False
        return True

    async def _finish_write(self, writing: asyncio.Task[None]) -> None:
        """Wait for a write under way, which goes on when its caller is cancelled.

        A cancelled write may or may not be in the ledger, and a second one beside it would write,
        and then drop, the same outcomes.
        """
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait({writing}, timeout=CANCELLED_FINISH)
            if writing.done() and not writing.cancelled():
                writing.exception()  # raised again by the next try
            raise
        finally:
            if writing.done():
                self._writing = None

    async def _write_marks(self) -> None:
        """Write which feeds are paused, before outcomes, and whose endpoint works."""
        for feed, paused in list(self._paused.items()):
            if paused != self._paused_written.get(feed):
                await (self._ledger.pause_began if paused else self._ledger.pause_ended)(feed)
                if feed in self._paused:  # else the next sender marks it anew
                    self._paused_written[feed] = paused
        for feed in self._proven - self._proven_written:
            await self._ledger.proven(feed)
            self._proven_written.add(feed)

    async def _write(self) -> None:
        await self._write_marks()
        batch, notes = list(self._unsettled), len(self._notes)
        settled = {}
        if batch:
            # True until a write is confirmed: without that, the batch may be in the ledger.
            again, self._unheard = self._unheard, True
            settled = await self._ledger.settle(
                [attempt.settlement for attempt in batch], self._retry_for, again=again
            )
            self._unheard = False
            del self._unsettled[: len(batch)]
        elif self._failing_since is not None:
            await self._ledger.binding()
        self._failing_since = None
        if self._on_written is not None:
            self._on_written(batch)
        _report(batch, settled)
        void = [attempt.settlement for attempt in batch if attempt.line.key not in settled]
        if void := [settlement for settlement in void if settlement.sent]:
            self._note(partial(self._ledger.settle_void, void))
        for _ in range(notes):
            await self._notes[0]()
            del self._notes[0]
        if not self._unsettled and not self._notes:
            self._clean.set()


@asynccontextmanager
async def open_writer(ledger: Ledger, retry_for: float) -> AsyncIterator[OutcomeWriter]:
    """Write outcomes while the block runs, and at its end what is left, whatever ended it.

    Raises `SettleTimeoutError`, in an exception group, when outcomes cannot be written.
    """
    writer = OutcomeWriter(ledger, retry_for)
    try:
        async with in_background(writer.run()):
            yield writer
            await writer.finish(DRAIN_EXTRA)
    finally:
        if writer.waiting:
            await writer.finish(FINAL_FLUSH)


def _report(batch: Sequence[AttemptResult], settled: Mapping[LineKey, tuple[State, int]]) -> None:
    """Count and log what the ledger took; deliveries in a row with one write."""
    now = datetime.now(UTC)
    counts: Counter[tuple[FeedName, State]] = Counter()
    delivered: list[dict[str, object]] = []
    for attempt in batch:
        if attempt.line.key not in settled:
            continue
        state, attempts = settled[attempt.line.key]
        feed = attempt.line.key.feed
        counts[feed, state] += 1
        live = feed is FeedName.STATISTICS and not attempt.line.backfill
        if state is State.DELIVERED and live:
            age = (now - attempt.line.call_ended).total_seconds()
            metrics.DELIVERY_SECONDS.observe(max(0.0, age))
        fields = _log_fields(attempt, attempts)
        if isinstance(attempt.outcome, Delivered) and attempt.outcome.expected:
            delivered.append(fields)
            continue
        logs.info_each(logs.LINE_DELIVERED, delivered)
        delivered = []
        _log_outcome(attempt, state, fields)
    logs.info_each(logs.LINE_DELIVERED, delivered)
    for (feed, state), lines in counts.items():
        if state is not State.PENDING:
            metrics.count_lines(feed, state, lines)


def _log_fields(attempt: AttemptResult, attempts: int) -> dict[str, object]:
    line = attempt.line
    fields: dict[str, object] = {
        **line.key.log_fields,
        "salesforce_id": line.salesforce_id,
        "status": attempt.settlement.status,
        "attempt": attempts,
        "seconds": round(attempt.seconds, 3),
        "record": line.record,
    }
    if attempt.error_code is not None:
        fields["error_code"] = attempt.error_code
    return fields


def _log_outcome(attempt: AttemptResult, state: State, fields: Mapping[str, object]) -> None:
    match state:
        case State.DELIVERED | State.CONFLICT | State.NOT_FOUND:
            log = _log.warning
        case State.REJECTED | State.EXPIRED | State.INVALID | State.SKIPPED:
            log = _log.error
        case State.PENDING:
            _log_retry(attempt.outcome, attempt.settlement.wait, fields)
            return
        case _:
            assert_never(state)
    log(logs.LINE_EVENTS[state], **fields)


def _log_retry(outcome: Outcome, wait: float | None, fields: Mapping[str, object]) -> None:
    if wait is None:
        return  # the sender's pause is logged instead
    locked = isinstance(outcome, Locked)
    log = _log.info if locked else _log.warning
    log(logs.LINE_LOCKED if locked else logs.LINE_RETRIED, **fields, retry_in=round(wait, 3))
