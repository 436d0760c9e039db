"""Decides from responses whether requests of a feed may start: pauses and recovery. Pure."""

from collections.abc import Mapping
from math import inf
from types import MappingProxyType
from typing import NamedTuple, assert_never

from daemon.delivery.backoff import Backoff
from daemon.delivery.gate import Gate, OrgGate, Pause
from daemon.delivery.outcome import (
    Conflict,
    Delivered,
    Failed,
    Locked,
    NotFound,
    Outcome,
    PauseSender,
    Rejected,
    Unanswered,
)
from daemon.lines import ORG_REASONS, FailingAnswers, FeedName, LineKey, PauseReason

FAILING_AFTER = 20
"""Refused or failed requests for so many different records in a row pause the sender."""
FAILING_MAX = 60.0
"""Most seconds between two probes of such an endpoint: lines wait for minutes, not for hours."""
UNANSWERED_AFTER = 2
"""Different records in a row that got no answer."""
PROBE_FOR = 10.0
"""Seconds to wait for the answer to a probe that an operator asked for."""


class SenderStatus(NamedTuple):
    """What the sender reports: pauses, and whether an operator's probe may still be answered.

    A pause has its reason and the seconds until the next try, None where an operator ends it.
    `paused` is that of statistics, `others` has the other feeds that are on.
    """

    paused: tuple[str, float | None] | None
    probing: bool
    others: Mapping[FeedName, tuple[str, float | None] | None] = MappingProxyType({})


