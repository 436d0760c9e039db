"""The API listener over real HTTP, by the contract's tables."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from structlog.testing import capture_logs

from daemon import logs, metrics
from daemon.demo.record_ids import ids
from daemon.demo.standin import Reply, StandIn, platform_error, serve
from daemon.web.api import Api
from daemon.web.listener import PortOptions, listening
from tests.support.call_centre import CallCentre
from tests.support.daemon_process import PATIENCE
from tests.support.dialling import QUERY, RECORD, TOKEN, ask, serving
from tests.support.raw import free_port


@asynccontextmanager
async def standing_in(**more: Any) -> AsyncIterator[tuple[StandIn, int]]:
    """The listener before a Salesforce of its own, without a source."""
    standin = StandIn()
    async with serve(standin) as url, serving(standin, url, **more) as port:
        yield standin, port


def at(centre: CallCentre, **more: Any) -> AbstractAsyncContextManager[int]:
    """The listener before the centre's Salesforce and source."""
    return serving(centre.salesforce, centre.url, centre.dsn, **more)


async def numbers(centre: CallCentre, *rows: tuple[int, str, str]) -> None:
    await centre.db.execute("TRUNCATE jtelstats.ServiceNumbers")
    await centre.db.executemany("INSERT INTO jtelstats.ServiceNumbers VALUES ($1, $2, $3)", rows)


def counted(decision: str) -> float:
    return metrics.counted("callstatsd_dials_total", decision=decision)


async def test_an_allowed_call_has_the_service_number_of_the_acd(centre: CallCentre) -> None:
    await numbers(centre, (7, "+49 30 231250100", "Hotline"), (8, "4930231250100", "Later"))
    before = counted("allowed")
    with capture_logs() as events:
        async with at(centre) as port:
            status, content, _ = await ask(port)
    assert status == 200
    assert list(content.items()) == [
        ("ServiceNumber", "+49 30 231250100"),
        ("ServiceNumberName", "Hotline"),
        ("ServiceNumbersID", 7),
        ("Source", "salesforce"),
    ]
    assert centre.salesforce.violations == []
    assert centre.salesforce.dials == [
        {"SalesForceID": RECORD, "CallerID": "+4922126", "AgentUID": "agent.y"}
    ]
    [event] = [one for one in events if one["event"] == logs.DIAL_ALLOWED]
    assert (event["salesforce_id"], event["status"], event["source"]) == (RECORD, 200, "salesforce")
    assert {"number", "agent"} <= {*logs.PERSONAL_FIELDS}
    assert counted("allowed") == before + 1


async def test_what_the_acd_does_not_know_is_passed_on_and_logged(centre: CallCentre) -> None:
    await numbers(centre)
    with capture_logs() as events:
        async with at(centre) as port:
            status, content, _ = await ask(port)
            async with centre.db.transaction():
                await centre.db.execute("LOCK TABLE jtelstats.ServiceNumbers")
                began = time.monotonic()
                assert (await ask(port))[1] == content
                assert 0.9 < time.monotonic() - began < 3
    assert (status, content["ServiceNumber"], content["ServiceNumbersID"]) == (
        200,
        "4930231250100",
        None,
    )
    unmatched = [one for one in events if one["event"] == logs.DIAL_UNMATCHED]
    assert [one["salesforce_id"] for one in unmatched] == [RECORD, RECORD]


async def test_a_source_that_is_away_does_not_hold_an_answer_up() -> None:
    async with standing_in() as (_, port):
        assert (await ask(port))[1]["ServiceNumbersID"] is None


@pytest.mark.parametrize(
    ("ending", "status", "word"),
    [("400", 400, "refused"), ("409", 403, "forbidden"), ("404", 404, "not_found")],
)
async def test_salesforces_refusal_is_passed_on_with_its_words_whatever_the_fallback(
    ending: str, status: int, word: str
) -> None:
    before = counted("refused")
    with capture_logs() as events:
        async with standing_in(fallback="4930231250100") as (_, port):
            found, content, _ = await ask(port, {**QUERY, "SalesForceID": ids(1, ending)[1]})
    assert (found, content["error"]) == (status, word)
    assert "record" in content["message"] or "call" in content["message"]
    [event] = [one for one in events if one["event"].startswith("dial.")]
    assert (event["event"], event["status"], event["log_level"]) == (
        logs.DIAL_REFUSED,
        status,
        "info",
    )
    assert counted("refused") == before + 1


