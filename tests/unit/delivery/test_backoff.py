"""How long a line, a record or the sender waits before the next try (contract 5)."""

import warnings
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.delivery.backoff import Backoff, retry_after_seconds

NOW = datetime(2026, 11, 20, 10, 0, 0, tzinfo=UTC)
BACKOFF = Backoff(initial=1.0, maximum=900.0)


@pytest.mark.parametrize("initial", [0.05, 2.0])
def test_waiting_uses_nothing_that_the_library_has_deprecated(initial: float) -> None:
    with warnings.catch_warnings(action="error"):
        Backoff(initial, 900.0).delay(1)


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


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        (" 120 ", 120),
        ("007", 7),
        ("86400", 86400),
        ("9" * 400, float("inf")),
        ("9" * 8000, float("inf")),
        ("9" * 15, 999999999999999.0),
    ],
)
def test_retry_after_is_read_as_seconds(header: str, seconds: float) -> None:
    assert retry_after_seconds(header, NOW) == seconds


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("Fri, 20 Nov 2026 10:00:30 GMT", 30),
        ("Fri, 20 Nov 2026 11:00:30 +0100", 30),
        ("Fri, 20 Nov 2026 10:00:30 -0000", 30),
        ("Friday, 20-Nov-26 10:00:30 GMT", 30),
        ("Fri Nov 20 10:00:30 2026", 30),
        ("Fri, 20 Nov 2026 10:00:00 GMT", 0),
        ("Sat, 21 Nov 2026 10:00:00 GMT", 86400),
    ],
)
def test_retry_after_is_read_as_each_form_of_an_http_date(header: str, seconds: float) -> None:
    assert retry_after_seconds(header, NOW) == seconds


def test_a_date_that_has_passed_is_0() -> None:
    assert retry_after_seconds("Wed, 21 Oct 2015 07:28:00 GMT", NOW) == 0


@given(st.integers(0, 10**7))
def test_a_date_ahead_means_the_seconds_until_then(ahead: int) -> None:
    header = format_datetime(NOW + timedelta(seconds=ahead), usegmt=True)
    assert retry_after_seconds(header, NOW) == ahead


GARBAGE = ["", " ", "soon", "-5", "+5", "1.5", "1e3", "0x10", "inf", "nan", "7 s", "7, 8", "²", "٣"]
BAD_DATES = [
    "Fri, 20 Nov 2026",
    "Fri, 99 Nov 2026 10:00:00 GMT",
    "Fri, 20 Nov 2026 24:00:00 GMT",
    "Fri, 20 Nov 2026 10:00:00 +9999999",
    "\x00",
    ",",
    "::",
    "Fri, 20 Nov " + "9" * 400 + " 10:00:00 GMT",
    "Fri, 20 Nov 2026 10:00:00 +" + "9" * 400,
    "9" * 400 + " Nov 2026 10:00:00 GMT",
    "Fri, 20 Nov 10000 10:00:00 GMT",
    "1" * 5000 + ".5",
]


@pytest.mark.parametrize(
    "header",
    [None, *GARBAGE, *BAD_DATES],
)
def test_an_unreadable_or_absent_retry_after_counts_as_none(header: str | None) -> None:
    assert retry_after_seconds(header, NOW) is None


@given(st.text(max_size=60))
def test_no_text_in_the_header_is_an_error(header: str) -> None:
    seconds = retry_after_seconds(header, NOW)
    assert seconds is None or seconds >= 0


DATE_PIECES = ["Fri", ",", "20", "Nov", "2026", "10", ":", "00", "GMT", "+", "-", "0100", "9" * 30]


def test_a_date_with_an_absurd_zone_counts_as_none() -> None:
    assert retry_after_seconds("Fri, 20 Nov 2026 10:00:00 +" + "9" * 20, NOW) is None


@pytest.mark.parametrize(
    "header",
    ["Fri, 31 Dec 9999 23:59:59 -2359", "Mon, 01 Jan 0001 00:00:00 +2359", "1 Jan 1 0:0 -9959"],
)
def test_a_date_at_the_end_of_time_is_a_number_or_none(header: str) -> None:
    seconds = retry_after_seconds(header, NOW)
    assert seconds is None or 0 <= BACKOFF.delay(1, seconds) <= 900


@given(st.lists(st.sampled_from(DATE_PIECES), max_size=12))
def test_no_jumble_of_the_pieces_of_a_date_is_an_error(pieces: list[str]) -> None:
    seconds = retry_after_seconds(" ".join(pieces), NOW)
    assert seconds is None or seconds >= 0
