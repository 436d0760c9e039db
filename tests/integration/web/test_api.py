"""The API listener over real HTTP, by the contract's tables; hostile clients on raw sockets."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import aiohttp
import pytest
from structlog.testing import capture_logs
from yarl import URL

from daemon import logs, metrics
from daemon.demo.record_ids import ids
from daemon.demo.standin import DIAL_PATH, Reply, platform_error
from daemon.ingest.service_numbers import ServiceNumberSource
from daemon.ingest.source import open_source
from daemon.salesforce.client import EndpointUrl, open_session
from daemon.salesforce.dial_client import DialClient
from daemon.salesforce.oauth import FixedToken
from daemon.web.api import Api
from daemon.web.dialling import Dialler
from daemon.web.listener import listening
from tests.integration.web.test_health import free_port
from tests.support.daemon_process import PATIENCE
from tests.support.whole import CallCentre

TOKEN = "a-Token-of-ours-0123"
RECORD = ids(1)[1]
QUERY = {"SalesForceID": RECORD, "CallerID": "+49 (0)221 26", "AgentUID": "agent.y"}
Answer = tuple[int, dict[str, Any], Mapping[str, str]]


@asynccontextmanager
async def serving(
    centre: CallCentre, *, fallback: str = "", seconds: float = 3.0, dsn: str | None = None
) -> AsyncIterator[int]:
    """The listener before the centre's Salesforce and source; yields its port."""
    centre.salesforce.tokens.add("ours")
    port = free_port()
    zone = ZoneInfo("Europe/Berlin")
    async with (
        open_source(dsn or centre.dsn, ("jtelstats",), zone, None) as source,
        open_session("1", 60.0) as session,
    ):
        endpoint = EndpointUrl(f"{centre.url}{DIAL_PATH}")
        client = DialClient(session, endpoint, FixedToken("ours"), seconds)
        numbers = ServiceNumberSource(source.database, ("jtelstats",), None)
        dialler = Dialler(client, numbers, seconds, fallback)
        async with listening(Api(dialler, TOKEN).app(), ("127.0.0.1", port)):
            yield port
        dialler.close()


async def ask(
    port: int,
    query: Mapping[str, str] | str = QUERY,
    *,
    token: str | None = TOKEN,
    method: str = "GET",
    path: str = "/onClickToDial",
    **more: Any,
) -> Answer:
    text = query if isinstance(query, str) else urlencode(query)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession() as session,
        session.request(
            method,
            URL(f"http://127.0.0.1:{port}{path}?{text}", encoded=True),
            headers=headers,
            **more,
        ) as response,
    ):
        content = {} if method == "HEAD" else await response.json()
        headers_given = response.headers
        assert headers_given["Cache-Control"] == "no-store"
        assert headers_given["Content-Type"] == "application/json"
        assert headers_given["X-Content-Type-Options"] == "nosniff"
        assert not [name for name in headers_given if name.startswith("Access-Control")]
        if response.status != 200 and method != "HEAD":
            assert list(content) == ["error", "message"]
        return response.status, content, headers_given


async def numbers(centre: CallCentre, *rows: tuple[int, str, str]) -> None:
    await centre.db.execute("TRUNCATE jtelstats.ServiceNumbers")
    await centre.db.executemany("INSERT INTO jtelstats.ServiceNumbers VALUES ($1, $2, $3)", rows)


async def test_an_allowed_call_has_the_service_number_of_the_acd(centre: CallCentre) -> None:
    await numbers(centre, (7, "+49 30 231250100", "Hotline"), (8, "4930231250100", "Later"))
    with capture_logs() as events:
        async with serving(centre) as port:
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


async def test_what_the_acd_does_not_know_is_passed_on_and_logged(centre: CallCentre) -> None:
    await numbers(centre)
    with capture_logs() as events:
        async with serving(centre) as port:
            status, content, _ = await ask(port)
    assert (status, content["ServiceNumber"], content["ServiceNumbersID"]) == (
        200,
        "4930231250100",
        None,
    )
    assert [one["event"] for one in events if one["event"] == logs.DIAL_UNMATCHED]


async def test_a_source_that_is_away_or_locked_does_not_hold_an_answer_up(
    centre: CallCentre,
) -> None:
    async with serving(centre, dsn=f"postgresql://x@127.0.0.1:{free_port()}/x") as port:
        assert (await ask(port))[1]["ServiceNumbersID"] is None
    async with centre.db.transaction(), serving(centre) as port:
        await centre.db.execute("LOCK TABLE jtelstats.ServiceNumbers")
        began = time.monotonic()
        assert (await ask(port))[1]["ServiceNumbersID"] is None
        assert 0.9 < time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("ending", "status", "word"),
    [("400", 400, "refused"), ("409", 403, "forbidden"), ("404", 404, "not_found")],
)
async def test_salesforces_refusal_is_passed_on_with_its_words_whatever_the_fallback(
    centre: CallCentre, ending: str, status: int, word: str
) -> None:
    async with serving(centre, fallback="4930231250100") as port:
        found, content, _ = await ask(port, {**QUERY, "SalesForceID": ids(1, ending)[1]})
    assert (found, content["error"]) == (status, word)
    assert "record" in content["message"] or "call" in content["message"]


