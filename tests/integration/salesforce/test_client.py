"""One record over real HTTP: what is sent, what comes back, and where the token comes from."""

import asyncio
import json
import ssl
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import aiohttp
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from structlog.testing import capture_logs

from daemon.delivery.backoff import Backoff
from daemon.delivery.outcome import Outcome, PauseSender, classify
from daemon.delivery.settlement import settle
from daemon.demo import grants
from daemon.demo.record_ids import ids
from daemon.demo.standin import TOKEN_PATH, WRITE_PATH, Reply, StandIn, platform_error, serve
from daemon.errors import CallstatsdError, ConfigurationError
from daemon.lines import LineKey, PauseReason, PendingLine
from daemon.salesforce.client import EndpointUrl, Salesforce, open_session
from daemon.salesforce.oauth import (
    ASSERTION_LIFE,
    ClientCredentials,
    FixedToken,
    Grant,
    OAuthTokens,
    Password,
    Token,
    TokenError,
    jwt_bearer,
)
from daemon.salesforce.responses import NoResponse, Response, TokenFailure
from daemon.salesforce.transport import BODY_LIMIT
from tests.support.daemon_process import PATIENCE
from tests.support.load import stretched
from tests.support.raw import OK, Recorder, free_port, mute, raw

KEY = "1201-2202-3203-4201"
SECRET = "s3cr3t-Of-Ours"
CREDENTIALS = ClientCredentials(grants.CLIENT_ID, grants.CLIENT_SECRET)


def record(number: int = 1) -> bytes:
    """A right record of a call of its own, for a Salesforce record of its own."""
    fields: dict[str, Any] = {
        "SalesForceID": ids(number)[0],
        "jtelStatisticsPartAID": number,
        "AgentUID": "agent.y",
        "bOutbound": 0,
        "CallerID": "493023125017",
        "ServiceNumber": "4930231250100",
        "ServiceName": "Störungsannahme",
        "AcdAgentGroupsName": "ACD Group 2",
        "AcdConfigurationGroupsName": "ACD Group 2",
        "dtCallStart": "2026-11-20T08:01:20",
        "dtCallAlert": "2026-11-20T08:01:20",
        "dtCallConnect": "2026-11-20T08:01:26",
        "dtCallEnd": "2026-11-20T08:03:26",
        "nDuration": 119,
        "CONNRES": 1,
        "Cause": 16,
        "TransactionCodeExportKey": "AAA",
    }
    return json.dumps(fields, ensure_ascii=False).encode()


@dataclass
class Org:
    """A stand-in, and how to reach it."""

    standin: StandIn
    url: str
    session: aiohttp.ClientSession
    token_forms: list[dict[str, str]] = field(default_factory=list)

    def tokens(self, grant: Grant = CREDENTIALS) -> OAuthTokens:
        return OAuthTokens(self.session, self.url + TOKEN_PATH, grant)

    def salesforce(self, grant: Grant = CREDENTIALS) -> Salesforce:
        return Salesforce(self.session, EndpointUrl(WRITE_PATH), self.tokens(grant))

    def answer_tokens(self, *replies: Reply | None) -> None:
        """Answer token requests with these in turn, the last for ever; note their forms."""

        def rule(form: Mapping[str, str]) -> Reply | None:
            self.token_forms.append(dict(form))
            return replies[min(len(self.token_forms), len(replies)) - 1] if replies else None

        self.standin.token_rule = rule

    def answer(self, *replies: Reply | None) -> None:
        """Answer records with these in turn, the last for ever."""
        self.standin.rule = lambda incoming: replies[min(incoming.number, len(replies)) - 1]


@pytest.fixture
async def org() -> AsyncIterator[Org]:
    standin = StandIn()
    async with serve(standin) as url, open_session("1.2.3", 5.0) as session:
        yield Org(standin, url, session)


async def post_to(
    url: str, *, within: float = 5.0, bearer: str | None = None
) -> Response | NoResponse | TokenFailure:
    async with open_session("1.2.3", within) as session:
        return await Salesforce(session, EndpointUrl(url), FixedToken(bearer)).post(KEY, b"{}")


async def answer_to(reply: bytes) -> Response | NoResponse | TokenFailure:
    async with raw(Recorder(reply)) as port:
        return await post_to(f"http://127.0.0.1:{port}/")


LINE = PendingLine(
    key=LineKey(1201, 2202, 3203, 4201),
    generation=1,
    backfill=False,
    call_ended=datetime(2026, 11, 20, 8, 0, tzinfo=UTC),
    ordinal=1,
    lane="",
    salesforce_id=None,
    record="{}",
    attempts=0,
    tries=0,
    lane_tries=0,
)

# The request


async def test_the_stand_in_finds_nothing_wrong_with_a_request(org: Org) -> None:
    answer = await org.salesforce().post("1-0-0-0", record())
    assert isinstance(answer, Response)
    assert answer.status == 200
    assert json.loads(answer.body) == {"key": "1-0-0-0", "updated": False}
    assert org.standin.violations == []
    [request] = org.standin.requests
    assert request.body == record()


