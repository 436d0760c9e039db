"""A data line becomes exactly the record that the contract's section 4 describes."""

import json
import time
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import product
from string import ascii_letters, digits
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.errors import InvalidLineError
from daemon.ingest.columns import local_time, whole_number
from daemon.ingest.record import (
    CallStatistics,
    call_statistics,
    caller_id,
    case_suffix,
    duration,
    lane,
    salesforce_id,
    to_json,
)
from daemon.lines import NON_NUMERIC_ID, NOT_AN_ID, DataLine, LineKey

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
RECORD_ID = "0D5D0000000XZoHKAW"
CODE_RECORD_ID = "0059E000002GhnoQAC"

KEYS = [
    "SalesForceID",
    "jtelStatisticsPartAID",
    "AgentUID",
    "bOutbound",
    "CallerID",
    "ServiceNumber",
    "ServiceName",
    "AcdAgentGroupsName",
    "AcdConfigurationGroupsName",
    "dtCallStart",
    "dtCallAlert",
    "dtCallConnect",
    "dtCallEnd",
    "nDuration",
    "CONNRES",
    "Cause",
    "TransactionCodeExportKey",
]
TEXT_KEYS = set(KEYS) - {"jtelStatisticsPartAID", "bOutbound", "nDuration", "CONNRES", "Cause"}


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def naive(text: str) -> datetime:
    return datetime.fromisoformat(text)


def berlin(text: str, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold)


# Seed 003's table: the call, its first attempt (agent W), and what the other four lines change.
ATTEMPT_W = DataLine(
    key=LineKey(1201, 2201, 3201, 0),
    ordinal=1,
    call_ended=utc("2026-11-20T09:09:59.900"),
    call_number=1201,
    outbound=False,
    a_number="+49 (0)711 12345-67",
    b_number="0049 89 4613 950",
    call_user_data=f" {RECORD_ID} ",
    code_user_data=None,
    agent_uid="agent.w",
    service_number="+49 89 4613950",
    service_name="Störungsannahme",
    agent_group="Group 1",
    configuration_group="Region South",
    call_start=utc("2026-11-20T09:00:00.100"),
    call_end=utc("2026-11-20T09:09:59.900"),
    call_cause=16,
    has_leg=True,
    leg_start=utc("2026-11-20T09:00:10.999"),
    leg_alert=utc("2026-11-20T09:00:11"),
    leg_connect=None,
    leg_end=utc("2026-11-20T09:00:31"),
    leg_connres=2,
    leg_cause=19,
    export_key=None,
)
ATTEMPT_X = ATTEMPT_W._replace(
    key=LineKey(1201, 2201, 3202, 0),
    ordinal=2,
    agent_uid="agent.x",
    leg_start=utc("2026-11-20T09:00:32"),
    leg_alert=None,
    leg_end=utc("2026-11-20T09:00:33"),
    leg_connres=3,
    leg_cause=17,
)
CODE_AAA = ATTEMPT_W._replace(
    key=LineKey(1201, 2202, 3203, 4201),
    ordinal=3,
    agent_uid="agent.y",
    agent_group="Group 2",
    configuration_group="Group 2",
    leg_start=utc("2026-11-20T09:01:00"),
    leg_alert=utc("2026-11-20T09:01:02"),
    leg_connect=utc("2026-11-20T09:01:08"),
    leg_end=utc("2026-11-20T09:05:08.500"),
    leg_connres=1,
    leg_cause=16,
    export_key="AAA",
)
CODE_BBB = CODE_AAA._replace(
    key=LineKey(1201, 2202, 3204, 4202),
    ordinal=4,
    agent_uid=None,
    code_user_data=CODE_RECORD_ID,
    leg_start=utc("2026-11-20T09:05:08.500"),
    leg_alert=utc("2026-11-20T09:05:09"),
    leg_connect=utc("2026-11-20T09:05:12"),
    leg_end=utc("2026-11-20T09:05:12.499"),
    export_key="BBB",
)
CODE_CCC = CODE_BBB._replace(
    key=LineKey(1201, 2202, 3204, 4203),
    ordinal=5,
    code_user_data="no id at all",
    leg_connres=None,
    leg_cause=None,
    export_key="CCC",
)
NO_LEG = ATTEMPT_W._replace(
    key=LineKey(1201, 2201, 0, 0),
    agent_uid=None,
    has_leg=False,
    leg_start=None,
    leg_alert=None,
    leg_connect=None,
    leg_end=None,
    leg_connres=None,
    leg_cause=None,
)


