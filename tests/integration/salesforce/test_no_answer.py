"""Without an answer: whether the request was sent, and what is said of it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from daemon.demo.standin import WRITE_PATH, Reply
from daemon.lines import PauseReason
from daemon.salesforce.client import EndpointUrl
from daemon.salesforce.oauth import (
    OAuthTokens,
)
from daemon.salesforce.responses import NoResponse, TokenFailure
from tests.support.load import stretched
from tests.support.org import (
    CREDENTIALS,
    KEY,
    SECRET,
    AnswerTo,
    Org,
    PostTo,
    classified,
    record,
)
from tests.support.raw import Recorder, free_port, mute, raw, trusted

EACH_WAY = True


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_closed_port_means_that_nothing_was_sent(post_to: PostTo, scheme: str) -> None:
    port = free_port()
    answer = await post_to(f"{scheme}://127.0.0.1:{port}/", bearer=SECRET)
    assert answer == NoResponse(
        sent=False, error=f"no connection to 127.0.0.1:{port}: connection refused"
    )


async def test_an_unknown_host_means_that_nothing_was_sent(post_to: PostTo) -> None:
    answer = await post_to("http://nobody.invalid/")
    assert isinstance(answer, NoResponse)
    assert not answer.sent
    assert answer.error.startswith("no connection to nobody.invalid: the host name ")


async def test_tls_against_a_plain_http_port_sends_nothing(post_to: PostTo) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with raw(plain) as port:
        answer = await post_to(f"https://127.0.0.1:{port}/", bearer=SECRET)
    assert isinstance(answer, NoResponse)
    assert not answer.sent


async def test_a_connection_cut_in_the_tls_handshake_sends_nothing(post_to: PostTo) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)

    async with raw(cut) as port:
        answer = await post_to(f"https://127.0.0.1:{port}/", bearer=SECRET)
    assert isinstance(answer, NoResponse)
    assert not answer.sent


async def test_a_certificate_that_nobody_vouches_for_is_sent_nothing(
    post_to: PostTo, tmp_path: Path
) -> None:
    recorder, (_, context) = Recorder(), trusted(tmp_path)
    async with raw(recorder, context) as port:
        answer = await post_to(f"https://127.0.0.1:{port}/", bearer=SECRET)
    assert isinstance(answer, NoResponse)
    assert not answer.sent
    assert recorder.heads == []


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


async def test_a_connection_reset_after_the_request_leaves_it_open(post_to: PostTo) -> None:
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
async def test_an_answer_that_is_no_http_leaves_it_open(answer_to: AnswerTo, reply: bytes) -> None:
    answer = await answer_to(reply)
    assert isinstance(answer, NoResponse)
    assert answer.sent


async def test_an_answer_cut_in_its_body_leaves_it_open(post_to: PostTo) -> None:
    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()

    async with raw(half) as port:
        answer = await post_to(f"http://127.0.0.1:{port}/")
    assert isinstance(answer, NoResponse)
    assert answer.sent


async def test_a_time_out_leaves_it_open(post_to: PostTo, org: Org) -> None:
    org.standin.require_token = False
    hold = asyncio.Event()
    org.answer(Reply(hold=hold))
    answer = await post_to(org.url + WRITE_PATH, within=stretched(0.2))
    hold.set()
    assert answer == NoResponse(sent=True, error="timed out")


async def test_a_time_out_in_the_middle_of_a_body_leaves_it_open(post_to: PostTo) -> None:
    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await mute(reader, writer)

    async with raw(stall) as port:
        answer = await post_to(f"http://127.0.0.1:{port}/", within=stretched(0.2))
    assert answer == NoResponse(sent=True, error="timed out")


async def test_a_time_out_while_connecting_sends_nothing(post_to: PostTo) -> None:
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
async def test_a_host_that_can_be_no_name_is_sent_nothing(
    post_to: PostTo, org: Org, host: str
) -> None:
    answer = await post_to(f"https://{host}/", bearer=SECRET)
    assert isinstance(answer, NoResponse)
    assert not answer.sent
    tokens = OAuthTokens(org.session, f"https://{host}/", CREDENTIALS)
    assert classified(await org.client(EndpointUrl("/"), tokens).post(KEY, b"{}")) is (
        PauseReason.UNAVAILABLE
    )


async def test_the_error_tells_nothing_of_the_address_but_the_host(post_to: PostTo) -> None:
    answer = await post_to(f"http://127.0.0.1:{free_port()}/{SECRET}?key={SECRET}", bearer=SECRET)
    assert isinstance(answer, NoResponse)
    assert SECRET not in answer.error
