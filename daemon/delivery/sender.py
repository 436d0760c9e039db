"""Sends pending lines of all feeds: lanes → post → classify → settle."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import structlog

from daemon import logs, metrics
from daemon.delivery.backoff import Backoff
from daemon.delivery.channel import Channel, Route
from daemon.delivery.flow_control import SenderStatus
from daemon.delivery.lanes import LaneLocks, Lanes
from daemon.delivery.outcome import Delivered, Outcome, PauseSender, Unanswered
from daemon.delivery.outcome_writer import DRAIN_EXTRA, AttemptResult, OutcomeWriter
from daemon.delivery.pending_reader import PendingReader
from daemon.delivery.settlement import holds_lane, kept_answer, settle
from daemon.ledger.store import Ledger
from daemon.lines import ORG_REASONS, FeedName, PauseReason, PendingLine, Settlement, State
from daemon.salesforce.responses import NoResponse, Response, TokenFailure

_log = structlog.get_logger()

UNSETTLED = 64
"""Answered lines that may wait for the ledger; no request starts beyond them."""
LANE_DEPTH = 256
"""Lines of one record in memory: it is sent one at a time; fewer would have to be read often."""
MAX_IN_MEMORY = 10_000
"""Lines of a feed in memory beyond which each record has one at a time: some ten megabytes."""
BACKFILL = (True,)
"""The order of the first of all backfill lines."""
LATE = 0.002
"""Seconds that a timer is set later than it must: the loop may call it a little early."""
OTHERS_WAIT = 0.5
"""Seconds for which one feed's requests count where the org is tried again: they may hang."""


@dataclass(frozen=True, slots=True)
class Limits:
    """CONCURRENCY; in seconds REQUEST_TIMEOUT and how often to read when idle."""

    concurrency: int
    request_timeout: float
    idle: float


class Request(NamedTuple):
    """A request in flight: its line, and flow control's epoch and the clock when it started."""

    line: PendingLine
    channel: Channel
    epoch: int
    began: float