async def test_a_request_carries_the_contracts_headers_and_no_others() -> None:
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


async def test_without_authentication_there_is_no_authorization_header() -> None:
    recorder = Recorder()
    async with raw(recorder) as port:
        await post_to(f"http://127.0.0.1:{port}/")
    assert "Authorization" not in recorder.headers[0]


async def test_a_second_request_uses_the_same_connection_and_its_own_key(org: Org) -> None:
    recorder = Recorder()
    async with raw(recorder) as port:
        salesforce = Salesforce(
            org.session, EndpointUrl(f"http://127.0.0.1:{port}/"), FixedToken(None)
        )
        for key in ("1-0-0-0", "2-0-0-0"):
            await salesforce.post(key, b"{}")
    assert recorder.connections == 1
    assert [headers["Idempotency-Key"] for headers in recorder.headers] == ["1-0-0-0", "2-0-0-0"]


async def test_cookies_are_not_kept() -> None:
    # Of a bare address, as elsewhere here, no client would keep any.
    recorder = Recorder(OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: sid=1; Path=/\r\n\r\n"))
    async with raw(recorder) as port, open_session("1", 5.0) as session:
        salesforce = Salesforce(session, EndpointUrl(f"http://localhost:{port}/"), FixedToken(None))
        for _ in range(2):
            assert isinstance(await salesforce.post(KEY, b"{}"), Response)
    assert len(recorder.headers) == 2
    assert all("Cookie" not in headers for headers in recorder.headers)


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
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


async def test_a_body_that_never_ends_is_left_after_64_kib() -> None:
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
async def test_whatever_charset_is_claimed_the_body_is_read_as_utf_8(charset: str) -> None:
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
    salesforce = Salesforce(org.session, EndpointUrl(org.url + WRITE_PATH), FixedToken(SECRET))
    assert await salesforce.post("1-0-0-0", record()) == Response(status, "")
    assert org.standin.received == 1


# An org that moved


def moved(org: Org, clock: Callable[[], float], *later: Reply | None) -> Salesforce:
    """A client whose first token names an address where nobody is; `later` answer the next."""
    org.answer_tokens(
        Reply(body={"instance_url": f"http://127.0.0.1:{free_port()}"}), *(later or (None,))
    )
    return Salesforce(org.session, EndpointUrl(WRITE_PATH), org.tokens(), clock=clock)


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
    salesforce = Salesforce(org.session, EndpointUrl(org.url + WRITE_PATH), org.tokens())
    for number in (1, 2):
        salesforce.ask_address()
        await salesforce.post(f"{number}-0-0-0", record(number))
    assert org.standin.tokens_issued == 1


async def test_an_address_asked_for_counts_for_the_next_request_only(org: Org) -> None:
    """Once it is answered for another reason, nobody pays for a login more."""
    now = 0.0
    org.answer_tokens()
    salesforce = Salesforce(org.session, EndpointUrl(WRITE_PATH), org.tokens(), clock=lambda: now)
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
    salesforce = Salesforce(org.session, EndpointUrl(org.url), Defective())
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


# No answer


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_closed_port_means_that_nothing_was_sent(scheme: str) -> None:
    port = free_port()
    answer = await post_to(f"{scheme}://127.0.0.1:{port}/", bearer=SECRET)
    assert answer == NoResponse(
        sent=False, error=f"no connection to 127.0.0.1:{port}: connection refused"
    )


async def test_an_unknown_host_means_that_nothing_was_sent() -> None:
    answer = await post_to("http://nobody.invalid/")
    assert isinstance(answer, NoResponse)
    assert not answer.sent
    assert answer.error.startswith("no connection to nobody.invalid: the host name ")


async def test_tls_against_a_plain_http_port_sends_nothing() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with raw(plain) as port:
        answer = await post_to(f"https://127.0.0.1:{port}/", bearer=SECRET)
    assert isinstance(answer, NoResponse)
    assert not answer.sent


async def test_a_connection_cut_in_the_tls_handshake_sends_nothing() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)

    async with raw(cut) as port:
        answer = await post_to(f"https://127.0.0.1:{port}/", bearer=SECRET)
    assert isinstance(answer, NoResponse)
    assert not answer.sent


async def test_a_certificate_that_nobody_vouches_for_is_sent_nothing(tmp_path: Path) -> None:
    recorder = Recorder()
    async with raw(recorder, self_signed(tmp_path)) as port:
        answer = await post_to(f"https://127.0.0.1:{port}/", bearer=SECRET)
    assert isinstance(answer, NoResponse)
    assert not answer.sent
    assert recorder.heads == []


def self_signed(directory: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    (directory / "certificate.pem").write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
    )
    (directory / "key.pem").write_bytes(pem(key))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "certificate.pem", directory / "key.pem")
    return context


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_a_connection_cut_instead_of_an_answer_leaves_it_open_whether_it_was_written(
    org: Org, cut: Any
) -> None:
    org.answer(Reply(cut=cut))
    answer = await org.salesforce().post("1-0-0-0", record())
    assert isinstance(answer, NoResponse)
    assert answer.sent
    assert ("1-0-0-0" in org.standin.written) is (cut == "after")
    assert org.standin.received == 1


