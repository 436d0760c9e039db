"""Client of the ACD's REST server: reads and creates events; follows no address that they name."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import orjson
import structlog

from daemon import logs
from daemon.acd.answers import (
    EVENT_STATUSES,
    EVENT_TYPES,
    AcdEvent,
    AcdFunctionError,
    AcdRefusedError,
    AcdSetupError,
    AcdUnavailableError,
    read_records,
)
from daemon.acd.record_stream import RecordStream
from daemon.salesforce.client import Session
from daemon.salesforce.transport import begin_request, describe, may_have_left

_log = structlog.get_logger()

TIMEOUT = 30.0
"""Seconds for a whole request."""
ANSWER_LIMIT = 64 * 1024 * 1024
"""Bytes of a response; the ACD always returns all events."""
MAY_EXIST = "; it may have been created: look with `callstatsd acd events`"


class Names(NamedTuple):
    """Types or statuses by ID, such as `AcdEventTypes.Callback`, and where they come from."""

    by_id: dict[int, str]
    source: Literal["acd", "built_in"]


class AcdEvents:
    """The functions under `acd/events`. All of them raise `AcdError`; none is repeated by itself.

    `base_url` ends with the ClientsID, without a slash. Where a permit is needed and none is held,
    they raise `WithdrawnError`, and nothing was sent.
    """

    def __init__(
        self, session: Session, base_url: str, token: str, limit: int = ANSWER_LIMIT
    ) -> None:
        self._session = session
        self._base_url = base_url
        self._token = token
        self._limit = limit

    async def events(self) -> list[AcdEvent]:
        """Return all events of the client, in the ACD's order."""
        return [AcdEvent.of(record) for record in await self._request("GET", "")]

    async def find(self, user_data: str) -> AcdEvent | None:
        """Return an event with exactly this UserData; reads the list as it arrives."""
        found: list[AcdEvent] = []
        stream = RecordStream()

        def look(records: Iterable[Mapping[str, Any]]) -> None:
            found.extend(AcdEvent.of(one) for one in records if one.get("UserData") == user_data)

        status = await self._exchange("GET", "", None, lambda part: look(stream.feed(part)))
        with self._token_hidden():
            look(stream.finish(status))
        return found[0] if found else None

    async def event(self, number: int) -> AcdEvent:
        """Return one event."""
        return _one(await self._request("GET", f"/event/{number}"))

    async def create(self, body: Mapping[str, Any]) -> AcdEvent:
        """Create an event; the existing one is returned where it got a comment instead."""
        try:
            return _one(await self._request("POST", "/create", orjson.dumps(body)))
        except AcdUnavailableError as error:
            if not error.sent:
                raise
            raise AcdUnavailableError(f"{error}{MAY_EXIST}", error.status) from error

    async def types(self) -> Names:
        """Return the types of events; those that are built in where the ACD does not list them."""
        return await self._names("/types", "AcdEventTypes", EVENT_TYPES)

    async def statuses(self) -> Names:
        """Return the statuses of events, likewise."""
        return await self._names("/status", "AcdEventStatus", EVENT_STATUSES)

    async def _names(self, path: str, prefix: str, built_in: Mapping[int, str]) -> Names:
        try:
            records = await self._request("GET", path)
        except AcdFunctionError:
            return Names(
                {number: f"{prefix}.{name}" for number, name in built_in.items()}, "built_in"
            )
        named: dict[int, str] = {
            record["ID"]: record["ShortText"]
            for record in records
            if type(record.get("ID")) is int and isinstance(record.get("ShortText"), str)
        }
        return Names(dict(sorted(named.items())), "acd")

    async def _request(
        self, method: str, path: str, body: bytes | None = None
    ) -> list[dict[str, Any]]:
        answer = bytearray()
        status = await self._exchange(method, path, body, answer.extend)
        with self._token_hidden():
            return read_records(status, answer)

    @contextmanager
    def _token_hidden(self) -> Iterator[None]:
        """Remove the token from the ACD's words: a server may repeat what it was sent."""
        try:
            yield
        except AcdRefusedError as error:
            raise AcdRefusedError(error.words.replace(self._token, "…"), error.status) from None

    async def _exchange(
        self, method: str, path: str, body: bytes | None, take: Callable[[bytes], None]
    ) -> int:
        """Return the status; `take` gets the answer's body as it arrives."""
        began = time.monotonic()
        url = f"{self._base_url}/acd/events{path}"
        headers = {"Authorization": f"Bearer {self._token}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        status: int | None = None
        begin_request()
        try:
            async with self._session.request(
                method, url, data=body, headers=headers, allow_redirects=False
            ) as response:
                status = response.status
                await self._read(response.content, take)
                return status
        except (
            aiohttp.ClientError,
            TimeoutError,
            OSError,
            UnicodeError,  # a host that is not a valid name
            asyncio.IncompleteReadError,
        ) as error:
            raise AcdUnavailableError(
                f"no response from the ACD at {urlsplit(url).netloc}: {describe(error)}; check the "
                "network, CALLSTATSD_ACD_URL, CALLSTATSD_CA_FILE and CALLSTATSD_ENVIRONMENT_PROXY",
                sent=await may_have_left(),
            ) from error
        finally:
            _log.debug(
                logs.REQUEST_DONE,
                method=method,
                path=urlsplit(url).path,
                status=status,
                seconds=round(time.monotonic() - began, 3),
            )

    async def _read(self, content: aiohttp.StreamReader, take: Callable[[bytes], None]) -> None:
        size = 0
        async for part in content.iter_any():
            size += len(part)
            if size > self._limit:
                raise AcdUnavailableError(f"the ACD's answer is longer than {self._limit:,} bytes")
            take(part)


def _one(records: list[dict[str, Any]]) -> AcdEvent:
    if not records:
        raise AcdSetupError("the ACD answers 200 without an event: correct CALLSTATSD_ACD_URL", 200)
    return AcdEvent.of(records[0])
