"""Sends pending lines: lanes → post → classify → settle."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, cast

import structlog

from daemon import logs, metrics
from daemon.delivery.backoff import Backoff
from daemon.delivery.flow_control import FlowControl, SenderStatus
from daemon.delivery.lanes import Lanes
from daemon.delivery.outcome import (
    Delivered,
    Outcome,
    PauseSender,
    Unanswered,
    classify,
    error_code,
)
from daemon.delivery.outcome_writer import DRAIN_EXTRA, AttemptResult, OutcomeWriter
from daemon.delivery.pending_reader import PendingReader
from daemon.delivery.settlement import holds_lane, settle
from daemon.ledger.store import Ledger
from daemon.lines import FeedName, PauseReason, PendingLine, State
from daemon.salesforce.responses import DEFECT, NoResponse, Response, TokenFailure

_log = structlog.get_logger()

UNSETTLED = 64
"""Answered lines that may wait for the ledger; no request starts beyond them."""
LANE_DEPTH = 256
"""Lines of one record in memory: it is sent one at a time; fewer would have to be read often."""
MAX_IN_MEMORY = 10_000
"""Lines in memory beyond which each record has one at a time: some ten megabytes."""
BACKFILL = (True,)
"""The order of the first of all backfill lines."""
ENDPOINT_AWAY = {PauseReason.UNAVAILABLE, PauseReason.UNANSWERED, PauseReason.ENDPOINT_MISSING}
"""Pauses that may mean that the org is at another address by now (contract 5)."""


class Transport(Protocol):
    """Where lines are sent; never raises for what the network does."""

    async def post(self, key: str, record: bytes) -> Response | NoResponse | TokenFailure:
        """Send one record under its idempotency key."""

    def unsent(self, key: str) -> bool:
        """Whether the request under that key has certainly not been sent yet."""


@dataclass(frozen=True, slots=True)
class Limits:
    """CONCURRENCY; in seconds REQUEST_TIMEOUT and how often to read when idle."""

    concurrency: int
    request_timeout: float
    idle: float


class Request(NamedTuple):
    """A request in flight: its line, and flow control's epoch and the clock when it started."""

    line: PendingLine
    epoch: int
    began: float