async def test_a_connection_reset_after_the_request_leaves_it_open() -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    async with raw(reset) as port:
        answer = await post_to(f"http://127.0.0.1:{port}/")
    assert isinstance(answer, NoResponse)
    assert answer.sent


@pytest.mark.parametrize(
    "reply",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
    ],
    ids=["no http", "no status", "no length", "no chunk", "no gzip", "long header"],
)
async def test_an_answer_that_is_no_http_leaves_it_open(reply: bytes) -> None:
    answer = await answer_to(reply)
    assert isinstance(answer, NoResponse)
    assert answer.sent


async def test_an_answer_cut_in_its_body_leaves_it_open() -> None:
    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()

    async with raw(half) as port:
        answer = await post_to(f"http://127.0.0.1:{port}/")
    assert isinstance(answer, NoResponse)
    assert answer.sent


async def test_a_time_out_leaves_it_open(org: Org) -> None:
    org.standin.require_token = False
    hold = asyncio.Event()
    org.answer(Reply(hold=hold))
    answer = await post_to(org.url + WRITE_PATH, within=stretched(0.2))
    hold.set()
    assert answer == NoResponse(sent=True, error="timed out")


async def test_a_time_out_in_the_middle_of_a_body_leaves_it_open() -> None:
    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await mute(reader, writer)

    async with raw(stall) as port:
        answer = await post_to(f"http://127.0.0.1:{port}/", within=stretched(0.2))
    assert answer == NoResponse(sent=True, error="timed out")


async def test_a_time_out_while_connecting_sends_nothing() -> None:
    async with raw(mute) as port:
        answer = await post_to(f"https://127.0.0.1:{port}/", within=0.05)
    assert isinstance(answer, NoResponse)
    assert not answer.sent


@pytest.mark.parametrize(
    "instance",
    [
        "",
        "a.my.salesforce.com",
        "//a.my.salesforce.com",
        "ftp://127.0.0.1",
        "file:///etc/passwd",
        # Not in the clear, but to this machine.
        "http://a.my.salesforce.com",
        "http://10.0.0.1",
        "http://localhost.example.com",
        "http://127.0.0.1.example.com",
        "http://127.0.0.1@example.com",
        "http://[::1",
        "https://",
        "https:///x",
        "https://[::1",
        "https://user:secret@a.my.salesforce.com",
        "https://a.my.salesforce.com?x=1",
        "https://a.my.salesforce.com#x",
        "https://a.my.salesforce.com\n",
        "https://a.my\x00.salesforce.com",
        "https://a\\b",
        "https://a b",
        "https://a:port",
        "https://a..b",
        "https://" + "a" * 64,
        # No such port.
        "https://a.my.salesforce.com:0",
        "https://a.my.salesforce.com:65536",
        "https://a.my.salesforce.com:99999",
        "https://a.my.salesforce.com:",
        "http://127.0.0.1:0",
        "http://localhost:70000/",
        "http://[::1]:65536",
        # No such host.
        "https://-a.my.salesforce.com",
        "https://a-.my.salesforce.com",
        "https://a.-b.com",
        "https://-",
        "https://.",
        "https://.com",
        "https://a.com.",
        "https://" + "a" * 64 + ".com",
        "https://" + ".".join(["a" * 60] * 4) + ".abcdefghij",
        "https://" + "a." * 126 + "ab",
        "https://ä.example",
        "https://a.my.salesforce.com:\N{ARABIC-INDIC DIGIT THREE}",
        # Read as an address, and none.
        "https://1",
        "https://256.1.1.1",
        "https://1.2.3",
        "https://1.2.3.4.5",
        "https://01.2.3.4",
        "https://a.123",
        "https://0x7f.0x0.0x0.0x1",
        "https://127.0.0.0x1",
        "https://a.0x",
        "http://127.0.0.256",
        "http://127.1.1.999:80",
    ],
)
async def test_an_instance_that_no_token_may_go_to_is_refused(org: Org, instance: str) -> None:
    org.answer_tokens(Reply(body={"instance_url": instance}))
    answer = await org.salesforce().post(KEY, b"{}")
    assert answer == TokenFailure(
        refused=True,
        error="no token: the token endpoint's answer has no usable instance_url; "
        "check CALLSTATSD_TOKEN_URL",
    )
    assert org.standin.received == 0


@pytest.mark.parametrize(
    "instance",
    [
        "https://example.my.salesforce.com",
        "https://example--dev.sandbox.my.salesforce.com/",
        "https://example.com:8443/instances/1",
        "https://xn--bcher-kva.example",
        "https://a_b.example",
        "https://a.1b",
        "https://1.a",
        "https://10.0.0.1:1",
        "https://a.example:65535",
        "https://" + "a" * 63 + ".com",
        "https://" + "a." * 126 + "a",
        "http://localhost:8080",
        "http://127.0.0.2",
        "http://[::1]:80/",
    ],
)
async def test_an_instance_is_https_or_this_machine(org: Org, instance: str) -> None:
    org.answer_tokens(Reply(body={"instance_url": instance}))
    assert (await org.tokens().token()).instance_url == instance.rstrip("/")


