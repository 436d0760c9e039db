"""Sends pending lines and settles them: lanes → post → classify → settle."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from heapq import heappop, heappush
from typing import Any, NamedTuple, Protocol, cast

import structlog

from daemon import logs, metrics
from daemon.delivery.backoff import Backoff
from daemon.delivery.flow_control import FlowControl
from daemon.delivery.lanes import Lanes
from daemon.delivery.outcome import (
    DEFECT,
    Delivered,
    NoResponse,
    Outcome,
    PauseReason,
    PauseSender,
    Response,
    TokenFailure,
    Unanswered,
    classify,
    error_code,
)
from daemon.delivery.outcome_writer import AttemptResult, OutcomeWriter
from daemon.delivery.settlement import holds_lane, settle
from daemon.errors import UnreachableError
from daemon.ledger.store import Ledger
from daemon.lines import FeedName, PendingLine, State

_log = structlog.get_logger()

UNSETTLED = 64
"""Answered lines that may wait for the ledger; no request starts beyond them."""
FETCH = 2500
"""Lines to read from the ledger at once, beside those that may be known already."""
LOW_WATER = 500
"""Fewer lines than this in memory, but for those of crowded records, and more are read."""
LANE_DEPTH = 256
"""Lines of one record in memory: it is sent one at a time; fewer would have to be read often."""
MAX_IN_MEMORY = 10_000
"""Lines in memory beyond which each record has one at a time: some ten megabytes."""
BACKFILL = (True,)
"""The order of the first of all backfill lines."""
ENDPOINT_AWAY = {PauseReason.UNAVAILABLE, PauseReason.UNANSWERED, PauseReason.ENDPOINT_MISSING}
"""Pauses that may mean that the org is at another address by now (contract 5)."""
DRAIN_EXTRA = 5.0
"""Seconds beyond REQUEST_TIMEOUT to wait for requests in flight when stopping."""


class Transport(Protocol):
    """Where lines are sent; never raises for what the network does."""

    async def post(self, key: str, record: bytes) -> Response | NoResponse | TokenFailure:
        """Send one record under its idempotency key."""


@dataclass(frozen=True, slots=True)
class Limits:
    """CONCURRENCY; in seconds REQUEST_TIMEOUT and how often to look when idle."""

    concurrency: int
    request_timeout: float
    idle: float


class Request(NamedTuple):
    """A request in flight: its line, and the pace's epoch and the clock when it started."""

    line: PendingLine
    epoch: int
    began: float


