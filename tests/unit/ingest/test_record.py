"""A data line becomes exactly the record that the contract's section 4 describes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.ingest.record import CallStatistics, call_statistics, to_json
from daemon.lines import DataLine, LineKey
from tests.support.attempts import ATTEMPT_W, CODE_AAA, CODE_RECORD_ID, NO_LEG, utc
from tests.support.expected import BERLIN

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


@given(st.sampled_from(KEYS))
def test_only_strings_and_times_are_ever_an_empty_string(key: str) -> None:
    empty: dict[str, Any] = {key: None}
    record = call_statistics(ATTEMPT_W, BERLIN)._replace(**empty)
    body = to_json(record, empty_as_string=True).decode()
    assert (f'"{key}":""' in body) == (key in TEXT_KEYS)
