"""Clients of the API listener that behave badly, each on a connection of its own, for ever.

A process of its own, so that what it costs is nobody's else. Connections that are cut are opened
again at once; who gets an answer asks again at once.
"""

import argparse
import asyncio
import itertools
import signal
from collections import Counter
from collections.abc import Callable
from typing import cast

import orjson
import uvloop

QUERY = "SalesForceID=0035g00000LnZXkAAN&CallerID=%2B492212601&AgentUID=agent.y"
PATH = "/onClickToDial"
SLOW = b"GET /onClickToDial HTTP/1.1\r\nHost: x\r\nX: "
SLOW_EVERY = 0.5
"""Seconds between two bytes of a request that never ends."""
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
            if kind == "slow":
                while not visitor.lost.done():
                    visitor.transport.write(b"y")
                    await asyncio.wait({visitor.lost}, timeout=SLOW_EVERY)
            await visitor.lost


async def visit_all(port: int, token: str) -> dict[str, int]:
    """Let all visitors in, until SIGTERM; returns what they were answered."""
    crowd = Crowd(port)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    stranger, asker = (question(PATH, secret) for secret in (f"wrong-{token}", token))
    visits = [
        *(crowd.visit("slow", lambda: SLOW) for _ in range(64)),
        *(crowd.visit("malformed", lambda: next(MALFORMED)) for _ in range(96)),
        *(crowd.visit("stranger", lambda: stranger, stranger) for _ in range(88)),
        # Fewer than the questions that may be under way, so that they can be told from busy ones.
        *(crowd.visit("asker", lambda: asker, asker) for _ in range(8)),
    ]
    tasks = [asyncio.create_task(visit) for visit in visits]
    await stop.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return dict(crowd.answers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("token")
    chosen = parser.parse_args()
    answers = uvloop.run(visit_all(chosen.port, chosen.token))
    print(orjson.dumps(answers).decode())  # noqa: T201 - its one word to its parent


if __name__ == "__main__":
    main()