@pytest.mark.parametrize(
    "token",
    ["", " ", "two\nlines", "two words", "tab\t", "nul\x00", "del\x7f", "Größe", 7, None, []],
)
async def test_a_token_that_fits_into_no_header_is_refused(org: Org, token: object) -> None:
    org.answer_tokens(Reply(body={"access_token": token}))
    answer = await org.salesforce().post(KEY, b"{}")
    assert answer == TokenFailure(
        refused=True,
        error="no token: the token endpoint's answer has no usable access_token; "
        "check CALLSTATSD_TOKEN_URL",
    )
    assert org.standin.received == 0


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "a..b", "ü" * 64])
async def test_a_host_that_can_be_no_name_is_sent_nothing(org: Org, host: str) -> None:
    answer = await post_to(f"https://{host}/", bearer=SECRET)
    assert isinstance(answer, NoResponse)
    assert not answer.sent
    tokens = OAuthTokens(org.session, f"https://{host}/", CREDENTIALS)
    assert classified(await Salesforce(org.session, EndpointUrl("/"), tokens).post(KEY, b"{}")) is (
        PauseReason.UNAVAILABLE
    )


async def test_the_error_tells_nothing_of_the_address_but_the_host() -> None:
    answer = await post_to(f"http://127.0.0.1:{free_port()}/{SECRET}?key={SECRET}", bearer=SECRET)
    assert isinstance(answer, NoResponse)
    assert SECRET not in answer.error


# Tokens


async def test_requests_at_once_share_one_first_token(org: Org) -> None:
    salesforce = org.salesforce()
    answers = await asyncio.gather(
        *(salesforce.post(f"{number}-0-0-0", record(number)) for number in range(1, 21))
    )
    assert {answer.status for answer in answers if isinstance(answer, Response)} == {200}
    assert org.standin.tokens_issued == 1


async def test_a_refused_token_is_renewed_once_for_all_and_each_request_tried_once_more(
    org: Org,
) -> None:
    salesforce = org.salesforce()
    await salesforce.post("1-0-0-0", record())
    org.standin.expire_tokens()
    with capture_logs() as logs:
        answers = await asyncio.gather(
            *(salesforce.post(f"{number}-0-0-0", record(number)) for number in range(2, 22))
        )
    assert len(answers) == 20
    assert all(isinstance(answer, Response) and answer.status == 200 for answer in answers)
    assert org.standin.by_status == {200: 21, 401: 20}
    assert org.standin.tokens_issued == 2
    assert org.standin.violations == []
    assert [event for event in logs if event["log_level"] != "debug"] == [
        {"event": "token.refreshed", "log_level": "info", "instance_url": org.url},
    ]


async def test_a_token_that_is_refused_again_is_not_renewed_again(org: Org) -> None:
    org.answer(Reply(401, platform_error("INVALID_SESSION_ID", "Session expired")))
    salesforce = org.salesforce()
    answers = await asyncio.gather(*(salesforce.post(f"{n}-0-0-0", record(n)) for n in (1, 2, 3)))
    assert [classified(answer) for answer in answers] == [PauseReason.UNAUTHORIZED] * 3
    assert (org.standin.received, org.standin.tokens_issued) == (6, 2)


async def test_the_second_try_has_the_same_key_and_body_and_the_new_token(org: Org) -> None:
    org.answer(Reply(401, b""), None)
    answer = await org.salesforce().post("1-0-0-0", record())
    assert isinstance(answer, Response)
    assert answer.status == 200
    first, second = org.standin.requests
    assert (first.key, first.body) == (second.key, second.body)
    assert first.headers["Authorization"] != second.headers["Authorization"]


async def test_only_a_refused_token_is_renewed(org: Org) -> None:
    salesforce = org.salesforce()
    for number, status in enumerate((400, 403, 404, 405, 409, 423, 500, 503), start=1):
        org.answer(Reply(status, b""))
        await salesforce.post(f"{number}-0-0-0", record(number))
    assert org.standin.tokens_issued == 1


def not_sent(answer: Response | NoResponse | TokenFailure) -> bool:
    """Whether it is certain that the record never left, for want of a token."""
    return isinstance(answer, TokenFailure) and answer.status is None


def classified(answer: Response | NoResponse | TokenFailure) -> PauseReason | Outcome:
    outcome = classify(answer)
    return getattr(outcome, "reason", outcome)


