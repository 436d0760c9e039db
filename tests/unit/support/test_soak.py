"""A soak's plan of faults, its arithmetic of growth, and what it does not let pass."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from tests.benchmark.data import LINES_PER_CALL
from tests.soak.acd import call, codes, legs, lines_of, visits
from tests.soak.faults import QUIET, RESTARTS, RESTARTS_UNTIL, SHARES, Fault, planned
from tests.soak.report import Soak, markdown, sentences
from tests.soak.samples import (
    FEWEST,
    MOST_DESCRIPTORS,
    MOST_MEMORY,
    SHORTEST_LIFE,
    Sample,
    cells,
    growth,
    rates,
    rows,
    slope_per_hour,
)
from tests.support.audit import Audit

HALF_AN_HOUR = 1800.0
SAMPLE = Sample(
    at=0, life=1, memory=80_000_000, descriptors=30, cpu=0, oldest=10, watermark=11, pending=5,
    arrived=0, requests=0, repeated=0,
)  # fmt: skip
AUDIT = Audit(
    lines=100, requests=104, pending=0, lost=0, repeated_unanswered=1, repeated_after_breaks=2,
    overlaps_with_orphans=1, unexplained=0,
)  # fmt: skip
EVEN = [replace(SAMPLE, at=10.0 * n, cpu=0.5 * n, arrived=1000 * n) for n in range(40)]
SOAK = Soak(
    seed=1, samples=EVEN, met=planned(1, 60), lives=1, repeated=4, audit=AUDIT, faults=[],
    violations=[], machine="",
)  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_half_an_hour_meets_every_fault_and_restarts_only_early(seed: int) -> None:
    faults = planned(seed, HALF_AN_HOUR)
    assert {fault.kind for fault in faults} == set(Fault)
    for fault, following in pairwise(faults):
        assert fault.at + fault.seconds < following.at
    assert faults[0].at >= QUIET
    assert faults[-1].at + faults[-1].seconds <= HALF_AN_HOUR - QUIET
    latest = max(fault.at for fault in faults if fault.kind in RESTARTS)
    assert latest <= HALF_AN_HOUR * RESTARTS_UNTIL


def test_a_seed_draws_the_same_faults_again_and_another_draws_others() -> None:
    assert planned(1, HALF_AN_HOUR) == planned(1, HALF_AN_HOUR) != planned(2, HALF_AN_HOUR)


def test_what_meets_only_some_requests_says_so() -> None:
    assert all("some" in kind or kind is Fault.CLOSED for kind in SHARES)


def test_the_acd_writes_calls_of_known_lines_under_ids_of_their_own() -> None:
    moment = datetime.now(UTC)
    numbers = range(1, 201)
    for made in (visits, legs, codes):
        ids = Counter(row.id for number in numbers for row in made(number, moment))
        assert set(ids.values()) == {1}
    assert sum(len(lines_of(number)) for number in numbers) == LINES_PER_CALL * len(numbers)
    assert call(7, 3, moment).dtcallend is None


def test_a_rate_is_never_counted_across_a_restart() -> None:
    samples = [SAMPLE, replace(SAMPLE, at=5, cpu=1), replace(SAMPLE, at=10, cpu=0.1, life=2)]
    assert rates(samples, lambda one: one.cpu) == [(5, 0.2)]


def test_a_slope_is_of_an_hour() -> None:
    points = [(10.0 * n, 80 + 0.1 * n) for n in range(FEWEST)]
    assert slope_per_hour(points) == pytest.approx(36)
    assert slope_per_hour(points[:-1]) == 0


@pytest.mark.parametrize(
    ("leak", "bounded"),
    [
        ({}, True),
        ({"memory": SAMPLE.memory * (MOST_MEMORY + 0.1)}, False),
        ({"descriptors": SAMPLE.descriptors + MOST_DESCRIPTORS}, True),
        ({"descriptors": SAMPLE.descriptors + MOST_DESCRIPTORS + 1}, False),
    ],
)
def test_growth_late_in_the_longest_life_is_a_fault(leak: dict[str, Any], bounded: bool) -> None:
    """What a process needs at first, and what a shorter life needed, is none."""
    earlier = [replace(SAMPLE, memory=9 * SAMPLE.memory, life=0)] * 10
    samples = [*earlier, replace(EVEN[0], memory=1), *EVEN[1:25]]
    samples += [replace(one, **leak) for one in EVEN[25:]]
    found = growth(samples)
    assert found is not None
    assert found.bounded == bounded


def test_a_short_life_says_nothing_of_growth() -> None:
    assert growth([one for one in EVEN if one.at < SHORTEST_LIFE]) is None


def test_the_first_and_the_last_minutes_are_shown_beside_all() -> None:
    samples = [replace(one, pending=n // 10) for n, one in enumerate(EVEN)]
    row = next(row for row in rows(samples) if row.name == "pending lines")
    assert cells(row) == ["pending lines", "0", "3", "2", "3", ""]


def test_a_soak_tells_what_explains_each_repeat() -> None:
    assert SOAK.passed
    told = "\n".join(sentences(SOAK))
    assert "4 lines were written more than once: 1 after the endpoint had closed" in told
    assert "1 after it had not answered in time, 2 after a kill or a cut" in told
    assert "0 for no reason" in told
    assert all(f"| {fault.kind} |" in markdown(SOAK) for fault in SOAK.met)


@pytest.mark.parametrize(
    "wrong",
    [
        {"faults": ["1-0-0-0: in the source, not in the ledger"]},
        {"violations": ["1-0-0-0: an 18th key"]},
        {"samples": [replace(one, descriptors=n) for n, one in enumerate(EVEN)]},
    ],
)
def test_a_soak_with_a_fault_is_not_passed(wrong: dict[str, Any]) -> None:
    assert not replace(SOAK, **wrong).passed