@pytest.mark.parametrize(
    ("reply", "word", "fallback_helps"),
    [
        (Reply(503), "unavailable", True),
        (Reply(cut="before"), "unanswered", True),
        (
            Reply(401, platform_error("INVALID", "no")),
            "unauthorized_at_salesforce",
            True,
        ),
        (Reply(403, platform_error("REQUEST_LIMIT_EXCEEDED", "no")), "api_limit", True),
        (Reply(200, "no JSON"), "bad_answer", True),
        (Reply(403, platform_error("FORBIDDEN", "no")), "configuration", False),
        (Reply(404, platform_error("NOT_FOUND", "no")), "endpoint_missing", False),
        (Reply(409, "no"), "bad_answer", False),
        (Reply(302, headers={"Location": "/"}), "configuration", False),
    ],
)
async def test_undecided_is_503_or_the_fallback(
    centre: CallCentre, reply: Reply, word: str, fallback_helps: bool
) -> None:
    await numbers(centre, (9, "4940669690200", "Orders"))
    centre.salesforce.dial_rule = lambda _: reply
    async with serving(centre) as port:
        status, content, _ = await ask(port)
        assert (status, content["error"]) == (503, word)
    async with serving(centre, fallback="4940669690200") as port:
        status, content, _ = await ask(port)
    if fallback_helps:
        assert status == 200
        assert list(content.values()) == ["4940669690200", "Orders", 9, "fallback"]
    else:
        assert (status, content["error"]) == (503, word)


async def test_an_answer_comes_half_a_second_after_the_time_at_the_latest(
    centre: CallCentre,
) -> None:
    centre.salesforce.dial_rule = lambda _: Reply(delay=20)
    async with serving(centre, seconds=0.5, fallback="1") as port:
        began = time.monotonic()
        assert (await ask(port))[1]["Source"] == "fallback"
        assert time.monotonic() - began < 1.5


@pytest.mark.parametrize(
    "query",
    [
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
    ],
)
async def test_a_bad_parameter_is_answered_here(centre: CallCentre, query: str) -> None:
    with capture_logs() as events:
        async with serving(centre) as port:
            status, content, _ = await ask(port, query)
    assert (status, content["error"]) == (400, "bad_request")
    assert centre.salesforce.dials == []
    assert [one for one in events if one["event"].startswith("dial.")] == []


async def test_other_parameters_are_ignored_and_not_sent_on(centre: CallCentre) -> None:
    async with serving(centre) as port:
        number = "(" + "1" * 32 + ") - "  # 32 after cleaning
        status, *_ = await ask(port, QUERY | {"CallerID": number, "more": "x", "salesforceid": "y"})
    assert status == 200
    assert centre.salesforce.violations == []


@pytest.mark.parametrize("token", [None, "", TOKEN[:-1], TOKEN + "x", TOKEN.lower(), "ü" * 20])
async def test_without_the_token_salesforce_is_not_asked(
    centre: CallCentre, token: str | None
) -> None:
    before = metrics.counted("callstatsd_dials_total", decision="unauthorized")
    with capture_logs() as events:
        async with serving(centre) as port:
            for _ in range(2):
                status, content, headers = await ask(port, "", token=token)
    assert (status, content["error"]) == (401, "unauthorized")
    assert headers["WWW-Authenticate"] == "Bearer"
    assert centre.salesforce.dials == []
    assert [one["address"] for one in events if one["event"] == logs.DIAL_UNAUTHORIZED] == [
        "127.0.0.1"
    ]
    assert token is None or token == "" or token not in repr(events)
    assert metrics.counted("callstatsd_dials_total", decision="unauthorized") == before + 2


async def test_the_order_of_refusals(centre: CallCentre) -> None:
    large = b"x" * (64 * 1024 + 1)
    async with serving(centre) as port:
        assert (await ask(port, path="/metrics", data=large, method="POST", token=None))[0] == 413
        for path in ("/", "/metrics", "/telegra", "/onclicktodial", "/onClickToDial/"):
            status, content, _ = await ask(port, path=path, token=None, method="POST")
            assert (status, content["error"]) == (404, "not_found")
        assert (await ask(port, "", token=None, method="POST"))[0] == 401
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "HEAD"):
            status, content, headers = await ask(port, "", method=method)
            assert (status, headers["Allow"]) == (405, "GET")
        assert (await ask(port, ""))[0] == 400
    assert centre.salesforce.dials == []


async def test_one_question_too_many_is_turned_away(centre: CallCentre) -> None:
    release = asyncio.Event()
    centre.salesforce.dial_rule = lambda _: Reply(hold=release)
    async with serving(centre, seconds=20) as port:
        asked = [asyncio.create_task(ask(port)) for _ in range(16)]
        async with asyncio.timeout(PATIENCE):
            await centre.salesforce.until(lambda standin: len(standin.dials) == 16)
        status, content, headers = await ask(port)
        assert (status, content["error"], headers["Retry-After"]) == (429, "busy", "1")
        release.set()
        assert {(await one)[0] for one in asked} == {200}
        assert (await ask(port))[0] == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET /onClickToDial HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 9000 + b"\r\n\r\n",
        b"GET /" + b"y" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /onClickToDial HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /onClickToDial HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x00" * 4096,
    ],
)
async def test_a_hostile_request_ends_none_but_itself(centre: CallCentre, sent: bytes) -> None:
    with capture_logs() as events:
        async with serving(centre) as port, AsyncExitStack() as stack:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
            writer.write(sent)
            async with asyncio.timeout(PATIENCE):
                answer = await reader.read(64)
            assert answer == b"" or answer.split()[1] in {b"400", b"401", b"431"}
            assert (await ask(port))[0] == 200
    assert [one for one in events if one.get("log_level") == "error"] == []


async def test_an_address_that_is_taken_is_reported_once_and_tried_again(
    centre: CallCentre,
) -> None:
    port = free_port()
    dialler: Any = None  # nobody is asked here
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", port)
    with capture_logs() as events:
        async with listening(
            Api(dialler, TOKEN).app(),
            ("127.0.0.1", port),
            retry_every=0.1,
            unavailable=logs.API_UNAVAILABLE,
        ):
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