def field(key: str, **changes: Any) -> Any:
    """One key of the record of a changed line."""
    return getattr(call_statistics(CODE_AAA._replace(**changes), BERLIN), key)


def reason(**changes: Any) -> str:
    """Why a changed line has no record."""
    with pytest.raises(InvalidLineError) as caught:
        call_statistics(CODE_AAA._replace(**changes), BERLIN)
    return str(caught.value)


def test_record_has_exactly_the_17_keys_in_order() -> None:
    assert list(CallStatistics._fields) == KEYS


@pytest.mark.parametrize(
    ("line", "null", "string"),
    [
        pytest.param(
            ATTEMPT_W,
            '{"SalesForceID":"0D5D0000000XZoHKAW","jtelStatisticsPartAID":1201,'
            '"AgentUID":"agent.w","bOutbound":0,"CallerID":"497111234567",'
            '"ServiceNumber":"+49 89 4613950","ServiceName":"Störungsannahme",'
            '"AcdAgentGroupsName":"Group 1","AcdConfigurationGroupsName":"Region South",'
            '"dtCallStart":"2026-11-20T10:00:10","dtCallAlert":"2026-11-20T10:00:11",'
            '"dtCallConnect":null,"dtCallEnd":"2026-11-20T10:00:31","nDuration":-1,'
            '"CONNRES":2,"Cause":19,"TransactionCodeExportKey":null}',
            '{"SalesForceID":"0D5D0000000XZoHKAW","jtelStatisticsPartAID":1201,'
            '"AgentUID":"agent.w","bOutbound":0,"CallerID":"497111234567",'
            '"ServiceNumber":"+49 89 4613950","ServiceName":"Störungsannahme",'
            '"AcdAgentGroupsName":"Group 1","AcdConfigurationGroupsName":"Region South",'
            '"dtCallStart":"2026-11-20T10:00:10","dtCallAlert":"2026-11-20T10:00:11",'
            '"dtCallConnect":"","dtCallEnd":"2026-11-20T10:00:31","nDuration":-1,'
            '"CONNRES":2,"Cause":19,"TransactionCodeExportKey":""}',
            id="attempt without an answer",
        ),
        pytest.param(
            ATTEMPT_X,
            '{"SalesForceID":"0D5D0000000XZoHKAW","jtelStatisticsPartAID":1201,'
            '"AgentUID":"agent.x","bOutbound":0,"CallerID":"497111234567",'
            '"ServiceNumber":"+49 89 4613950","ServiceName":"Störungsannahme",'
            '"AcdAgentGroupsName":"Group 1","AcdConfigurationGroupsName":"Region South",'
            '"dtCallStart":"2026-11-20T10:00:32","dtCallAlert":null,'
            '"dtCallConnect":null,"dtCallEnd":"2026-11-20T10:00:33","nDuration":-1,'
            '"CONNRES":3,"Cause":17,"TransactionCodeExportKey":null}',
            '{"SalesForceID":"0D5D0000000XZoHKAW","jtelStatisticsPartAID":1201,'
            '"AgentUID":"agent.x","bOutbound":0,"CallerID":"497111234567",'
            '"ServiceNumber":"+49 89 4613950","ServiceName":"Störungsannahme",'
            '"AcdAgentGroupsName":"Group 1","AcdConfigurationGroupsName":"Region South",'
            '"dtCallStart":"2026-11-20T10:00:32","dtCallAlert":"",'
            '"dtCallConnect":"","dtCallEnd":"2026-11-20T10:00:33","nDuration":-1,'
            '"CONNRES":3,"Cause":17,"TransactionCodeExportKey":""}',
            id="attempt on a busy agent",
        ),
        pytest.param(
            CODE_AAA,
            '{"SalesForceID":"0D5D0000000XZoHKAW","jtelStatisticsPartAID":1201,'
            '"AgentUID":"agent.y","bOutbound":0,"CallerID":"497111234567",'
            '"ServiceNumber":"+49 89 4613950","ServiceName":"Störungsannahme",'
            '"AcdAgentGroupsName":"Group 2","AcdConfigurationGroupsName":"Group 2",'
            '"dtCallStart":"2026-11-20T10:01:00","dtCallAlert":"2026-11-20T10:01:02",'
            '"dtCallConnect":"2026-11-20T10:01:08","dtCallEnd":"2026-11-20T10:05:08",'
            '"nDuration":241,"CONNRES":1,"Cause":16,"TransactionCodeExportKey":"AAA"}',
            '{"SalesForceID":"0D5D0000000XZoHKAW","jtelStatisticsPartAID":1201,'
            '"AgentUID":"agent.y","bOutbound":0,"CallerID":"497111234567",'
            '"ServiceNumber":"+49 89 4613950","ServiceName":"Störungsannahme",'
            '"AcdAgentGroupsName":"Group 2","AcdConfigurationGroupsName":"Group 2",'
            '"dtCallStart":"2026-11-20T10:01:00","dtCallAlert":"2026-11-20T10:01:02",'
            '"dtCallConnect":"2026-11-20T10:01:08","dtCallEnd":"2026-11-20T10:05:08",'
            '"nDuration":241,"CONNRES":1,"Cause":16,"TransactionCodeExportKey":"AAA"}',
            id="answered, with a code",
        ),
        pytest.param(
            CODE_BBB,
            '{"SalesForceID":"0059E000002GhnoQAC","jtelStatisticsPartAID":1201,'
            '"AgentUID":null,"bOutbound":0,"CallerID":"497111234567",'
            '"ServiceNumber":"+49 89 4613950","ServiceName":"Störungsannahme",'
            '"AcdAgentGroupsName":"Group 2","AcdConfigurationGroupsName":"Group 2",'
            '"dtCallStart":"2026-11-20T10:05:08","dtCallAlert":"2026-11-20T10:05:09",'
            '"dtCallConnect":"2026-11-20T10:05:12","dtCallEnd":"2026-11-20T10:05:12",'
            '"nDuration":0,"CONNRES":1,"Cause":16,"TransactionCodeExportKey":"BBB"}',
            '{"SalesForceID":"0059E000002GhnoQAC","jtelStatisticsPartAID":1201,'
            '"AgentUID":"","bOutbound":0,"CallerID":"497111234567",'
            '"ServiceNumber":"+49 89 4613950","ServiceName":"Störungsannahme",'
            '"AcdAgentGroupsName":"Group 2","AcdConfigurationGroupsName":"Group 2",'
            '"dtCallStart":"2026-11-20T10:05:08","dtCallAlert":"2026-11-20T10:05:09",'
            '"dtCallConnect":"2026-11-20T10:05:12","dtCallEnd":"2026-11-20T10:05:12",'
            '"nDuration":0,"CONNRES":1,"Cause":16,"TransactionCodeExportKey":"BBB"}',
            id="transferred outside, code with a record of its own",
        ),
        pytest.param(
            CODE_CCC,
            '{"SalesForceID":"0D5D0000000XZoHKAW","jtelStatisticsPartAID":1201,'
            '"AgentUID":null,"bOutbound":0,"CallerID":"497111234567",'
            '"ServiceNumber":"+49 89 4613950","ServiceName":"Störungsannahme",'
            '"AcdAgentGroupsName":"Group 2","AcdConfigurationGroupsName":"Group 2",'
            '"dtCallStart":"2026-11-20T10:05:08","dtCallAlert":"2026-11-20T10:05:09",'
            '"dtCallConnect":"2026-11-20T10:05:12","dtCallEnd":"2026-11-20T10:05:12",'
            '"nDuration":0,"CONNRES":null,"Cause":null,"TransactionCodeExportKey":"CCC"}',
            '{"SalesForceID":"0D5D0000000XZoHKAW","jtelStatisticsPartAID":1201,'
            '"AgentUID":"","bOutbound":0,"CallerID":"497111234567",'
            '"ServiceNumber":"+49 89 4613950","ServiceName":"Störungsannahme",'
            '"AcdAgentGroupsName":"Group 2","AcdConfigurationGroupsName":"Group 2",'
            '"dtCallStart":"2026-11-20T10:05:08","dtCallAlert":"2026-11-20T10:05:09",'
            '"dtCallConnect":"2026-11-20T10:05:12","dtCallEnd":"2026-11-20T10:05:12",'
            '"nDuration":0,"CONNRES":null,"Cause":null,"TransactionCodeExportKey":"CCC"}',
            id="second code of the leg, integers empty",
        ),
        pytest.param(
            NO_LEG,
            '{"SalesForceID":"0D5D0000000XZoHKAW","jtelStatisticsPartAID":1201,'
            '"AgentUID":null,"bOutbound":0,"CallerID":"497111234567",'
            '"ServiceNumber":"+49 89 4613950","ServiceName":"Störungsannahme",'
            '"AcdAgentGroupsName":"Group 1","AcdConfigurationGroupsName":"Region South",'
            '"dtCallStart":"2026-11-20T10:00:00","dtCallAlert":null,'
            '"dtCallConnect":null,"dtCallEnd":"2026-11-20T10:09:59","nDuration":-1,'
            '"CONNRES":0,"Cause":16,"TransactionCodeExportKey":null}',
            '{"SalesForceID":"0D5D0000000XZoHKAW","jtelStatisticsPartAID":1201,'
            '"AgentUID":"","bOutbound":0,"CallerID":"497111234567",'
            '"ServiceNumber":"+49 89 4613950","ServiceName":"Störungsannahme",'
            '"AcdAgentGroupsName":"Group 1","AcdConfigurationGroupsName":"Region South",'
            '"dtCallStart":"2026-11-20T10:00:00","dtCallAlert":"",'
            '"dtCallConnect":"","dtCallEnd":"2026-11-20T10:09:59","nDuration":-1,'
            '"CONNRES":0,"Cause":16,"TransactionCodeExportKey":""}',
            id="group visit without an attempt",
        ),
    ],
)
def test_a_line_is_sent_as_these_bytes(line: DataLine, null: str, string: str) -> None:
    """Compact UTF-8; empty is null, or "" for strings and times where the operator wants it."""
    record = call_statistics(line, BERLIN)
    assert to_json(record, empty_as_string=False) == null.encode()
    assert to_json(record, empty_as_string=True) == string.encode()


