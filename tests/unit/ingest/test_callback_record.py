"""A callback request becomes exactly the record that section 5 of its contract describes."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from daemon.errors import InvalidLineError
from daemon.ingest.callback_record import (
    TEXT_KEYS,
    CallbackRequest,
    callback,
    names_by_number,
    to_json,
)
from daemon.lines import NON_NUMERIC_ID, NOT_AN_ID

BERLIN = ZoneInfo("Europe/Berlin")
RECORD_ID = "0D5D0000000XZoHKAW"
CALL_RECORD_ID = "0059E000002GhnoQAC"
CREATED = datetime(2026, 11, 20, 9, 0, 0, 123_000, tzinfo=UTC)

KEYS = [
    "Caller",
    "CallbackNumber",
    "ServiceNumbersNumber",
    "ServiceNumbersName",
    "AcdGroupsID",
    "AcdGroupsName",
    "AcdGroupsForeignSystemID",
    "dtCallStart",
    "dtCallEnd",
    "ID",
    "AcdEventsID",
    "Subject",
    "Body",
    "CreatingUsersID",
    "CreatingUsersUID",
    "CreatingUsersNickName",
    "TargetUsersID",
    "TargetUsersUID",
    "TargetUsersNickName",
    "SalesforceId",
    "SalesforceQueryResult",
]
NUMBERS = {
    "AcdGroupsID",
    "ID",
    "AcdEventsID",
    "CreatingUsersID",
    "TargetUsersID",
    "SalesforceQueryResult",
}

FULL = CallbackRequest(
    event_id=73001,
    created=CREATED,
    sender="+49 (0) 30 23125 018",
    receiver="004930231250100",
    subject=" Please call back ",
    event_data='<eventData><body html="true">a &amp; b</body></eventData>',
    event_user_data=f" {RECORD_ID} ",
    query_result=2,
    group_id=5,
    configuration_group_id=6,
    agent_group_id=7,
    group_name="Service",
    group_foreign_id="SERVICE_B2B",
    creator_id=11,
    creator_uid="agent.w",
    creator_nick_name="Wanda",
    target_id=12,
    target_uid="agent.x",
    target_nick_name="Xaver",
    has_call=True,
    outbound=False,
    a_number="+49 (0) 30 23125 017",
    b_number="4930231250200",
    call_start=CREATED - timedelta(minutes=3),
    call_end=CREATED + timedelta(seconds=9.9),
    call_user_data=CALL_RECORD_ID,
    service_number="+4930231250300",
    service_name="Service Hotline",
)
KEPT = {"event_id", "created"}
BARE = FULL._replace(
    **dict.fromkeys(set(CallbackRequest._fields) - KEPT),  # type: ignore[arg-type]
)._replace(has_call=False)
NAMES = {"4930231250100": "Bestellannahme", "4930231250400": None}


def made(request: CallbackRequest, *, empty_as_string: bool = False) -> dict[str, Any]:
    record = callback(request, NAMES, BERLIN)
    body: dict[str, Any] = json.loads(to_json(record, empty_as_string))
    return body


def test_a_full_request_has_all_keys_in_the_contracts_order() -> None:
    body = made(FULL)
    assert list(body) == KEYS
    assert body == {
        "Caller": "493023125017",
        "CallbackNumber": "493023125018",
        "ServiceNumbersNumber": "4930231250300",
        "ServiceNumbersName": "Service Hotline",
        "AcdGroupsID": 5,
        "AcdGroupsName": "Service",
        "AcdGroupsForeignSystemID": "SERVICE_B2B",
        "dtCallStart": "2026-11-20T09:57:00",
        "dtCallEnd": "2026-11-20T10:00:10",
        "ID": 73001,
        "AcdEventsID": 73001,
        "Subject": " Please call back ",
        "Body": "a & b",
        "CreatingUsersID": 11,
        "CreatingUsersUID": "agent.w",
        "CreatingUsersNickName": "Wanda",
        "TargetUsersID": 12,
        "TargetUsersUID": "agent.x",
        "TargetUsersNickName": "Xaver",
        "SalesforceId": RECORD_ID,
        "SalesforceQueryResult": 2,
    }


def test_a_bare_request_is_empty_as_null_or_as_a_string_and_numbers_stay_null() -> None:
    values = {"ID": 73001, "AcdEventsID": 73001, "SalesforceQueryResult": 0}
    assert made(BARE) == {key: values.get(key) for key in KEYS}
    assert set(TEXT_KEYS) == set(KEYS) - NUMBERS
    assert made(BARE, empty_as_string=True) == {
        key: values.get(key) if key in NUMBERS else "" for key in KEYS
    }
    assert list(made(BARE, empty_as_string=True)) == KEYS


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        # The call's other party, else the sender; all numbers by one rule.
        ({"a_number": None}, {"Caller": "493023125018"}),
        ({"a_number": ""}, {"Caller": "493023125018"}),
        ({"a_number": "anonymous"}, {"Caller": None, "CallbackNumber": "493023125018"}),
        ({"outbound": True}, {"Caller": "4930231250200"}),
        ({"outbound": 1}, {"Caller": "4930231250200"}),
        ({"outbound": True, "b_number": None}, {"Caller": "493023125018"}),
        ({"has_call": False, "a_number": None}, {"Caller": "493023125018"}),
        ({"sender": None}, {"Caller": "493023125017", "CallbackNumber": None}),
        ({"sender": "sip:anonymous@10.0.0.1"}, {"CallbackNumber": None}),
        ({"sender": "tel:0049 711-1234"}, {"CallbackNumber": "497111234"}),
        # The service number of the call, else the receiver.
        ({"service_number": None}, {"ServiceNumbersNumber": "4930231250100"}),
        ({"service_number": None, "receiver": None}, {"ServiceNumbersNumber": None}),
        ({"service_name": None}, {"ServiceNumbersName": "Bestellannahme"}),
        ({"service_name": ""}, {"ServiceNumbersName": "Bestellannahme"}),
        ({"service_name": None, "receiver": "+49(0)30/231250100"},
         {"ServiceNumbersName": "Bestellannahme"}),
        ({"service_name": None, "receiver": "030231250100"}, {"ServiceNumbersName": None}),
        ({"service_name": None, "receiver": "4930231250400"}, {"ServiceNumbersName": None}),
        ({"service_name": None, "receiver": "hotline"}, {"ServiceNumbersName": None}),
        ({"service_name": None, "receiver": None}, {"ServiceNumbersName": None}),
        # The group, else that of the configuration, else that of the agents.
        ({"group_id": None}, {"AcdGroupsID": 6}),
        ({"group_id": None, "configuration_group_id": None}, {"AcdGroupsID": 7}),
        ({"group_id": None, "configuration_group_id": None, "agent_group_id": None},
         {"AcdGroupsID": None}),
        ({"group_id": Decimal(5)}, {"AcdGroupsID": 5}),
        ({"group_name": None, "group_foreign_id": None},
         {"AcdGroupsID": 5, "AcdGroupsName": None, "AcdGroupsForeignSystemID": None}),
        # The call's times.
        ({"call_end": None}, {"dtCallStart": "2026-11-20T09:57:00", "dtCallEnd": None}),
        ({"call_start": datetime(2026, 10, 25, 0, 59, 59, 999_999, tzinfo=UTC),
          "call_end": datetime(2026, 10, 25, 1, 0, tzinfo=UTC)},
         {"dtCallStart": "2026-10-25T02:59:59", "dtCallEnd": "2026-10-25T02:00:00"}),
        ({"call_start": datetime(2026, 11, 20, 9, 57, 0, 999_000)},  # noqa: DTZ001
         {"dtCallStart": "2026-11-20T09:57:00"}),
        # Texts.
        ({"subject": None}, {"Subject": None}),
        ({"subject": 'Grüße\r\n"🙂"'}, {"Subject": 'Grüße\r\n"🙂"'}),
        ({"event_data": None}, {"Body": None}),
        ({"event_data": "just text"}, {"Body": "just text"}),
        ({"event_data": "<body>"}, {"Body": None}),
        # Users who are gone keep their id.
        ({"creator_id": None, "creator_uid": None, "creator_nick_name": None},
         {"CreatingUsersID": None, "CreatingUsersUID": None, "CreatingUsersNickName": None}),
        ({"target_uid": None, "target_nick_name": None},
         {"TargetUsersID": 12, "TargetUsersUID": None, "TargetUsersNickName": None}),
        # The record that was found.
        ({"event_user_data": RECORD_ID[:15]}, {"SalesforceId": RECORD_ID[:15]}),
        ({"event_user_data": None}, {"SalesforceId": CALL_RECORD_ID}),
        ({"event_user_data": "987654"}, {"SalesforceId": CALL_RECORD_ID}),
        ({"event_user_data": RECORD_ID[:17] + "A"}, {"SalesforceId": CALL_RECORD_ID}),
        ({"event_user_data": "987654", "call_user_data": "x"}, {"SalesforceId": None}),
        # How many were found.
        ({"query_result": 0}, {"SalesforceQueryResult": 0}),
        ({"query_result": 1, "event_user_data": None, "call_user_data": None},
         {"SalesforceQueryResult": 1}),
        ({"query_result": "2"}, {"SalesforceQueryResult": 2}),
        ({"query_result": None}, {"SalesforceQueryResult": 1}),
        ({"query_result": 3}, {"SalesforceQueryResult": 1}),
        ({"query_result": -1}, {"SalesforceQueryResult": 1}),
        ({"query_result": "many"}, {"SalesforceQueryResult": 1}),
        ({"query_result": True}, {"SalesforceQueryResult": 1}),
        ({"query_result": 300, "event_user_data": None, "call_user_data": None},
         {"SalesforceQueryResult": 0}),
    ],
)  # fmt: skip
def test_each_key_has_its_sources_in_their_order(
    changed: dict[str, Any], expected: dict[str, Any]
) -> None:
    usual = made(FULL)
    body = made(FULL._replace(**changed))
    assert {key: body[key] for key in expected} == expected
    # Nothing else has changed, but for what follows the id or the sender.
    others = set(KEYS) - set(expected) - {"SalesforceQueryResult", "SalesforceId"}
    others -= {"CallbackNumber", "ServiceNumbersName", "ServiceNumbersNumber"}
    assert {key: body[key] for key in others} == {key: usual[key] for key in others}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"event_id": None}, "AcdEvents.ID is empty where a whole number belongs"),
        ({"event_id": "x"}, "AcdEvents.ID holds text where a whole number belongs"),
        ({"event_id": Decimal("1.5")},
         "AcdEvents.ID holds a decimal number where a whole number belongs"),
        ({"event_id": NON_NUMERIC_ID - 1}, f"AcdEvents.ID {NOT_AN_ID}"),
        ({"sender": 49301}, "AcdEvents.Sender holds a whole number where text belongs"),
        ({"receiver": b"x"}, "AcdEvents.Receiver holds binary data where text belongs"),
        ({"subject": 1}, "AcdEvents.Subject holds a whole number where text belongs"),
        ({"event_data": 1}, "AcdEvents.EventData holds a whole number where text belongs"),
        ({"event_user_data": 1}, "AcdEvents.UserData holds a whole number where text belongs"),
        ({"event_user_data": None, "call_user_data": 1},
         "StatisticsPartA.UserData holds a whole number where text belongs"),
        ({"group_id": "x"}, "AcdEvents.AcdGroupsID holds text where a whole number belongs"),
        ({"group_id": None, "configuration_group_id": NON_NUMERIC_ID - 1},
         f"AcdEvents.AcdConfigurationGroupsID {NOT_AN_ID}"),
        ({"group_id": None, "configuration_group_id": None, "agent_group_id": 2.5},
         "AcdEvents.AcdAgentGroupsID holds a decimal number where a whole number belongs"),
        ({"group_name": 1}, "AcdGroups.Name holds a whole number where text belongs"),
        ({"group_foreign_id": 1},
         "AcdGroups.ForeignSystemID holds a whole number where text belongs"),
        ({"creator_id": Decimal("1E+30")}, "AcdEvents.CreatingUsersID is out of range"),
        ({"target_id": True}, "AcdEvents.UsersID holds a boolean where a whole number belongs"),
        ({"creator_uid": 1}, "Users.UID holds a whole number where text belongs"),
        ({"target_nick_name": 1}, "Users.NickName holds a whole number where text belongs"),
        ({"outbound": 2}, "StatisticsPartA.bOutbound holds another number where 0 or 1 belongs"),
        ({"a_number": 1}, "StatisticsPartA.ANumber holds a whole number where text belongs"),
        ({"outbound": True, "b_number": 1},
         "StatisticsPartA.BNumber holds a whole number where text belongs"),
        ({"call_start": datetime.max.replace(tzinfo=UTC)},
         "StatisticsPartA.dtCallStart is out of range"),
        ({"call_end": datetime.min.replace(tzinfo=UTC)},
         "StatisticsPartA.dtCallEnd is out of range"),
        ({"service_number": 1}, "ServiceNumbers.Name holds a whole number where text belongs"),
        ({"service_name": 1}, "ServiceNumbers.Name2 holds a whole number where text belongs"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_become_a_record_names_the_column(
    changed: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidLineError) as caught:
        callback(FULL._replace(**changed), NAMES, BERLIN)
    assert str(caught.value) == reason


def test_of_service_numbers_written_alike_the_one_with_the_lowest_id_counts() -> None:
    rows = [
        ("hotline", "no number"),
        (None, "none"),
        ("+49 (0) 30 1", "first"),
        ("0049301", "second"),
        ("49302", None),
        ("+49302", "not this one"),
    ]
    assert names_by_number(rows) == {"49301": "first", "49302": None}
