"""How numbers, times and durations are written."""

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from daemon.language import GERMAN, use_language
from daemon.reports.formats import (
    exact_duration,
    iso_time,
    local_time,
    plural,
    rough_duration,
    short_duration,
)

MOMENT = datetime(2026, 11, 20, 12, 34, 56, 789000, tzinfo=UTC)


def test_a_number_has_its_noun_in_singular_or_plural() -> None:
    assert [plural(n, "line") for n in (0, 1, 2, 1234)] == [
        "0 lines", "1 line", "2 lines", "1,234 lines",
    ]  # fmt: skip


def test_people_read_local_time_and_programs_utc() -> None:
    assert local_time(MOMENT, ZoneInfo("Europe/Berlin")) == "2026-11-20 13:34:56"
    elsewhere = MOMENT.astimezone(timezone(timedelta(hours=-5)))
    assert iso_time(elsewhere) == "2026-11-20T12:34:56.789000+00:00"
    assert iso_time(None) is None


@pytest.mark.parametrize(
    ("seconds", "short", "rough"),
    [
        (3, "3 s", "less than a minute"),
        (90, "90 s", "1 minute"),
        (120, "2 min", "2 minutes"),
        (7199, "120 min", "119 minutes"),
        (7200, "2 h", "2 hours"),
        (86400, "24 h", "24 hours"),
        (3 * 86400, "3 d", "3 days"),
    ],
)
def test_a_duration_has_at_least_two_of_its_unit(seconds: float, short: str, rough: str) -> None:
    assert short_duration(seconds) == short
    assert rough_duration(seconds) == rough


@pytest.mark.parametrize(
    ("seconds", "english", "german"),
    [
        (0.4, "0:00:00", "0:00:00"),
        (7384, "2:03:04", "2:03:04"),
        (86399.6, "1 day, 0:00:00", "1 Tag, 0:00:00"),
        (1234 * 86400 + 61, "1,234 days, 0:01:01", "1.234 Tage, 0:01:01"),
    ],
)
def test_a_duration_to_the_second_has_days_and_a_clock(
    seconds: float, english: str, german: str
) -> None:
    assert exact_duration(seconds) == english
    with use_language(GERMAN):
        assert exact_duration(seconds) == german
