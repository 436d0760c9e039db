"""What the ledger has of feeds and lines, as commands and the status page ask for it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from daemon.ledger.acts import Act, ActKind, RecordedAct
from daemon.ledger.instance import OperatorPause
from daemon.lines import FeedName, LineKey, SkipReason, State, Streak

LATELY = timedelta(minutes=1)
"""How far back lines count as settled or taken lately."""


@dataclass(frozen=True, slots=True)
class LedgerStatus:
    """How far a feed is taken, an operator's pause, and what the instance last reported.

    State, reason and time of the next try are those of sending this feed.
    """

    watermark: datetime | None
    start_from: datetime | None
    last_delivered_at: datetime | None
    operator_pause: OperatorPause | None
    active: bool
    host: str | None
    pid: int | None
    version: str | None
    started_at: datetime | None
    stopped_at: datetime | None
    unclean_at: datetime | None
    state: str | None
    reason: str | None
    retry_at: datetime | None
    probe_answered: int | None = None
    pruned_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class FeedReport:
    """What `status` shows of a feed: counts, its status, streaks of refusals, whether it is on."""

    lines: dict[str, int]
    oldest_pending_seconds: float | None
    status: LedgerStatus
    streaks: Sequence[Streak]
    on: bool = True

    @property
    def ever_taken(self) -> bool:
        """Whether the ledger has, or has had, any line of it."""
        return any(self.lines.values()) or self.status.pruned_before is not None


@dataclass(frozen=True, slots=True)
class AlertStatus:
    """The alert that the ACD got last, and how many lines wait for the next.

    `error` is why the newest alert did not reach the ACD, while its lines wait.
    """

    waiting: int
    raised_at: datetime | None = None
    acd_events_id: int | None = None
    lines: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class StatusReport(FeedReport):
    """What `status` shows: call statistics and operators' commands.

    And callbacks if there are any, and alerts if they are on.
    """

    acts: Sequence[RecordedAct] = ()
    callbacks: FeedReport | None = None
    alert: AlertStatus | None = None


@dataclass(frozen=True, slots=True)
class Backlog:
    """Lines that are pending or need action, per state; age in seconds of the oldest of each.

    `taken_lately` are the pending ones that became so within `LATELY`.
    """

    lines: dict[str, int]
    taken_lately: int
    oldest_pending_seconds: float | None
    oldest_kept_seconds: float | None


@dataclass(frozen=True, slots=True)
class LineFilter:
    """Selects the lines of a command: by state, end of call [since, until), call, backfills only.

    And by when they were settled, [settled_since, settled_until), and by feed. Of a callback the
    end is when it was requested, and its event stands for the call.
    """

    states: tuple[State, ...]
    since: datetime | None = None
    until: datetime | None = None
    call_id: int | None = None
    backfill: bool = False
    settled_since: datetime | None = None
    settled_until: datetime | None = None
    feed: FeedName | None = None

    @property
    def arguments(self) -> tuple[Any, ...]:
        """Return them in the order of the statements."""
        return (
            list(self.states),
            self.since,
            self.until,
            self.call_id,
            self.backfill,
            self.settled_since,
            self.settled_until,
            self.feed,
        )

    def act(self, kind: ActKind, who: str) -> Act:
        """Return the command to record for this selection."""
        return Act(
            kind,
            who,
            self.states,
            self.since,
            self.until,
            self.settled_since,
            self.settled_until,
            self.call_id,
            self.backfill,
            feed=self.feed,
        )


@dataclass(frozen=True, slots=True)
class SelectedCounts:
    """How many lines a command selects, per state, and how many a filter has kept out of that."""

    lines: dict[str, int]
    filtered: int


@dataclass(frozen=True, slots=True)
class SelectedLine:
    """A line that a command selected; without a record, its record is made again first."""

    key: LineKey
    state: State
    without_id: bool
    has_record: bool


@dataclass(frozen=True, slots=True)
class LineDetail:
    """A line with all that `show` prints."""

    key: LineKey
    ordinal: int
    lane: str
    salesforce_id: str | None
    backfill: bool
    state: State
    generation: int
    attempts: int
    unanswered: int
    last_status: int | None
    last_error: str | None
    taken_at: datetime
    pending_since: datetime
    next_try_at: datetime | None
    settled_at: datetime | None
    record: str | None
    act: str | None = None
    act_who: str | None = None
    act_at: datetime | None = None
    skip_reason: SkipReason | None = None
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class LineQuery:
    """Selects a page of the lines of a state: up to `limit`, after the line with the key `after`.

    Of a feed or all, of calls that ended in [since, until), settled in [settled_since,
    settled_until), of a lane.
    """

    state: State
    limit: int
    feed: FeedName | None = None
    since: datetime | None = None
    until: datetime | None = None
    settled_since: datetime | None = None
    settled_until: datetime | None = None
    lane: str | None = None
    after: LineKey | None = None


@dataclass(frozen=True, slots=True)
class ListedLine:
    """A line of a list; `next_try_at` also says for how long its record is held back."""

    key: LineKey
    state: State
    salesforce_id: str | None
    attempts: int
    last_status: int | None
    last_error: str | None
    taken_at: datetime
    pending_since: datetime
    next_try_at: datetime | None
    settled_at: datetime | None


@dataclass(frozen=True, slots=True)
class LinePage:
    """Lines of a state: newest settled first, or pending ones in sending order.

    `after` is the key from which the next page goes on; None if there is none.
    """

    lines: Sequence[ListedLine]
    after: LineKey | None


@dataclass(frozen=True, slots=True)
class RecentLines:
    """Lines and commands to show first, as of the ledger's `now`; the lines have no records."""

    now: datetime
    waiting: Sequence[LineDetail]
    failed: Sequence[LineDetail]
    streaks: Sequence[Streak] = ()
    acts: Sequence[RecordedAct] = ()


@dataclass(frozen=True, slots=True)
class HourlyCounts:
    """Lines settled since some time, per (hour, state)."""

    settled: Mapping[tuple[datetime, State], int]
