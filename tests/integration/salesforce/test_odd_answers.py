"""Whatever a server answers, a request comes to its end and the process goes on."""

import asyncio
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from daemon.delivery.backoff import Backoff
from daemon.delivery.outcome import classify
from daemon.salesforce.client import EndpointUrl, Salesforce, open_session
from daemon.salesforce.exchange import MakeExchange
from daemon.salesforce.oauth import ClientCredentials, FixedToken, OAuthTokens
from daemon.salesforce.responses import NoResponse, Response, TokenFailure
from daemon.salesforce.transport import BODY_LIMIT
from tests.support import ways
from tests.support.raw import raw, request

WITHIN = 0.3
"""The time limit of a request here; most answers take a thousandth of it."""


@dataclass
class Script:
    """What the server does with a connection: pieces to write, when, and how it ends."""

    pieces: list[bytes] = field(default_factory=list)
    early: bool = False
    ends: str = "close"


class Server:
    """Plays the script of the moment."""

    script = Script()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            script = self.script
            if script.early:
                await reader.readuntil(b"POST ")
            else:
                await request(reader)
            for piece in script.pieces:
                writer.write(piece)
                await writer.drain()
                if len(script.pieces) > 1:
                    await asyncio.sleep(0)
            match script.ends:
                case "keep":
                    continue
                case "reset":
                    writer.transport.abort()
                case "stall":
                    await reader.read()
            return


class Bench:
    """A server, a client and an event loop that outlive the examples."""

    def __init__(self, runner: asyncio.Runner, make_exchange: MakeExchange) -> None:
        self.runner = runner
        self.make_exchange = make_exchange
        self.server = Server()
        self.unhandled: list[dict[str, Any]] = []
        runner.get_loop().set_exception_handler(lambda _, context: self.unhandled.append(context))
        self._stop = runner.run(self._event())
        self._ready: asyncio.Future[None] = runner.get_loop().create_future()
        self._task = runner.get_loop().create_task(self._serve())
        runner.run(self._wait())

    async def _event(self) -> asyncio.Event:
        return asyncio.Event()

    async def _wait(self) -> None:
        await self._ready

    async def _serve(self) -> None:
        async with raw(self.server) as port, open_session("0", WITHIN) as session:
            url = f"http://127.0.0.1:{port}/"
            client = partial(Salesforce, session, exchange=self.make_exchange)
            self.record = client(EndpointUrl(url), FixedToken("t"))
            tokens = OAuthTokens(session, url, ClientCredentials("id", "s3cr3t"))
            self.token = client(EndpointUrl("/x"), tokens)
            self._ready.set_result(None)
            await self._stop.wait()

    def close(self) -> None:
        self._stop.set()
        self.runner.run(self._ended())

    async def _ended(self) -> None:
        await self._task


@pytest.fixture(scope="module", params=ways.WAYS.values(), ids=list(ways.WAYS))
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    loop_factory, make_exchange = request.param
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        made = Bench(runner, make_exchange)
        yield made
        made.close()


DIGITS = st.sampled_from(["0", "1", "7", "65535", "-1", "9" * 20, "9" * 400, "9" * 5000, "٣", ""])
WORDS = st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=20)
STATUS = st.one_of(
    st.integers(100, 999).map(str),
    st.sampled_from(["000", "0", "20", "2000", "9" * 400, "-20", "abc", "", "101", "100"]),
)
VERSIONS = st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/9.9", "ICY", "http/1.1"])
DATES = st.sampled_from(
    [
        "Fri, 20 Nov 2026 10:00:00 GMT",
        f"Fri, 20 Nov {'9' * 400} 10:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 -2359",
        "Mon, 01 Jan 0001 00:00:00 +2359",
    ]
)
HEADER = st.one_of(
    st.tuples(st.just("Retry-After"), DIGITS | DATES | WORDS),
    st.tuples(
        st.just("Sforce-Limit-Info"),
        st.builds(lambda used, of: f"api-usage={used}/{of}", DIGITS, DIGITS) | WORDS,
    ),
    st.tuples(st.just("Content-Length"), DIGITS),
    st.tuples(
        st.just("Transfer-Encoding"),
        st.sampled_from(["chunked", "gzip", "chunked, chunked", "identity", "x"]),
    ),
    st.tuples(
        st.just("Content-Encoding"), st.sampled_from(["gzip", "deflate", "br", "zstd", "x", ""])
    ),
    st.tuples(
        st.just("Content-Type"),
        st.sampled_from(["application/json", "text/html; charset=hex", "x", "a/b; charset=" * 9]),
    ),
    st.tuples(st.just("Connection"), st.sampled_from(["close", "keep-alive", "upgrade", "x"])),
    st.tuples(st.just("Location"), st.sampled_from(["http://[::1", "//", "x", "http://a:99999"])),
    st.tuples(st.just("Set-Cookie"), WORDS),
    st.tuples(WORDS, WORDS),
    st.just(("X", "x" * 9000)),
)
ERRORS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["errorCode", "message", "access_token", "error"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)
TEXTS = st.one_of(
    ERRORS.map(str),
    st.builds(
        lambda n: f'[{{"errorCode":"X","message":{n}}}]', st.sampled_from(["9" * 5000, "[" * 5000])
    ),
    st.builds(lambda n: f"Invalid status code for HTTP response: {n}", DIGITS),
    st.sampled_from(["[" * 60_000, '{"a":' * 9000, "UNABLE_TO_LOCK_ROW", "", "\x00"]),
    WORDS,
)
BOMBS = {
    "gzip": gzip.compress(bytes(40_000_000)),
    "deflate": zlib.compress(bytes(20_000_000)),
}


