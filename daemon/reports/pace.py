"""How fast lines are taken and settled, from looks at the ledger one after another. Pure."""

from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta

from daemon.language import _, grouped
from daemon.reports.formats import MINUTE, rough_duration

WINDOW = timedelta(minutes=1)
"""Rates are those of about the last minute."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found by the ledger's clock: lines that wait, and settled since the last."""

    at: datetime
    pending: int
    settled: int


@dataclass(frozen=True, slots=True)
class Pace:
    """Lines per minute; seconds until nothing waits, None if that cannot be told.

    Lines that somebody put back count as taken.
    """

    settled: float
    taken: float
    pending: int
    empty_in: float | None


def pace_of(minutes: float, pending: int, settled: int, taken: int) -> Pace:
    """Return the pace of lines that were settled and taken in so many minutes."""
    empty_in = None
    if pending and settled > taken:
        empty_in = 60 * minutes * pending / (settled - taken)
    return Pace(settled / minutes, taken / minutes, pending, empty_in)


class PaceMeter:
    """Keeps the looks of the last minute."""

    def __init__(self) -> None:
        self._looks: deque[Look] = deque()

    @property
    def since(self) -> datetime | None:
        """From when on the next look counts settled lines; None before the first one."""
        return self._looks[-1].at if self._looks else None

    def add(self, look: Look) -> Pace | None:
        """Return the pace with this look; None with the first one, also after a clock set back."""
        looks = self._looks
        if looks and look.at < looks[-1].at:
            looks.clear()
        looks.append(look)
        while len(looks) > 2 and look.at - looks[1].at >= WINDOW:
            looks.popleft()
        minutes = (look.at - looks[0].at) / timedelta(minutes=1)
        if minutes <= 0:
            return None
        settled = sum(one.settled for one in list(looks)[1:])
        taken = max(0, settled + look.pending - looks[0].pending)
        return pace_of(minutes, look.pending, settled, taken)


def pace_sentence(pace: Pace | None) -> str:
    """Return the rates in words, and how long the backlog will take."""
    if pace is None:
        return _("known with the next look")
    settled, taken = grouped(pace.settled), grouped(pace.taken)
    if not pace.pending:
        return _(
            "{settled} settled and {taken} taken per minute; nothing waits",
            settled=settled,
            taken=taken,
        )
    if pace.empty_in is None:
        return _(
            "{settled} settled and {taken} taken per minute; the backlog does not get smaller",
            settled=settled,
            taken=taken,
        )
    if pace.empty_in < MINUTE:
        return _(
            "{settled} settled and {taken} taken per minute; nothing waits in less than a minute",
            settled=settled,
            taken=taken,
        )
    return _(
        "{settled} settled and {taken} taken per minute; nothing waits in about {duration}",
        settled=settled,
        taken=taken,
        duration=rough_duration(pace.empty_in),
    )
