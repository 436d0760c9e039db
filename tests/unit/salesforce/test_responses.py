"""What the headers of a response say: Retry-After, and how many of the org's calls are used."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.delivery.backoff import Backoff
from daemon.salesforce.responses import api_usage, retry_after_seconds

NOW = datetime(2026, 11, 20, 10, 0, 0, tzinfo=UTC)


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
    assert seconds is None or 0 <= Backoff(1.0, 900.0).delay(1, seconds) <= 900


@given(st.lists(st.sampled_from(DATE_PIECES), max_size=12))
def test_no_jumble_of_the_pieces_of_a_date_is_an_error(pieces: list[str]) -> None:
    seconds = retry_after_seconds(" ".join(pieces), NOW)
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize(
    ("header", "share"),
    [
        ("api-usage=18/5000", 18 / 5000),
        ("per-app-api-usage=17/250(appName=x), api-usage=25/5000", 25 / 5000),
        ("api-usage=0/5000", 0.0),
        ("api-usage=5001/5000", 5001 / 5000),
        ("api-usage=999999999999999/1", 999999999999999.0),
        (None, None),
        ("", None),
        ("api-usage=1/0", None),
        ("api-usage=-1/5", None),
        ("api-usage=1.5/5", None),
        ("api-usage=/5", None),
        ("api-usage=\N{ARABIC-INDIC DIGIT THREE}/5", None),
        (f"api-usage={'9' * 16}/5", None),
        (f"api-usage=5/{'9' * 16}", None),
        (f"api-usage={'9' * 400}/1", None),
        (f"api-usage=1/{'9' * 400}", None),
        (f"api-usage={'9' * 4000}/{'9' * 4000}", None),
    ],
)
def test_the_share_of_used_calls_is_read_from_numbers_within_bounds(
    header: str | None, share: float | None
) -> None:
    assert api_usage(header) == share


@given(st.text(max_size=60) | st.from_regex(r"api-usage=[0-9]*/[0-9]*", fullmatch=True))
def test_no_text_in_the_limits_header_is_an_error(header: str) -> None:
    share = api_usage(header)
    assert share is None or share >= 0