def encoded(text: str, way: str) -> bytes:
    data = text.encode("utf-8", "replace")
    match way:
        case "gzip":
            return gzip.compress(data)
        case "cut gzip":
            return gzip.compress(data)[:-5]
        case "chunked":
            return b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)
        case "wrong chunk":
            return b"%x\r\n%b\r\n0\r\n\r\n" % (len(data) + 3, data)
        case "long chunk":
            return b"f" * 400 + b"\r\n" + data
        case "no last chunk":
            return b"%x;%b\r\n%b\r\n" % (len(data), b"x=y" * 50, data)
        case "trailer":
            return b"0\r\nSforce-Limit-Info: api-usage=1/1\r\nX: " + data[:50] + b"\r\n\r\n"
        case "bomb":
            return BOMBS["gzip"]
        case "other bomb":
            return BOMBS["deflate"]
        case _:
            return data


WAYS = [
    *("plain", "gzip", "cut gzip", "chunked", "wrong chunk", "long chunk", "no last chunk"),
    *("trailer", "bomb", "other bomb"),
]


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    """An answer, mostly of the right form, and how it is delivered."""
    way = draw(st.sampled_from(WAYS))
    body = encoded(draw(TEXTS), way)
    headers = draw(st.lists(HEADER, max_size=4))
    if draw(st.booleans()):
        headers.append(("Content-Length", str(len(body) + draw(st.sampled_from([0, 0, 0, 1, -1])))))
    if "chunk" in way or way == "trailer":
        headers.append(("Transfer-Encoding", "chunked"))
    if way in {"gzip", "cut gzip", "bomb", "other bomb"}:
        headers.append(("Content-Encoding", "deflate" if way == "other bomb" else "gzip"))
    lines = [f"{draw(VERSIONS)} {draw(STATUS)} {draw(WORDS)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    head = "\r\n".join(lines).encode("utf-8", "replace") + b"\r\n\r\n"
    before = draw(
        st.sampled_from([b"", b"", b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 3, b"\r\n", b"\x00"])
    )
    data = before + head + body
    after = draw(st.sampled_from([b"", b"", b"H", data[:5000]]))
    data += after
    cuts = sorted(draw(st.lists(st.integers(0, min(len(data), 3000)), max_size=3)))
    if draw(st.integers(0, 5)) == 0 and cuts:
        data, cuts = data[: cuts[-1]], cuts[:-1]
    pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, None], strict=True)]
    ends = draw(st.sampled_from(["close"] * 6 + ["keep"] * 6 + ["reset"] * 3 + ["stall"]))
    return Script(pieces, draw(st.sampled_from([False, False, False, True])), ends)


def with_header(name: str, value: str) -> Script:
    return Script([f"HTTP/1.1 200 OK\r\n{name}: {value}\r\nContent-Length: 0\r\n\r\n".encode()])


@example(script=with_header("Sforce-Limit-Info", f"api-usage={'9' * 400}/1"), token=False)
@example(script=with_header("Sforce-Limit-Info", f"api-usage={'9' * 5000}/1"), token=False)
@example(script=with_header("Retry-After", "9" * 5000), token=False)
@example(script=with_header("Retry-After", f"Fri, 20 Nov {'9' * 5000} 10:00:00 GMT"), token=False)
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(script=scripts(), token=st.sampled_from([False, False, True]))
def test_no_answer_ends_the_daemon_or_is_a_defect(
    bench: Bench, script: Script, *, token: bool
) -> None:
    """Two requests, as the first may spoil the connection for the second."""
    bench.server.script = script
    client = bench.token if token else bench.record
    with capture_logs() as logs:
        for key in ("1-0-0-0", "2-0-0-0"):
            answer = bench.runner.run(client.post(key, b"{}" * 300))
            assert isinstance(answer, Response | NoResponse | TokenFailure)
            if isinstance(answer, Response):
                assert len(answer.body) <= BODY_LIMIT
                assert (
                    answer.retry_after is None or Backoff(1, 60).delay(1, answer.retry_after) >= 0
                )
            assert classify(answer)
    assert [event for event in logs if event["log_level"] == "error"] == []
    assert bench.unhandled == []
