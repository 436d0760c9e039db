"""Texts and numbers of a record."""

import time
from contextlib import suppress
from decimal import Decimal
from string import digits

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.errors import InvalidLineError
from daemon.ingest.columns import whole_number
from daemon.ingest.record import caller_id
from tests.support.attempts import field


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (None, None),
        ("", None),
        ("497111234567", "497111234567"),
        ("+49 711 1234567", "497111234567"),
        ("+49 (0)711/12345-67", "497111234567"),
        ("00497111234567", "497111234567"),
        ("0000497111234567", "497111234567"),
        ("000497111234567", "0497111234567"),
        ("07111234567", "07111234567"),
        ("110", "110"),
        ("0", "0"),
        ("00", None),
        ("(0)", None),
        ("(0)0(0)049711", "49711"),
        ("sip:+497111234567@10.0.0.1:5060", "497111234567"),
        ("SIP:00497111234567@example.com;user=phone", "497111234567"),
        ("sips:497111234567@example.com", "497111234567"),
        ("Tel:+49-711-1234567;ext=22", "497111234567"),
        ('"Anna" <sip:+497111234567@example.com>', "497111234567"),
        ("497111234567;phone-context=49@x", "497111234567"),
        ("@497111234567", None),
        ("anonymous", None),
        ("sip:anonymous@anonymous.invalid", None),
        ("sip:anonymous@10.0.0.1", None),
        ("\u0664\u0669711", "711"),
        ("49²711", "49711"),
    ],
)
def test_a_caller_id_is_the_e164_digits_of_a_number(number: str | None, expected: str) -> None:
    assert caller_id(number) == expected


@pytest.mark.parametrize(
    "text",
    ["0" * 10**6, "9" * 10**6, "1." + "0" * 10**6, "x" * 10**6],
    ids=["zeros", "nines", "a fraction", "letters"],
)
def test_a_long_text_costs_little_where_a_number_belongs(text: str) -> None:
    began = time.process_time()
    caller_id(text)
    with suppress(InvalidLineError):
        whole_number(text, "StatisticsPartB.CONNRES")
    assert time.process_time() - began < 2


@given(st.text() | st.text("0123456789+()@;sipte: "))
def test_a_caller_id_is_digits_without_leading_00_and_stays_itself(number: str) -> None:
    result = caller_id(number)
    if result is not None:
        assert result
        assert set(result) <= set(digits)
        assert not result.startswith("00")
        assert caller_id(result) == result


@pytest.mark.parametrize(
    ("outbound", "flag", "number"),
    [
        (False, 0, "497111234567"),
        (0, 0, "497111234567"),
        (True, 1, "49894613950"),
        (1, 1, "49894613950"),
    ],
)
def test_outbound_calls_show_the_dialled_number_and_inbound_ones_the_callers(
    outbound: object, flag: int, number: str
) -> None:
    assert field("bOutbound", outbound=outbound) == flag
    assert type(field("bOutbound", outbound=outbound)) is int
    assert field("CallerID", outbound=outbound) == number


@pytest.mark.parametrize(
    ("column", "key"),
    [
        ("agent_uid", "AgentUID"),
        ("service_number", "ServiceNumber"),
        ("service_name", "ServiceName"),
        ("agent_group", "AcdAgentGroupsName"),
        ("configuration_group", "AcdConfigurationGroupsName"),
        ("export_key", "TransactionCodeExportKey"),
    ],
)
def test_texts_go_through_unchanged_and_an_empty_one_is_none(column: str, key: str) -> None:
    unchanged = ' +49 "89"\\ 4613950 \u00fc\U0001f4de\n'
    assert field(key, **{column: unchanged}) == unchanged
    assert field(key, **{column: " "}) == " "
    assert field(key, **{column: ""}) is None
    assert field(key, **{column: None}) is None


@pytest.mark.parametrize(
    ("column", "key"),
    [
        ("call_number", "jtelStatisticsPartAID"),
        ("leg_connres", "CONNRES"),
        ("leg_cause", "Cause"),
    ],
)
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((number, number) for number in range(10)),
        (127, 127),
        (2**63 - 1, 2**63 - 1),
        (Decimal(16), 16),
        (Decimal("16.000"), 16),
        (Decimal("1E+2"), 100),
        (16.0, 16),
        ("16", 16),
        (" 16 ", 16),
        ("16.00", 16),
        ("-1", -1),
    ],
)
def test_whole_numbers_go_through_whatever_a_foreign_view_holds_them_as(
    column: str, key: str, value: object, expected: int
) -> None:
    assert field(key, **{column: value}) == expected
    assert type(field(key, **{column: value})) is int


@pytest.mark.parametrize("value", [None, "", "  "])
@pytest.mark.parametrize(("column", "key"), [("leg_connres", "CONNRES"), ("leg_cause", "Cause")])
def test_a_legs_result_and_cause_may_be_empty(column: str, key: str, value: object) -> None:
    assert field(key, **{column: value}) is None