class FlowControl:
    """Decides whether one more request of a feed may start.

    A request passes two gates: the org's, which all feeds share, and that of the feed's endpoint.
    A pause is at one of them, as its reason says (`ORG_REASONS`), and moves where a probe meets
    another fault.

    Answers to requests that started before the newest pause neither end nor lengthen it; callers
    pass the `epoch` they saw when the request started.

    `failing` from the first pause as `endpoint_failing` until an answer ends it, whatever else
    pauses meanwhile; then `newest` says whether the next probe is the newest line that is ready,
    or the first. `avoid` has the lanes that must not be first after a pause while another one is
    ready, each with a number that grows with time.
    """

    def __init__(
        self,
        org: OrgGate,
        concurrency: int,
        backoff: Backoff,
        *,
        endpoint_proven: bool,
        failing: FailingAnswers | None = None,
        failing_after: int = FAILING_AFTER,
    ) -> None:
        """Start at full concurrency, or in the pause that `failing` says has not ended.

        `endpoint_proven` once a 2xx or 409 was ever seen.
        """
        paused, refused = failing or FailingAnswers(paused=False, refused={})
        left = Pause(PauseReason.ENDPOINT_FAILING, -inf, 0, None) if paused else None
        self._org = org
        self._endpoint = Gate(concurrency, left)
        self._backoff = backoff
        self._failing_after = failing_after
        self._unanswered: set[str] = set()
        self._row: dict[str, LineKey | None] = dict(refused)
        self.endpoint_proven = endpoint_proven
        self.failing = paused
        self.newest = paused
        self.avoid: dict[str, int] = {}
        self._probed_epoch = -1
        self._probed_at = float("-inf")

    @property
    def current_pause(self) -> Pause | None:
        """The pause that holds this feed back, the org's before the endpoint's."""
        return self._org.pause or self._endpoint.pause

    @property
    def pauses(self) -> tuple[Pause | None, Pause | None]:
        """The pause of the org, and that of the endpoint."""
        return self._org.pause, self._endpoint.pause

    @property
    def org_open(self) -> bool:
        """Whether the org's gate admits all that have a place."""
        return self._org.is_open

    @property
    def org_paused(self) -> bool:
        """Whether the org's pause holds all feeds back."""
        return self._org.pause is not None

    @property
    def epoch(self) -> int:
        """A number that each pause of the org or of this endpoint raises."""
        return self._org.epoch + self._endpoint.epoch

    def may_start(self, in_flight: int, now: float, in_flight_of_all: int | None = None) -> bool:
        """Whether a request may start beside those in flight of this feed, and of all feeds."""
        of_all = in_flight if in_flight_of_all is None else in_flight_of_all
        return self._org.may_start(of_all, now) and self._endpoint.may_start(in_flight, now)

    @property
    def refused(self) -> list[LineKey]:
        """The first line of each record that was refused in the present row of failing answers."""
        return [key for key in self._row.values() if key is not None]

    def spared(self, outcome: Outcome) -> PauseSender | None:
        """Return the outcome that replaces this one while the endpoint fails; None if it stays.

        A 400, 404 or 500 then leaves its line pending.
        """
        if not self.failing:
            return None
        match outcome:
            case Failed(status, error):
                return PauseSender(PauseReason.ENDPOINT_FAILING, status, None, error)
            case Rejected(status, error) if status == 400:
                return PauseSender(PauseReason.ENDPOINT_FAILING, status, None, error)
            case NotFound(error):
                return PauseSender(PauseReason.ENDPOINT_FAILING, 404, None, error)
            case Delivered() | Conflict() | Rejected() | Locked() | Unanswered() | PauseSender():
                return None
            case _:
                assert_never(outcome)

    def assess(self, outcome: Outcome, lane: str, key: LineKey | None = None) -> PauseSender | None:
        """Return why the sender must pause, for this outcome or a streak of its kind; None if not.

        `key` is the line's, which is recorded if a streak refuses it.
        """
        match outcome:
            case PauseSender():
                self._unanswered.clear()
                self._row.clear()
                return outcome
            case Unanswered(status, error):
                self._row.clear()
                self._unanswered.add(lane)
                if len(self._unanswered) >= UNANSWERED_AFTER:
                    return PauseSender(PauseReason.UNANSWERED, status, None, error)
                return None
            case Failed(status, error):
                return self._failed(lane, None, status, error)
            case Rejected(status, error) if status == 400:
                return self._failed(lane, key, status, error)
            case NotFound(error) if not self.endpoint_proven:
                return self._failed(lane, key, 404, error)
            case Delivered() | Conflict():
                self.endpoint_proven = True
            case NotFound() | Rejected() | Locked():
                pass
            case _:
                assert_never(outcome)
        self._unanswered.clear()
        self._row.clear()
        return None

    def used(self, api_usage: float | None, now: float) -> PauseSender | None:
        """Note how much of the org's calls is used; past the budget the sender must pause."""
        if not self._org.note_usage(api_usage, now):
            return None
        return PauseSender(
            PauseReason.API_LIMIT, None, None, f"{api_usage:.0%} of the daily calls are used"
        )

    def live_only(self, now: float) -> bool:
        """Whether backfill lines wait: from half of the budget on, if that was noted lately."""
        return self._org.is_half_used(now, self._backoff.maximum)

    def probe_first(self) -> None:
        """Probe with the first line next: there is no newest one that may be sent."""
        self.newest = False

    def record_success(self, epoch: int) -> bool:
        """Record an answer that needs no pause; True if it ends one."""
        if epoch != self.epoch:
            return False
        # The org's pause, which took the place of a failing endpoint's, may be over by now.
        ends_pause = self.current_pause is not None or self.failing
        self._org.record_success()
        self._endpoint.record_success()
        if ends_pause:
            self.failing = self.newest = False
            self.avoid.clear()
            self._row.clear()
        return ends_pause

    def pause(self, pausing: PauseSender, lane: str | None, epoch: int, now: float) -> Pause | None:
        """Pause, or lengthen the pause that this request probed; None for an older request."""
        if epoch != self.epoch:
            return None
        tries = self.current_pause.tries + 1 if self.current_pause else 1
        delay = self._backoff.delay(tries, pausing.retry_after)
        if self.failing or pausing.reason is PauseReason.ENDPOINT_FAILING:
            # Also if a probe met another fault: newest and first line take turns, soon.
            if not pausing.retry_after:
                delay = min(delay, FAILING_MAX)
            self.newest = self.failing and not self.newest
            self.failing = True
        if not self.failing:
            self.avoid.clear()
        if lane is not None:
            self.avoid[lane] = self.epoch
        pause = Pause(pausing.reason, now + delay, tries, lane)
        gates = self._org, self._endpoint
        closing, other = gates if pausing.reason in ORG_REASONS else reversed(gates)
        closing.close(pause)
        other.drop_pause()
        return pause

    def probe(self, now: float) -> None:
        """Let the next probe of a pause start now, because an operator asks for it."""
        if self.current_pause is not None:
            self._org.probe(now)
            self._endpoint.probe(now)
            self._probed_epoch, self._probed_at = self.epoch, now

    def probing(self, now: float) -> bool:
        """Whether such a probe has not been answered yet and may still be."""
        asked = self.current_pause is not None and self._probed_epoch == self.epoch
        return asked and now - self._probed_at < PROBE_FOR

    def _failed(
        self, lane: str, refused: LineKey | None, status: int, error: str | None
    ) -> PauseSender | None:
        self._unanswered.clear()
        self._row[lane] = self._row.get(lane) or refused
        if len(self._row) >= self._failing_after:
            return PauseSender(PauseReason.ENDPOINT_FAILING, status, None, error)
        return None