async def test_requests_at_once_share_a_renewal_that_fails_as_well(org: Org) -> None:
    salesforce = org.salesforce()
    await salesforce.post("1-0-0-0", record())
    org.standin.expire_tokens()
    refusal = {"error": "invalid_grant", "error_description": "authentication failure"}
    org.answer_tokens(Reply(400, refusal))
    await asyncio.gather(*(salesforce.post(f"{n}-0-0-0", record(n)) for n in range(2, 12)))
    assert len(org.token_forms) == 1


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_a_refused_login_pauses_the_sender_as_unauthorized(org: Org, status: int) -> None:
    org.answer_tokens(Reply(status, {"error": "invalid_client"}))
    assert classified(await org.salesforce().post(KEY, record())) is PauseReason.UNAUTHORIZED
    assert org.standin.received == 0


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_a_token_endpoint_that_is_down_pauses_the_sender_as_unavailable(
    org: Org, status: int
) -> None:
    org.answer_tokens(Reply(status, {"error": "server_error"}))
    assert classified(await org.salesforce().post(KEY, record())) is PauseReason.UNAVAILABLE
    assert org.standin.received == 0


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_a_token_endpoint_that_is_down_with_a_page_in_html_is_unavailable_too(
    org: Org, status: int
) -> None:
    org.answer_tokens(Reply(status, "<html>down for maintenance</html>"))
    assert classified(await org.salesforce().post(KEY, record())) is PauseReason.UNAVAILABLE


@pytest.mark.parametrize(
    ("status", "header", "seconds"),
    [
        (429, "7", 7.0),
        (503, "7", 7.0),
        (429, None, None),
        (503, "soon", None),
        (400, "7", None),
        (401, "7", None),
    ],
)
async def test_retry_after_of_a_token_endpoint_counts_where_it_asks_to_come_back(
    org: Org, status: int, header: str | None, seconds: float | None
) -> None:
    headers = {} if header is None else {"Retry-After": header}
    org.answer_tokens(Reply(status, {"error": "busy"}, headers))
    answer = await org.salesforce().post(KEY, record())
    assert isinstance(answer, TokenFailure)
    assert answer.retry_after == seconds
    outcome = classify(answer)
    assert isinstance(outcome, PauseSender)
    assert outcome.retry_after == seconds
    assert outcome.reason is (
        PauseReason.UNAVAILABLE if status in {429, 503} else PauseReason.UNAUTHORIZED
    )
    assert not outcome.sent


@pytest.mark.parametrize(
    ("status", "reason"), [(400, PauseReason.UNAUTHORIZED), (503, PauseReason.UNAVAILABLE)]
)
@pytest.mark.parametrize("first", [401, 302])
async def test_a_line_whose_token_was_refused_was_sent_though_the_renewal_fails(
    org: Org, first: int, status: int, reason: PauseReason
) -> None:
    org.answer(Reply(first, b""))
    org.answer_tokens(None, Reply(status, {"error": "busy"}))
    answer = await org.salesforce().post("1-0-0-0", record())
    assert isinstance(answer, TokenFailure)
    assert answer.status == first
    settlement = settle(LINE, classify(answer), Backoff(1, 60), 0, 0)
    assert (settlement.sent, settlement.status) == (True, first)
    assert settlement.error == answer.error
    assert classified(answer) is reason
    assert (org.standin.received, len(org.token_forms)) == (1, 2)


async def test_a_token_endpoint_that_nobody_serves_sends_nothing(org: Org) -> None:
    tokens = OAuthTokens(org.session, f"http://127.0.0.1:{free_port()}/token", CREDENTIALS)
    answer = await Salesforce(org.session, EndpointUrl(WRITE_PATH), tokens).post(KEY, record())
    assert not_sent(answer)
    assert classified(answer) is PauseReason.UNAVAILABLE


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_a_token_request_that_is_cut_sends_nothing(org: Org, cut: Any) -> None:
    org.answer_tokens(Reply(cut=cut))
    assert not_sent(await org.salesforce().post(KEY, record()))
    assert org.standin.received == 0


async def test_a_token_request_that_times_out_sends_nothing() -> None:
    async with raw(mute) as port, open_session("1", 0.05) as session:
        tokens = OAuthTokens(session, f"http://127.0.0.1:{port}/token", CREDENTIALS)
        answer = await Salesforce(session, EndpointUrl(WRITE_PATH), tokens).post(KEY, record())
    assert not_sent(answer)


async def test_a_token_request_is_not_redirected(org: Org) -> None:
    elsewhere = Recorder()
    async with raw(elsewhere) as port:
        org.answer_tokens(Reply(302, b"", {"Location": f"http://127.0.0.1:{port}/"}))
        assert classified(await org.salesforce().post(KEY, record())) is PauseReason.UNAUTHORIZED
    assert elsewhere.connections == 0


async def test_a_token_that_comes_in_pieces_is_read_as_a_whole(org: Org) -> None:
    body = json.dumps({"access_token": SECRET, "instance_url": org.url}).encode()

    async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        for piece in (body[:9], body[9:30], body[30:]):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02)

    async with raw(slowly) as port:
        tokens = OAuthTokens(org.session, f"http://127.0.0.1:{port}/token", CREDENTIALS)
        assert await tokens.token() == Token(f"Bearer {SECRET}", org.url)