class Sender:
    """Sends each pending line until it has a final outcome, as long as one lease lasts.

    Invariants: a line leaves only after it was read from the ledger as pending, and is known here
    until its outcome is written there; one request per lane is out at a time, whatever the feed; at
    most CONCURRENCY requests are out, of several feeds one fewer of each, and none starts while
    `UNSETTLED` answers are unwritten.

    Live lines go before backfill; among them the feed that is first in `routes` goes first.
    """

    def __init__(
        self,
        ledger: Ledger,
        routes: Sequence[Route],
        writer: OutcomeWriter,
        backoff: Backoff,
        limits: Limits,
        may_send: Callable[[], bool],
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        """`may_send` is asked before each request: whether the ledger's lock is held.

        `on_progress` is called after each read from the ledger, also a failed one.
        """
        self._writer = writer
        self._backoff = backoff
        self._limits = limits
        self._may_send = may_send
        self._lane_tries: dict[str, int] = {}
        locks = LaneLocks()
        self._channels = {
            route.feed: self._channel(ledger, route, locks, on_progress, alone=len(routes) == 1)
            for route in routes
        }
        first, *more = self._channels.values()
        self._single = None if more else first
        self._flow = first.flow  # for what is the org's, and so of all of them
        self._in_flight: dict[asyncio.Task[None], Request] = {}
        self._idle_workers: dict[asyncio.Task[None], asyncio.Future[None]] = {}
        self._stop = asyncio.Event()
        self._stopping = False
        self._backfill_waits = False
        self._last_feed: FeedName | None = None
        self._others_timer: asyncio.TimerHandle | None = None
        self.operator_paused = False

    def _channel(
        self,
        ledger: Ledger,
        route: Route,
        locks: LaneLocks,
        on_progress: Callable[[], None],
        *,
        alone: bool,
    ) -> Channel:
        lanes: Lanes[PendingLine] = Lanes(LANE_DEPTH, MAX_IN_MEMORY, locks)
        reader = PendingReader(
            ledger,
            route.feed,
            lanes,
            route.flow,
            self._writer.write_lock,
            self._lane_tries,
            concurrency=self._limits.concurrency,
            idle=self._limits.idle,
            backfill_waits=lambda: self._update_backfill_waits(_now()),
            on_lines=self._start_requests,
            on_progress=on_progress,
        )
        return Channel(route, lanes, reader, self._writer, alone=alone)

    def wake(self) -> None:
        """Read now: there are new lines."""
        for channel in self._channels.values():
            channel.reader.wake()

    def reload(self) -> None:
        """Read the lines in memory again: an operator has changed which are to be sent."""
        for channel in self._channels.values():
            channel.reader.reload()

    def control(self, *, operator_paused: bool, probe: bool) -> None:
        """Pause or resume as an operator wants; requests in flight finish.

        `probe` ends automatic pauses with a try now.
        """
        if probe:
            for channel in self._channels.values():
                channel.flow.probe(_now())
            self.wake()
        if operator_paused == self.operator_paused:
            return
        self.operator_paused = operator_paused
        if operator_paused:
            _log.warning(logs.SENDER_PAUSED, reason=PauseReason.OPERATOR, retry_in=None)
            metrics.PAUSES.labels(PauseReason.OPERATOR).inc()
        else:
            _log.info(logs.SENDER_RESUMED, reason=PauseReason.OPERATOR)
            self._log_pauses()  # the automatic pause before it may still last
        self._mark_paused()
        self.reload()

    def status(self) -> SenderStatus:
        """Return each feed's pause, for the heartbeat."""
        now = _now()
        pauses = {
            feed: (PauseReason.OPERATOR, None) if self.operator_paused else channel.paused(now)
            for feed, channel in self._channels.items()
        }
        probing = any(channel.flow.probing(now) for channel in self._channels.values())
        return SenderStatus(pauses.pop(FeedName.STATISTICS), probing, pauses)

    async def run(self, stop: asyncio.Event) -> None:
        """Send until stop, then finish what is in flight.

        Cancelled, it aborts the requests in flight; in any case the writer has all outcomes.
        """
        self._stop = stop
        stopped = asyncio.create_task(stop.wait(), name="stopped")
        readers = [asyncio.create_task(self._read(one)) for one in self._channels.values()]
        workers = [asyncio.create_task(self._work()) for _ in range(self._limits.concurrency)]
        tasks: list[asyncio.Task[Any]] = [stopped, *readers, *workers]
        self._mark_paused()
        for reason in self._log_pauses():  # left by an earlier sender
            metrics.PAUSES.labels(reason).inc()
        with self._writer.reporting(self._written):
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                self._stopping = True
                _raise_defects(*readers, *workers)
                if self._in_flight:
                    await asyncio.wait(
                        self._in_flight, timeout=self._limits.request_timeout + DRAIN_EXTRA
                    )
                _raise_defects(*readers, *workers)
            finally:
                self._stopping = True
                self._abort()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                for channel in self._channels.values():
                    channel.cancel_timer()
                    if len(self._channels) > 1:
                        metrics.mark_feed_paused(channel.feed, None)
                if self._others_timer is not None:
                    self._others_timer.cancel()
                self._writer.leave_clock()

    async def _read(self, channel: Channel) -> None:
        """Read lines, once the outcomes that an earlier sender left are written."""
        # Outcomes of an earlier lease come first: their lines are pending until they are written.
        await self._writer.wait_written()
        await channel.reader.run()

    def _start_requests(self) -> None:
        """Start as many requests as may start now."""
        while self._idle_workers and (request := self._next()) is not None:
            worker, woken = self._idle_workers.popitem()
            self._in_flight[worker] = request
            woken.set_result(None)
        for channel in self._channels.values():
            channel.reader.refill_if_low()

    def _next(self) -> Request | None:
        """Take the next line to send from its lane, if one may be sent now."""
        now = _now()
        if (
            self._stopping
            or self._stop.is_set()
            or self.operator_paused
            or not self._writer.writable
            or self._writer.waiting >= UNSETTLED
            or not self._may_send()
        ):
            return None
        before = BACKFILL if self._update_backfill_waits(now) else None
        if self._single is not None:
            return self._next_of(self._single, before, now)
        channels = list(self._channels.values())
        # With one place, and where one request tries the org again, the feeds take turns.
        if self._limits.concurrency == 1 or self._flow.org_paused:
            channels.sort(key=lambda channel: channel.feed == self._last_feed)
        for live_first in (BACKFILL, before)[: 1 if before else 2]:
            for channel in channels:
                if request := self._next_of(channel, live_first, now):
                    self._last_feed = channel.feed
                    return request
        return None

    def _next_of(self, channel: Channel, before: tuple[bool] | None, now: float) -> Request | None:
        """Take the next line of a feed, of an order before that one."""
        if not self._has_place(channel, now):
            return None
        line = channel.next(before)
        if line is None:
            return None
        channel.in_flight += 1
        return Request(line, channel, channel.flow.epoch, now)

    def _has_place(self, channel: Channel, now: float) -> bool:
        """Whether one more request of the feed may be out, beside those of all feeds."""
        if self._single is not None:
            return channel.flow.may_start(channel.in_flight, now)
        if channel.in_flight >= max(1, self._limits.concurrency - 1):
            return False
        if channel.flow.org_open:
            return channel.flow.may_start(channel.in_flight, now)
        others = [request for request in self._in_flight.values() if request.channel is not channel]
        counted = sum(now - request.began < OTHERS_WAIT for request in others)
        if channel.flow.may_start(channel.in_flight, now, channel.in_flight + counted):
            return True
        if self._others_timer is None and channel.flow.may_start(channel.in_flight, now):
            loop = asyncio.get_running_loop()
            self._others_timer = loop.call_later(OTHERS_WAIT + LATE, self._others_waited)
        return False

    def _others_waited(self) -> None:
        self._others_timer = None
        self._start_requests()

    def _update_backfill_waits(self, now: float) -> bool:
        """Return whether backfill waits for the org's other users; a change is logged."""
        waits = self._flow.live_only(now)
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
            answer = await request.channel.transport.post(str(line.key), line.record.encode())
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
            sent = not request.channel.transport.unsent(str(request.line.key))
            self._answered(request, NoResponse(sent, "aborted"))

    def _answered(self, request: Request, answer: Response | NoResponse | TokenFailure) -> None:
        """Apply a response to the line, its lane and the sender."""
        line, channel, epoch, began = request
        channel.in_flight -= 1
        outcome, code = channel.classify(line, answer)
        now = _now()
        if not self._stopping:
            self._follow(request, answer, outcome, now)
        elif not isinstance(outcome, Unanswered | PauseSender):
            channel.end_pause(epoch)
        if channel.flow.endpoint_proven:
            self._writer.mark_proven(channel.feed)
        seconds = now - began
        if isinstance(answer, Response):
            metrics.observe_request(answer.status, seconds, answer.api_usage)
        else:
            metrics.observe_request("none", seconds, None)
        settlement = self._settlement(line, outcome, seconds)
        if channel.feed is FeedName.CALLBACKS and isinstance(outcome, Delivered):
            settlement = settlement._replace(answer=kept_answer(answer))
        if not holds_lane(outcome):
            channel.lanes.release(line)
        self._writer.add(AttemptResult(line, seconds, outcome, settlement, code))

    def _follow(
        self,
        request: Request,
        answer: Response | NoResponse | TokenFailure,
        outcome: Outcome,
        now: float,
    ) -> None:
        """Let the answer begin, lengthen or end a pause."""
        line, channel, epoch, _ = request
        paused = channel.flow.current_pause
        retry_in = channel.follow(line, epoch, answer, outcome, now)
        if retry_in is not None:
            channel.call_later(retry_in + LATE, self._start_requests)
        if channel.flow.current_pause is not paused:
            self._mark_paused()

    def _settlement(self, line: PendingLine, outcome: Outcome, seconds: float) -> Settlement:
        """Return what to write, and count how often the line's record was held back in a row."""
        tries = self._lane_tries
        settlement = settle(line, outcome, self._backoff, seconds, tries.get(line.lane, 0))
        if settlement.hold:
            tries[line.lane] = settlement.lane_tries
        elif settlement.free:
            tries.pop(line.lane, None)
        return settlement

    def _log_pauses(self) -> list[PauseReason]:
        """Log each automatic pause that lasts, those of the org once; returns the reasons."""
        logged: list[PauseReason] = []
        for channel in self._channels.values():
            pause = channel.flow.current_pause
            if pause is None or (pause.reason in ORG_REASONS and pause.reason in logged):
                continue
            logged.append(pause.reason)
            channel.log_paused(_now())
        return logged

    def _mark_paused(self) -> None:
        for channel in self._channels.values():
            pause = channel.flow.current_pause
            paused = self.operator_paused or pause is not None
            self._writer.mark_paused(channel.feed, paused=paused)
            if len(self._channels) > 1:
                automatic = pause.reason if pause else None
                reason = PauseReason.OPERATOR if self.operator_paused else automatic
                metrics.mark_feed_paused(channel.feed, reason)

    def _written(self, batch: Sequence[AttemptResult]) -> None:
        """Forget lines whose outcome is in the ledger."""
        for attempt in batch:
            channel = self._channels.get(attempt.line.key.feed)
            if channel is None or attempt.line.key not in channel.lanes:
                continue  # of an earlier lease
            held = holds_lane(attempt.outcome)
            if held:
                channel.lanes.release(attempt.line, drop_waiting=True)
            channel.lanes.forget(attempt.line)
            if attempt.settlement.state is State.PENDING:
                for each in self._channels.values() if held else (channel,):
                    each.reader.read_again(attempt.settlement.wait)
        self._start_requests()


def _raise_defects(*tasks: asyncio.Task[None]) -> None:
    """Let a defect end the daemon instead of leaving a line in flight without end."""
    for task in tasks:
        if task.done():
            task.result()


def _now() -> float:
    return time.monotonic()
