"""Times and durations of a record, by the server's clock."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.ingest.columns import local_time
from daemon.ingest.record import call_statistics, duration
from tests.support.attempts import CODE_AAA, NO_LEG, field, naive, utc
from tests.support.expected import BERLIN

NEW_YORK = ZoneInfo("America/New_York")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def berlin(text: str, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold)


def test_without_a_leg_the_call_tells_times_and_cause_and_nothing_was_dialled() -> None:
    """What stands in the leg's columns does not count."""
    line = CODE_AAA._replace(has_leg=False, call_cause=Decimal(31), leg_connres="nonsense")
    record = call_statistics(line, BERLIN)
    assert record.dtCallStart == "2026-11-20T10:00:00"
    assert record.dtCallAlert is None
    assert record.dtCallConnect is None
    assert record.dtCallEnd == "2026-11-20T10:09:59"
    assert record.nDuration == -1
    assert record.CONNRES == 0
    assert record.Cause == 31


def test_with_a_leg_the_calls_own_times_and_cause_are_not_looked_at() -> None:
    line = CODE_AAA._replace(call_start=datetime.min, call_end=datetime.max, call_cause="x")  # noqa: DTZ901
    assert call_statistics(line, BERLIN) == call_statistics(CODE_AAA, BERLIN)


def test_a_call_that_never_ended_has_no_end() -> None:
    assert call_statistics(NO_LEG._replace(call_end=None), BERLIN).dtCallEnd is None


def test_a_leg_without_an_end_has_no_end_but_lasts_until_the_calls() -> None:
    changes = {"leg_end": None, "call_end": utc("2026-11-20T09:01:38")}
    assert field("dtCallEnd", **changes) is None
    assert field("nDuration", **changes) == 30


@pytest.mark.parametrize(
    ("moment", "zone", "expected"),
    [
        (None, BERLIN, None),
        (utc("2026-11-20T09:00:00"), BERLIN, "2026-11-20T10:00:00"),
        (utc("2026-07-20T09:00:00"), BERLIN, "2026-07-20T11:00:00"),
        (utc("2026-12-31T23:59:59.999999"), BERLIN, "2027-01-01T00:59:59"),
        (utc("2026-11-20T02:00:00"), NEW_YORK, "2026-11-19T21:00:00"),
        (berlin("2026-11-20T10:00:00"), NEW_YORK, "2026-11-20T04:00:00"),
        (naive("2026-11-20T10:00:00"), BERLIN, "2026-11-20T10:00:00"),
        (naive("2026-11-20T10:00:00.999999"), NEW_YORK, "2026-11-20T10:00:00"),
        (utc("0999-06-01T12:00:00"), ZoneInfo("UTC"), "0999-06-01T12:00:00"),
        # Clocks put forward: 02:00 to 03:00 does not exist.
        (utc("2026-03-29T00:59:59"), BERLIN, "2026-03-29T01:59:59"),
        (utc("2026-03-29T01:00:00"), BERLIN, "2026-03-29T03:00:00"),
        (naive("2026-03-29T02:30:00"), BERLIN, "2026-03-29T02:30:00"),
        # Clocks put back: 02:00 to 03:00 comes twice.
        (utc("2026-10-25T00:30:00"), BERLIN, "2026-10-25T02:30:00"),
        (utc("2026-10-25T01:30:00"), BERLIN, "2026-10-25T02:30:00"),
        (utc("2026-10-25T02:00:00"), BERLIN, "2026-10-25T03:00:00"),
        (naive("2026-10-25T02:30:00"), BERLIN, "2026-10-25T02:30:00"),
    ],
)
def test_times_are_the_servers_clock_without_fraction_or_offset(
    moment: datetime | None, zone: ZoneInfo, expected: str | None
) -> None:
    assert local_time(moment, zone) == expected


@given(
    st.integers(-3_700_000_000, 5_700_000_000),
    st.sampled_from(["Europe/Berlin", "Africa/Monrovia", "Europe/Amsterdam", "Asia/Kathmandu"]),
)
def test_a_local_time_is_what_the_zone_says_also_where_its_offset_has_seconds(
    seconds: int, name: str
) -> None:
    zone, moment = ZoneInfo(name), EPOCH + timedelta(seconds=seconds)
    assert local_time(moment, zone) == f"{moment.astimezone(zone):%Y-%m-%dT%H:%M:%S}"


@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK])
@pytest.mark.parametrize(
    "moment",
    [
        datetime.max,  # noqa: DTZ901
        datetime.min,  # noqa: DTZ901
        datetime.max.replace(tzinfo=UTC),
        datetime.min.replace(tzinfo=UTC),
        utc("9999-12-31T23:30:00"),
        utc("0001-01-01T00:30:00"),
    ],
)
def test_infinity_and_the_ends_of_the_calendar_are_no_local_time(
    moment: datetime, zone: ZoneInfo
) -> None:
    with pytest.raises(OverflowError):
        local_time(moment, zone)