UNDECIDED = [
    (Reply(503), "unavailable", True),
    (Reply(429), "unavailable", True),
    (Reply(cut="before"), "unanswered", True),
    (Reply(504), "unanswered", True),
    (Reply(401, platform_error("INVALID", "no")), "unauthorized_at_salesforce", True),
    (Reply(403, platform_error("REQUEST_LIMIT_EXCEEDED", "no")), "api_limit", True),
    (Reply(200, "no JSON"), "bad_answer", True),
    (Reply(500), "bad_answer", True),
    (Reply(400, platform_error("JSON_PARSER_ERROR", "no")), "configuration", False),
    (Reply(403, platform_error("FORBIDDEN", "no")), "configuration", False),
    (Reply(404, platform_error("NOT_FOUND", "no")), "endpoint_missing", False),
    (Reply(409, "no"), "bad_answer", False),
    (Reply(500, "Invalid status code for HTTP response: 423"), "bad_answer", False),
    (Reply(302, headers={"Location": "/"}), "configuration", False),
]


async def test_undecided_is_503_or_the_fallback(centre: CallCentre) -> None:
    await numbers(centre, (9, "4940669690200", "Orders"))
    before = counted("undecided"), counted("fallback")
    async with at(centre) as refusing, at(centre, fallback="4940669690200") as port:
        for reply, word, fallback_helps in UNDECIDED:
            centre.salesforce.dial_rule = lambda _, reply=reply: reply
            with capture_logs() as events:
                status, content, _ = await ask(refusing)
                assert (status, content["error"]) == (503, word), reply
                status, content, _ = await ask(port)
            if fallback_helps:
                assert status == 200
                assert list(content.values()) == ["4940669690200", "Orders", 9, "fallback"]
            else:
                assert (status, content["error"]) == (503, word), reply
            told = [one for one in events if one["event"] == logs.DIAL_UNDECIDED]
            assert [(one["reason"], one["fallback"], one["log_level"]) for one in told] == [
                (word, False, "warning"),
                (word, fallback_helps, "warning"),
            ]
    helped = sum(fallback_helps for *_, fallback_helps in UNDECIDED)
    assert counted("undecided") - before[0] == 2 * len(UNDECIDED) - helped
    assert counted("fallback") - before[1] == helped


async def test_an_answer_comes_half_a_second_after_the_time_at_the_latest() -> None:
    async with standing_in(seconds=0.5, fallback="1") as (standin, port):
        standin.dial_rule = lambda _: Reply(delay=20)
        began = time.monotonic()
        assert [*(await ask(port))[1].values()] == ["1", None, None, "fallback"]
        assert time.monotonic() - began < 1.5


BAD_QUERIES = [
    "",
    urlencode({name: value for name, value in QUERY.items() if name != "AgentUID"}),
    urlencode(QUERY) + "&AgentUID=agent.z",
    urlencode(QUERY | {"SalesForceID": "1201"}),
    urlencode(QUERY | {"SalesForceID": RECORD[:17] + ("A" if RECORD[17] != "A" else "B")}),
    urlencode(QUERY | {"CallerID": "anonymous"}),
    urlencode(QUERY | {"CallerID": "*#"}),
    urlencode(QUERY | {"CallerID": "1" * 33}),
    urlencode(QUERY | {"AgentUID": ""}),
    urlencode(QUERY | {"AgentUID": "a" * 256}),
    urlencode(QUERY | {"AgentUID": "a\nb"}),
    urlencode(QUERY | {"more": "x" * 2048}),
    urlencode(QUERY) + "&x=%ff",
]


async def test_a_bad_parameter_is_answered_here() -> None:
    before = counted("bad_request")
    with capture_logs() as events:
        async with standing_in() as (standin, port):
            for query in BAD_QUERIES:
                status, content, _ = await ask(port, query)
                assert (status, content["error"]) == (400, "bad_request"), query
    assert standin.dials == []
    assert [one for one in events if one["event"].startswith("dial.")] == []
    assert counted("bad_request") == before + len(BAD_QUERIES)


