"""One record over real HTTP: what is sent, and what comes back."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from structlog.testing import capture_logs

from daemon.demo.standin import WRITE_PATH, Reply
from daemon.lines import PauseReason
from daemon.salesforce.client import EndpointUrl, Salesforce
from daemon.salesforce.oauth import (
    FixedToken,
    Token,
)
from daemon.salesforce.responses import NoResponse, Response
from daemon.salesforce.transport import BODY_LIMIT
from tests.support.org import (
    KEY,
    SECRET,
    AnswerTo,
    Org,
    PostTo,
    classified,
    record,
)
from tests.support.raw import OK, Recorder, free_port, raw

EACH_WAY = True


async def test_the_stand_in_finds_nothing_wrong_with_a_request(org: Org) -> None:
    answer = await org.salesforce().post("1-0-0-0", record())
    assert isinstance(answer, Response)
    assert answer.status == 200
    assert json.loads(answer.body) == {"key": "1-0-0-0", "updated": False}
    assert org.standin.violations == []
    [request] = org.standin.requests
    assert request.body == record()


async def test_a_request_carries_the_contracts_headers_and_no_others(post_to: PostTo) -> None:
    recorder = Recorder()
    async with raw(recorder) as port:
        await post_to(f"http://127.0.0.1:{port}/a/path?x=1", bearer=SECRET)
    [headers] = recorder.headers
    assert recorder.heads[0].startswith("POST /a/path?x=1 HTTP/1.1\r\n")
    assert recorder.bodies == [b"{}"]
    assert headers.pop("Accept-Encoding")
    assert headers == {
        "Host": f"127.0.0.1:{port}",
        "Content-Length": "2",
        "Content-Type": "application/json",
        "Accept": "application/json",
        "User-Agent": "callstatsd/1.2.3",
        "Authorization": f"Bearer {SECRET}",
        "Idempotency-Key": KEY,
    }


async def test_without_authentication_there_is_no_authorization_header(post_to: PostTo) -> None:
    recorder = Recorder()
    async with raw(recorder) as port:
        await post_to(f"http://127.0.0.1:{port}/")
    assert "Authorization" not in recorder.headers[0]


async def test_a_second_request_uses_the_same_connection_and_its_own_key(org: Org) -> None:
    recorder = Recorder()
    async with raw(recorder) as port:
        salesforce = org.client(EndpointUrl(f"http://127.0.0.1:{port}/"), FixedToken(None))
        for key in ("1-0-0-0", "2-0-0-0"):
            await salesforce.post(key, b"{}")
    assert recorder.connections == 1
    assert [headers["Idempotency-Key"] for headers in recorder.headers] == ["1-0-0-0", "2-0-0-0"]


async def test_cookies_are_not_kept(org: Org) -> None:
    # Of a bare address, as elsewhere here, no client would keep any.
    recorder = Recorder(OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: sid=1; Path=/\r\n\r\n"))
    async with raw(recorder) as port:
        salesforce = org.client(EndpointUrl(f"http://localhost:{port}/"), FixedToken(None))
        for _ in range(2):
            assert isinstance(await salesforce.post(KEY, b"{}"), Response)
    assert len(recorder.headers) == 2
    assert all("Cookie" not in headers for headers in recorder.headers)


async def test_proxies_of_the_environment_are_not_used(
    post_to: PostTo, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, recorder = Recorder(), Recorder()
    async with raw(proxy) as proxy_port, raw(recorder) as port:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy_port}")
        await post_to(f"http://127.0.0.1:{port}/")
    assert (len(proxy.heads), len(recorder.heads)) == (0, 1)


@pytest.mark.parametrize(
    ("url", "instance", "address"),
    [
        ("/services/x", "https://a.my.salesforce.com", "https://a.my.salesforce.com/services/x"),
        ("https://b.example/x", "https://a.my.salesforce.com", "https://b.example/x"),
        ("https://b.example/x", None, "https://b.example/x"),
    ],
)
def test_only_a_path_is_put_under_the_tokens_instance(
    url: str, instance: str | None, address: str
) -> None:
    assert EndpointUrl(url).under(instance) == address


@pytest.mark.parametrize("slash", ["", "/"])
async def test_a_path_goes_to_the_instance_that_came_with_the_token(org: Org, slash: str) -> None:
    recorder = Recorder()
    async with raw(recorder) as port:
        instance = f"http://127.0.0.1:{port}{slash}"
        org.answer_tokens(Reply(body={"instance_url": instance}))
        assert isinstance(await org.salesforce().post(KEY, b"{}"), Response)
    assert recorder.heads[0].startswith(f"POST {WRITE_PATH} HTTP/1.1\r\n")
    assert org.standin.requests == []


# The answer


@pytest.mark.parametrize("status", [200, 204, 400, 403, 404, 409, 423, 429, 500, 502, 503, 504])
async def test_status_and_body_come_back_as_they_are(org: Org, status: int) -> None:
    org.answer(Reply(status, b"" if status == 204 else "Größe".encode()))
    answer = await org.salesforce().post("1-0-0-0", record())
    assert answer == Response(status, "" if status == 204 else "Größe", None)
    assert org.standin.received == 1


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("0", 0.0), ("soon", None)])
async def test_retry_after_is_passed_on(org: Org, header: str, seconds: float | None) -> None:
    org.answer(Reply(503, b"", {"Retry-After": header}))
    answer = await org.salesforce().post("1-0-0-0", record())
    assert answer == Response(503, "", seconds)


async def test_retry_after_as_a_date_is_passed_on_in_seconds(org: Org) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    org.answer(Reply(503, b"", {"Retry-After": date}))
    answer = await org.salesforce().post("1-0-0-0", record())
    assert isinstance(answer, Response)
    assert answer.retry_after == pytest.approx(89, abs=2)


@pytest.mark.parametrize("size", [BODY_LIMIT - 1, BODY_LIMIT, BODY_LIMIT + 1, 5 * BODY_LIMIT])
async def test_a_body_is_read_up_to_64_kib(org: Org, size: int) -> None:
    org.answer(Reply(500, b"x" * size))
    answer = await org.salesforce().post("1-0-0-0", record())
    assert isinstance(answer, Response)
    assert len(answer.body) == min(size, 64 * 1024)


async def test_a_body_that_never_ends_is_left_after_64_kib(post_to: PostTo) -> None:
    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 409 Conflict\r\n\r\n")
        while True:
            writer.write(b"x" * 1000)
            await writer.drain()

    async with raw(pour) as port:
        answer = await post_to(f"http://127.0.0.1:{port}/")
    assert answer == Response(409, "x" * BODY_LIMIT)


async def test_a_character_cut_in_two_at_the_limit_does_no_harm(org: Org) -> None:
    org.answer(Reply(500, b"x" + "ö".encode() * BODY_LIMIT))
    answer = await org.salesforce().post("1-0-0-0", record())
    assert isinstance(answer, Response)
    assert answer.body.endswith("ö\ufffd")


@pytest.mark.parametrize("charset", ["utf-16", "no-such-charset", "hex", "latin-1"])
async def test_whatever_charset_is_claimed_the_body_is_read_as_utf_8(
    answer_to: AnswerTo, charset: str
) -> None:
    head = f"HTTP/1.1 409 Conflict\r\nContent-Type: text/plain; charset={charset}\r\n"
    body = b"Gr\xf6\xdfe und Gr\xc3\xb6\xc3\x9fe"
    answer = await answer_to(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    assert answer == Response(409, "Gr\ufffd\ufffde und Größe")


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_never_followed(org: Org, status: int) -> None:
    elsewhere = Recorder()
    async with raw(elsewhere) as port:
        org.answer(Reply(status, b"", {"Location": f"http://127.0.0.1:{port}/"}))
        answer = await org.salesforce().post("1-0-0-0", record())
    assert answer == Response(status, "")
    assert elsewhere.connections == 0
    # A new token might have told a new instance: one more try with it.
    assert (org.standin.received, org.standin.tokens_issued) == (2, 2)


async def test_an_instance_that_moved_is_found_through_the_next_token(org: Org) -> None:
    moved = Recorder()
    async with raw(moved) as port:
        address = f"http://127.0.0.1:{port}"
        org.answer(Reply(302, b"", {"Location": "http://localhost:1/"}))
        org.answer_tokens(None, Reply(body={"instance_url": address}))
        answer = await org.salesforce().post(KEY, b"{}")
    assert answer == Response(200, "{}")
    assert moved.heads[0].startswith(f"POST {WRITE_PATH} ")


@pytest.mark.parametrize("status", [302, 401])
async def test_a_fixed_token_is_not_tried_twice(org: Org, status: int) -> None:
    org.answer(Reply(status, b""))
    salesforce = org.client(EndpointUrl(org.url + WRITE_PATH), FixedToken(SECRET))
    assert await salesforce.post("1-0-0-0", record()) == Response(status, "")
    assert org.standin.received == 1


# An org that moved


def moved(org: Org, clock: Callable[[], float], *later: Reply | None) -> Salesforce:
    """A client whose first token names an address where nobody is; `later` answer the next."""
    org.answer_tokens(
        Reply(body={"instance_url": f"http://127.0.0.1:{free_port()}"}), *(later or (None,))
    )
    return org.client(EndpointUrl(WRITE_PATH), org.tokens(), clock=clock)


async def test_an_org_that_moved_is_found_when_it_is_asked_for(org: Org) -> None:
    salesforce = moved(org, lambda: 0.0)
    for _ in range(3):
        assert classified(await salesforce.post("1-0-0-0", record())) is PauseReason.UNAVAILABLE
    assert len(org.token_forms) == 1
    salesforce.ask_address()
    answer = await salesforce.post("1-0-0-0", record())
    assert isinstance(answer, Response)
    assert answer.status == 200
    assert len(org.token_forms) == 2
    # And the new address is kept.
    await salesforce.post("1-0-0-0", record())
    assert len(org.token_forms) == 2


async def test_the_address_is_asked_for_at_most_once_a_minute(org: Org) -> None:
    now = 100.0
    gone = Reply(body={"instance_url": f"http://127.0.0.1:{free_port()}"})
    salesforce = moved(org, lambda: now, gone)
    for now, asked in ((100.0, 2), (101.0, 2), (159.9, 2), (160.0, 3), (219.0, 3), (221.0, 4)):
        salesforce.ask_address()
        assert classified(await salesforce.post(KEY, record())) is PauseReason.UNAVAILABLE
        assert len(org.token_forms) == asked, now


@pytest.mark.parametrize(
    "reply",
    [
        Reply(400, {"error": "invalid_grant"}),
        Reply(401, {"error": "invalid_client"}),
        Reply(503, {"error": "server_error"}),
        Reply(200, {"access_token": "x", "instance_url": "http://elsewhere.example"}),
        Reply(cut="before"),
    ],
    ids=["refused", "unknown", "down", "no address", "cut"],
)
async def test_where_no_new_token_comes_the_old_one_is_kept_and_probes(
    org: Org, reply: Reply
) -> None:
    org.answer_tokens(None, reply)
    salesforce = org.salesforce()
    await salesforce.post("1-0-0-0", record())
    org.answer(Reply(504, b""))
    salesforce.ask_address()
    answer = await salesforce.post("2-0-0-0", record(2))
    assert isinstance(answer, Response)
    assert answer.status == 504
    assert (len(org.token_forms), org.standin.received) == (2, 2)
    first, second = (each.headers["Authorization"] for each in org.standin.requests)
    assert first == second


async def test_an_absolute_endpoint_asks_for_no_address(org: Org) -> None:
    salesforce = org.client(EndpointUrl(org.url + WRITE_PATH), org.tokens())
    for number in (1, 2):
        salesforce.ask_address()
        await salesforce.post(f"{number}-0-0-0", record(number))
    assert org.standin.tokens_issued == 1


async def test_an_address_asked_for_counts_for_the_next_request_only(org: Org) -> None:
    """Once it is answered for another reason, nobody pays for a login more."""
    now = 0.0
    org.answer_tokens()
    salesforce = org.client(EndpointUrl(WRITE_PATH), org.tokens(), clock=lambda: now)
    salesforce.ask_address()
    await salesforce.post("1-0-0-0", record(1))
    salesforce.ask_address()
    await salesforce.post("2-0-0-0", record(2))
    now = 1000.0
    await salesforce.post("3-0-0-0", record(3))
    assert len(org.token_forms) == 2


# Defects


class Defective:
    """Tokens whose giver has a defect."""

    address_asked_at = 0.0

    async def token(self) -> Token:
        raise ValueError(f"a defect about {SECRET}")

    async def renew(self, refused: Token) -> Token:
        return refused


async def test_a_defect_ends_nothing_and_is_logged_without_what_it_met(org: Org) -> None:
    salesforce = org.client(EndpointUrl(org.url), Defective())
    with capture_logs() as logs:
        answer = await salesforce.post(KEY, record())
    assert answer == NoResponse(
        sent=False, error="a fault of this program: see the event request.defect in the log"
    )
    (event,) = logs
    assert (event["event"], event["log_level"], event["key"]) == ("request.defect", "error", KEY)
    assert "in token" in event["exception"]
    assert event["exception"].endswith("builtins.ValueError")
    assert SECRET not in repr(event).replace('raise ValueError(f"a defect about {SECRET}")', "")


async def test_a_request_that_is_cancelled_stays_cancelled(org: Org) -> None:
    hold = asyncio.Event()
    org.answer(Reply(hold=hold))
    request = asyncio.create_task(org.salesforce().post(KEY, record()))
    while org.standin.received == 0:
        await asyncio.sleep(0.01)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    hold.set()
