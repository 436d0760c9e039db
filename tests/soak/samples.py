"""What is measured every few seconds of a soak, and what it says of growth."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from statistics import linear_regression, median

EVERY = 5.0
"""Seconds between two samples."""
WINDOW = 600.0
"""Seconds at the beginning and at the end whose medians are compared."""
FEWEST = 8
"""Samples from which on a slope means something."""
SHORTEST_LIFE = 300.0
"""Seconds of one process, from which on its growth does: at first pools and caches fill."""

MOST_MEMORY = 1.1
"""How many times more memory a process may use late in its life than earlier."""
MOST_DESCRIPTORS = 8
"""How many more descriptors: a pool of connections opens some when it needs them."""

MEGABYTE = 1_000_000
HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at everything; seconds since the start, bytes, and counts since the start.

    `life` tells one process from the next; `oldest` is the age of the oldest pending line, counted
    from its call's end, `watermark` that of the time up to which calls are taken.
    """

    at: float
    life: int
    memory: int
    descriptors: int
    cpu: float
    oldest: float
    watermark: float
    pending: int
    arrived: int
    requests: int
    repeated: int


Figure = Callable[[Sample], float]


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: name, format, values; with a slope where growth would be a leak."""

    name: str
    shown: str
    points: list[tuple[float, float]]
    slope: float | None = None


@dataclass(frozen=True, slots=True)
class Growth:
    """How much more the process that lived longest used late in its life than earlier."""

    memory: float
    descriptors: float
    minutes: float

    @property
    def bounded(self) -> bool:
        return self.memory <= MOST_MEMORY and self.descriptors <= MOST_DESCRIPTORS


def memory(sample: Sample) -> float:
    return sample.memory / MEGABYTE


def rows(samples: Sequence[Sample]) -> list[Row]:
    """The table of a soak."""
    life = longest_life(samples)

    def each(name: str, shown: str, figure: Figure, *, slope: bool = False) -> Row:
        points = [(one.at, float(figure(one))) for one in samples]
        grown = slope_per_hour([(one.at, figure(one)) for one in settled(life)])
        return Row(name, shown, points, grown if slope else None)

    return [
        each("memory, MB", "{:.1f}", memory, slope=True),
        each("descriptors", "{:.0f}", lambda one: one.descriptors, slope=True),
        Row("CPU, % of a core", "{:.0f}", rates(samples, lambda one: one.cpu * 100)),
        each("age of the oldest pending line, s", "{:.0f}", lambda one: one.oldest),
        each("age of the watermark, s", "{:.0f}", lambda one: one.watermark),
        each("pending lines", "{:,.0f}", lambda one: one.pending),
        Row("lines a second arriving", "{:.0f}", rates(samples, lambda one: one.arrived)),
        Row("requests a second", "{:.0f}", rates(samples, lambda one: one.requests)),
    ]


def rates(samples: Sequence[Sample], figure: Figure) -> list[tuple[float, float]]:
    """How much a count grew in each second, from one sample of a process to the next."""
    return [
        (after.at, (figure(after) - figure(before)) / (after.at - before.at))
        for before, after in pairwise(samples)
        if before.life == after.life
    ]


def cells(row: Row) -> list[str]:
    """Medians of the first and the last minutes and of all, the most, and the slope."""
    first, last = row.points[0][0], row.points[-1][0]
    window = min(WINDOW, (last - first) / 3)
    parts = (
        [value for at, value in row.points if at <= first + window],
        [value for at, value in row.points if at >= last - window],
        [value for _, value in row.points],
    )
    shown = [row.shown.format(median(part)) for part in parts]
    most = row.shown.format(max(parts[-1]))
    return [row.name, *shown, most, "" if row.slope is None else f"{row.slope:+.1f}"]


def longest_life(samples: Sequence[Sample]) -> list[Sample]:
    """The samples of the process that lived longest."""
    lives = [list(life) for _, life in groupby(samples, lambda one: one.life)]
    return max(lives, key=lambda life: life[-1].at - life[0].at)


def settled(life: Sequence[Sample]) -> Sequence[Sample]:
    """All but the first quarter, in which pools and caches fill."""
    return life[len(life) // 4 :]


def slope_per_hour(points: Sequence[tuple[float, float]]) -> float:
    """By how much something grows in an hour, as the straight line through its points says."""
    if len(points) < FEWEST:
        return 0.0
    return linear_regression(*zip(*points, strict=True)).slope * HOUR


def growth(samples: Sequence[Sample]) -> Growth | None:
    """Compare the last quarter of the longest life with its second; None if it is too short."""
    life = longest_life(samples)
    if life[-1].at - life[0].at < SHORTEST_LIFE:
        return None
    quarter = len(life) // 4
    early, late = life[quarter : 2 * quarter], life[-quarter:]
    return Growth(
        median(map(memory, late)) / median(map(memory, early)),
        median(one.descriptors for one in late) - median(one.descriptors for one in early),
        (life[-1].at - life[0].at) / 60,
    )