async def test_other_parameters_are_ignored_and_not_sent_on() -> None:
    async with standing_in() as (standin, port):
        number = "(" + "1" * 32 + ") - "  # 32 after cleaning
        status, *_ = await ask(port, QUERY | {"CallerID": number, "more": "x", "salesforceid": "y"})
    assert status == 200
    assert standin.violations == []


async def test_without_the_token_salesforce_is_not_asked() -> None:
    before = counted("unauthorized")
    tokens = [None, "", TOKEN[:-1], TOKEN + "x", TOKEN.lower(), "ü" * 20]
    with capture_logs() as events:
        async with standing_in() as (standin, port):
            for token in tokens:
                status, content, headers = await ask(port, "", token=token)
                assert (status, content["error"]) == (401, "unauthorized"), token
                assert headers["WWW-Authenticate"] == "Bearer"
    assert standin.dials == []
    assert [one["address"] for one in events if one["event"] == logs.DIAL_UNAUTHORIZED] == [
        "127.0.0.1"
    ]
    assert not any(token in repr(events) for token in tokens if token)
    assert counted("unauthorized") == before + len(tokens)


async def test_the_order_of_refusals() -> None:
    large = b"x" * (64 * 1024 + 1)
    async with standing_in() as (standin, port):
        assert (await ask(port, path="/metrics", data=large, method="POST", token=None))[0] == 413
        for path in ("/", "/metrics", "/telegra", "/onclicktodial", "/onClickToDial/"):
            status, content, _ = await ask(port, path=path, token=None, method="POST")
            assert (status, content["error"]) == (404, "not_found")
        assert (await ask(port, "", token=None, method="POST", data=large[:-1]))[0] == 401
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "HEAD"):
            status, content, headers = await ask(port, "", method=method)
            assert (status, headers["Allow"]) == (405, "GET")
        assert (await ask(port, ""))[0] == 400
    assert standin.dials == []


async def test_one_question_too_many_is_turned_away() -> None:
    release, before = asyncio.Event(), counted("busy")
    async with standing_in(seconds=20) as (standin, port):
        standin.dial_rule = lambda _: Reply(hold=release)
        asked = [asyncio.create_task(ask(port)) for _ in range(16)]
        async with asyncio.timeout(PATIENCE):
            await standin.until(lambda standin: len(standin.dials) == 16)
        status, content, headers = await ask(port)
        assert (status, content["error"], headers["Retry-After"]) == (429, "busy", "1")
        release.set()
        assert {(await one)[0] for one in asked} == {200}
        assert (await ask(port))[0] == 200
    assert counted("busy") == before + 1


async def test_an_address_that_is_taken_is_reported_once_and_tried_again() -> None:
    port = free_port()
    dialler: Any = None  # nobody is asked here
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", port)
    options = PortOptions(retry_every=0.1, unavailable=logs.API_UNAVAILABLE)
    with capture_logs() as events:
        async with listening(Api(dialler, TOKEN).answer, ("127.0.0.1", port), options):
            await asyncio.sleep(0.3)
            taken.close()
            await taken.wait_closed()
            async with asyncio.timeout(PATIENCE):
                while True:
                    try:
                        status, *_ = await ask(port, path="/")
                    except aiohttp.ClientError:
                        await asyncio.sleep(0.05)
                    else:
                        break
    assert status == 404
    assert [one["event"] for one in events] == [logs.API_UNAVAILABLE]


async def test_a_fault_of_our_own_is_json_too_and_logged_without_what_was_asked() -> None:
    dialler: Any = object()  # what is asked of it fails
    port = free_port()
    with capture_logs() as events:
        async with listening(Api(dialler, TOKEN).answer, ("127.0.0.1", port)):
            status, content, _ = await ask(port)
    assert (status, content["error"]) == (500, "defect")
    assert [one["event"] for one in events] == [logs.REQUEST_DEFECT]
    assert "agent.y" not in repr(events)