async def test_one_who_gives_up_waiting_for_a_token_takes_it_from_nobody_else(org: Org) -> None:
    hold = asyncio.Event()
    org.answer_tokens(Reply(hold=hold))
    tokens = org.tokens()
    first, second = (asyncio.create_task(tokens.token()) for _ in range(2))
    async with asyncio.timeout(PATIENCE):
        while not org.token_forms:  # both wait for it by then
            await asyncio.sleep(0.01)
    first.cancel()
    hold.set()
    assert (await second).instance_url == org.url
    assert len(org.token_forms) == 1
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_after_a_failed_login_the_next_request_tries_again(org: Org) -> None:
    org.answer_tokens(Reply(503, {"error": "server_error"}), None)
    salesforce = org.salesforce()
    assert classified(await salesforce.post("1-0-0-0", record())) is PauseReason.UNAVAILABLE
    answer = await salesforce.post("1-0-0-0", record())
    assert isinstance(answer, Response)
    assert answer.status == 200


@pytest.mark.parametrize("status", [400, 401, 500, 503])
async def test_a_line_that_never_left_for_want_of_a_token_counts_no_attempt(
    org: Org, status: int
) -> None:
    org.answer_tokens(Reply(status, {"error": "invalid_client"}))
    answer = await org.salesforce().post(KEY, record())
    assert org.standin.received == 0
    settlement = settle(LINE, classify(answer), Backoff(1, 60), 0, 0)
    assert (settlement.sent, settlement.status) == (False, None)


async def test_the_sender_is_told_why_there_is_no_token(org: Org) -> None:
    org.answer_tokens(Reply(400, {"error": "invalid_client_id"}))
    outcome = classify(await org.salesforce().post(KEY, record()))
    assert outcome == PauseSender(
        PauseReason.UNAUTHORIZED,
        None,
        None,
        "no token: the token endpoint answered 400 invalid_client_id; check CALLSTATSD_CLIENT_ID",
    )


@pytest.mark.parametrize(
    "body",
    [
        "",
        "null",
        "[]",
        '"token"',
        "{}",
        "not json",
        b"\xff\xfe",
        '{"access_token": "x"}',
        '{"instance_url": "https://a"}',
        '{"access_token": "x", "instance_url": null}',
        '{"access_token": "x", "instance_url": 1}',
    ],
)
async def test_an_answer_without_a_token_pauses_and_says_where_to_look(body: str | bytes) -> None:
    data = body.encode() if isinstance(body, str) else body
    reply = f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data
    async with raw(Recorder(reply)) as port, open_session("1", 5.0) as session:
        tokens = OAuthTokens(session, f"http://127.0.0.1:{port}/token", CREDENTIALS)
        with pytest.raises(TokenError, match=r"no usable .*; check CALLSTATSD_TOKEN_URL") as caught:
            await tokens.token()
    assert classified(caught.value.answer) is PauseReason.UNAUTHORIZED


@pytest.mark.parametrize(
    ("charset", "body"),
    [
        ("utf-8", "[" * 100_000),
        ("hex", "{}"),
        ("utf-8", '{"access_token": null, "instance_url": "https://a"}'),
    ],
    ids=["deep", "charset", "null"],
)
async def test_no_answer_of_the_token_endpoint_ends_the_daemon(charset: str, body: str) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset={charset}\r\n"
    reply = f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
    async with raw(Recorder(reply)) as port, open_session("1", 5.0) as session:
        tokens = OAuthTokens(session, f"http://127.0.0.1:{port}/token", CREDENTIALS)
        with pytest.raises(TokenError):
            await tokens.token()


# What a TokenError says


CLOCK = "check this machine's clock, and the host in CALLSTATSD_TOKEN_URL"


@pytest.mark.parametrize(
    ("code", "says", "advice"),
    [
        ("invalid_client_id", "client identifier invalid", "check CALLSTATSD_CLIENT_ID"),
        (
            "invalid_client",
            "invalid client credentials",
            "check CALLSTATSD_CLIENT_ID and CALLSTATSD_CLIENT_SECRET",
        ),
        (
            "unsupported_grant_type",
            "grant type not supported",
            "enable this flow in the connected app",
        ),
        (
            "invalid_grant",
            "authentication failure",
            "check the login, that the flow is enabled and its run-as user active",
        ),
        ("invalid_grant", "Audience validation failed", CLOCK),
        ("invalid_grant", "expired authorization code", CLOCK),
        (
            "invalid_app_access",
            "User is not admin  approved to access this app",
            "let the run-as user use the connected app",
        ),
    ],
)
async def test_a_refused_login_says_what_to_do(org: Org, code: str, says: str, advice: str) -> None:
    org.answer_tokens(Reply(400, {"error": code, "error_description": says}))
    with pytest.raises(TokenError) as caught:
        await org.tokens().token()
    phrase = " ".join(says.lower().split())
    assert str(caught.value) == (
        f"no token: the token endpoint answered 400 {code} ({phrase}); {advice}"
    )
    assert isinstance(caught.value, CallstatsdError)
    assert caught.value.exit_code == 69


