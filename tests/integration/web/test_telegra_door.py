"""The door over real HTTP, by the contract's table of requests and answers."""

import asyncio
import socket
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs
from yarl import URL

from daemon import metrics
from daemon.telegra.notifications import Received
from daemon.telegra.receiver import Outcome
from daemon.web.api import Api
from daemon.web.listener import listening
from daemon.web.telegra_door import TelegraDoor
from tests.support.expected import BERLIN
from tests.support.raw import free_port

TOKEN = "a-Token_of-Telegra-01"
EVENT = "cmd=callevent&taskid=5f&eventtype=CallStart"


def basic(user: str, password: str) -> str:
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class FakeKeeper:
    """Keeps what it is told, with the outcome that it is set to."""

    def __init__(self) -> None:
        self.outcome = Outcome.KEPT
        self.told: list[Received] = []

    async def keep(self, received: Received) -> Outcome:
        self.told.append(received)
        return self.outcome


class Site:
    """The door, served at a port."""

    def __init__(self, port: int, keeper: FakeKeeper, session: aiohttp.ClientSession) -> None:
        self.port = port
        self.keeper = keeper
        self._session = session

    async def ask(
        self, query: str = EVENT, method: str = "GET", path: str = f"/telegra/{TOKEN}", **more: Any
    ) -> tuple[int, dict[str, str]]:
        url = URL(f"http://127.0.0.1:{self.port}{path}?{query}", encoded=True)
        async with self._session.request(method, url, **more) as response:
            assert await response.read() == b""
            assert response.content_type == "text/plain"
            return response.status, dict(response.headers)

    async def status(self, query: str = EVENT, method: str = "GET", **more: Any) -> int:
        return (await self.ask(query, method, **more))[0]


@asynccontextmanager
async def serving(*allowed: str) -> AsyncIterator[Site]:
    keeper, port = FakeKeeper(), free_port()
    networks = [ip_network(one) for one in allowed]
    door = TelegraDoor(keeper, TOKEN, networks, BERLIN)
    async with (
        listening(Api(None, "", door).answer, ("127.0.0.1", port)),
        aiohttp.ClientSession() as session,
    ):
        yield Site(port, keeper, session)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with serving() as one:
        yield one


@pytest.mark.parametrize("method", ["HEAD", "GET", "PUT"])
async def test_each_method_brings_parameters_in_the_query(site: Site, method: str) -> None:
    assert await site.status(EVENT + "&callingnumber=+49221&n=%FC", method) == 200
    (told,) = site.keeper.told
    assert told.parameters["callingnumber"] == " 49221"
    assert told.parameters["n"] == "ü"


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"eventtype=CallEnd", FORM),
        (b"eventtype=CallEnd", {"Content-Type": "text/plain; charset=utf-8"}),
        (b'{"EventType": "CallEnd"}', {"Content-Type": "application/json"}),
    ],
)
async def test_the_body_of_put_wins(site: Site, body: bytes, headers: dict[str, str]) -> None:
    assert await site.status(EVENT, "PUT", data=body, headers=headers) == 200
    assert site.keeper.told[0].parameters["eventtype"] == "CallEnd"


def exchanged(site: Site, sent: bytes) -> bytes:
    """Send bytes and return the beginning of the answer."""
    with socket.create_connection(("127.0.0.1", site.port), timeout=5) as client:
        client.sendall(sent)
        return client.recv(100)


@pytest.mark.parametrize(
    ("header", "length", "answer"),
    [
        (b"Content-Type: ", len(EVENT), b"HTTP/1.1 200 "),
        (b"Expect: 100-continue", len(EVENT), b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"Expect: 100-continue", 70_000, b"HTTP/1.1 413 "),
    ],
)
async def test_what_http_clients_send_besides(
    site: Site, header: bytes, length: int, answer: bytes
) -> None:
    head = f"PUT /telegra/{TOKEN} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n"
    sent = head.encode() + header + b"\r\n\r\n"
    if not header.startswith(b"Expect"):
        sent += EVENT.encode()
    assert (await asyncio.to_thread(exchanged, site, sent)).startswith(answer)


async def test_a_body_without_a_content_type_is_a_form(site: Site) -> None:
    session = aiohttp.ClientSession(skip_auto_headers=["Content-Type"])
    async with (
        session,
        session.put(
            f"http://127.0.0.1:{site.port}/telegra/{TOKEN}", data=EVENT.encode()
        ) as response,
    ):
        assert response.status == 200
    assert len(site.keeper.told) == 1


async def test_only_put_has_a_body_that_counts(site: Site) -> None:
    assert await site.status(EVENT, "GET", data=b"eventtype=CallEnd", headers=FORM) == 200
    assert site.keeper.told[0].parameters["eventtype"] == "CallStart"


@pytest.mark.parametrize(
    ("query", "status", "cmd", "result"),
    [
        (EVENT, 200, "callevent", "kept"),
        ("cmd=recordedcall&taskid=5f", 200, "recordedcall", "ignored"),
        ("cmd=enqueuecall", 200, "enqueuecall", "ignored"),
        ("cmd=configchanged", 200, "configchanged", "ignored"),
        ("cmd=broadcastevent&message=lunch", 200, "broadcastevent", "ignored"),
        ("cmd=agentstate&state=paused", 200, "agentstate", "ignored"),
        ("cmd=unheard", 200, "other", "ignored"),
        ("", 400, "other", "bad"),
        ("cmd=callevent&eventtype=CallStart", 400, "callevent", "bad"),
        ("cmd=callevent&taskid=xx&eventtype=CallStart", 400, "callevent", "bad"),
        ("cmd=classificationevent&callid=5", 400, "classificationevent", "bad"),
        ("cmd=schedulecallevent&scheduleid=5", 400, "schedulecallevent", "bad"),
        ("&".join(f"p{n}=1" for n in range(65)), 400, "other", "bad"),
        (EVENT + "&x=" + "y" * 2001, 400, "other", "bad"),
    ],
)
async def test_answers(site: Site, query: str, status: int, cmd: str, result: str) -> None:
    labels = {"cmd": cmd, "result": result}
    before = metrics.counted("callstatsd_telegra_notifications_total", **labels)
    assert await site.status(query) == status
    assert metrics.counted("callstatsd_telegra_notifications_total", **labels) == before + 1
    assert len(site.keeper.told) == (result == "kept")