class Sender:
    """Sends each pending line of a feed until it has a final outcome, as long as one lease lasts.

    Invariants: a line leaves only after it was read from the ledger as pending, and is known here
    until its outcome is written there; one request per lane is out at a time; at most
    CONCURRENCY requests are out and none starts while `UNSETTLED` answers are unwritten.
    """

    def __init__(
        self,
        ledger: Ledger,
        feed: FeedName,
        endpoint: Transport,
        writer: OutcomeWriter,
        flow: FlowControl,
        backoff: Backoff,
        limits: Limits,
        may_send: Callable[[], bool],
        on_lasting_pause: Callable[[], None] = lambda: None,
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        """`may_send` is asked before each request: whether the ledger's lock is held.

        `on_lasting_pause` is called when a second or later probe has not ended a pause in which the
        endpoint may have moved, `on_progress` after each read from the ledger, also a failed one.
        """
        self._feed = feed
        self._endpoint = endpoint
        self._writer = writer
        self._backoff = backoff
        self._limits = limits
        self._may_send = may_send
        self._on_lasting_pause = on_lasting_pause
        self._lanes: Lanes[PendingLine] = Lanes(LANE_DEPTH, MAX_IN_MEMORY)
        self._reader = PendingReader(
            ledger,
            feed,
            self._lanes,
            flow,
            writer.write_lock,
            concurrency=limits.concurrency,
            idle=limits.idle,
            backfill_waits=self._update_backfill_waits,
            on_lines=self._start_requests,
            on_progress=on_progress,
        )
        self._in_flight: dict[asyncio.Task[None], Request] = {}
        self._idle_workers: dict[asyncio.Task[None], asyncio.Future[None]] = {}
        self._stop = asyncio.Event()
        self._stopping = False
        self._timer: asyncio.TimerHandle | None = None
        self._backfill_waits = False
        self.flow = flow
        self.operator_paused = False

    def wake(self) -> None:
        """Read now: there are new lines."""
        self._reader.wake()

    def reload(self) -> None:
        """Read the lines in memory again: an operator has changed which are to be sent."""
        self._reader.reload()

    def control(self, *, operator_paused: bool, probe: bool) -> None:
        """Pause or resume as an operator wants; requests in flight finish.

        `probe` ends an automatic pause with a try now.
        """
        if probe:
            self.flow.probe(_now())
            self.wake()
        if operator_paused == self.operator_paused:
            return
        self.operator_paused = operator_paused
        if operator_paused:
            _log.warning(logs.SENDER_PAUSED, reason=PauseReason.OPERATOR, retry_in=None)
            metrics.PAUSES.labels(PauseReason.OPERATOR).inc()
        else:
            _log.info(logs.SENDER_RESUMED, reason=PauseReason.OPERATOR)
            if self.paused is not None:
                # The automatic pause before it still lasts: log it again.
                reason, retry_in = self.paused
                _log.warning(logs.SENDER_PAUSED, reason=reason, retry_in=round(retry_in or 0.0, 3))
        self._mark_paused()
        self.reload()

    def status(self) -> SenderStatus:
        """Return the sender's pause, for the heartbeat."""
        return SenderStatus(self.paused, self.flow.probing(_now()))

    @property
    def paused(self) -> tuple[str, float | None] | None:
        """The reason of a pause and the seconds until the next try, if the sender is paused."""
        if self.operator_paused:
            return PauseReason.OPERATOR, None
        if self.flow.current_pause is None:
            return None
        return self.flow.current_pause.reason, max(0.0, self.flow.current_pause.until - _now())

    async def run(self, stop: asyncio.Event) -> None:
        """Send until stop, then finish what is in flight.

        Cancelled, it aborts the requests in flight; in any case the writer has all outcomes.
        """
        self._stop = stop
        stopped = asyncio.create_task(stop.wait(), name="stopped")
        reading = asyncio.create_task(self._read(), name="read")
        workers = [asyncio.create_task(self._work()) for _ in range(self._limits.concurrency)]
        tasks: list[asyncio.Task[Any]] = [stopped, reading, *workers]
        with self._writer.reporting(self._written):
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                self._stopping = True
                _raise_defects(reading, *workers)
                if self._in_flight:
                    await asyncio.wait(
                        self._in_flight, timeout=self._limits.request_timeout + DRAIN_EXTRA
                    )
                _raise_defects(reading, *workers)
            finally:
                self._stopping = True
                self._abort()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                if self._timer is not None:
                    self._timer.cancel()
                self._writer.leave_clock()

    async def _read(self) -> None:
        """Read lines, once the outcomes that an earlier sender left are written."""
        self._mark_paused()
        if self.flow.current_pause is not None:  # left by an earlier sender
            _log.warning(logs.SENDER_PAUSED, reason=self.flow.current_pause.reason, retry_in=0.0)
            metrics.PAUSES.labels(self.flow.current_pause.reason).inc()
        # Outcomes of an earlier lease come first: their lines are pending until they are written.
        await self._writer.wait_written()
        await self._reader.run()

    def _start_requests(self) -> None:
        """Start as many requests as may start now."""
        while self._idle_workers and (request := self._next()) is not None:
            worker, woken = self._idle_workers.popitem()
            self._in_flight[worker] = request
            woken.set_result(None)
        self._reader.refill_if_low()

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
            before = BACKFILL if self._update_backfill_waits() else None
            line = self._lanes.next(self.flow.avoid, before)
        return None if line is None else Request(line, self.flow.epoch, now)

    def _next_newest(self) -> PendingLine | None:
        """Take the newest line for a probe, or have it read; the first one where there is none."""
        line = self._reader.pop_newest()
        if line is not None and not self._lanes.claim(line):
            self.flow.probe_first()
            return None
        return line

    def _update_backfill_waits(self) -> bool:
        """Return whether backfill waits for the org's other users; a change is logged."""
        waits = self.flow.live_only(_now())
        if waits != self._backfill_waits:
            self._backfill_waits = waits
            _log.info(logs.SENDER_SPARES, backfill_waits=waits)
        return waits

    async def _work(self) -> None:
        """Send one line after another, and wait while none may be sent; one of CONCURRENCY."""
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
                return  # aborted, and its outcome is with the writer
            self._answered(request, answer)
            following = self._next()
            if following is not None:
                self._in_flight[worker] = following
            self._start_requests()

    def _abort(self) -> None:
        """Give up the requests in flight before they are cancelled: they may have arrived."""
        aborted = list(self._in_flight.values())
        self._in_flight.clear()
        for request in aborted:
            sent = not self._endpoint.unsent(str(request.line.key))
            self._answered(request, NoResponse(sent, "aborted"))

    def _answered(self, request: Request, answer: Response | NoResponse | TokenFailure) -> None:
        """Apply a response to the line, its lane and the sender."""
        line = request.line
        outcome, code = self._classify(line, answer)
        pausing, error = (None, None) if self._stopping else self._assess(request, answer, outcome)
        if pausing is not None:
            self._pause(pausing, request, error)
        elif not isinstance(outcome, Unanswered | PauseSender):
            self._end_pause(request)
        if self.flow.endpoint_proven:
            self._writer.mark_proven(self._feed)
        seconds = _now() - request.began
        if isinstance(answer, Response):
            metrics.observe_request(answer.status, seconds, answer.api_usage)
        else:
            metrics.observe_request("none", seconds, None)
        tries = self._reader.lane_tries
        settlement = settle(line, outcome, self._backoff, seconds, tries.get(line.lane, 0))
        if settlement.hold:
            tries[line.lane] = settlement.lane_tries
        elif settlement.free:
            tries.pop(line.lane, None)
        if not holds_lane(outcome):
            self._lanes.release(line)
        self._writer.add(AttemptResult(line, seconds, outcome, settlement, code))

    def _classify(
        self, line: PendingLine, answer: Response | NoResponse | TokenFailure
    ) -> tuple[Outcome, str | None]:
        """Return the outcome, replaced while the endpoint fails, and the response's error code."""
        outcome, code = _outcome(line, answer)
        if not self.flow.failing:
            return outcome, code
        outcome = self.flow.spared(outcome) or outcome
        if isinstance(outcome, PauseSender) and outcome.sent:
            self._writer.note_failed_probe(line.key)
        return outcome, code

    def _assess(
        self, request: Request, answer: Response | NoResponse | TokenFailure, outcome: Outcome
    ) -> tuple[PauseSender | None, str | None]:
        """Return whether the sender must pause, and why in words that may be logged."""
        pausing = self.flow.assess(outcome, request.line.lane, request.line.key)
        # What the endpoint answers may name a caller; only our own text goes to the log.
        if not isinstance(answer, Response):
            return pausing, answer.error
        if pausing is not None or (pausing := self.flow.used(answer.api_usage, _now())) is None:
            return pausing, None
        if self.flow.failing and not isinstance(outcome, Unanswered | PauseSender):
            self._end_pause(request)  # the endpoint works again; only its budget is used up
        return pausing, pausing.error

    def _end_pause(self, request: Request) -> None:
        """End the pause that the request was a probe of, if it was one."""
        failing = self.flow.failing
        if not self.flow.record_success(request.epoch):
            return
        if failing:
            self._writer.note_streak_ended(self._feed)
        else:
            _log.info(logs.SENDER_RESUMED)
        self._mark_paused()

    def _pause(self, pausing: PauseSender, request: Request, error: str | None) -> None:
        """Pause, or stay paused, unless the request is older than the newest pause."""
        before = self.flow.current_pause.reason if self.flow.current_pause else None
        refused = None if self.flow.failing else self.flow.refused
        pause = self.flow.pause(pausing, request.line.lane, request.epoch, _now())
        if pause is None:
            return
        if self.flow.failing and refused is not None:
            self._writer.note_streak(self._feed, refused)
        if pause.tries > 2 and pause.reason in ENDPOINT_AWAY:
            self._on_lasting_pause()
        retry_in = pause.until - _now()
        new = pause.reason != before
        log = _log.warning if new else _log.debug
        log(
            logs.SENDER_PAUSED if new else logs.SENDER_STILL_PAUSED,
            reason=pause.reason,
            retry_in=round(retry_in, 3),
            status=pausing.status,
            error=error,
        )
        if new:
            metrics.PAUSES.labels(pause.reason).inc()
        self._mark_paused()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(retry_in, self._start_requests)

    def _mark_paused(self) -> None:
        paused = self.operator_paused or self.flow.current_pause is not None
        self._writer.mark_paused(self._feed, paused=paused)

    def _written(self, batch: Sequence[AttemptResult]) -> None:
        """Forget lines whose outcome is in the ledger."""
        for attempt in batch:
            if attempt.line.key not in self._lanes:
                continue  # of an earlier lease
            if holds_lane(attempt.outcome):
                self._lanes.release(attempt.line, drop_waiting=True)
            self._lanes.forget(attempt.line)
            if attempt.settlement.state is State.PENDING:
                self._reader.read_again(attempt.settlement.wait)
        self._start_requests()


def _raise_defects(*tasks: asyncio.Task[None]) -> None:
    """Let a defect end the daemon instead of leaving a line in flight without end."""
    for task in tasks:
        if task.done():
            task.result()


def _outcome(
    line: PendingLine, answer: Response | NoResponse | TokenFailure
) -> tuple[Outcome, str | None]:
    """Classify an answer; one that raises an error of ours is unanswered, and a defect."""
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


def _now() -> float:
    return time.monotonic()