class Sender:
    """Sends each pending line until it has a final outcome, for as long as one lease lasts.

    Invariants: a line leaves only after it was read from the ledger as pending, and is known here
    until its outcome is written there; one request per lane is out at a time; at most
    CONCURRENCY requests are out and none starts while `UNSETTLED` answers are unwritten.
    """

    def __init__(
        self,
        ledger: Ledger,
        endpoint: Transport,
        writer: OutcomeWriter,
        flow: FlowControl,
        backoff: Backoff,
        limits: Limits,
        may_send: Callable[[], bool],
        on_lasting_pause: Callable[[], None] = lambda: None,
    ) -> None:
        """Take the rooms to join; `may_send` is asked before each request (the ledger's lock).

        `on_lasting_pause` hears of each probe but the first that did not end a pause for want of
        an endpoint.
        `on_turn` hears of each look into the ledger, also of one that failed.
        """
        self._ledger = ledger
        self._endpoint = endpoint
        self._writer = writer
        self._backoff = backoff
        self._limits = limits
        self._may_send = may_send
        self._on_lasting_pause = on_lasting_pause
        self._lanes: Lanes[PendingLine] = Lanes(LANE_DEPTH, MAX_IN_MEMORY)
        self._lane_tries: dict[str, int] = {}
        self._in_flight: dict[asyncio.Task[None], Request] = {}
        self._idle_workers: dict[asyncio.Task[None], asyncio.Future[None]] = {}
        self._refill_wanted = True
        self._has_more = False
        self._forgotten = 0
        self._due: list[float] = []
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self._stopping = False
        self._timer: asyncio.TimerHandle | None = None
        self._backfill_waits = False
        self._newest_wanted = False
        self._newest: PendingLine | None = None
        self.flow = flow
        self.operator_paused = False
        self.on_turn: Callable[[], None] = lambda: None
        writer.on_settled = self._settled

    def wake(self) -> None:
        """Look into the ledger now: there are new lines."""
        self._refill_wanted = True
        self._wake.set()

    def reload(self) -> None:
        """Read the lines in memory anew: a person has changed what shall be sent."""
        self._lanes.clear()
        self._forgotten += 1
        self.wake()

    def set_operator_pause(self, *, paused: bool) -> None:
        """Stop or start sending at an operator's wish; requests in flight finish."""
        if paused == self.operator_paused:
            return
        self.operator_paused = paused
        if paused:
            _log.warning(logs.SENDER_PAUSED, reason=PauseReason.OPERATOR, retry_in=None)
            metrics.PAUSES.labels(PauseReason.OPERATOR).inc()
        else:
            _log.info(logs.SENDER_RESUMED, reason=PauseReason.OPERATOR)
            if self.paused is not None:
                # The older pause shows through: its own event may be days old.
                reason, retry_in = self.paused
                _log.warning(logs.SENDER_PAUSED, reason=reason, retry_in=round(retry_in or 0.0, 3))
        self._mark_paused()
        self.reload()

    def probe(self) -> None:
        """End an automatic pause with a try now, at an operator's wish."""
        self.flow.probe(_now())
        self.wake()

    @property
    def probing(self) -> bool:
        """Whether that try has not been answered yet and may still be soon."""
        return self.flow.probing(_now())

    @property
    def paused(self) -> tuple[str, float | None] | None:
        """The reason of a pause and the seconds until the next try, if the sender is paused."""
        if self.operator_paused:
            return PauseReason.OPERATOR, None
        if self.flow.current_pause is None:
            return None
        return self.flow.current_pause.reason, max(0.0, self.flow.current_pause.until - _now())

    async def run(self, stop: asyncio.Event) -> None:
        """Send until told to stop, then finish what is in flight.

        Cancelled, it aborts the requests in flight; in any case the settler has all outcomes.
        """
        self._stop = stop
        stopped = asyncio.create_task(stop.wait(), name="stopped")
        refilling = asyncio.create_task(self._refill(), name="refill")
        workers = [asyncio.create_task(self._work()) for _ in range(self._limits.concurrency)]
        ends: set[asyncio.Task[Any]] = {stopped, refilling, *workers}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            self._stopping = True
            _raise_defects(refilling, *workers)
            if self._in_flight:
                await asyncio.wait(
                    self._in_flight, timeout=self._limits.request_timeout + DRAIN_EXTRA
                )
            _raise_defects(refilling, *workers)
        finally:
            self._stopping = True
            self._abort()
            for task in (stopped, refilling, *workers):
                task.cancel()
            await asyncio.gather(stopped, refilling, *workers, return_exceptions=True)
            if self._timer is not None:
                self._timer.cancel()
            self._writer.leave_clock()

    def _abort(self) -> None:
        """Give up the requests in flight, to be cut now: nobody knows whether they arrived."""
        aborted = list(self._in_flight.values())
        self._in_flight.clear()
        for request in aborted:
            self._answer(request, NoResponse(sent=True, error="aborted"))

    # Sending

    def _pump(self) -> None:
        """Start as many requests as may start now."""
        while self._idle_workers and (request := self._next()) is not None:
            worker, woken = self._idle_workers.popitem()
            self._in_flight[worker] = request
            woken.set_result(None)
        if self._lanes.untruncated < LOW_WATER and (self._has_more or self._lanes.needs_refill):
            self._wake.set()

    def _next(self) -> Request | None:
        """Take the next line to send from its lane, if one may be sent now."""
        now = _now()
        if (
            self._stopping
            or self._stop.is_set()
            or self.operator_paused
            or not self._writer.writable
            or self._writer.waiting >= UNSETTLED
            or not self.flow.may_start(len(self._in_flight), now)
            or not self._may_send()
        ):
            return None
        line = self._next_newest() if self.flow.newest else None
        if not self.flow.newest:
            line = self._lanes.next(self.flow.avoid, BACKFILL if self._spares(now) else None)
        return None if line is None else Request(line, self.flow.epoch, now)

    def _next_newest(self) -> PendingLine | None:
        """Take the newest line for a probe, or have it read; the first one where there is none."""
        line, self._newest = self._newest, None
        if line is None:
            self._newest_wanted = True
            self._wake.set()
            return None
        if not self._lanes.claim(line):
            self.flow.probe_first()
            return None
        return line

    def _spares(self, now: float) -> bool:
        """Whether backfill waits for the org's other users; told when that changes."""
        spares = self.flow.live_only(now)
        if spares != self._backfill_waits:
            self._backfill_waits = spares
            _log.info(logs.SENDER_SPARES, backfill_waits=spares)
        return spares

    async def _work(self) -> None:
        """Send one line after another, and rest while none may be sent; CONCURRENCY of us do."""
        worker = cast("asyncio.Task[None]", asyncio.current_task())
        while not self._stopping:
            request = self._in_flight.get(worker)
            if request is None:
                self._idle_workers[worker] = asyncio.get_running_loop().create_future()
                await self._idle_workers[worker]
                continue
            line = request.line
            answer = await self._endpoint.post(str(line.key), line.record.encode())
            if self._in_flight.pop(worker, None) is None:
                return  # aborted: its outcome is already told
            self._answer(request, answer)
            following = self._next()
            if following is not None:
                self._in_flight[worker] = following
            self._pump()

    def _answer(self, request: Request, answer: Response | NoResponse | TokenFailure) -> None:
        """Judge an answer: what becomes of the line, its lane and the sender."""
        line = request.line
        outcome, code = self._outcome(line, answer)
        pausing, error = (None, None) if self._stopping else self._assess(request, answer, outcome)
        if pausing is not None:
            self._halt(pausing, request, error)
        elif not isinstance(outcome, Unanswered | PauseSender):
            self._go_on(request)
        if self.flow.endpoint_proven:
            self._writer.mark_proven()
        seconds = _now() - request.began
        _measure(answer, seconds)
        settlement = settle(
            line, outcome, self._backoff, seconds, self._lane_tries.get(line.lane, 0)
        )
        if settlement.hold:
            self._lane_tries[line.lane] = settlement.lane_tries
        elif settlement.free:
            self._lane_tries.pop(line.lane, None)
        if not holds_lane(outcome):
            self._lanes.release(line)
        self._writer.add(AttemptResult(line, seconds, outcome, settlement, code))

    def _assess(
        self, request: Request, answer: Response | NoResponse | TokenFailure, outcome: Outcome
    ) -> tuple[PauseSender | None, str | None]:
        """Say whether the sender must pause, and why in words that may be logged."""
        pausing = self.flow.assess(outcome, request.line.lane, request.line.key)
        # What the endpoint says may name a caller; only our own words go to the log.
        if not isinstance(answer, Response):
            return pausing, answer.error
        if pausing is not None or (pausing := self.flow.used(answer.api_usage, _now())) is None:
            return pausing, None
        if self.flow.failing and not isinstance(outcome, Unanswered | PauseSender):
            self._go_on(request)  # the endpoint works again; only its budget is used up
        return pausing, pausing.error

    def _outcome(
        self, line: PendingLine, answer: Response | NoResponse | TokenFailure
    ) -> tuple[Outcome, str | None]:
        """Say what an answer means, which is less of the line while the endpoint fails.

        Beside it is the code that the answer gives for a failure.
        """
        outcome, code = _judged(line, answer)
        if not self.flow.failing:
            return outcome, code
        outcome = self.flow.spared(outcome) or outcome
        if isinstance(outcome, PauseSender) and outcome.sent:
            self._writer.note_failed_probe(line.key)
        return outcome, code

    def _go_on(self, request: Request) -> None:
        """End the pause that the request was a probe of."""
        failing = self.flow.failing
        if not self.flow.record_success(request.epoch):
            return
        if failing:
            self._writer.note_streak_ended()
        else:
            _log.info(logs.SENDER_RESUMED)
        self._mark_paused()

    def _halt(self, pausing: PauseSender, request: Request, error: str | None) -> None:
        before = self.flow.current_pause.reason if self.flow.current_pause else None
        refused = None if self.flow.failing else self.flow.refused
        pause = self.flow.pause(pausing, request.line.lane, request.epoch, _now())
        if pause is None:
            return
        if self.flow.failing and refused is not None:
            self._writer.note_streak(refused)
        if pause.tries > 2 and pause.reason in ENDPOINT_AWAY:
            self._on_lasting_pause()
        retry_in = pause.until - _now()
        news = pause.reason != before
        tell = _log.warning if news else _log.debug
        tell(
            logs.SENDER_PAUSED if news else logs.SENDER_STILL_PAUSED,
            reason=pause.reason,
            retry_in=round(retry_in, 3),
            status=pausing.status,
            error=error,
        )
        if news:
            metrics.PAUSES.labels(pause.reason).inc()
        self._mark_paused()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(retry_in, self._pump)

    def _mark_paused(self) -> None:
        self._writer.mark_paused(paused=self.operator_paused or self.flow.current_pause is not None)

    # Reading

    async def _refill(self) -> None:
        """Keep lines at hand, reading at least once per idle interval."""
        self._mark_paused()
        if self.flow.current_pause is not None:  # left by an earlier sender
            _log.warning(logs.SENDER_PAUSED, reason=self.flow.current_pause.reason, retry_in=0.0)
            metrics.PAUSES.labels(self.flow.current_pause.reason).inc()
        # Outcomes of an earlier lease come first: their lines are pending until they are written.
        await self._writer.wait_written()
        while True:
            self._wake.clear()
            try:
                await self._read()
                if self._newest_wanted and self.flow.newest:
                    await self._read_newest()
            except UnreachableError as error:
                _log.debug(logs.SENDER_UNREAD, error=str(error))
                await asyncio.sleep(self._limits.idle)
                self._refill_wanted = True
            self._pump()
            self._newest = None
            self.on_turn()
            await self._wait_for_work()

    async def _read(self) -> None:
        """Read pending lines: when there is news, and until enough are here or none are left."""
        limit = FETCH + 2 * self._limits.concurrency
        while self._refill_wanted or self._lanes.untruncated < LOW_WATER:
            self._refill_wanted = False
            while self._due and self._due[0] <= _now():
                heappop(self._due)
            async with self._writer.write_lock:
                forgotten = self._forgotten
                lines = await self._ledger.pending(FeedName.STATISTICS, limit, self._lanes.full)
                if forgotten != self._forgotten:
                    continue  # read before a person's act, so it may hold what that withdrew
                for line in lines:
                    if line.lane_tries:
                        self._lane_tries.setdefault(line.lane, line.lane_tries)
                added = self._lanes.add(lines)
            # A full page that brought nothing new was read while enough is here.
            self._has_more = len(lines) == limit and (
                added > 0 or self._lanes.untruncated >= LOW_WATER
            )
            self._pump()
            if not self._has_more:
                self._lanes.reopen_truncated()
                return

    async def _read_newest(self) -> None:
        """Read the newest line that may be the next probe; `_pump` takes it at once, or never."""
        async with self._writer.write_lock:
            forgotten = self._forgotten
            line = await self._ledger.newest(FeedName.STATISTICS, backfill=False)
            if line is None and not self._spares(_now()):
                line = await self._ledger.newest(FeedName.STATISTICS, backfill=True)
        if forgotten != self._forgotten:
            self._wake.set()  # read before a person's act, so it may be what that withdrew
            return
        self._newest_wanted = False
        if line is None:
            self.flow.probe_first()
            return
        if line.lane_tries:
            self._lane_tries.setdefault(line.lane, line.lane_tries)
        self._newest = line

    async def _wait_for_work(self) -> None:
        seconds = self._limits.idle
        if self._due:
            seconds = min(seconds, max(0.0, self._due[0] - _now()))
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            self._refill_wanted = True

    # Settling

    def _settled(self, batch: Sequence[AttemptResult]) -> None:
        """Let go of lines whose outcome is in the ledger."""
        for attempt in batch:
            if attempt.line.key not in self._lanes:
                continue  # of an earlier lease
            if holds_lane(attempt.outcome):
                self._lanes.release(attempt.line, drop_waiting=True)
            self._lanes.forget(attempt.line)
            if attempt.settlement.state is State.PENDING:
                self._look_again(attempt.settlement.wait)
        self._pump()

    def _look_again(self, wait: float | None) -> None:
        """Read the ledger when a line that waits is due."""
        if wait is None:
            self.wake()
            return
        due = _now() + wait
        if not self._due or due < self._due[0]:
            self._wake.set()
        heappush(self._due, due)