@pytest.mark.parametrize(
    ("says", "advice"),
    [
        ("your audience is not ours", CLOCK),
        ("the assertion EXPIRED at noon", CLOCK),
        (
            "what nobody has documented",
            "check the login, that the flow is enabled and its run-as user active",
        ),
    ],
)
async def test_a_description_that_is_not_known_gives_advice_and_is_not_shown(
    org: Org, says: str, advice: str
) -> None:
    org.answer_tokens(Reply(400, {"error": "invalid_grant", "error_description": says}))
    with pytest.raises(TokenError) as caught:
        await org.tokens().token()
    assert str(caught.value) == (
        f"no token: the token endpoint answered 400 invalid_grant; {advice}"
    )


async def test_an_unreachable_token_endpoint_is_named_by_its_host(org: Org) -> None:
    url = f"http://127.0.0.1:{free_port()}/token?key={SECRET}"
    with pytest.raises(TokenError) as caught:
        await OAuthTokens(org.session, url, CREDENTIALS).token()
    assert str(caught.value) == (
        "the token endpoint at 127.0.0.1 cannot be reached: connection refused; "
        "check CALLSTATSD_TOKEN_URL and the network (firewall, proxy)"
    )
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "grant",
    [
        ClientCredentials(grants.CLIENT_ID, SECRET),
        Password(grants.CLIENT_ID, SECRET, grants.USERNAME, SECRET),
        Password(grants.CLIENT_ID, grants.CLIENT_SECRET, grants.USERNAME, SECRET),
    ],
    ids=["client secret", "both", "password"],
)
async def test_no_error_of_a_refused_login_holds_a_secret(org: Org, grant: Grant) -> None:
    with pytest.raises(TokenError) as caught:
        await org.tokens(grant).token()
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in str(error) + repr(error)
        error = error.__cause__ or error.__context__
    assert SECRET not in repr(caught.value.answer)


SHAPES: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "form": quote_plus,
    "percent": lambda value: "".join(f"%{byte:02x}" for byte in value.encode()),
    "base64": lambda value: b64encode(value.encode()).decode(),
    "hex": lambda value: value.encode().hex(),
    "upper case": str.upper,
    "spaced": " ".join,
    "backwards": lambda value: value[::-1],
    "escaped": lambda value: "".join(f"\\u{ord(character):04x}" for character in value),
    "long": lambda value: value * 1000,
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("status", [400, 503])
async def test_whatever_a_token_endpoint_echoes_is_neither_shown_nor_logged(
    org: Org, status: int, shape: Callable[[str], str]
) -> None:
    """Also in another shape: only known codes and phrases are, and our own words."""
    echo = shape(SECRET)
    org.answer_tokens(
        Reply(status, {"error": echo, "error_description": f"client_secret={echo} is wrong"})
    )
    grant = Password(grants.CLIENT_ID, SECRET, grants.USERNAME, f"{SECRET}Token")
    with capture_logs() as logs, pytest.raises(TokenError) as caught:
        await org.tokens(grant).token()
    advice = (
        "check CALLSTATSD_TOKEN_URL and the connected app" if status == 400 else "it is tried again"
    )
    assert str(caught.value) == f"no token: the token endpoint answered {status}; {advice}"
    assert echo[:20] not in repr(caught.value.answer) + repr(logs)


@pytest.mark.parametrize("error", [None, 1, True, [], {}, ["invalid_grant"], {"a": "b"}])
@pytest.mark.parametrize("says", [None, 1, True, [], {}, ["expired"], "x" * 60_000])
async def test_errors_of_another_type_say_nothing(org: Org, error: object, says: object) -> None:
    org.answer_tokens(Reply(400, {"error": error, "error_description": says}))
    with pytest.raises(TokenError) as caught:
        await org.tokens().token()
    assert str(caught.value) == (
        "no token: the token endpoint answered 400; "
        "check CALLSTATSD_TOKEN_URL and the connected app"
    )


# Each flow


async def test_the_client_credentials_flow_sends_id_and_secret(org: Org) -> None:
    org.answer_tokens()
    token = await org.tokens().token()
    assert org.token_forms == [
        {
            "grant_type": "client_credentials",
            "client_id": grants.CLIENT_ID,
            "client_secret": grants.CLIENT_SECRET,
        }
    ]
    assert token == Token(f"Bearer {next(iter(org.standin.tokens))}", org.url)


async def test_the_password_flow_sends_the_password_with_its_security_token(org: Org) -> None:
    org.answer_tokens()
    password = grants.PASSWORD + grants.SECURITY_TOKEN
    await org.tokens(
        Password(grants.CLIENT_ID, grants.CLIENT_SECRET, grants.USERNAME, password)
    ).token()
    assert org.token_forms == [
        {
            "grant_type": "password",
            "client_id": grants.CLIENT_ID,
            "client_secret": grants.CLIENT_SECRET,
            "username": grants.USERNAME,
            "password": password,
        }
    ]


async def test_a_form_may_hold_any_character(org: Org) -> None:
    org.answer_tokens(Reply(400, {}))
    odd = "a&b=c+d %20ö\N{GRINNING FACE}"
    with pytest.raises(TokenError):
        await org.tokens(Password("id", odd, "user", odd)).token()
    assert (org.token_forms[0]["client_secret"], org.token_forms[0]["password"]) == (odd, odd)