async def test_each_outcome_has_its_answer(site: Site) -> None:
    site.keeper.outcome = Outcome.REPEATED
    assert await site.status() == 200
    site.keeper.outcome = Outcome.UNAVAILABLE
    status, headers = await site.ask()
    assert (status, headers["Retry-After"]) == (503, "1")
    site.keeper.outcome = Outcome.BAD
    with capture_logs() as events:
        assert await site.status() == 400
    assert [(one["event"], one["reason"]) for one in events] == [
        ("telegra.bad", "the database cannot hold it")
    ]


@pytest.mark.parametrize(
    ("path", "auth", "status"),
    [
        (f"/telegra/{TOKEN}", None, 200),
        ("/telegra", basic("anybody", TOKEN), 200),
        ("/telegra", basic("", TOKEN), 200),
        ("/telegra", basic("anybody", "wrong"), 404),
        ("/telegra", None, 404),
        ("/telegra/", None, 404),
        ("/telegra", "Basic ä", 404),
        ("/telegra", f"Bearer {TOKEN}", 404),
        (f"/telegra/{TOKEN}x", None, 404),
        (f"/telegra/{TOKEN}/x", None, 404),
        ("/telegra/wrong", basic("anybody", TOKEN), 404),
    ],
)
async def test_the_token_is_in_the_path_or_is_a_password(
    site: Site, path: str, auth: str | None, status: int
) -> None:
    headers = {"Authorization": auth} if auth else {}
    assert await site.status(path=path, headers=headers) == status


async def test_other_methods_are_told_the_right_ones(site: Site) -> None:
    for method in ("POST", "DELETE", "PATCH", "OPTIONS"):
        status, headers = await site.ask(method=method)
        assert (status, headers["Allow"]) == (405, "HEAD, GET, PUT")
    assert await site.status(method="POST", path="/telegra/wrong") == 404


async def test_a_large_body_is_413_also_without_a_length(site: Site) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(65):
            yield b"x" * 1024

    for data in (b"x" * (64 * 1024 + 1), chunks()):
        assert await site.status(EVENT, "PUT", data=data, headers=FORM) == 413
    for method in ("GET", "HEAD"):
        assert await site.status(EVENT, method, data=b"x" * 70_000, headers=FORM) == 413
    just_fits = b"x=" + b"&" * (64 * 1024 - 2)
    assert await site.status(EVENT, "PUT", data=just_fits, headers=FORM) == 200


@pytest.mark.parametrize(
    ("allowed", "status"),
    [(["127.0.0.0/8"], 200), (["10.0.0.0/8", "127.0.0.1"], 200), (["192.0.2.0/24"], 403)],
)
async def test_only_allowed_addresses_come_in(allowed: list[str], status: int) -> None:
    async with serving(*allowed) as site:
        header = {"X-Forwarded-For": "127.0.0.1, 192.0.2.1"}
        assert await site.status(headers=header) == status
        wrong = await site.status(path="/telegra/wrong", headers=header)
        assert wrong == (403 if status == 403 else 404)


async def test_strangers_are_logged_once_a_minute_without_their_token() -> None:
    async with serving() as site:
        with capture_logs() as events:
            for _ in range(3):
                assert await site.status(path="/telegra/secret-guess") == 404
            await site.status("cmd=callevent&taskid=zz&eventtype=a&callingnumber=0221")
    assert events == [
        {"event": "telegra.refused", "log_level": "warning", "reason": "token",
         "address": "127.0.0.1"},
        {"event": "telegra.bad", "log_level": "warning", "cmd": "callevent",
         "reason": "taskid is not 1 to 24 hexadecimal digits"},
    ]  # fmt: skip


async def test_a_clock_that_is_off_is_logged_once_an_hour(site: Site) -> None:
    early = datetime.now(UTC) - timedelta(minutes=6)
    with capture_logs() as events:
        for _ in range(2):
            assert await site.status(f"{EVENT}&eventtime={early.timestamp():.0f}") == 200
        await site.status(f"{EVENT}&eventtime={datetime.now(UTC).timestamp():.0f}")
    (event,) = events
    assert event["event"] == "telegra.clock"
    assert -363 <= event["seconds"] <= -359


async def test_without_click_to_dial_nothing_else_is_there(site: Site) -> None:
    for path in ("/onClickToDial", "/", "/metrics", "/telegraph"):
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{site.port}{path}") as response:
                assert response.status == 404
                assert (await response.json())["error"] == "not_found"


@pytest.mark.parametrize(
    "raw",
    [
        b"PUT /telegra/%b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /telegra/%b?cmd=\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x00\xa5\x01",
        b"GET /telegra/%b" + b"?" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_a_hostile_request_ends_none_but_itself(site: Site, raw: bytes) -> None:
    def send() -> bytes:
        with socket.create_connection(("127.0.0.1", site.port), timeout=5) as client:
            client.sendall(raw.replace(b"%b", TOKEN.encode()))
            client.shutdown(socket.SHUT_WR)
            return client.recv(100)

    await asyncio.to_thread(send)
    assert await site.status() == 200