def _raise_defects(*tasks: asyncio.Task[None]) -> None:
    """Let a defect end the daemon instead of leaving a line in flight for ever."""
    for task in tasks:
        if task.done():
            task.result()


def _judged(
    line: PendingLine, answer: Response | NoResponse | TokenFailure
) -> tuple[Outcome, str | None]:
    """Judge an answer; one that our judgement stumbles over is unanswered, and a defect."""
    try:
        outcome = classify(answer)
        code = None
        if isinstance(answer, Response) and not isinstance(outcome, Delivered):
            code = error_code(answer.body)
    except Exception as defect:  # noqa: BLE001 - nothing that an answer holds ends the daemon
        trace = logs.without_messages(defect)
        _log.error(logs.REQUEST_DEFECT, key=str(line.key), exception=trace)
        return Unanswered(None, DEFECT), None
    return outcome, code


_requests = cache(metrics.REQUESTS.labels)
"""Counters by status: a lookup of our own costs a tenth of the library's."""


def _measure(answer: Response | NoResponse | TokenFailure, seconds: float) -> None:
    _requests(answer.status if isinstance(answer, Response) else "none").inc()
    metrics.REQUEST_SECONDS.observe(seconds)
    if isinstance(answer, Response) and answer.api_usage is not None:
        metrics.API_USAGE.set(answer.api_usage)


def _now() -> float:
    return time.monotonic()
