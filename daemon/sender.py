"""Sends pending lines and settles them: lanes → post → classify → settle."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Protocol

import structlog

from daemon import logs
from daemon.backoff import Backoff
from daemon.errors import UnreachableError, UnwritableError
from daemon.lanes import Lanes
from daemon.ledger import Ledger
from daemon.lines import PendingLine, Settlement, State
from daemon.outcome import (
    Answer,
    Delivered,
    Halted,
    Locked,
    NoAnswer,
    Outcome,
    Reason,
    Unanswered,
    classify,
)
from daemon.pace import Pace
from daemon.settlement import holds_lane, settle

_log = structlog.get_logger()

UNSETTLED = 64
"""Answered lines that may wait for the ledger; no request starts beyond them."""
FETCH = 2500
"""Lines to read from the ledger at once, beside those that may be known already."""
LOW_WATER = 500
"""Fewer lines than this in memory, and more are read."""
LANE_DEPTH = 16
"""Lines of one record in memory: it is sent one at a time, so more would only crowd it."""
UNWRITABLE_FOR = 120.0
"""Seconds without being able to write outcomes, after which the process ends (contract 8)."""
DRAIN_EXTRA = 5.0
"""Seconds beyond REQUEST_TIMEOUT to wait for requests in flight when stopping."""


class Endpoint(Protocol):
    """Where lines are sent; never raises for what the network does."""

    async def post(self, key: str, record: bytes) -> Answer | NoAnswer:
        """Send one record under its idempotency key."""


@dataclass(frozen=True, slots=True)
class Limits:
    """CONCURRENCY; in seconds REQUEST_TIMEOUT, RETRY_FOR and how often to look when idle."""

    concurrency: int
    request_timeout: float
    retry_for: float
    idle: float


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request, how long it took, and what came of it."""

    line: PendingLine
    seconds: float
    outcome: Outcome
    settlement: Settlement


