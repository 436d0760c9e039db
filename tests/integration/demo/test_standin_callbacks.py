"""The stand-in's createCallback is as strict as its sibling, and shares the org with it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from daemon.demo.record_ids import ids
from daemon.demo.standin import CALLBACK_PATH, WRITE_PATH, Incoming, Reply, StandIn, serve
from tests.support.standin_client import (
    CALLBACK,
    CALLBACK_KEY,
    LANE,
    LINE,
    LINE_KEY,
    Salesforce,
)


@pytest.fixture
async def salesforce() -> AsyncIterator[Salesforce]:
    standin = StandIn()
    async with serve(standin) as url, aiohttp.ClientSession() as session:
        client = Salesforce(session, url, standin)
        await client.log_in()
        yield client


async def test_a_right_callback_becomes_a_case(salesforce: Salesforce) -> None:
    status, body = await salesforce.call_back()
    assert (status, json.loads(body)) == (200, {"CaseNumber": "00073001"})
    standin = salesforce.standin
    assert standin.written == {CALLBACK_KEY: CALLBACK}
    assert standin.violations == []
    [request] = standin.requests
    assert (request.path, request.key, request.lane) == (CALLBACK_PATH, CALLBACK_KEY, LANE)
    assert json.loads(request.body) == request.record == CALLBACK


async def test_a_wrong_record_is_refused_with_the_reason(salesforce: Salesforce) -> None:
    status, body = await salesforce.call_back(Caller="+493023125017")
    assert status == 400
    [error] = json.loads(body)
    assert error["errorCode"] == "JSON_PARSER_ERROR"
    assert error["message"] == "Caller is not digits without leading 00: '+493023125017'"
    assert salesforce.standin.violations == [f"{CALLBACK_KEY}: {error['message']}"]
    assert salesforce.standin.written == {}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"a": 1}',
        json.dumps(CALLBACK, ensure_ascii=False).encode("latin-1"),
        json.dumps(CALLBACK).encode()[:-1] + b', "Caller": null}',
        json.dumps(LINE).encode(),
    ],
)
async def test_a_wrong_body_is_a_violation(salesforce: Salesforce, body: bytes) -> None:
    assert (await salesforce.call_back(body=body))[0] == 400
    assert len(salesforce.standin.violations) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Content-Type", "text/plain"),
        ("Accept", "*/*"),
        ("User-Agent", "curl/8"),
        ("Authorization", "Basic eDp5"),
        ("Idempotency-Key", "73001"),
        ("Idempotency-Key", "73001-0-0-0"),
        ("Idempotency-Key", "callback-73002"),
        ("Idempotency-Key", "Callback-73001"),
    ],
)
async def test_a_wrong_header_is_a_violation(salesforce: Salesforce, name: str, value: str) -> None:
    assert (await salesforce.call_back(headers={name: value}))[0] == 400
    assert salesforce.standin.violations
    assert salesforce.standin.written == {}


async def test_a_key_of_one_class_is_none_of_the_other(salesforce: Salesforce) -> None:
    assert (await salesforce.write(key=CALLBACK_KEY))[0] == 400
    assert (await salesforce.write())[0] == 200


async def test_empty_is_null_or_the_empty_string_as_told(salesforce: Salesforce) -> None:
    numbers = ("AcdGroupsID", "CreatingUsersID", "TargetUsersID")
    required = ("ID", "AcdEventsID", "SalesforceQueryResult")
    strings = [name for name in CALLBACK if name not in (*numbers, *required)]
    nulls: dict[str, Any] = dict.fromkeys((*strings, *numbers))
    blanks: dict[str, Any] = nulls | dict.fromkeys(strings, "")
    assert (await salesforce.call_back(**nulls))[0] == 200
    assert (await salesforce.call_back(**blanks))[0] == 400
    salesforce.standin.empty = ""
    assert (await salesforce.call_back(**nulls))[0] == 400
    assert (await salesforce.call_back(**blanks))[0] == 200


async def test_a_callback_needs_a_token(salesforce: Salesforce) -> None:
    salesforce.standin.expire_tokens()
    assert (await salesforce.call_back())[0] == 401
    async with salesforce.session.get(salesforce.url + CALLBACK_PATH) as answer:
        assert answer.status == 401
    await salesforce.log_in()
    assert (await salesforce.call_back())[0] == 200
    headers = {"Authorization": f"Bearer {salesforce.bearer}"}
    async with salesforce.session.get(salesforce.url + CALLBACK_PATH, headers=headers) as answer:
        assert answer.status == 405


async def test_the_id_decides_what_becomes_of_a_callback(salesforce: Salesforce) -> None:
    for ending, status in (("404", 404), ("409", 409), ("400", 400), ("", 200)):
        for form in ids(7, ending):
            assert (await salesforce.call_back(SalesforceId=form))[0] == status
    assert salesforce.standin.violations == []


async def test_a_record_is_locked_for_both_classes(salesforce: Salesforce) -> None:
    salesforce.standin.work = 0.05
    answers = await asyncio.gather(
        salesforce.write(), salesforce.call_back(SalesforceId=LANE), salesforce.call_back(number=5)
    )
    assert sorted(status for status, _ in answers) == [200, 423, 423]
    assert salesforce.standin.self_caused_locks == 2
    assert (await salesforce.call_back())[0] == 200


async def test_a_callback_without_a_record_waits_for_nobody(salesforce: Salesforce) -> None:
    salesforce.standin.work = 0.05
    salesforce.standin.lock_rate = 1.0
    answers = await asyncio.gather(
        salesforce.call_back(SalesforceId=None),
        salesforce.call_back(SalesforceId=None),
        salesforce.call_back(SalesforceId=None, number=5),
    )
    assert [status for status, _ in answers] == [200, 200, 200]
    assert salesforce.standin.self_caused_locks == 0
    assert salesforce.standin.repeated == 1
    assert {request.lane for request in salesforce.standin.requests} == {CALLBACK_KEY, "callback-5"}


async def test_others_lock_the_record_of_a_callback_too(salesforce: Salesforce) -> None:
    salesforce.standin.lock_rate = 1.0
    assert [(await salesforce.call_back())[0] for _ in range(4)] == [423, 423, 423, 200]


async def test_a_repeated_callback_updates_its_case(salesforce: Salesforce) -> None:
    first = await salesforce.call_back()
    assert await salesforce.call_back(Subject="Rückruf, bitte") == first
    assert (await salesforce.call_back(number=5)) != first
    assert salesforce.standin.repeated == 1
    assert salesforce.standin.written[CALLBACK_KEY]["Subject"] == "Rückruf, bitte"
    assert salesforce.standin.counts()["written"] == 2


async def test_a_rule_answers_for_one_class_or_for_both(salesforce: Salesforce) -> None:
    def rule(incoming: Incoming) -> Reply | None:
        return Reply(500, "Down") if incoming.path == CALLBACK_PATH else None

    salesforce.standin.rule = rule
    assert await salesforce.call_back() == (500, "Down")
    assert (await salesforce.write())[0] == 200
    assert list(salesforce.standin.written) == [LINE_KEY]
    salesforce.standin.rule = None
    assert (await salesforce.call_back())[0] == 200
    paths = [request.path for request in salesforce.standin.requests]
    assert paths == [CALLBACK_PATH, WRITE_PATH, CALLBACK_PATH]
    assert salesforce.standin.received == 3
