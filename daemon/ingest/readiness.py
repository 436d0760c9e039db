"""When calls are ready, by the source's clock, and the windows in which to look for them. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from daemon.ingest.columns import MIN_TIME
from daemon.lines import MICROSECOND, Covered

OVERLAP = timedelta(seconds=5)
"""How far a poll reaches back behind the watermark: a row may be committed a moment after the
time that it carries, which matters where SETTLE_DELAY is shorter than that moment."""
NEAR = timedelta(minutes=30)
"""How far the frequent sweep reaches back behind the watermark, for calls."""


@dataclass(frozen=True, slots=True)
class Clock:
    """The source's own time, by which readiness is decided, never by the daemon's."""

    now: datetime
    database: str
    standby: bool
    replayed: datetime | None


@dataclass(frozen=True, slots=True)
class Window:
    """Instants of the source's clock, both ends included; a column has microseconds at most."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Readiness:
    """Which calls were ready: ended by, or started by and never ended; none before the floor."""

    ended_by: datetime
    started_by: datetime
    floor: datetime


@dataclass(frozen=True, slots=True)
class Windows:
    """Where to look: codes (of calls that were `ready`), calls without an end, and ended calls."""

    codes: Window
    ready: Readiness
    never_ended: Window
    ended: Window


@dataclass(frozen=True, slots=True)
class CallFacts:
    """A call's times in the source, and how many rows it has."""

    clients_id: Any
    started: datetime | None
    ended: datetime | None
    visits: int
    legs: int
    codes: int


@dataclass(frozen=True, slots=True)
class EventFacts:
    """What decides whether an event is taken as a callback request; `clients_id` may be its call's.

    `call_id` is None where its call is not in the source, or it names none.
    """

    type_id: Any
    clients_id: Any
    created: datetime | None
    is_alert: bool
    call_id: Any
    call_ended: datetime | None


@dataclass(frozen=True, slots=True)
class ReadinessRules:
    """When a call is ready: durations, and START_FROM where it is set.

    `clients_id` is the one client whose calls are taken (None: all); `zone` is the ACD server's,
    in which times are shown; `near` is how far the frequent sweep reaches back.
    """

    settle_delay: timedelta
    stale_call_after: timedelta
    zone: ZoneInfo
    start_from: datetime | None = None
    clients_id: int | None = None
    near: timedelta = NEAR

    def ended_by(self, clock: Clock) -> datetime:
        """Return the latest end of a call that is ready now."""
        return clock.now - self.settle_delay

    def started_by(self, clock: Clock) -> datetime:
        """Return the latest start of a call that is ready now without an end."""
        return clock.now - self.stale_call_after

    def visible_until(self, clock: Clock) -> datetime:
        """Return up to when all ready calls can be seen; MIN_TIME if a standby does not know."""
        moment = clock.now
        if clock.standby:
            moment = min(moment, max(clock.replayed or MIN_TIME, MIN_TIME + self.settle_delay))
        return moment - self.settle_delay

    def covered_by(self, clock: Clock) -> Covered:
        """Return how far all is covered once what is ready now has been taken.

        Rows are read up to now, but only what was surely replayed counts.
        """
        limit = self.visible_until(clock)
        shift = self.started_by(clock) - self.ended_by(clock)
        return Covered(limit, None if limit == MIN_TIME else limit + shift)

    def poll(self, covered: Covered, floor: datetime, clock: Clock) -> Windows:
        """Return where a poll looks after what is covered; codes are those of earlier calls."""
        ended_by, started_by = self.ended_by(clock), self.started_by(clock)
        since = covered.watermark + MICROSECOND - OVERLAP
        # STALE_CALL_AFTER may have been longer until now, so that calls without an end are taken
        # less far than the watermark says.
        reached = covered.never_ended_until or covered.watermark + (started_by - ended_by)
        stale_since = reached + MICROSECOND - OVERLAP
        return Windows(
            codes=Window(since, ended_by),
            ready=Readiness(since - MICROSECOND, stale_since - MICROSECOND, floor),
            never_ended=Window(max(stale_since, floor), started_by),
            ended=Window(max(since, floor), ended_by),
        )

    def sweep(self, window: Window, floor: datetime, clock: Clock, *, wide: bool) -> Windows:
        """Return where a sweep looks again; calls in the window are compared with their codes."""
        started_by = self.started_by(clock)
        # Calls without an end became ready so long after their start; a wide sweep leaves no gap
        # where these durations were changed.
        stale_since = window.since if wide else started_by - self.near
        stale = Window(max(min(stale_since, started_by), floor), started_by)
        return Windows(
            codes=window,
            ready=Readiness(window.since, stale.since, floor),
            never_ended=stale,
            ended=Window(max(window.since, floor), window.until),
        )
