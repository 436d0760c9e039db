"""The client of the ACD's REST server against the stand-in, and against servers that misbehave."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, NamedTuple

import pytest
from structlog.testing import capture_logs

from daemon.acd import answers
from daemon.acd.events import MAY_EXIST, AcdEvents
from daemon.demo.acd_standin import BASE_PATH, TOKEN, AcdRequest, AcdStandIn, serve_acd
from daemon.demo.standin import Reply
from daemon.salesforce.client import open_session
from tests.support.raw import Recorder, free_port, raw

TICKET: dict[str, Any] = {
    "AcdEventTypesID": 6,
    "AcdGroupsID": 235,
    "Sender": "info@example.com",
    "Receiver": "support@example.com",
    "Subject": "A ticket",
    "CrmURL": "https://www.example.com",
    "UserData": "123456",
}
CREATED = datetime(2020, 9, 15, 2, 59, 32, 794_000)  # noqa: DTZ001 - the ACD's local time


class Acd(NamedTuple):
    client: AcdEvents
    standin: AcdStandIn
    url: str


@pytest.fixture
async def acd() -> AsyncIterator[Acd]:
    standin = AcdStandIn(now=lambda: CREATED)
    async with serve_acd(standin) as url, open_session("1", 5.0) as session:
        yield Acd(AcdEvents(session, url, TOKEN), standin, url)
    assert standin.violations == []


async def test_an_event_is_created_listed_and_found(acd: Acd) -> None:
    created = await acd.client.create(TICKET)
    assert (created.id, created.status_id, created.updated) == (102039, 1, False)
    assert created.created == "2020-09-15T02:59:32.794"
    assert {key: created.record[key] for key in TICKET} == TICKET
    await acd.client.create(TICKET | {"Subject": "Another"})
    assert [event.id for event in await acd.client.events()] == [102039, 102040]
    assert await acd.client.event(102039) == created
    assert [(request.method, request.path) for request in acd.standin.requests] == [
        ("POST", "/acd/events/create"),
        ("POST", "/acd/events/create"),
        ("GET", "/acd/events"),
        ("GET", "/acd/events/event/102039"),
    ]


async def test_an_event_is_found_by_its_user_data(acd: Acd) -> None:
    for text in ("1", "12", "1"):
        await acd.client.create(TICKET | {"UserData": text})
    found = await acd.client.find("1")
    assert found is not None
    assert found == (await acd.client.events())[0]
    assert await acd.client.find("2") is None
    for status in (401, 503):
        acd.standin.rule = lambda _, status=status: Reply(status)
        with pytest.raises(answers.AcdError) as caught:
            await acd.client.find("1")
        assert caught.value.status == status


async def test_a_duplicate_is_the_event_that_is_there(acd: Acd) -> None:
    acd.standin.unique_groups = {235}
    first = await acd.client.create(TICKET)
    second = await acd.client.create(TICKET)
    assert (second.id, second.updated) == (first.id, True)
    assert len(acd.standin.events) == 1


async def test_an_event_that_is_not_there_is_named_by_the_acd(acd: Acd) -> None:
    with pytest.raises(answers.AcdRefusedError, match="AcdEvent 7 not found"):
        await acd.client.event(7)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"Subject": ""}, "Subject is required"),
        ({"AcdGroupsID": 9}, "AcdGroup 9 not found"),
        ({"AcdGroupsID": "235"}, "AcdGroupsID must be an integer"),
        ({"AcdAgentGroupsID": 1}, "either AcdGroupsID"),
        ({"AcdEventTypesID": 8}, "AcdEventTypesID is required"),
        ({"Body": "x"}, "Body is for callbacks only"),
        ({"Foo": 1}, "unknown parameter Foo"),
    ],
)
async def test_what_the_acd_refuses_is_an_error_in_its_words(
    acd: Acd, changed: dict[str, Any], words: str
) -> None:
    with pytest.raises(answers.AcdRefusedError, match=words):
        await acd.client.create(TICKET | changed)
    assert acd.standin.events == []


async def test_types_and_statuses_come_from_the_acd_where_it_lists_them(acd: Acd) -> None:
    types, statuses = await acd.client.types(), await acd.client.statuses()
    assert (types.source, types.by_id[3]) == ("acd", "AcdEventTypes.Callback")
    assert (statuses.source, statuses.by_id[20]) == ("acd", "AcdEventStatus.New")


async def test_types_and_statuses_are_built_in_where_it_does_not(acd: Acd) -> None:
    listed = await acd.client.types(), await acd.client.statuses()
    acd.standin.lists = False
    built_in = await acd.client.types(), await acd.client.statuses()
    assert [names.source for names in built_in] == ["built_in", "built_in"]
    assert [names.by_id for names in built_in] == [names.by_id for names in listed]


@pytest.mark.parametrize("status", [401, 404])
async def test_no_list_is_built_in_for_another_answer(acd: Acd, status: int) -> None:
    acd.standin.rule = lambda _: Reply(status, {"status": status, "error": "no"})
    with pytest.raises(answers.AcdError):
        await acd.client.types()


@pytest.mark.parametrize(("path", "token"), [("", "other"), ("9", TOKEN)])
async def test_a_wrong_token_or_client_is_refused(acd: Acd, path: str, token: str) -> None:
    async with open_session("1", 5.0) as session:
        with pytest.raises(answers.AcdSetupError, match="refuses the token"):
            await AcdEvents(session, acd.url + path, token).events()


async def test_a_token_that_the_server_repeats_is_not_shown(acd: Acd) -> None:
    acd.standin.rule = lambda request: Reply(
        403, {"status": 403, "error": f"no right: {request.headers['Authorization']}"}
    )
    for ask in (acd.client.events, lambda: acd.client.find("1")):
        with pytest.raises(answers.AcdRefusedError) as caught:
            await ask()
        assert str(caught.value) == "the ACD refused (403): no right: Bearer …"
        assert TOKEN not in repr(caught.value.__cause__)


async def test_redirects_are_not_followed(acd: Acd) -> None:
    target = f"{acd.url}/acd/events/types"
    acd.standin.rule = lambda _: Reply(302, None, {"Location": target})
    with pytest.raises(answers.AcdSetupError, match="no jtel REST server"):
        await acd.client.events()
    assert len(acd.standin.requests) == 1


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_a_cut_answer_leaves_open_whether_the_event_was_created(acd: Acd, cut: Any) -> None:
    """And nothing is repeated by itself."""
    acd.standin.rule = lambda _: Reply(cut=cut)
    with pytest.raises(answers.AcdUnavailableError) as caught:
        await acd.client.create(TICKET)
    assert str(caught.value).endswith(MAY_EXIST)
    assert len(acd.standin.requests) == 1
    assert len(acd.standin.events) == (cut == "after")


async def test_a_503_leaves_it_open_too(acd: Acd) -> None:
    acd.standin.rule = lambda _: Reply(503)
    with pytest.raises(answers.AcdUnavailableError, match="it may have been created"):
        await acd.client.create(TICKET)


async def test_an_acd_that_is_away_has_created_nothing() -> None:
    url = f"http://127.0.0.1:{free_port()}{BASE_PATH}"
    async with open_session("1", 5.0) as session:
        with pytest.raises(answers.AcdUnavailableError) as caught:
            await AcdEvents(session, url, TOKEN).create(TICKET)
    assert not caught.value.sent
    assert "connection refused; check the network" in str(caught.value)
    assert "may have been created" not in str(caught.value)


async def test_an_acd_that_hangs_is_left(acd: Acd) -> None:
    acd.standin.rule = lambda _: Reply(delay=60)
    async with open_session("1", 0.2) as session:
        with pytest.raises(answers.AcdUnavailableError, match="timed out"):
            await AcdEvents(session, acd.url, TOKEN).events()


async def test_an_answer_that_is_too_long_is_not_read(acd: Acd) -> None:
    await acd.client.create(TICKET)
    async with open_session("1", 5.0) as session:
        client = AcdEvents(session, acd.url, TOKEN, limit=100)
        for ask in (client.events, lambda: client.find("123456")):
            with pytest.raises(answers.AcdUnavailableError, match="longer than 100 bytes"):
                await ask()


@pytest.mark.parametrize(
    "reply",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nConnection: close\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
async def test_a_broken_answer_is_none(reply: bytes) -> None:
    async with raw(Recorder(reply)) as port, open_session("1", 0.5) as session:
        client = AcdEvents(session, f"http://127.0.0.1:{port}{BASE_PATH}", TOKEN)
        with pytest.raises(answers.AcdUnavailableError, match="no response from the ACD"):
            await client.create(TICKET)


async def test_the_log_has_requests_without_token_or_content(acd: Acd) -> None:
    with capture_logs() as logged:
        await acd.client.create(TICKET)
    [entry] = logged
    assert entry.pop("seconds") < 5
    assert entry == {
        "event": "request.done",
        "log_level": "debug",
        "method": "POST",
        "path": f"{BASE_PATH}/acd/events/create",
        "status": 200,
    }


async def test_each_request_has_the_headers_of_the_contract(acd: Acd) -> None:
    def names(request: AcdRequest) -> dict[str, str]:
        wanted = ("Authorization", "Content-Type", "Accept", "User-Agent")
        return {name: request.headers[name] for name in wanted if name in request.headers}

    await acd.client.events()
    await acd.client.create(TICKET)
    reading = {
        "Authorization": f"Bearer {TOKEN}",
        "Accept": "application/json",
        "User-Agent": "callstatsd/1",
    }
    assert [names(request) for request in acd.standin.requests] == [
        reading,
        reading | {"Content-Type": "application/json"},
    ]
