"""Clients of the API listener that behave badly, each on a connection of its own.

Connections that are cut are opened again at once; who gets an answer asks again at once.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

QUERY = "SalesForceID=0035g00000LnZXkAAN&CallerID=%2B492212601&AgentUID=agent.y"
PATH = "/onClickToDial"
SLOW = b"GET /onClickToDial HTTP/1.1\r\nHost: x\r\nX: "
SLOW_EVERY = 0.5
"""Seconds between two bytes of a request that never ends."""
ASKERS = 8
"""Visitors that have the token and ask what is right, again and again."""
AGAIN = 0.01
"""Seconds before a connection that failed is tried again."""
CHUNK = b"x" * 65536
MALFORMED = itertools.cycle(
    (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500,
        b"GET /onClickToDial HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 9000 + b"\r\n\r\n",
        b"GET /" + b"y" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GE\x01T / HTTP/1.1\r\n\r\n",
        b"POST /onClickToDial HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n" + CHUNK * 16,
    )
)


def question(path: str, token: str) -> bytes:
    """A question of click to dial, whole."""
    return (
        f"GET {path}?{QUERY} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
    ).encode()


class Visitor(asyncio.Protocol):
    """One connection: sends `first`, and `again` after each answer."""

    def __init__(self, first: bytes, again: bytes, answers: Callable[[bytes], None]) -> None:
        self.first = first
        self.again = again
        self.answers = answers
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self.first)

    def data_received(self, data: bytes) -> None:
        self.answers(data[9:12])
        if self.again:
            self.transport.write(self.again)

    def connection_lost(self, exc: BaseException | None) -> None:
        del exc
        if not self.lost.done():
            self.lost.set_result(None)


class Crowd:
    """All visitors, and what they were answered."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answers: Counter[str] = Counter()
        self.connected: set[Visitor] = set()

    async def visit(self, kind: str, first: Callable[[], bytes], again: bytes = b"") -> None:
        """Connect again and again."""

        def count(status: bytes) -> None:
            self.answers[f"{kind} {status.decode('latin-1')}"] += 1

        loop = asyncio.get_running_loop()
        while True:
            try:
                _, visitor = await loop.create_connection(
                    lambda: Visitor(first(), again, count), "127.0.0.1", self.port
                )
            except OSError:
                await asyncio.sleep(AGAIN)
                continue
            self.answers[f"{kind} connections"] += 1
            self.connected.add(visitor)
            if kind == "slow":
                while not visitor.lost.done():
                    visitor.transport.write(b"y")
                    await asyncio.wait({visitor.lost}, timeout=SLOW_EVERY)
            await visitor.lost
            self.connected.discard(visitor)


@asynccontextmanager
async def crowded(port: int, token: str, many: int = 256) -> AsyncIterator[Counter[str]]:
    """Let so many visitors in; yields what they are answered, by kind and status."""
    crowd = Crowd(port)
    stranger, asker = (question(PATH, secret) for secret in (f"wrong-{token}", token))
    kinds = {
        "slow": (lambda: SLOW, b""),
        "malformed": (lambda: next(MALFORMED), b""),
        "stranger": (lambda: stranger, stranger),
    }
    # Fewer than the questions that may be under way, so that an honest one is not one too many.
    visits = [crowd.visit("asker", lambda: asker, asker) for _ in range(ASKERS)]
    for kind, (first, again) in itertools.islice(itertools.cycle(kinds.items()), many - ASKERS):
        visits.append(crowd.visit(kind, first, again))
    tasks = [asyncio.create_task(visit) for visit in visits]
    try:
        yield crowd.answers
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for visitor in crowd.connected:
            visitor.transport.abort()
