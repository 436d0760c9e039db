"""A Telegra installation of a test's own, and an ACD that tells it of calls over HTTP."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from yarl import URL

from tests.support.call_centre import CallCentre
from tests.support.raw import free_port
from tests.support.telegra_site import TELEGRA_SCHEMA

TOKEN = "a-Token_of-Telegra-01"


@dataclass
class TelegraCentre(CallCentre):
    """Its instances listen each at a port of its own."""

    port: int = field(default_factory=free_port)

    def settings(self, **more: str) -> dict[str, str]:
        own = {
            "source_schemas": TELEGRA_SCHEMA,
            "send_without_salesforce_id": "true",
            "telegra_token": TOKEN,
            "telegra_grace": "0",
            "api_listen": f"127.0.0.1:{self.port}",
        }
        return super().settings(**(own | more))

    async def listening(self, port: int | None = None) -> None:
        """Wait until the door is open."""
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port or self.port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return


class Acd:
    """Tells notifications, one after another over kept connections."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self._session = session
        self._url = URL(f"http://127.0.0.1:{port}/telegra/{TOKEN}")

    async def tell(
        self, parameters: Mapping[str, str], method: str = "GET", form: str = "query"
    ) -> int:
        """Tell of something, in the query or in a body: the answer's status."""
        given: dict[str, Any] = {"params": parameters}
        if form == "json":
            given = {"json": dict(parameters)}
        elif form == "form":
            given = {"data": dict(parameters)}
        async with self._session.request(method, self._url, **given) as response:
            await response.read()
            return response.status

    async def tell_until_kept(self, parameters: Mapping[str, str], **how: str) -> int:
        """Repeat it, as an ACD with a queue does, until it is answered 200: how many tries."""
        tries = 0
        while True:
            tries += 1
            try:
                if await self.tell(parameters, **how) == 200:
                    return tries
            except (aiohttp.ClientError, OSError):
                pass
            await asyncio.sleep(0.05)
