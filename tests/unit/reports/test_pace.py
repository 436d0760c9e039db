"""Rates, and how long a backlog will take, as a table of looks."""

from dataclasses import astuple
from datetime import UTC, datetime, timedelta

import pytest

from daemon.reports.pace import Look, Pace, PaceMeter, pace_sentence

START = datetime(2026, 11, 20, 9, tzinfo=UTC)


def pace(*looks: tuple[float, int, int]) -> Pace | None:
    """The pace with the last of these looks: seconds, pending, settled since the one before."""
    meter = PaceMeter()
    found = None
    for seconds, pending, settled in looks:
        found = meter.add(Look(START + timedelta(seconds=seconds), pending, settled))
    return found


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        ([(0, 100, 0)], None),
        ([(0, 100, 0), (0, 90, 10)], None),
        ([(0, 100, 0), (30, 60, 50)], Pace(100, 20, 60, 45)),
        # What was settled before the first look does not count.
        ([(0, 100, 7), (60, 100, 0)], Pace(0, 0, 100, None)),
        ([(0, 100, 0), (60, 130, 20)], Pace(20, 50, 130, None)),
        ([(0, 5, 0), (30, 0, 5)], Pace(10, 0, 0, None)),
        # Lines that an operator withdrew were settled, too; those that retention removed were not.
        ([(0, 100, 0), (60, 40, 60)], Pace(60, 0, 40, 40)),
        ([(0, 100, 0), (60, 40, 0)], Pace(0, 0, 40, None)),
        # Of about the last minute: the looks before it are forgotten.
        ([(0, 900, 0), (60, 600, 300), (120, 590, 10)], Pace(10, 0, 590, 3540)),
        ([(0, 900, 0), (30, 800, 100), (61, 790, 10)], Pace(108.2, 0, 790, 438.1)),
        ([(0, 900, 0), (600, 800, 100)], Pace(10, 0, 800, 4800)),
        # The ledger's clock was set back: what was seen before it cannot be compared.
        ([(3600, 900, 0), (3605, 900, 0), (0, 800, 0)], None),
        ([(3600, 900, 0), (3605, 900, 0), (0, 800, 0), (30, 700, 100)], Pace(200, 0, 700, 210)),
    ],
)
def test_the_pace_is_that_of_the_last_minute(
    looks: list[tuple[float, int, int]], expected: Pace | None
) -> None:
    found = pace(*looks)
    assert rounded(found) == rounded(expected)


def rounded(given: Pace | None) -> list[float | None]:
    """Return its numbers with one digit after the point."""
    numbers = astuple(given) if given is not None else ()
    return [None if number is None else round(number, 1) for number in numbers]


def test_the_next_look_counts_from_the_last_one_on() -> None:
    meter = PaceMeter()
    assert meter.since is None
    meter.add(Look(START, 1, 0))
    assert meter.since == START


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (None, "known with the next look"),
        (Pace(0, 0, 0, None), "0 settled and 0 taken per minute; nothing waits"),
        (
            Pace(1200, 100, 5500, 300),
            "1,200 settled and 100 taken per minute; nothing waits in about 5 minutes",
        ),
        (
            Pace(1200, 100, 18, 59.9),
            "1,200 settled and 100 taken per minute; nothing waits in less than a minute",
        ),
        (
            Pace(10, 100, 5500, None),
            "10 settled and 100 taken per minute; the backlog does not get smaller",
        ),
    ],
)
def test_the_pace_is_said_in_words(given: Pace | None, says: str) -> None:
    assert pace_sentence(given) == says