def test_a_line_with_nothing_in_it_has_all_keys_and_every_string_and_time_empty() -> None:
    line = NO_LEG._replace(
        a_number=None,
        call_user_data=None,
        service_number=None,
        service_name=None,
        agent_group=None,
        configuration_group=None,
        call_start=None,
        call_end=None,
        call_cause=None,
    )
    record = call_statistics(line, BERLIN)
    assert to_json(record, empty_as_string=False) == (
        b'{"SalesForceID":null,"jtelStatisticsPartAID":1201,"AgentUID":null,"bOutbound":0,'
        b'"CallerID":null,"ServiceNumber":null,"ServiceName":null,"AcdAgentGroupsName":null,'
        b'"AcdConfigurationGroupsName":null,"dtCallStart":null,"dtCallAlert":null,'
        b'"dtCallConnect":null,"dtCallEnd":null,"nDuration":-1,"CONNRES":0,"Cause":null,'
        b'"TransactionCodeExportKey":null}'
    )
    assert to_json(record, empty_as_string=True) == (
        b'{"SalesForceID":"","jtelStatisticsPartAID":1201,"AgentUID":"","bOutbound":0,'
        b'"CallerID":"","ServiceNumber":"","ServiceName":"","AcdAgentGroupsName":"",'
        b'"AcdConfigurationGroupsName":"","dtCallStart":"","dtCallAlert":"",'
        b'"dtCallConnect":"","dtCallEnd":"","nDuration":-1,"CONNRES":0,"Cause":null,'
        b'"TransactionCodeExportKey":""}'
    )


