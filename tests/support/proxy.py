"""A network that fails on request: a TCP proxy on loopback before Postgres or the stand-in."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit

CHUNK = 65536
SYNC = 5
"""Bytes of the message that ends a request to Postgres: without it no answer is complete."""
AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER that makes close send RST."""


class Mode(Enum):
    """What happens to bytes and to new connections."""

    PASS = auto()
    STALL = auto()
    """Connections are accepted and kept, nothing is forwarded until it passes again."""
    DEAF = auto()
    """Half open: bytes are dropped and no end is told; those connections never recover."""
    TORN = auto()
    """The end of what a client sends next is lost, and its connection is deaf from then on."""
    REFUSE = auto()
    """New connections are refused; those that are open go on."""


@dataclass(eq=False)
class Link:
    """One connection through the proxy; deaf once, it stays deaf."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    deaf: bool = False

    def cut(self, *, reset: bool) -> None:
        for writer in (self.client, self.server):
            if writer is None:
                continue
            if reset:
                wire: socket.socket | None = writer.get_extra_info("socket")
                if wire is not None:
                    with contextlib.suppress(OSError):
                        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
                writer.transport.abort()
            else:
                writer.close()


class Proxy:
    """Forwards to one address; `mode` may change at any time. See `proxied` and `fronting`."""

    def __init__(self, target: str | tuple[str, int]) -> None:
        self.target = target
        self.port = 0
        self.mode = Mode.PASS
        self.links: set[Link] = set()
        self.accepted = 0
        self._moving = asyncio.Event()
        self._moving.set()
        self._listener: asyncio.Server | None = None
        self._pumps: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._refuse()
        self.cut(reset=True)
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def switch(self, mode: Mode) -> None:
        """Change what happens from now on."""
        self.mode = mode
        if mode is Mode.REFUSE:
            await self._refuse()
        else:
            await self._listen()
        if mode is Mode.DEAF:
            for link in self.links:
                link.deaf = True
        if mode is Mode.STALL:
            self._moving.clear()
        else:
            self._moving.set()

    def cut(self, *, reset: bool) -> None:
        """End all connections, with RST or with FIN."""
        for link in list(self.links):
            link.cut(reset=reset)

    async def _listen(self) -> None:
        if self._listener is None:
            wire = socket.create_server(("127.0.0.1", self.port), backlog=1024)
            self.port = wire.getsockname()[1]
            self._listener = await asyncio.start_server(self._accept, sock=wire)

    async def _refuse(self) -> None:
        if self._listener is not None:
            listener, self._listener = self._listener, None
            for wire in listener.sockets:
                asyncio.get_running_loop().remove_reader(wire)
            # What was accepted a moment ago gets its turn: a closed listener would forget it.
            await asyncio.sleep(0)
            # Not waited for: from Python 3.12 on that would mean the open connections.
            listener.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pumps.add(task)
        self.accepted += 1
        link = Link(writer, deaf=self.mode is Mode.DEAF)
        self.links.add(link)
        try:
            if link.deaf:
                await drain_into_nothing(reader)
                return
            await self._moving.wait()
            await self._forward(link, reader)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            link.cut(reset=False)
            self.links.discard(link)
            self._pumps.discard(task)

    async def _forward(self, link: Link, reader: asyncio.StreamReader) -> None:
        if isinstance(self.target, str):
            from_server, link.server = await asyncio.open_unix_connection(self.target)
        else:
            from_server, link.server = await asyncio.open_connection(*self.target)
        async with asyncio.TaskGroup() as both:
            both.create_task(self._pump(link, reader, link.server, from_client=True))
            both.create_task(self._pump(link, from_server, link.client, from_client=False))

    async def _pump(
        self,
        link: Link,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        from_client: bool,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                await self._moving.wait()
                torn = from_client and self.mode is Mode.TORN
                if not link.deaf:
                    writer.write(data[:-SYNC] if torn else data)
                    await writer.drain()
                link.deaf = link.deaf or torn
        if link.deaf:
            return
        await self._moving.wait()
        writer.close()


async def drain_into_nothing(reader: asyncio.StreamReader) -> None:
    while await reader.read(CHUNK):
        pass


@asynccontextmanager
async def proxied(dsn: str) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy before a Postgres that listens on a socket in `host=`, and its DSN through it."""
    parts = urlsplit(dsn)
    folder = unquote(parse_qs(parts.query)["host"][0])
    async with Proxy(f"{folder}/.s.PGSQL.5432") as proxy:
        user = parts.username or "postgres"
        yield (
            proxy,
            f"postgresql://{user}@127.0.0.1:{proxy.port}{parts.path}?sslmode=disable",
        )


@asynccontextmanager
async def fronting(url: str) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy before an HTTP server on loopback, and the URL through it."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    async with Proxy((parts.hostname, parts.port)) as proxy:
        yield proxy, f"http://127.0.0.1:{proxy.port}"
