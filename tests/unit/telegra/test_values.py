"""Times, numbers and ids are read as section 4 of the contract says."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.telegra.values import integer, moment, named_moment, number_of, record_id_in, whole
from tests.support.expected import BERLIN

RECEIVED = datetime(2026, 11, 20, 9, 0, 30, 123_456, tzinfo=UTC)
AT = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
MILLISECONDS = round(AT.timestamp() * 1000)
OCTOBER, LATER = (datetime(2026, 10, 25, hour, 30, tzinfo=UTC) for hour in (0, 1))
"""Both are 02:30 in Berlin."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (str(MILLISECONDS), AT),
        (f" {MILLISECONDS + 7} ", AT + timedelta(milliseconds=7)),
        (str(MILLISECONDS // 1000), AT),
        (f"{MILLISECONDS // 1000}.5", AT + timedelta(milliseconds=500)),
        ("99999999999", None),  # 11 digits: seconds, in the year 5138
        ("100000000000", datetime(1973, 3, 3, 9, 46, 40, tzinfo=UTC)),  # 12 digits
        ("2026-11-20T10:00:00+01:00", AT),
        ("2026-11-20T10:00:00 01:00", AT),
        ("2026-11-20T10:00:00.000 0100", AT),
        ("2026-11-20T09:00:00Z", AT),
        ("2026-11-20T10:00:00", AT),
        ("2026-11-20 10:00:00", AT),
        ("2026-11-20 10:00:00.250", AT + timedelta(milliseconds=250)),
        ("20.11.2026 10:00:00", AT),
        ("1.1.2026 10:00:00", datetime(2026, 1, 1, 9, tzinfo=UTC)),
        ("2026-11-20 10:05:30", RECEIVED.replace(microsecond=0) + timedelta(minutes=5)),
        ("2026-11-20 10:05:31", None),
        ("2026-03-29 02:30:00", datetime(2026, 3, 29, 1, 30, tzinfo=UTC)),
        ("0", datetime(1970, 1, 1, tzinfo=UTC)),
        ("", None),
        (None, None),
        ("soon", None),
        ("-5", None),
        ("2026-13-45 10:00:00", None),
        ("32.11.2026 10:00:00", None),
        ("999999999999999999", None),
        ("٢٠٢٦", None),
        ("0001-01-01T00:00:00", None),
        ("9999-12-31T23:59:59-12:00", None),
    ],
)
def test_times(text: str | None, expected: datetime | None) -> None:
    receipt = RECEIVED.replace(microsecond=123_000)
    assert moment(named_moment(text, RECEIVED, BERLIN), RECEIVED) == (expected or receipt)


@pytest.mark.parametrize(
    ("received", "expected"),
    [
        (OCTOBER + timedelta(seconds=1), OCTOBER),
        (OCTOBER + timedelta(minutes=29), OCTOBER),
        (LATER - timedelta(minutes=5), LATER),
        (LATER + timedelta(minutes=5), LATER),
    ],
)
@pytest.mark.parametrize("text", ["2026-10-25 02:30:00", "25.10.2026 02:30:00"])
def test_in_the_repeated_hour_the_reading_nearer_to_the_receipt_counts(
    text: str, received: datetime, expected: datetime
) -> None:
    assert moment(named_moment(text, received, BERLIN), received) == expected


@given(st.text(max_size=40))
def test_no_text_is_too_odd(text: str) -> None:
    assert moment(named_moment(text, RECEIVED, BERLIN), RECEIVED) <= RECEIVED + timedelta(minutes=5)
    number = number_of(text, "49")
    assert number is None or set(number) <= set("0123456789")
    whole(text)
    record_id_in(text)


def test_zones_other_than_berlin() -> None:
    named = named_moment("2026-11-20 10:00:00", RECEIVED, ZoneInfo("America/New_York"))
    assert named == datetime(2026, 11, 20, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("02212601599", "492212601599"),
        ("00492212601599", "492212601599"),
        ("+492212601599", "492212601599"),
        (" 492212601599", "492212601599"),
        ("0015552243", "15552243"),
        ("+15552243", "15552243"),
        (" 15552243", "15552243"),
        ("492212601599", "492212601599"),
        ("0221 / 2601-599", "492212601599"),
        ("110", "110"),
        ("02212601xxx", None),
        ("+492212601XXX ", None),
        ("xxx", None),
        ("anonymous", None),
        ("+", None),
        ("0", None),
        ("00", None),
        ("", None),
        (None, None),
    ],
)
def test_numbers(text: str | None, expected: str | None) -> None:
    assert number_of(text, "49") == expected


def test_national_numbers_get_the_country_code_of_the_settings() -> None:
    assert number_of("01234", "43") == "431234"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0D5D0000000XZoHKAW", "0D5D0000000XZoHKAW"),
        ("call of 0D5D0000000XZoHKAW, please", "0D5D0000000XZoHKAW"),
        ("https://x.example/0D5D0000000XZoHKAW/view", "0D5D0000000XZoHKAW"),
        (" 0D5D0000000XZoH ", "0D5D0000000XZoH"),
        ("call of 0D5D0000000XZoH", None),
        ("0D5D0000000XZoHKAA", None),
        ("AAAAAAAAAAAAAAAAAA 0D5D0000000XZoHKAW", "0D5D0000000XZoHKAW"),
        ("", None),
        (None, None),
    ],
)
def test_record_ids(text: str | None, expected: str | None) -> None:
    assert record_id_in(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" 7 ", 7),
        ("-7", -7),
        (str(2**63 - 1), 2**63 - 1),
        (str(2**63), None),
        (str(-(2**63)), None),
        ("7.0", None),
        ("", None),
        (None, None),
    ],
)
def test_whole_numbers_are_those_of_a_bigint(text: str | None, expected: int | None) -> None:
    assert whole(text) == expected


def test_numbers_that_only_order_have_no_limit() -> None:
    assert integer("9" * 2000) == int("9" * 2000)
