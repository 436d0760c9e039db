"""The Salesforce stand-in is as strict as the contract, or tests against it prove nothing."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from daemon.demo import grants
from daemon.demo.record_ids import ids
from daemon.demo.standin import WRITE_PATH, Incoming, Reply, StandIn, serve
from tests.support.standin_client import LANE, LINE, LINE_KEY, Salesforce


@pytest.fixture
async def salesforce() -> AsyncIterator[Salesforce]:
    standin = StandIn()
    async with serve(standin) as url, aiohttp.ClientSession() as session:
        client = Salesforce(session, url, standin)
        await client.log_in()
        yield client


def jwt(**changes: Any) -> str:
    claims = {
        "iss": grants.CLIENT_ID,
        "sub": grants.USERNAME,
        "aud": grants.AUDIENCES[0],
        "exp": int(time.time()) + 180,
    } | changes
    parts = [json.dumps({"alg": "RS256"}).encode(), json.dumps(claims).encode(), b"signature"]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


async def test_a_right_record_is_written(salesforce: Salesforce) -> None:
    assert (await salesforce.write())[0] == 200
    standin = salesforce.standin
    assert standin.written == {LINE_KEY: LINE}
    assert standin.violations == []
    [request] = standin.requests
    assert (request.number, request.key, request.lane, request.status) == (1, LINE_KEY, LANE, 200)
    assert json.loads(request.body) == request.record == LINE
    assert request.started <= request.ended
    assert request.headers["User-Agent"] == "callstatsd/0.1.0"


async def test_all_three_flows_give_a_token(salesforce: Salesforce) -> None:
    client = {"client_id": grants.CLIENT_ID, "client_secret": grants.CLIENT_SECRET}
    forms: list[dict[str, str]] = [
        {"grant_type": "client_credentials"} | client,
        {"grant_type": "password", "username": grants.USERNAME}
        | {"password": grants.PASSWORD + grants.SECURITY_TOKEN}
        | client,
        {"grant_type": grants.JWT_BEARER, "assertion": jwt()},
    ]
    for form in forms:
        status, body = await salesforce.token(**form)
        assert status == 200
        assert set(body) == {"access_token", "instance_url", "token_type", "issued_at", "scope"}
        assert body["instance_url"] == salesforce.url
        salesforce.bearer = body["access_token"]
        assert (await salesforce.write())[0] == 200


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"grant_type": "client_credentials", "client_id": "x"}, "invalid_client_id"),
        ({"grant_type": "client_credentials", "client_secret": "x"}, "invalid_client"),
        ({"grant_type": "password", "username": grants.USERNAME, "password": "x"}, "invalid_grant"),
        ({"grant_type": grants.JWT_BEARER, "assertion": "x"}, "invalid_grant"),
        ({"grant_type": grants.JWT_BEARER, "assertion": jwt(exp=1)}, "invalid_grant"),
        ({"grant_type": grants.JWT_BEARER, "assertion": jwt(aud="x")}, "invalid_grant"),
        ({"grant_type": grants.JWT_BEARER, "assertion": jwt(sub="x")}, "invalid_grant"),
        ({"grant_type": grants.JWT_BEARER, "assertion": jwt(iss="x")}, "invalid_client_id"),
        ({}, "unsupported_grant_type"),
    ],
)
async def test_a_wrong_grant_is_refused(
    salesforce: Salesforce, form: dict[str, str], error: str
) -> None:
    right = {"client_id": grants.CLIENT_ID, "client_secret": grants.CLIENT_SECRET}
    status, body = await salesforce.token(**(right | form))
    assert (status, body["error"]) == (400, error)
    assert body["error_description"]


async def test_an_expired_token_is_answered_401_until_the_next_one(salesforce: Salesforce) -> None:
    salesforce.standin.expire_tokens()
    status, body = await salesforce.write()
    assert status == 401
    assert json.loads(body) == [
        {"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}
    ]
    await salesforce.log_in()
    assert (await salesforce.write())[0] == 200
    assert salesforce.standin.violations == []


@pytest.mark.parametrize(
    "change",
    [
        {"SalesForceID": "0059E000002GhnoQAA"},
        {"SalesForceID": "0059E000002Ghn"},
        {"SalesForceID": None},
        {"jtelStatisticsPartAID": "1201"},
        {"jtelStatisticsPartAID": 1202},
        {"AgentUID": ""},
        {"AgentUID": 7},
        {"bOutbound": False},
        {"bOutbound": 2},
        {"CallerID": "+493023125017"},
        {"CallerID": "00493023125017"},
        {"dtCallStart": "2026-11-20 08:01:20"},
        {"dtCallStart": "2026-11-20T08:01:20Z"},
        {"dtCallStart": "2026-02-30T08:01:20"},
        {"dtCallEnd": ""},
        {"dtCallConnect": None},
        {"nDuration": -1},
        {"nDuration": -2},
        {"nDuration": 1.0},
        {"CONNRES": True},
        {"Cause": "16"},
        {"TransactionCodeExportKey": ["AAA"]},
        {"Eighteenth": 1},
    ],
    ids=str,
)
async def test_a_wrong_field_is_a_violation(salesforce: Salesforce, change: Any) -> None:
    status, body = await salesforce.write(**change)
    assert status == 400
    assert json.loads(body)[0]["errorCode"] == "JSON_PARSER_ERROR"
    [violation] = salesforce.standin.violations
    assert violation.startswith(f"{LINE_KEY}: ")
    assert salesforce.standin.written == {}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"a": 1}',
        json.dumps(LINE, ensure_ascii=False).encode("latin-1"),
        json.dumps(dict(reversed(LINE.items()))).encode(),
        json.dumps(LINE).encode()[:-1] + b', "Cause": 16}',
    ],
)
async def test_a_wrong_body_is_a_violation(salesforce: Salesforce, body: bytes) -> None:
    assert (await salesforce.write(body=body))[0] == 400
    assert len(salesforce.standin.violations) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Content-Type", "text/plain"),
        ("Accept", "*/*"),
        ("User-Agent", "curl/8"),
        ("Authorization", "Basic eDp5"),
        ("Idempotency-Key", "1201"),
        ("Idempotency-Key", "1202-0-0-0"),
    ],
)
async def test_a_wrong_header_is_a_violation(salesforce: Salesforce, name: str, value: str) -> None:
    assert (await salesforce.write(headers={name: value}))[0] == 400
    assert len(salesforce.standin.violations) == 1


async def test_empty_is_null_or_the_empty_string_as_told(salesforce: Salesforce) -> None:
    strings: dict[str, Any] = {"AgentUID": None, "dtCallConnect": None}
    numbers: dict[str, Any] = {"nDuration": -1, "CONNRES": None, "Cause": None}
    assert (await salesforce.write(**(strings | numbers)))[0] == 200
    salesforce.standin.empty = ""
    assert (await salesforce.write(**(strings | numbers)))[0] == 400
    assert (await salesforce.write(**(dict.fromkeys(strings, "") | numbers)))[0] == 200
    assert (await salesforce.write(SalesForceID=""))[0] == 400
    salesforce.standin.without_id = True
    # The key holds 404 where an id would.
    assert (await salesforce.write(SalesForceID="", key="1201-22022-2404-0"))[0] == 200
    assert salesforce.standin.requests[-1].lane == "1201-22022-2404-0"


async def test_the_id_decides_whether_the_record_exists(salesforce: Salesforce) -> None:
    for ending, status in (("404", 404), ("409", 409), ("", 200)):
        for form in ids(7, ending):
            assert (await salesforce.write(SalesForceID=form))[0] == status
    assert salesforce.standin.violations == []


async def test_the_second_of_two_at_once_finds_the_record_locked(salesforce: Salesforce) -> None:
    salesforce.standin.work = 0.05
    answers = await asyncio.gather(
        salesforce.write(key="1201-0-0-1"),
        salesforce.write(key="1201-0-0-2", SalesForceID=LANE),
        salesforce.write(key="1201-0-0-3", SalesForceID=ids(1)[0]),
    )
    assert sorted(status for status, _ in answers) == [200, 200, 423]
    assert salesforce.standin.self_caused_locks == 1
    assert salesforce.standin.most_in_flight == 3


async def test_others_lock_records_now_and_then_and_never_for_ever(salesforce: Salesforce) -> None:
    async def statuses() -> list[int]:
        salesforce.standin.refused.clear()
        return [(await salesforce.write(key=f"1201-0-0-{n}"))[0] for n in range(40)]

    salesforce.standin.lock_rate = 0.5
    drawn = await statuses()
    assert 10 < drawn.count(423) < 30
    assert await statuses() == drawn
    salesforce.standin.refused.clear()
    salesforce.standin.lock_rate = 1.0
    assert [(await salesforce.write())[0] for _ in range(5)] == [423, 423, 423, 200, 423]
    assert salesforce.standin.self_caused_locks == 0


async def test_a_repeated_key_updates_the_line(salesforce: Salesforce) -> None:
    await salesforce.write()
    status, body = await salesforce.write(AgentUID="agent.z")
    assert (status, json.loads(body)) == (200, {"key": LINE_KEY, "updated": True})
    assert salesforce.standin.repeated == 1
    assert salesforce.standin.written[LINE_KEY]["AgentUID"] == "agent.z"


async def test_a_rule_answers_in_place_of_the_org(salesforce: Salesforce) -> None:
    def rule(incoming: Incoming) -> Reply | None:
        if incoming.number == 1:
            return Reply(status=503, body="Down", headers={"Retry-After": "7"})
        return Reply(status=204) if incoming.number == 2 else None

    salesforce.standin.rule = rule
    assert await salesforce.write() == (503, "Down")
    assert salesforce.standin.written == {}
    assert await salesforce.write() == (204, "")
    assert salesforce.standin.written == {LINE_KEY: LINE}
    assert (await salesforce.write())[0] == 200
    assert dict(salesforce.standin.by_status) == {503: 1, 204: 1, 200: 1}


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_rule_cuts_the_connection(salesforce: Salesforce, moment: Any) -> None:
    salesforce.standin.rule = lambda _: Reply(cut=moment)
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await salesforce.write()
    await salesforce.standin.until(lambda standin: len(standin.requests) == 1)
    assert salesforce.standin.requests[0].status == 0
    assert list(salesforce.standin.written) == ([LINE_KEY] if moment == "after" else [])


async def test_an_answer_is_held_back_although_the_line_is_written(salesforce: Salesforce) -> None:
    gate = asyncio.Event()
    salesforce.standin.rule = lambda _: Reply(hold=gate, delay=0.01)
    request = asyncio.create_task(salesforce.write())
    await salesforce.standin.until(lambda standin: standin.in_flight == 1)
    assert not request.done()
    gate.set()
    assert (await request)[0] == 200
    assert list(salesforce.standin.written) == [LINE_KEY]


async def test_a_token_rule_answers_in_place_of_the_token_endpoint(salesforce: Salesforce) -> None:
    salesforce.standin.token_rule = lambda _: Reply(status=500, body={"error": "server_error"})
    assert await salesforce.token() == (500, {"error": "server_error"})


async def test_other_paths_are_answered_as_by_the_platform(salesforce: Salesforce) -> None:
    for path in ("/services/apexrest/wrong", WRITE_PATH + "/", "/x"):
        async with salesforce.session.post(salesforce.url + path) as answer:
            assert answer.status == 404
            assert await answer.json() == [
                {"message": "Could not find a match for URL", "errorCode": "NOT_FOUND"}
            ]


async def test_answers_tell_how_much_of_the_daily_limit_is_used(salesforce: Salesforce) -> None:
    salesforce.standin.api_used, salesforce.standin.api_limit = 17, 5000
    headers = {"Authorization": "Bearer x", "Idempotency-Key": LINE_KEY}
    async with salesforce.session.post(salesforce.url + WRITE_PATH, headers=headers) as answer:
        assert answer.headers["Sforce-Limit-Info"] == "api-usage=18/5000"


async def test_the_root_shows_counts_and_long_runs_keep_no_requests(salesforce: Salesforce) -> None:
    salesforce.standin.keep_requests = False
    await salesforce.write()
    await salesforce.write()
    await salesforce.write(bOutbound=3)
    assert salesforce.standin.requests == []
    assert salesforce.standin.written == {}
    async with salesforce.session.get(salesforce.url) as answer:
        assert await answer.json() == {
            "requests": 3,
            "written": 1,
            "repeated": 1,
            "by_status": {"200": 2, "400": 1},
            "self_caused_locks": 0,
            "most_in_flight": 1,
            "tokens": 1,
            "violations": 1,
        }