@pytest.fixture(scope="module")
def private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@pytest.fixture
def key_file(private_key: rsa.RSAPrivateKey, tmp_path: Path) -> Path:
    path = tmp_path / "key.pem"
    path.write_bytes(pem(private_key))
    return path


async def test_the_jwt_bearer_flow_signs_who_asks_for_whom_and_until_when(
    org: Org, private_key: rsa.RSAPrivateKey, key_file: Path
) -> None:
    org.answer_tokens()
    before = int(time.time())
    await org.tokens(
        jwt_bearer(grants.CLIENT_ID, grants.USERNAME, key_file, org.url + TOKEN_PATH)
    ).token()
    after = int(time.time())
    [form] = org.token_forms
    assertion = form.pop("assertion")
    assert form == {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer"}
    assert jwt.get_unverified_header(assertion)["alg"] == "RS256"
    claims = jwt.decode(
        assertion,
        private_key.public_key(),
        algorithms=["RS256"],
        audience="https://login.salesforce.com",
    )
    expires = claims.pop("exp")
    assert before + ASSERTION_LIFE <= expires <= after + ASSERTION_LIFE
    assert 0 < ASSERTION_LIFE <= 300
    assert claims == {
        "iss": grants.CLIENT_ID,
        "sub": grants.USERNAME,
        "aud": "https://login.salesforce.com",
    }


@pytest.mark.parametrize(
    ("host", "audience"),
    [
        ("login.salesforce.com", "https://login.salesforce.com"),
        ("example.my.salesforce.com", "https://login.salesforce.com"),
        ("test.salesforce.com", "https://test.salesforce.com"),
        ("example--dev.sandbox.my.salesforce.com", "https://test.salesforce.com"),
        ("EXAMPLE--DEV.SANDBOX.my.salesforce.com", "https://test.salesforce.com"),
        ("test.salesforce.com.example.com", "https://login.salesforce.com"),
    ],
)
def test_the_audience_is_productions_or_the_sandboxes_login_host(
    key_file: Path, host: str, audience: str
) -> None:
    grant = jwt_bearer("id", "user", key_file, f"https://{host}{TOKEN_PATH}")
    claims = jwt.decode(grant.form()["assertion"], options={"verify_signature": False})
    assert claims["aud"] == audience


@pytest.mark.parametrize("content", [None, b"\xff\xfe not ascii"], ids=["missing", "not ascii"])
def test_a_key_that_cannot_be_read_is_a_fault_of_the_configuration(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "key.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="CALLSTATSD_PRIVATE_KEY_FILE"):
        jwt_bearer("id", "user", path, "https://login.salesforce.com/")


NO_KEYS = {
    "empty": b"",
    "text": b"not a key",
    "broken": b"-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----\n",
    "elliptic": pem(ec.generate_private_key(ec.SECP256R1())),
}


@pytest.mark.parametrize("content", NO_KEYS.values(), ids=NO_KEYS.keys())
def test_a_file_that_holds_no_rsa_key_is_a_fault_of_the_configuration(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="CALLSTATSD_PRIVATE_KEY_FILE must be a PEM file"):
        jwt_bearer("id", "user", path, "https://login.salesforce.com/")


def test_a_public_or_locked_key_is_a_fault_of_the_configuration(
    private_key: rsa.RSAPrivateKey, tmp_path: Path
) -> None:
    public = private_key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    locked = private_key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"phrase"),
    )
    path = tmp_path / "key.pem"
    for content in (public, locked):
        path.write_bytes(content)
        with pytest.raises(ConfigurationError, match="private key without a pass phrase"):
            jwt_bearer("id", "user", path, "https://login.salesforce.com/")


# Nothing secret in sight


def test_no_repr_holds_a_secret(key_file: Path) -> None:
    private = key_file.read_text()
    holders: list[object] = [
        Token(f"Bearer {SECRET}", "https://a.my.salesforce.com"),
        FixedToken(SECRET),
        ClientCredentials(SECRET, SECRET),
        Password("id", SECRET, "user", SECRET),
        jwt_bearer("id", "user", key_file, "https://login.salesforce.com/"),
    ]
    for holder in [*holders, holders]:
        for text in (repr(holder), str(holder), f"{holder}"):
            assert SECRET not in text
            assert private.splitlines()[1] not in text
    assert repr(holders[0]) == "Token(instance_url='https://a.my.salesforce.com')"


async def test_no_repr_of_what_holds_the_tokens_shows_one(org: Org) -> None:
    tokens = org.tokens()
    token = await tokens.token()
    salesforce = Salesforce(org.session, EndpointUrl(WRITE_PATH), tokens)
    assert token.authorization is not None
    for holder in (tokens, salesforce, token):
        assert token.authorization.removeprefix("Bearer ") not in repr(holder)


async def test_a_fixed_token_is_its_own_renewal() -> None:
    tokens = FixedToken(SECRET)
    token = await tokens.token()
    assert token.authorization == f"Bearer {SECRET}"
    assert await tokens.renew(token) is token
    assert (await FixedToken(None).token()).authorization is None
