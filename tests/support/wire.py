"""A client's exchanges with a server that may break every rule."""

import asyncio
import os
import socket
import ssl
from collections.abc import Coroutine
from typing import Any

from daemon.salesforce.client import EndpointUrl, Salesforce
from daemon.salesforce.oauth import FixedToken
from tests.support import ways

PATIENCE = 20.0
"""Half of it is less than connections are kept."""


class Run(ways.Way):
    """Runs a scenario on one event loop; its client sends by one way."""

    def __call__(self, scenario: Coroutine[Any, Any, None]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(PATIENCE):
                await scenario

        with asyncio.Runner(loop_factory=self.loop_factory) as runner:
            runner.run(bounded())

    def client(self, session: Any, url: str) -> Salesforce:
        tokens = FixedToken(None)
        return Salesforce(session, EndpointUrl(url), tokens, exchange=self.make_exchange)


def reply(text: str, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()


def wire(end: asyncio.StreamWriter | ssl.SSLSocket) -> socket.socket:
    """The connection itself, to act on it before the event loop may, or below TLS."""
    held = end.get_extra_info("socket") if isinstance(end, asyncio.StreamWriter) else end
    return socket.socket(fileno=os.dup(held.fileno()))


async def cut(writer: asyncio.StreamWriter) -> None:
    writer.close()