def test_writing_a_record_with_empty_strings_leaves_the_record_as_it_is() -> None:
    record = call_statistics(ATTEMPT_W, BERLIN)
    to_json(record, empty_as_string=True)
    assert record.dtCallConnect is None


@pytest.mark.parametrize(
    ("code_user_data", "call_user_data", "expected"),
    [
        (CODE_RECORD_ID, RECORD_ID, CODE_RECORD_ID),
        (f"\t{CODE_RECORD_ID}\n", RECORD_ID, CODE_RECORD_ID),
        ("ticket 4711", RECORD_ID, RECORD_ID),
        ("", RECORD_ID, RECORD_ID),
        (None, RECORD_ID[:15], RECORD_ID[:15]),
        (CODE_RECORD_ID, None, CODE_RECORD_ID),
        (None, None, None),
        ("", "", None),
        ("ticket 4711", "ticket 4712", None),
    ],
)
def test_the_codes_record_id_goes_before_the_calls(
    code_user_data: str | None, call_user_data: str | None, expected: str | None
) -> None:
    changes = {"code_user_data": code_user_data, "call_user_data": call_user_data}
    assert field("SalesForceID", **changes) == expected


@pytest.mark.parametrize(
    ("short", "suffix"),
    [
        ("50130000000014C", "AAQ"),
        ("50130000000014c", "AAA"),
        ("0D5D0000000XZoH", "KAW"),
        ("0059E000002Ghno", "QAC"),
        ("ABCDEFGHIJKLMNO", "555"),
        ("abcdefghijklmno", "AAA"),
    ],
)
def test_salesforces_own_ids_are_known_with_their_suffix_and_without(
    short: str, suffix: str
) -> None:
    assert case_suffix(short) == suffix
    assert salesforce_id(short) == short
    assert salesforce_id(f"  {short}{suffix}\r\n") == short + suffix