class Sender:
    """Sends each pending line until it has a final outcome.

    Invariants: a line leaves only once it is read from the ledger as pending, and is known here
    until its outcome is written there; one request per lane is out at a time; at most
    CONCURRENCY requests are out and none starts while `UNSETTLED` answers are unwritten.
    """

    def __init__(
        self,
        ledger: Ledger,
        endpoint: Endpoint,
        pace: Pace,
        backoff: Backoff,
        limits: Limits,
        may_send: Callable[[], bool],
    ) -> None:
        """Take the rooms to join; `may_send` is asked before each request (the ledger's lock)."""
        self._ledger = ledger
        self._endpoint = endpoint
        self._backoff = backoff
        self._limits = limits
        self._may_send = may_send
        self._lanes: Lanes[PendingLine] = Lanes(LANE_DEPTH)
        self._in_flight: dict[asyncio.Task[None], tuple[PendingLine, float]] = {}
        self._unsettled: list[Attempt] = []
        self._writable = True
        self._more = True
        self._due: list[float] = []
        self._wake = asyncio.Event()
        self._answered = asyncio.Event()
        self._clean = asyncio.Event()
        # Reading pending lines and writing outcomes take turns: lines read before an outcome was
        # written must not come back after it.
        self._turn = asyncio.Lock()
        self._stopping = False
        self._pause_written = False
        self._proven_written = pace.endpoint_proven
        self._timer: asyncio.TimerHandle | None = None
        self.pace = pace
        self.held = False

    def wake(self) -> None:
        """Look into the ledger now: there are new lines."""
        self._more = True
        self._wake.set()

    def hold(self, *, held: bool) -> None:
        """Stop or start sending at an operator's wish; requests in flight finish."""
        if held == self.held:
            return
        self.held = held
        if held:
            _log.warning(logs.SENDER_PAUSED, reason=Reason.OPERATOR, retry_in=None)
        else:
            _log.info(logs.SENDER_RESUMED, reason=Reason.OPERATOR)
        self._answered.set()
        self._pump()

    @property
    def paused(self) -> tuple[str, float | None] | None:
        """The reason of a pause and the seconds until the next try, if the sender is paused."""
        if self.held:
            return Reason.OPERATOR, None
        if self.pace.pause is None:
            return None
        return self.pace.pause.reason, max(0.0, self.pace.pause.until - self._now())

    async def run(self, stop: asyncio.Event) -> None:
        """Send until told to stop, then finish what is in flight and settle it.

        Raises `UnwritableError` when outcomes cannot be written for too long. Cancelled, it
        aborts the requests in flight and settles them as unanswered if the ledger lets it.
        """
        settling = asyncio.create_task(self._settle_answers(), name="settle")
        refilling = asyncio.create_task(self._refill(stop), name="refill")
        self._crashed = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait(
                {settling, refilling, self._crashed}, return_when=asyncio.FIRST_COMPLETED
            )
            self._stopping = True
            for ended in (self._crashed, settling, refilling):
                if ended.done():
                    ended.result()
            await self._drain(settling)
        finally:
            self._stopping = True
            await self._abort()
            for task in (refilling, settling):
                task.cancel()
            await asyncio.gather(refilling, settling, return_exceptions=True)
            if self._timer is not None:
                self._timer.cancel()
            await self._settle_last()

    async def _drain(self, settling: asyncio.Task[None]) -> None:
        """Wait for the requests in flight, abort those that take too long, settle them all."""
        longest = self._limits.request_timeout + DRAIN_EXTRA
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=longest)
        await self._abort()
        cleaned = asyncio.create_task(self._clean.wait())
        if self._unsettled:
            await asyncio.wait(
                {cleaned, settling}, timeout=DRAIN_EXTRA, return_when=asyncio.FIRST_COMPLETED
            )
        cleaned.cancel()
        if self._unsettled:
            raise UnwritableError(f"{len(self._unsettled)} outcomes could not be written")

    async def _abort(self) -> None:
        """Cut the requests in flight: nobody knows whether they arrived."""
        aborted = dict(self._in_flight)
        self._in_flight.clear()
        for task, (line, began) in aborted.items():
            task.cancel()
            self._answer(line, self.pace.epoch, began, NoAnswer(sent=True, error="aborted"))
        await asyncio.gather(*aborted, return_exceptions=True)

    async def _settle_last(self) -> None:
        """Write what is still unwritten, if the ledger takes it at once."""
        try:
            async with asyncio.timeout(1.0):
                await self._settle_batch()
        except (UnreachableError, TimeoutError) as error:
            _log.error(logs.SENDER_UNSETTLED, lines=len(self._unsettled), error=str(error))

    # Sending

    def _pump(self) -> None:
        """Start as many requests as may start now."""
        now = self._now()
        while (
            not self._stopping
            and not self.held
            and self._writable
            and len(self._unsettled) < UNSETTLED
            and len(self._in_flight) < self._limits.concurrency
            and self.pace.may_start(len(self._in_flight), now)
            and self._may_send()
        ):
            line = self._lanes.next(self.pace.avoid)
            if line is None:
                break
            task = asyncio.create_task(self._send(line, now))
            task.add_done_callback(self._request_ended)
            self._in_flight[task] = (line, now)
        if self._lanes.waiting < LOW_WATER and (self._more or self._lanes.starved):
            self._wake.set()

    def _request_ended(self, task: asyncio.Task[None]) -> None:
        """Let a defect end the daemon instead of leaving a line in flight for ever."""
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._crashed.done():
            self._crashed.set_exception(error)

    async def _send(self, line: PendingLine, began: float) -> None:
        epoch = self.pace.epoch
        answer = await self._endpoint.post(str(line.key), line.record.encode())
        task = asyncio.current_task()
        if task is None or self._in_flight.pop(task, None) is None:
            return  # aborted: its outcome is already told
        self._answer(line, epoch, began, answer)
        self._pump()

    def _answer(
        self, line: PendingLine, epoch: int, began: float, answer: Answer | NoAnswer
    ) -> None:
        """Judge an answer: what becomes of the line, its lane and the sender."""
        outcome = classify(answer)
        seconds = self._now() - began
        halted = None if self._stopping else self.pace.judge(outcome, line.lane)
        if halted is not None:
            self._halt(halted, line.lane, epoch)
        elif not isinstance(outcome, Unanswered | Halted) and self.pace.answered(epoch):
            _log.info(logs.SENDER_RESUMED)
        settlement = settle(line, outcome, self._backoff, seconds)
        if not holds_lane(outcome):
            self._lanes.done(line)
        self._unsettled.append(Attempt(line, seconds, outcome, settlement))
        self._clean.clear()
        self._answered.set()

    def _halt(self, halted: Halted, lane: str, epoch: int) -> None:
        first = self.pace.pause is None
        pause = self.pace.halt(halted, lane, epoch, self._now())
        if pause is None:
            return
        retry_in = pause.until - self._now()
        tell = _log.warning if first else _log.debug
        tell(
            logs.SENDER_PAUSED if first else logs.SENDER_STILL_PAUSED,
            reason=pause.reason,
            retry_in=round(retry_in, 3),
            status=halted.status,
        )
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(retry_in, self._pump)

    # Reading

    async def _refill(self, stop: asyncio.Event) -> None:
        """Keep lines at hand, reading at least once per idle interval."""
        stopped = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                self._wake.clear()
                try:
                    await self._read()
                except UnreachableError as error:
                    _log.debug(logs.SENDER_UNREAD, error=str(error))
                self._pump()
                await self._until_woken(stopped)
        finally:
            stopped.cancel()

    async def _read(self) -> None:
        """Read pending lines until enough are here, or there are no more to be had now."""
        limit = FETCH + 2 * self._limits.concurrency
        while not self._stopping and self._lanes.waiting < LOW_WATER:
            while self._due and self._due[0] <= self._now():
                heappop(self._due)
            async with self._turn:
                lines = await self._ledger.pending(limit, self._lanes.full)
                added = self._lanes.add(lines)
            self._more = len(lines) == limit and added > 0
            self._pump()
            if not self._more:
                self._lanes.forgive()
                return

    async def _until_woken(self, stopped: asyncio.Task[bool]) -> None:
        seconds = self._limits.idle
        if self._due:
            seconds = min(seconds, max(0.0, self._due[0] - self._now()))
        woken = asyncio.create_task(self._wake.wait())
        await asyncio.wait({woken, stopped}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        woken.cancel()

    # Settling

    async def _settle_answers(self) -> None:
        """Write outcomes as they come, all that have come at once; retry until it works.

        Raises `UnwritableError` after `UNWRITABLE_FOR` seconds without success.
        """
        failing_since: float | None = None
        while True:
            try:
                async with self._turn:
                    self._answered.clear()
                    await self._mark_pause()
                    await self._settle_batch()
                failing_since = None
                self._writable = True
                self._pump()
            except UnreachableError as error:
                self._writable = False
                failing_since = failing_since or self._now()
                if self._unsettled and self._now() - failing_since >= UNWRITABLE_FOR:
                    raise UnwritableError(
                        f"outcomes could not be written for {UNWRITABLE_FOR:.0f} s: {error}"
                    ) from error
                await asyncio.sleep(min(1.0, self._limits.idle))
                continue
            await self._answered.wait()

    async def _settle_batch(self) -> None:
        batch = list(self._unsettled)
        if not batch:
            return
        settled = await self._ledger.settle(
            [attempt.settlement for attempt in batch], self._limits.retry_for
        )
        del self._unsettled[: len(batch)]
        for attempt in batch:
            line, wait = attempt.line, attempt.settlement.wait
            if holds_lane(attempt.outcome):
                self._lanes.done(line, held_back=True)
            self._lanes.settled(line)
            if attempt.settlement.state is State.PENDING:
                self._look_again(wait)
            if line.key in settled:
                _tell(attempt, *settled[line.key])
        if not self._unsettled:
            self._clean.set()

    def _look_again(self, wait: float | None) -> None:
        """Read the ledger when a line that waits is due."""
        if wait is None:
            self._more = True
            return
        due = self._now() + wait
        if not self._due or due < self._due[0]:
            self._wake.set()
        heappush(self._due, due)

    async def _mark_pause(self) -> None:
        """Stop or start the clock by which lines expire, before outcomes are judged by it."""
        paused = self.held or self.pace.pause is not None
        if paused and not self._pause_written:
            await self._ledger.pause_began()
        elif not paused and self._pause_written:
            await self._ledger.pause_ended()
        self._pause_written = paused
        if self.pace.endpoint_proven and not self._proven_written:
            await self._ledger.proven()
            self._proven_written = True

    @staticmethod
    def _now() -> float:
        return time.monotonic()


def _tell(attempt: Attempt, state: State, attempts: int) -> None:
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
