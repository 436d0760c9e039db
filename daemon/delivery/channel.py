"""One feed's way to its endpoint: lines in memory, flow control, and what answers mean for both."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import structlog

from daemon import logs, metrics
from daemon.delivery.flow_control import FlowControl
from daemon.delivery.gate import Pause
from daemon.delivery.lanes import Lanes
from daemon.delivery.outcome import (
    Delivered,
    Outcome,
    PauseSender,
    Unanswered,
    classify,
    error_code,
)
from daemon.delivery.outcome_writer import OutcomeWriter
from daemon.delivery.pending_reader import PendingReader
from daemon.lines import ORG_REASONS, FeedName, LineKey, PauseReason, PendingLine
from daemon.salesforce.responses import DEFECT, NoResponse, Response, TokenFailure

_log = structlog.get_logger()

ENDPOINT_AWAY = {PauseReason.UNAVAILABLE, PauseReason.UNANSWERED, PauseReason.ENDPOINT_MISSING}
"""Pauses that may mean that the org is at another address by now."""


class Transport(Protocol):
    """Where lines are sent; never raises for what the network does."""

    async def post(self, key: str, record: bytes) -> Response | NoResponse | TokenFailure:
        """Send one record under its idempotency key."""

    def unsent(self, key: str) -> bool:
        """Whether the request under that key has certainly not been sent yet."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where the lines of a feed go, and how fast.

    `on_lasting_pause` is called when a second or later probe has not ended a pause in which the
    endpoint may have moved.
    """

    feed: FeedName
    transport: Transport
    flow: FlowControl
    on_lasting_pause: Callable[[], None] = lambda: None


class Channel:
    """A route with its lines in memory; one of several, unless it is `alone`."""

    def __init__(
        self,
        route: Route,
        lanes: Lanes[PendingLine],
        reader: PendingReader,
        writer: OutcomeWriter,
        *,
        alone: bool,
    ) -> None:
        self.feed = route.feed
        self.transport = route.transport
        self.flow = route.flow
        self.lanes = lanes
        self.reader = reader
        self.in_flight = 0
        self._on_lasting_pause = route.on_lasting_pause
        self._writer = writer
        self._alone = alone
        self._timer: asyncio.TimerHandle | None = None

    def paused(self, now: float) -> tuple[str, float | None] | None:
        """Return the reason of an automatic pause, and the seconds until the next try."""
        pause = self.flow.current_pause
        return None if pause is None else (pause.reason, max(0.0, pause.until - now))

    def next(self, before: tuple[bool] | None) -> PendingLine | None:
        """Hand out the line to send next, of an order before that one; None if there is none."""
        if self.flow.newest:
            line = self.reader.pop_newest()
            if line is None or self.lanes.claim(line):
                return line
            self.flow.probe_first()
        return self.lanes.next(self.flow.avoid, before)

    def classify(
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

    def follow(
        self,
        line: PendingLine,
        epoch: int,
        answer: Response | NoResponse | TokenFailure,
        outcome: Outcome,
        now: float,
    ) -> float | None:
        """Pause, or end a pause, as the answer to a request of that epoch says.

        Returns the seconds until the pause is tried again, None if there is nothing new.
        """
        pausing = self.flow.assess(outcome, line.lane, line.key)
        # What the endpoint answers may name a caller; only our own text goes to the log.
        error = None
        if not isinstance(answer, Response):
            error = answer.error
        elif pausing is None and (pausing := self.flow.used(answer.api_usage, now)) is not None:
            error = pausing.error
            if self.flow.failing and not isinstance(outcome, Unanswered | PauseSender):
                self.end_pause(epoch)  # the endpoint works again; only its budget is used up
        if pausing is not None:
            return self._pause(pausing, line, epoch, error, now)
        if not isinstance(outcome, Unanswered | PauseSender):
            self.end_pause(epoch)
        return None

    def end_pause(self, epoch: int) -> None:
        """End the pause that a request of that epoch was a probe of, if it was one."""
        failing, (org, own) = self.flow.failing, self.flow.pauses
        if not self.flow.record_success(epoch):
            return
        if failing:
            self._writer.note_streak_ended(self.feed, self._named(PauseReason.ENDPOINT_FAILING))
        elif own is not None:
            self._log_resumed(own)
        if org is not None and not (failing and self._alone):
            self._log_resumed(org)

    def log_paused(self, now: float) -> None:
        """Log the pause that lasts, if any, as if it began now."""
        if (pause := self.paused(now)) is not None:
            reason, retry_in = pause
            _log.warning(
                logs.SENDER_PAUSED,
                reason=reason,
                retry_in=round(retry_in or 0.0, 3),
                **self._named(reason),
            )

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call when the newest pause of this feed is tried again."""
        self.cancel_timer()
        self._timer = asyncio.get_running_loop().call_later(seconds, call)

    def cancel_timer(self) -> None:
        """Forget what `call_later` would call."""
        if self._timer is not None:
            self._timer.cancel()

    def _pause(
        self, pausing: PauseSender, line: PendingLine, epoch: int, error: str | None, now: float
    ) -> float | None:
        """Pause, or stay paused, unless the request is older than the newest pause."""
        before = self.flow.current_pause.reason if self.flow.current_pause else None
        earlier = self.flow.pauses
        refused: list[LineKey] | None = None if self.flow.failing else self.flow.refused
        pause = self.flow.pause(pausing, line.lane, epoch, now)
        if pause is None:
            return None
        if self.flow.failing and refused is not None:
            self._writer.note_streak(self.feed, refused)
        if pause.tries > 2 and pause.reason in ENDPOINT_AWAY:
            self._on_lasting_pause()
        if not self._alone:
            for ended, lasting in zip(earlier, self.flow.pauses, strict=True):
                if ended is not None and lasting is None:
                    self._log_resumed(ended)
        retry_in = pause.until - now
        new = pause.reason != before
        log = _log.warning if new else _log.debug
        log(
            logs.SENDER_PAUSED if new else logs.SENDER_STILL_PAUSED,
            reason=pause.reason,
            retry_in=round(retry_in, 3),
            status=pausing.status,
            error=error,
            **self._named(pause.reason),
        )
        if new:
            metrics.PAUSES.labels(pause.reason).inc()
        return retry_in

    def _log_resumed(self, pause: Pause) -> None:
        _log.info(logs.SENDER_RESUMED, **self._named(pause.reason))

    def _named(self, reason: str | None) -> Mapping[str, str]:
        """Return the field that names the feed where a pause is of one feed among several."""
        return {} if self._alone or reason in ORG_REASONS else {"feed": self.feed}


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
