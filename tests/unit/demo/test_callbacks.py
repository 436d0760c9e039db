"""The demo's callback requests show what the contract names, and all but one can be delivered."""

from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from daemon.demo.callbacks import CALLBACK, REJECTED_CALLBACK, callback_requests
from daemon.demo.calls import WITHHELD, day
from daemon.demo.record_ids import expected_outcome, is_id
from daemon.demo.rows import GROUPS, SERVICE_NUMBERS, USERS, Call, Event, Sample

END = datetime(2026, 11, 20, 17, 30, tzinfo=UTC)
COLUMNS = (
    "ID AcdEventTypesID AcdGroupsID UsersID Sender Receiver Subject EventData UserData dtCreated "
    "AcdConfigurationGroupsID AcdAgentGroupsID ClientsID CreatingUsersID StatisticsPartAID "
    "SalesforceQueryResult"
)
"""Section 3 of the contract."""


@pytest.fixture(scope="module", params=[1, 20, 500])
def sample(request: pytest.FixtureRequest) -> Sample:
    return day(request.param, 1, END)


@pytest.fixture(scope="module")
def requests(sample: Sample) -> list[Event]:
    return callback_requests(sample, END)


def call_of(request: Event, sample: Sample) -> Call | None:
    return next((call for call in sample.calls if call.id == request.statisticspartaid), None)


def record_id(request: Event, sample: Sample) -> str | None:
    """The id that is sent: the event's, else its call's."""
    call = call_of(request, sample)
    texts: tuple[Any, ...] = (request.userdata, call and call.userdata)
    return next((text.strip() for text in texts if text and is_id(text.strip())), None)


def test_a_request_has_the_columns_of_the_table() -> None:
    assert sorted(Event._fields) == sorted(COLUMNS.lower().split())


def test_there_are_eight_callbacks_of_the_client(requests: list[Event]) -> None:
    assert len(requests) == 8
    assert len({request.id for request in requests}) == 8
    assert {request.acdeventtypesid for request in requests} == {CALLBACK} == {3}
    assert {request.clientsid for request in requests} == {1}


def test_the_same_day_gives_the_same_requests(sample: Sample) -> None:
    assert callback_requests(sample, END) == callback_requests(sample, END)


def test_each_kind_occurs(requests: list[Event], sample: Sample) -> None:
    assert {request.statisticspartaid is None for request in requests} == {True, False}
    assert {record_id(request, sample) is None for request in requests} == {True, False}
    assert {request.usersid is None for request in requests} == {True, False}
    assert {request.creatingusersid is None for request in requests} == {True, False}
    assert any(r.userdata is None and record_id(r, sample) for r in requests), "id of the call"
    assert {r.salesforcequeryresult for r in requests} >= {None, 2}
    assert any(r.acdgroupsid is None and r.acdconfigurationgroupsid for r in requests)


def test_one_caller_is_withheld_and_the_others_have_numbers(
    requests: list[Event],
) -> None:
    withheld = [request for request in requests if request.sender in WITHHELD]
    assert len(withheld) == 1
    assert withheld[0].statisticspartaid is None
    assert all(r.sender and any(map(str.isdigit, r.sender)) for r in requests if r not in withheld)


def test_one_body_is_xml_with_markup(requests: list[Event]) -> None:
    [xml] = [r.eventdata for r in requests if r.eventdata and r.eventdata.startswith("<")]
    body = ET.fromstring(xml).find("body")
    assert body is not None
    assert body.text
    assert len(body)
    assert any(r.eventdata and not r.eventdata.startswith("<") for r in requests)
    assert any(r.eventdata is None for r in requests)


def test_all_but_one_can_be_delivered(requests: list[Event], sample: Sample) -> None:
    outcomes = {r.id: expected_outcome(record_id(r, sample) or "") for r in requests}
    assert outcomes.pop(REJECTED_CALLBACK) == "rejected"
    assert list(outcomes.values()) == ["exists"] * 7


def test_requests_are_taken_at_once(requests: list[Event], sample: Sample) -> None:
    for request in requests:
        assert END - timedelta(hours=11) < request.dtcreated <= END - timedelta(minutes=2)
        assert request.dtcreated.microsecond % 1000 == 0
        call = call_of(request, sample)
        if request.statisticspartaid is not None:
            assert call is not None
            assert call.dtcallend is not None
            assert call.dtcallstart <= request.dtcreated <= call.dtcallend


def test_what_they_name_is_there(requests: list[Event]) -> None:
    groups, users = dict(GROUPS), dict(USERS)
    for request in requests:
        for group in (request.acdgroupsid, request.acdconfigurationgroupsid):
            assert group is None or group in groups
        for user in (request.usersid, request.creatingusersid):
            assert user is None or users[user]
        assert request.receiver in {number.name for number in SERVICE_NUMBERS}


def test_no_request_is_an_alert_of_ours(requests: list[Event]) -> None:
    assert not any((r.userdata or "").startswith("callstatsd-alert-") for r in requests)
