"""How long a line, a record or the sender waits before the next try."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.delivery.backoff import Backoff, exponential

BACKOFF = Backoff(initial=1.0, maximum=900.0)


@pytest.mark.parametrize("jitter", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("tries", "doubled"), [(1, 1.0), (2, 2.0), (5, 16.0), (9, 256.0)])
def test_the_formula_is_a_function_of_numbers(tries: int, doubled: float, jitter: float) -> None:
    assert exponential(tries, 1.0, jitter, 900.0) == doubled + jitter
    assert exponential(tries, 2.5, jitter, 900.0) == 2.5 * doubled + jitter
    assert exponential(tries, 1.0, jitter, doubled) == doubled


def test_the_random_part_is_asked_for_up_to_the_initial_wait() -> None:
    asked: list[float] = []

    def third(initial: float) -> float:
        asked.append(initial)
        return initial / 3

    assert Backoff(0.3, 900.0, third).delay(3) == 0.3 * 4 + 0.3 / 3
    assert asked == [0.3]


@pytest.mark.parametrize("initial", [0.05, 1.0, 2.5])
@pytest.mark.parametrize("tries", range(1, 8))
def test_each_try_doubles_the_wait_and_adds_at_most_one_initial(initial: float, tries: int) -> None:
    backoff = Backoff(initial, 900.0)
    least = initial * 2 ** (tries - 1)
    for _ in range(50):
        assert least <= backoff.delay(tries) <= least + initial


def test_the_random_part_differs_from_wait_to_wait() -> None:
    assert len({BACKOFF.delay(1) for _ in range(20)}) > 1


@pytest.mark.parametrize("tries", [11, 12, 100, 1_024, 1_025, 10_000])
def test_no_wait_is_longer_than_the_maximum_however_many_tries_there_were(tries: int) -> None:
    assert BACKOFF.delay(tries) == 900.0


def test_the_random_part_does_not_lead_beyond_the_maximum() -> None:
    backoff = Backoff(initial=1.0, maximum=8.5)
    waits = [backoff.delay(4) for _ in range(200)]
    assert all(8.0 <= wait <= 8.5 for wait in waits)
    assert 8.5 in waits


def test_a_maximum_below_the_initial_wait_holds_from_the_first_try() -> None:
    assert Backoff(initial=10.0, maximum=1.0).delay(1) == 1.0


@given(
    initial=st.floats(0.05, 1e6),
    maximum=st.floats(1, 1e6),
    tries=st.integers(1, 20_000),
    retry_after=st.none() | st.floats(allow_nan=False),
)
def test_a_wait_is_never_negative_and_never_beyond_the_maximum(
    initial: float, maximum: float, tries: int, retry_after: float | None
) -> None:
    assert 0 <= Backoff(initial, maximum).delay(tries, retry_after) <= maximum


@pytest.mark.parametrize(
    ("retry_after", "wait"),
    [
        (7.0, 7.0),
        (0.5, 0.5),
        (900.0, 900.0),
        (901.0, 900.0),
        (float("inf"), 900.0),
    ],
)
def test_retry_after_replaces_the_formula_but_not_the_maximum(
    retry_after: float, wait: float
) -> None:
    for tries in (1, 5, 10_000):
        assert BACKOFF.delay(tries, retry_after) == wait


@pytest.mark.parametrize("retry_after", [0.0, -0.0, -3.0, float("-inf")])
@pytest.mark.parametrize("tries", [1, 5])
def test_a_retry_after_of_nothing_leaves_the_formula(retry_after: float, tries: int) -> None:
    least = 2 ** (tries - 1)
    assert least <= BACKOFF.delay(tries, retry_after) <= least + 1
