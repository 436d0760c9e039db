"""Writes what came of attempts into the ledger, and tells the log; loses none while it lives."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import cache, partial
from typing import NamedTuple

import structlog

from daemon import logs, metrics
from daemon.delivery.outcome import Delivered, Locked, Outcome
from daemon.errors import SettleTimeoutError, UnreachableError
from daemon.ledger.store import Ledger
from daemon.lines import FeedName, LineKey, PendingLine, Settlement, State

_log = structlog.get_logger()

UNWRITABLE_FOR = 120.0
"""Seconds without being able to write outcomes, after which the process ends (contract 8)."""
COMPANY = 24
"""Outcomes worth a statement of their own; fewer of them wait for others."""
LINGER = 0.005
"""Seconds that they wait."""
RETRY_EVERY = 0.5
"""Seconds between two tries to write them."""


class AttemptResult(NamedTuple):
    """One request, how many seconds it took, and what came of it."""

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

    def __init__(self, ledger: Ledger, retry_for: float) -> None:
        """Take the ledger, and after how many seconds of failing a line expires."""
        self._ledger = ledger
        self._retry_for = retry_for
        self._unsettled: list[AttemptResult] = []
        self._notes: list[Callable[[], Awaitable[None]]] = []
        self._work = asyncio.Event()
        self._clean = asyncio.Event()
        self._clean.set()
        self._failing_since: float | None = None
        self._unheard = False
        self._paused: bool | None = None
        self._paused_written: bool | None = None
        self._proven = False
        self._proven_written = False
        self.write_lock = asyncio.Lock()
        self.on_settled: Callable[[Sequence[AttemptResult]], None] = lambda _: None

    @property
    def waiting(self) -> int:
        """How many answered lines are not in the ledger yet."""
        return len(self._unsettled)

    @property
    def writable(self) -> bool:
        """Whether the last try to write worked."""
        return self._failing_since is None

    def add(self, attempt: AttemptResult) -> None:
        """Take an outcome to write."""
        self._unsettled.append(attempt)
        self._clean.clear()
        self._work.set()

    def mark_paused(self, *, paused: bool) -> None:
        """Stop or start the clock by which lines expire, before the next outcomes are written."""
        self._paused = paused
        self._work.set()

    def leave_clock(self) -> None:
        """Leave the clock to the next holder of the ledger, who sets it right at its start."""
        self._paused = self._paused_written = None

    def note_streak(self, refused: Sequence[LineKey]) -> None:
        """Remember that the sender pauses as the endpoint fails, after all outcomes so far."""
        self._note(partial(self._ledger.streak_began, FeedName.STATISTICS, refused))

    def note_failed_probe(self, key: LineKey) -> None:
        """Remember that this line was answered no better in that pause."""
        self._note(partial(self._ledger.probe_failed, key))

    def note_streak_ended(self) -> None:
        """Remember and log that the endpoint works again, and what stays refused."""
        self._note(self._end_streak)

    def _note(self, write: Callable[[], Awaitable[None]]) -> None:
        self._notes.append(write)
        self._clean.clear()
        self._work.set()

    async def _end_streak(self) -> None:
        streak = await self._ledger.streak_ended(FeedName.STATISTICS)
        if streak is None:
            _log.info(logs.SENDER_RESUMED)
            return
        _log.info(
            logs.SENDER_RESUMED,
            rejected=streak.rejected,
            not_found=streak.not_found,
            since=streak.since.isoformat(),
            until=streak.until.isoformat(),
        )

    def mark_proven(self) -> None:
        """Remember that the endpoint works."""
        self._proven = True

    async def run(self) -> None:
        """Write outcomes as they come, all that have come at once, until cancelled.

        Raises `SettleTimeoutError` after `UNWRITABLE_FOR` seconds without success.
        """
        while True:
            self._work.clear()
            if await self._try():
                await self._work.wait()
                if len(self._unsettled) < COMPANY:
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
                while not await self._try():  # noqa: ASYNC110 - the ledger tells nobody
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
        """Write all there is; False if the ledger did not take it."""
        try:
            async with self.write_lock:
                # A batch under way is finished whatever happens to us: half known is unknown.
                writing = asyncio.ensure_future(self._write())
                try:
                    await asyncio.shield(writing)
                except asyncio.CancelledError:
                    await asyncio.wait({writing}, timeout=1.0)
                    if writing.done() and not writing.cancelled():
                        writing.exception()  # told by whoever tries next
                    raise
        except UnreachableError as error:
            now = time.monotonic()
            self._failing_since = self._failing_since or now
            if self._unsettled and now - self._failing_since >= UNWRITABLE_FOR:
                raise SettleTimeoutError(
                    f"{len(self._unsettled)} outcomes could not be written for "
                    f"{UNWRITABLE_FOR:.0f} s: {error}"
                ) from error
            return False
        return True

    async def _write(self) -> None:
        paused = self._paused
        if paused is not None and paused != self._paused_written:
            write = self._ledger.pause_began if paused else self._ledger.pause_ended
            await write(FeedName.STATISTICS)
            self._paused_written = paused
        if self._proven and not self._proven_written:
            await self._ledger.proven(FeedName.STATISTICS)
            self._proven_written = True
        batch, notes = list(self._unsettled), len(self._notes)
        settled = {}
        if batch:
            # Set until the end of a write was heard of: what comes next may be written already.
            again, self._unheard = self._unheard, True
            settled = await self._ledger.settle(
                [attempt.settlement for attempt in batch], self._retry_for, again=again
            )
            self._unheard = False
            del self._unsettled[: len(batch)]
        elif self._failing_since is not None:
            await self._ledger.progress(FeedName.STATISTICS)
        self._failing_since = None
        self.on_settled(batch)
        now = datetime.now(UTC)
        for attempt in batch:
            if attempt.line.key in settled:
                _count(attempt, settled[attempt.line.key][0], now)
                _tell(attempt, *settled[attempt.line.key])
        for _ in range(notes):
            await self._notes[0]()
            del self._notes[0]
        if not self._unsettled and not self._notes:
            self._clean.set()


_lines = cache(metrics.LINES.labels)


def _count(attempt: AttemptResult, state: State, now: datetime) -> None:
    if state is not State.PENDING:
        _lines(state).inc()
    if state is State.DELIVERED and not attempt.line.backfill:
        age = (now - attempt.line.call_ended).total_seconds()
        metrics.DELIVERY_SECONDS.observe(max(0.0, age))


def _tell(attempt: AttemptResult, state: State, attempts: int) -> None:
    line, outcome, settlement = attempt.line, attempt.outcome, attempt.settlement
    about = {
        "key": str(line.key),
        "call_id": line.key.call_id,
        "salesforce_id": line.salesforce_id,
        "status": settlement.status,
        "attempt": attempts,
        "seconds": round(attempt.seconds, 3),
        "record": line.record,
    }
    if attempt.error_code is not None:
        about["error_code"] = attempt.error_code
    if state is State.DELIVERED:
        expected = isinstance(outcome, Delivered) and outcome.expected
        (_log.info if expected else _log.warning)(logs.LINE_DELIVERED, **about)
    elif state in {State.CONFLICT, State.NOT_FOUND}:
        _log.warning(f"line.{state}", **about)
    elif state is not State.PENDING:
        _log.error(f"line.{state}", **about)
    elif settlement.wait is not None:
        event = logs.LINE_LOCKED if isinstance(outcome, Locked) else logs.LINE_RETRIED
        tell = _log.info if isinstance(outcome, Locked) else _log.warning
        tell(event, **about, retry_in=round(settlement.wait, 3))