@pytest.mark.parametrize(
    "user_data",
    [
        None,
        "",
        "   ",
        "50130000000014",
        "50130000000014C0",
        "50130000000014CAA",
        "50130000000014CAAA",
        "50130000000014Caaq",
        "50130000000014CAAQX",
        "5013000000001-C",
        "50130000 000014C",
        "5013000000001äC",
        "501300000000\u0661\u0662C",
        "50130000000014CA\u0391Q",
        "https://example.my.salesforce.com/50130000000014C",
    ],
)
def test_user_data_that_is_no_id_is_none(user_data: str | None) -> None:
    assert salesforce_id(user_data) is None


@given(st.text(ascii_letters + digits, min_size=15, max_size=15), st.data())
def test_an_18_character_id_needs_its_own_suffix_and_no_other(
    short: str, data: st.DataObject
) -> None:
    suffix = case_suffix(short)
    other = data.draw(st.text(ascii_letters + digits, min_size=3, max_size=3).filter(suffix.__ne__))
    assert salesforce_id(short) == short
    assert salesforce_id(short + suffix) == short + suffix
    assert salesforce_id(short + other) is None


def test_the_suffix_says_which_of_five_characters_are_upper_case_lowest_bit_first() -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
    for cases in product((0, 1), repeat=5):
        group = "".join("xX"[upper] for upper in cases)
        place = sum(upper << bit for bit, upper in enumerate(cases))
        assert case_suffix(f"{group}00000{group}") == f"{alphabet[place]}A{alphabet[place]}"


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


@given(st.sampled_from(KEYS))
def test_only_strings_and_times_are_ever_an_empty_string(key: str) -> None:
    empty: dict[str, Any] = {key: None}
    record = call_statistics(ATTEMPT_W, BERLIN)._replace(**empty)
    body = to_json(record, empty_as_string=True).decode()
    assert (f'"{key}":""' in body) == (key in TEXT_KEYS)


@pytest.mark.parametrize(
    ("record_id", "expected"),
    [
        (RECORD_ID, "0D5D0000000XZoH"),
        (RECORD_ID[:15], "0D5D0000000XZoH"),
        ("50130000000014cAAA", "50130000000014c"),
        (None, "1201-2202-3203-4201"),
    ],
)
def test_both_forms_of_an_id_share_a_lane_and_a_line_without_id_has_its_own(
    record_id: str | None, expected: str
) -> None:
    assert lane(CODE_AAA.key, record_id) == expected