@pytest.mark.parametrize(
    ("connect", "end", "call_end", "expected"),
    [
        pytest.param(None, None, None, -1, id="nothing"),
        pytest.param(None, utc("2026-11-20T09:00:00"), None, -1, id="never connected"),
        pytest.param(utc("2026-11-20T09:00:00"), None, None, 0, id="no end anywhere"),
        pytest.param(
            utc("2026-11-20T09:00:00"), None, utc("2026-11-20T09:00:07"), 7, id="the call's end"
        ),
        pytest.param(
            utc("2026-11-20T09:00:00"),
            utc("2026-11-20T09:00:05"),
            utc("2026-11-20T09:00:07"),
            5,
            id="the leg's end goes before the call's",
        ),
        pytest.param(
            utc("2026-11-20T09:00:00"),
            None,
            utc("2026-11-20T08:59:00"),
            0,
            id="a call's end before the connect",
        ),
        pytest.param(
            utc("2026-11-20T09:00:01"), utc("2026-11-20T09:00:00"), None, 0, id="never negative"
        ),
        # Both nights, as instants.
        pytest.param(
            utc("2026-03-29T00:59:30"), utc("2026-03-29T01:00:30"), None, 60, id="spring, aware"
        ),
        pytest.param(
            utc("2026-10-25T00:59:30"), utc("2026-10-25T01:00:30"), None, 60, id="autumn, aware"
        ),
        pytest.param(
            berlin("2026-03-29T01:59:30"),
            berlin("2026-03-29T03:00:30"),
            None,
            60,
            id="spring, aware in the zone itself",
        ),
        pytest.param(
            berlin("2026-10-25T02:59:30"),
            berlin("2026-10-25T02:00:30", fold=1),
            None,
            60,
            id="autumn, aware in the zone itself",
        ),
        # Both nights, as clocks: the difference is plain, but for the repeated hour.
        pytest.param(
            naive("2026-03-29T01:59:30"),
            naive("2026-03-29T03:00:30"),
            None,
            3660,
            id="spring, naive",
        ),
        pytest.param(
            naive("2026-10-25T02:59:30"),
            naive("2026-10-25T02:00:30"),
            None,
            60,
            id="autumn, naive, the clock went back in between",
        ),
        pytest.param(
            naive("2026-10-25T02:10:00"),
            naive("2026-10-25T02:20:00"),
            None,
            600,
            id="autumn, naive, within one of the two hours",
        ),
        pytest.param(
            naive("2026-11-20T09:00:00"),
            naive("2026-11-20T07:00:00"),
            None,
            0,
            id="naive and an hour does not make up for it",
        ),
        # Mixed columns: the naive one is on the zone's clock.
        pytest.param(
            utc("2026-07-01T10:00:00"), naive("2026-07-01T12:00:30"), None, 30, id="naive end"
        ),
        pytest.param(
            naive("2026-07-01T12:00:00"), utc("2026-07-01T10:00:30"), None, 30, id="naive connect"
        ),
        pytest.param(
            utc("2026-01-01T10:00:00"),
            None,
            naive("2026-01-01T11:00:30"),
            30,
            id="naive call's end",
        ),
        pytest.param(
            utc("2026-07-01T10:00:00"), naive("2026-07-01T11:59:00"), None, 0, id="mixed, negative"
        ),
    ],
)
def test_duration_counts_from_connect_to_end(
    connect: datetime | None, end: datetime | None, call_end: datetime | None, expected: int
) -> None:
    assert duration(connect, end, call_end, BERLIN) == expected


@pytest.mark.parametrize(
    ("microseconds", "expected"),
    [
        (0, 0),
        (1, 0),
        (499_000, 0),
        (499_999, 0),
        (500_000, 1),
        (999_999, 1),
        (1_499_999, 1),
        (1_500_000, 2),
        (2_500_000, 3),
        (86_400_500_000, 86_401),
    ],
)
@pytest.mark.parametrize("connect", [utc("2026-11-20T09:00:00.7"), naive("2026-11-20T09:00:00.7")])
def test_half_a_second_counts_as_one(connect: datetime, microseconds: int, expected: int) -> None:
    end = connect + timedelta(microseconds=microseconds)
    assert duration(connect, end, None, BERLIN) == expected


MOMENTS = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
CLOCKS = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31))  # noqa: DTZ001


@given(*(st.none() | MOMENTS | CLOCKS,) * 3)
def test_a_duration_is_minus_one_only_without_a_connect_and_never_less(
    connect: datetime | None, end: datetime | None, call_end: datetime | None
) -> None:
    seconds = duration(connect, end, call_end, BERLIN)
    assert seconds == -1 if connect is None else seconds >= 0
