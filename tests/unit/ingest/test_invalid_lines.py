"""What cannot become a record, and the reason that is given."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.errors import InvalidLineError
from daemon.ingest.record import call_statistics, to_json
from daemon.lines import NON_NUMERIC_ID, NOT_AN_ID, LineKey
from tests.support.attempts import CODE_AAA, naive
from tests.support.expected import BERLIN


def reason(**changes: Any) -> str:
    """Why a changed line has no record."""
    with pytest.raises(InvalidLineError) as caught:
        call_statistics(CODE_AAA._replace(**changes), BERLIN)
    return str(caught.value)


ODD = NON_NUMERIC_ID - 1


def test_an_id_below_zero_is_a_number_all_the_same() -> None:
    assert call_statistics(CODE_AAA._replace(key=LineKey(-5, -1, -1, -1)), BERLIN)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (LineKey(ODD, 2202, 3203, 4201), f"StatisticsPartA.ID {NOT_AN_ID}"),
        (LineKey(1201, ODD, 3203, 4201), f"AcdStatisticsPartB.ID {NOT_AN_ID}"),
        (LineKey(1201, 2202, ODD - 7, 4201), f"StatisticsPartB.ID {NOT_AN_ID}"),
        (LineKey(1201, 2202, 3203, ODD), f"AcdStatisticsTransactionCodes.ID {NOT_AN_ID}"),
        (LineKey(1201, ODD, 3203, ODD), f"AcdStatisticsPartB.ID {NOT_AN_ID}"),
    ],
)
def test_a_key_with_a_part_that_is_no_number_is_invalid_and_names_the_table(
    key: LineKey, expected: str
) -> None:
    assert reason(key=key) == expected


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("4711ab", "text"),
        ("47.11", "text"),
        ("4_711", "text"),
        ("\u0664\u0667", "text"),
        (Decimal("47.11"), "a decimal number"),
        (47.11, "a decimal number"),
        (True, "a boolean"),
        (naive("2026-11-20T09:00:00"), "a time"),
        (date(2026, 11, 20), "a date"),
        (b"4711", "binary data"),
        ([4711], "an unknown type"),
    ],
)
@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("call_number", "StatisticsPartA.ID"),
        ("leg_connres", "StatisticsPartB.CONNRES"),
        ("leg_cause", "StatisticsPartB.CauseCodesID"),
    ],
)
def test_what_is_no_whole_number_is_invalid(
    column: str, name: str, value: object, found: str
) -> None:
    message = reason(**{column: value})
    assert message == f"{name} holds {found} where a whole number belongs"
    assert str(value) not in message


@pytest.mark.parametrize(
    "value",
    [
        2**63,
        -(2**63) - 1,
        Decimal("1E+999999"),
        Decimal("NaN"),
        Decimal("-Infinity"),
        1e300,
        float("nan"),
        float("inf"),
        "9" * 5000,
    ],
    ids=lambda value: str(value)[:9],
)
def test_a_number_that_no_bigint_can_hold_is_out_of_range(value: object) -> None:
    assert reason(leg_connres=value) == "StatisticsPartB.CONNRES is out of range"


def test_a_calls_cause_is_judged_on_a_line_without_a_leg() -> None:
    expected = "StatisticsPartA.CauseCodesID holds text where a whole number belongs"
    assert reason(has_leg=False, call_cause="normal") == expected


@pytest.mark.parametrize("value", [None, "", " "])
def test_a_call_without_a_number_is_invalid(value: object) -> None:
    expected = "StatisticsPartA.ID is empty where a whole number belongs"
    assert reason(call_number=value) == expected


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, "is empty"),
        (2, "holds another number"),
        (-1, "holds another number"),
        ("1", "holds text"),
        ("", "holds text"),
        (Decimal(1), "holds a decimal number"),
        (1.0, "holds a decimal number"),
        (b"\x01", "holds binary data"),
    ],
)
def test_a_direction_is_a_boolean_or_0_or_1_and_nothing_else(value: object, found: str) -> None:
    assert reason(outbound=value) == f"StatisticsPartA.bOutbound {found} where 0 or 1 belongs"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"a_number": 4711}, "StatisticsPartA.ANumber"),
        ({"b_number": 4711, "outbound": 1}, "StatisticsPartA.BNumber"),
        ({"call_user_data": 4711}, "StatisticsPartA.UserData"),
        ({"code_user_data": 4711}, "AcdStatisticsTransactionCodes.UserData"),
        ({"agent_uid": 4711}, "Users.UID"),
        ({"service_number": 4711}, "ServiceNumbers.Name"),
        ({"service_name": 4711}, "ServiceNumbers.Name2"),
        ({"agent_group": 4711}, "AcdGroups.Name"),
        ({"configuration_group": 4711}, "AcdGroups.Name"),
        ({"export_key": 4711}, "TransactionCodes.ExportKey"),
    ],
)
def test_what_is_no_text_is_invalid(changes: dict[str, Any], name: str) -> None:
    assert reason(**changes) == f"{name} holds a whole number where text belongs"


TIME_COLUMNS = pytest.mark.parametrize(
    ("column", "changes", "name"),
    [
        ("leg_start", {}, "StatisticsPartB.dtCallStart"),
        ("leg_alert", {}, "StatisticsPartB.dtCallAlert"),
        ("leg_connect", {}, "StatisticsPartB.dtCallConnect"),
        ("leg_end", {}, "StatisticsPartB.dtCallEnd"),
        ("call_start", {"has_leg": False}, "StatisticsPartA.dtCallStart"),
        ("call_end", {"has_leg": False}, "StatisticsPartA.dtCallEnd"),
        ("call_end", {"leg_end": None}, "StatisticsPartA.dtCallEnd"),
    ],
)


@TIME_COLUMNS
@pytest.mark.parametrize(
    "value",
    [
        datetime.max,  # noqa: DTZ901
        datetime.min,  # noqa: DTZ901
        datetime.max.replace(tzinfo=UTC),
        datetime.min.replace(tzinfo=UTC),
        naive("0001-01-01T00:00:01"),
        naive("9999-12-31T00:00:00"),
    ],
)
def test_a_time_out_of_range_is_invalid(
    column: str, changes: dict[str, Any], name: str, value: datetime
) -> None:
    assert reason(**changes, **{column: value}) == f"{name} is out of range"


@TIME_COLUMNS
@pytest.mark.parametrize(
    ("value", "found"),
    [("2026-11-20 09:00:00", "text"), (date(2026, 11, 20), "a date"), (0, "a whole number")],
)
def test_what_is_no_time_is_invalid(
    column: str, changes: dict[str, Any], name: str, value: object, found: str
) -> None:
    expected = f"{name} holds {found} where a time belongs"
    assert reason(**changes, **{column: value}) == expected


@given(
    st.sampled_from(
        [
            "call_number",
            "outbound",
            "a_number",
            "call_user_data",
            "agent_uid",
            "leg_start",
            "leg_alert",
            "leg_connect",
            "leg_end",
            "leg_connres",
            "leg_cause",
            "export_key",
        ]
    ),
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.text(st.characters(codec="utf-8"))
    | st.binary()
    | st.dates()
    | st.datetimes(timezones=st.none() | st.just(UTC)),
)
def test_whatever_a_column_holds_there_is_a_record_or_a_reason(column: str, value: object) -> None:
    """One odd row is an outcome of its line and must not end the daemon."""
    changes: dict[str, Any] = {column: value}
    line = CODE_AAA._replace(**changes)
    try:
        record = call_statistics(line, BERLIN)
    except InvalidLineError:
        return
    body = to_json(record, empty_as_string=False)
    assert json.loads(body) == record._asdict()
