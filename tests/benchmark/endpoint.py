"""The endpoint of all measurements: as little work per request as Python allows.

A process of its own, so that what it costs is nobody's else. It speaks just enough HTTP/1.1 for
the clients measured here: kept-alive connections, a Content-Length, no chunks, no `Expect`.
"""

import argparse
import asyncio
import socket
import time
from dataclasses import dataclass, field
from typing import cast

import orjson
import uvloop

END = b"\r\n\r\n"
LENGTH = b"ength: "
"""The end of Content-Length, which clients write with capitals or without."""
KEY = b"Idempotency-Key: "
RECORD = b'{"SalesForceID":"'
RECORD_ID = 15
BODY = b"{}"


def response(status: bytes, body: bytes = BODY) -> bytes:
    """A whole answer, with the header by which Salesforce tells of the org's daily calls."""
    return (
        b"HTTP/1.1 " + status + b"\r\nContent-Type: application/json\r\n"
        b"Sforce-Limit-Info: api-usage=18/5000000\r\nContent-Length: "
        + str(len(body)).encode()
        + END
        + body
    )


def record_id(request: bytes, body: int = 0) -> bytes:
    """The record that a body is about; `body` is where it begins."""
    start = body + len(RECORD)
    return request[start : start + RECORD_ID]


DIAL = b"/dial?"
"""What is in the request line of a question of click to dial."""
ALLOWED = response(b"200 OK", b'{"ServiceNumber":"4930231250100"}')
WRITTEN = response(b"200 OK")
LOCKED = response(b"423 Locked")


@dataclass(slots=True)
class EndpointCounts:
    """What came in; moments are of the clock that all processes of a machine share."""

    requests: int = 0
    answers: int = 0
    locked: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    first: float = 0.0
    last: float = 0.0
    working: float = 0.0
    arrivals: dict[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """From the first request's arrival to the last answer."""
        return self.last - self.first


@dataclass(slots=True)
class Behaviour:
    """Seconds of work per request, whether records are locked meanwhile, what is remembered."""

    delay: float
    locks: bool
    arrivals: bool


class Connection(asyncio.Protocol):
    """One client's connection: requests one after another."""

    def __init__(self, behaviour: Behaviour, tally: EndpointCounts, held: set[bytes]) -> None:
        self.behaviour = behaviour
        self.tally = tally
        self.held = held
        self.buffer = b""
        self.loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        buffer = self.buffer + data if self.buffer else data
        while (head := buffer.find(END)) >= 0:
            at = buffer.find(LENGTH, 0, head)
            if at < 0:
                asked = DIAL in buffer[: buffer.find(b"\r")]
                told = ALLOWED if asked else response(b"200 OK", orjson.dumps(self.tally))
                self.transport.write(told)
                buffer = buffer[head + len(END) :]
                continue
            end = head + len(END) + int(buffer[at + len(LENGTH) : buffer.find(b"\r", at)])
            if len(buffer) < end:
                break
            self.received(buffer, head)
            buffer = buffer[end:]
        self.buffer = buffer

    def received(self, request: bytes, head: int) -> None:
        """Do the work of a request, or refuse it because another one holds its record."""
        tally, behaviour = self.tally, self.behaviour
        tally.requests += 1
        now = time.monotonic()
        tally.first = tally.first or now
        if behaviour.arrivals:
            at = request.find(KEY, 0, head) + len(KEY)
            tally.arrivals[request[at : request.find(b"\r", at)].decode()] = now
        lane = b""
        if behaviour.locks:
            lane = record_id(request, head + len(END))
            if lane in self.held:
                tally.locked += 1
                self.answer(LOCKED)
                return
            self.held.add(lane)
        if not behaviour.delay:
            self.held.discard(lane)
            self.answer(WRITTEN)
            return
        tally.in_flight += 1
        tally.most_in_flight = max(tally.most_in_flight, tally.in_flight)
        self.loop.call_later(behaviour.delay, self.written, lane, now)

    def written(self, lane: bytes, began: float) -> None:
        """Answer once the work is done."""
        self.tally.in_flight -= 1
        self.tally.working += time.monotonic() - began
        self.held.discard(lane)
        self.answer(WRITTEN)

    def answer(self, what: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(what)
        self.tally.answers += 1
        self.tally.last = time.monotonic()


async def serve(behaviour: Behaviour) -> None:
    """Serve on loopback for ever; the first line on stdout is the port."""
    tally, held = EndpointCounts(), set[bytes]()
    listener = socket.create_server(("127.0.0.1", 0))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(behaviour, tally, held), sock=listener)
    print(listener.getsockname()[1], flush=True)  # noqa: T201 - its one word to its parent
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--locks", action="store_true")
    parser.add_argument("--arrivals", action="store_true")
    chosen = parser.parse_args()
    uvloop.run(serve(Behaviour(chosen.delay, chosen.locks, chosen.arrivals)))


if __name__ == "__main__":
    main()
