"""Layout of the chart of the last 24 hours by outcome. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from daemon.lines import State

HOURS = 24
HEIGHT = 160.0
"""Height of the chart in pixels; it is as wide as the page."""
LEAST = 3.0
"""Pixels of the smallest part, so that one failure among thousands is visible."""
GAP = 1.0
HOUR = timedelta(hours=1)

KINDS: Mapping[str, tuple[State, ...]] = {
    "delivered": (State.DELIVERED,),
    "skipped": (State.SKIPPED,),
    "refused": (State.CONFLICT, State.NOT_FOUND),
    "kept": (State.REJECTED, State.EXPIRED, State.INVALID),
}
"""States of each colour, from the bottom up."""
STATES = tuple(state for states in KINDS.values() for state in states)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a bar, in pixels from the top."""

    kind: str
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Bar:
    """An hour: its position in per cent of the width, its parts, and its counts per state."""

    begins: datetime
    x: float
    counts: Mapping[State, int]
    parts: tuple[Part, ...]

    @property
    def total(self) -> int:
        """All lines of the hour."""
        return sum(self.counts.values())

    def of(self, kind: str) -> int:
        """Count the lines of one colour."""
        return sum(self.counts[state] for state in KINDS[kind])


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars from the oldest to the current hour, and the top of the scale."""

    bars: tuple[Bar, ...]
    top: int

    @property
    def marks(self) -> tuple[tuple[int, float], ...]:
        """Numbers of the scale, with their position in pixels from the top."""
        steps = (self.top, self.top // 2, 0) if self.top > 1 else (self.top, 0)
        return tuple((value, HEIGHT * (1 - value / self.top)) for value in steps)

    def of(self, kind: str) -> int:
        """Count the day's lines of one colour."""
        return sum(bar.of(kind) for bar in self.bars)

    def total(self, state: State) -> int:
        """Count the day's lines of one state."""
        return sum(bar.counts[state] for bar in self.bars)

    @property
    def busiest(self) -> Bar:
        """The hour with the most lines."""
        return max(self.bars, key=lambda bar: bar.total)


def first_hour(now: datetime, zone: ZoneInfo) -> datetime:
    """Return the start of the oldest hour: full hours of local time, counted as instants.

    So the chart has 24 hours also when the clocks change.
    """
    local = now.astimezone(zone)
    begun = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
    return (now - begun).astimezone(UTC) - (HOURS - 1) * HOUR


def chart(settled: Mapping[tuple[datetime, State], int], first: datetime) -> Chart:
    """Return the chart of lines settled from `first` on."""
    begins = [first + hour * HOUR for hour in range(HOURS)]
    counts = [{state: settled.get((begin, state), 0) for state in STATES} for begin in begins]
    top = _round_up(max(sum(of_hour.values()) for of_hour in counts))
    bars = tuple(
        Bar(begin, 100 * hour / HOURS, of_hour, _parts(of_hour, top))
        for hour, (begin, of_hour) in enumerate(zip(begins, counts, strict=True))
    )
    return Chart(bars, top)


def _parts(counts: Mapping[State, int], top: int) -> tuple[Part, ...]:
    heights = {}
    for kind, states in KINDS.items():
        lines = sum(counts[state] for state in states)
        if lines:
            heights[kind] = max(LEAST, HEIGHT * lines / top)
    # What small parts were enlarged by is taken from the largest, so that no bar is too high.
    excess = sum(heights.values()) + GAP * max(0, len(heights) - 1) - HEIGHT
    if excess > 0:
        heights[max(heights, key=heights.__getitem__)] -= excess
    parts = []
    y = HEIGHT
    for kind, height in heights.items():
        y -= height
        parts.append(Part(kind, round(y, 1), round(height, 1)))
        y -= GAP
    return tuple(parts)


def _round_up(number: int) -> int:
    """Round up to 1, 2, 4, 6 or 8 times a power of ten, so that half of it is a whole number."""
    if number <= 1:
        return 2
    scale = 1
    while True:
        for step in (1, 2, 4, 6, 8):
            if step * scale >= number and step * scale > 1:
                return step * scale
        scale *= 10
