"""The API listener over HTTP, before a Salesforce stand-in; a client that checks its answers."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import aiohttp
from yarl import URL

from daemon.demo.record_ids import ids
from daemon.demo.standin import DIAL_PATH, StandIn
from daemon.ingest.service_numbers import ServiceNumberSource
from daemon.ingest.source import open_source
from daemon.salesforce.client import EndpointUrl, open_session
from daemon.salesforce.dial_client import DialClient
from daemon.salesforce.oauth import FixedToken
from daemon.web.api import Api, malformed
from daemon.web.dialling import Dialler
from daemon.web.listener import PortOptions, listening
from tests.support.raw import free_port

TOKEN = "a-Token-of-ours-0123"
RECORD = ids(1)[1]
QUERY = {"SalesForceID": RECORD, "CallerID": "+49 (0)221 26", "AgentUID": "agent.y"}
QUESTION = (
    f"GET /onClickToDial?{urlencode(QUERY)} HTTP/1.1\r\nHost: x\r\n"
    f"Authorization: Bearer {TOKEN}\r\n\r\n"
).encode()
OPTIONS = PortOptions(malformed=malformed)
Answer = tuple[int, dict[str, Any], Mapping[str, str]]


@asynccontextmanager
async def serving(
    standin: StandIn,
    url: str,
    dsn: str | None = None,
    *,
    fallback: str = "",
    seconds: float = 3.0,
    options: PortOptions = OPTIONS,
) -> AsyncIterator[int]:
    """The listener before a stand-in at `url` and a source, or none; yields its port."""
    standin.tokens.add("ours")
    port = free_port()
    zone = ZoneInfo("Europe/Berlin")
    dsn = dsn or f"postgresql://x@127.0.0.1:{free_port()}/x"
    async with (
        open_source(dsn, ("jtelstats",), zone, None) as source,
        open_session("1", 60.0) as session,
    ):
        client = DialClient(session, EndpointUrl(f"{url}{DIAL_PATH}"), FixedToken("ours"), seconds)
        numbers = ServiceNumberSource(source.database, ("jtelstats",), None)
        dialler = Dialler(client, numbers, seconds, fallback)
        async with listening(Api(dialler, TOKEN).answer, ("127.0.0.1", port), options):
            yield port
        dialler.close()


async def ask(
    port: int,
    query: Mapping[str, str] | str = QUERY,
    *,
    token: str | None = TOKEN,
    method: str = "GET",
    path: str = "/onClickToDial",
    **more: Any,
) -> Answer:
    """Ask, and check what every answer has."""
    text = query if isinstance(query, str) else urlencode(query)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession() as session,
        session.request(
            method,
            URL(f"http://127.0.0.1:{port}{path}?{text}", encoded=True),
            headers=headers,
            **more,
        ) as response,
    ):
        content = {} if method == "HEAD" else await response.json()
        given = response.headers
        assert given["Cache-Control"] == "no-store"
        assert given["Content-Type"] == "application/json"
        assert given["X-Content-Type-Options"] == "nosniff"
        assert not [name for name in given if name.startswith("Access-Control")]
        if response.status != 200 and method != "HEAD":
            assert list(content) == ["error", "message"]
            assert content["message"]
        return response.status, content, given
