"""A Salesforce stand-in on loopback: the token endpoint and the ACD's three Apex classes.

Every request is checked: what differs from the contract is answered 400 and kept as a violation.
"""

import asyncio
import socket
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Protocol

from aiohttp import web

from daemon.demo import callback_check, dial_check, record_check
from daemon.demo.grants import grant_refusal
from daemon.demo.record_ids import Outcome, expected_outcome
from daemon.errors import CallstatsdError

TOKEN_PATH = "/services/oauth2/token"  # noqa: S105
WRITE_PATH = "/services/apexrest/jtelACD/writeCallStatistics"
CALLBACK_PATH = "/services/apexrest/jtelACD/createCallback"
DIAL_PATH = "/services/apexrest/jtelACD/onClickToDial"

KEY_SHAPES = {WRITE_PATH: record_check.KEY_SHAPE, CALLBACK_PATH: callback_check.KEY_SHAPE}
ID_FIELDS = {WRITE_PATH: "SalesForceID", CALLBACK_PATH: "SalesforceId"}

REFUSALS: dict[Outcome, tuple[int, str]] = {
    "missing": (404, "Salesforce record not found"),
    "conflict": (409, "Conflict in the data"),
    "rejected": (400, "The record refuses this"),
}
HEADERS = (*record_check.HEADERS, "Idempotency-Key")

EXPIRED = "Session expired or invalid"
MAX_VIOLATIONS = 1000
# One line finds its record locked at most this many times in a row.
MAX_LOCKS = 3


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request to one of the classes; `record` is empty if the body is no JSON object.

    `lane` is the first 15 characters of the record id, or the key where there is none.
    """

    number: int
    path: str
    key: str
    lane: str
    record: dict[str, Any]
    body: bytes
    headers: Mapping[str, str]
    started: float


@dataclass(frozen=True, slots=True)
class Received(Incoming):
    """A request and its result; status 0 if the connection was cut instead."""

    status: int
    ended: float


@dataclass(frozen=True, slots=True)
class Reply:
    """How a rule answers a request.

    Without a status the stand-in does its ordinary work and returns its result; with a 2xx it does
    the work, and returns this status if the work succeeded; with other statuses nothing is written.
    `cut` closes the connection unanswered: "before" the work or "after" it. `hold` and `delay`
    (seconds) delay the response after the work. A body of bytes or str is sent as it is, others as
    JSON; None is the ordinary body.
    """

    status: int | None = None
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    hold: asyncio.Event | None = None
    cut: Literal["before", "after"] | None = None


Rule = Callable[[Incoming], Reply | None]
TokenRule = Callable[[Mapping[str, str]], Reply | None]
DialRule = Callable[[Mapping[str, str]], Reply | None]


class Routes(Protocol):
    """Another stand-in, to serve on the same port."""

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add its paths."""


@dataclass(kw_only=True, eq=False)
class StandIn:
    """An org that inserts a task or a case in `work` seconds; see `serve`.

    The record is locked meanwhile, for both classes; a callback without one waits for nobody.
    `lock_rate` is the probability that others have locked the record. `empty` is the expected value
    of empty strings and times (None or ""), `without_id` accepts lines without SalesForceID.
    Without `keep_requests`, `requests` and `written` stay empty and memory stays flat.
    """

    seed: int = 0
    work: float = 0.0
    lock_rate: float = 0.0
    empty: str | None = None
    without_id: bool = False
    require_token: bool = True
    keep_requests: bool = True
    rule: Rule | None = None
    token_rule: TokenRule | None = None
    dial_rule: DialRule | None = None
    api_used: int = 0
    api_limit: int = 5_000_000
    requests: list[Received] = field(default_factory=list)
    written: dict[str, dict[str, Any]] = field(default_factory=dict)
    dials: list[dict[str, str]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    by_status: Counter[int] = field(default_factory=Counter)
    received: int = 0
    repeated: int = 0
    self_caused_locks: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    tokens_issued: int = 0
    tokens: set[str] = field(default_factory=set)
    locked: set[str] = field(default_factory=set)
    refused: dict[str, int] = field(default_factory=dict)
    # Hashes of written keys: a small part of what the keys would take.
    known: set[int] = field(default_factory=set)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def expire_tokens(self) -> None:
        """Refuse every token issued so far with 401."""
        self.tokens.clear()

    def counts(self) -> dict[str, Any]:
        """Return counts of what happened so far."""
        return {
            "requests": self.received,
            "written": len(self.known),
            "repeated": self.repeated,
            "by_status": {str(status): n for status, n in sorted(self.by_status.items())},
            "self_caused_locks": self.self_caused_locks,
            "most_in_flight": self.most_in_flight,
            "tokens": self.tokens_issued,
            "violations": len(self.violations),
        }

    async def until(self, condition: Callable[["StandIn"], bool]) -> None:
        """Wait until `condition` is true; it is evaluated at every request and response."""
        async with self.changed:
            await self.changed.wait_for(lambda: condition(self))

    async def notify(self) -> None:
        """Wake up those who wait in `until`."""
        async with self.changed:
            self.changed.notify_all()

    async def write(self, request: web.Request) -> web.StreamResponse:
        """Answer writeCallStatistics or createCallback."""
        started = time.monotonic()
        self.received += 1
        number = self.received
        self.api_used += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            body = await request.read()
            incoming, faults = self.read(number, request, body, started)
            await self.notify()
            status, response = await self.answer(request, incoming, faults)
        finally:
            self.in_flight -= 1
        self.by_status[status] += 1
        if self.keep_requests:
            seen = {each.name: getattr(incoming, each.name) for each in fields(incoming)}
            self.requests.append(Received(**seen, status=status, ended=time.monotonic()))
        await self.notify()
        return response

    def read(
        self, number: int, request: web.Request, body: bytes, started: float
    ) -> tuple[Incoming, list[str]]:
        """Parse a request, and keep what the contract does not allow."""
        path = request.path
        headers = {name: request.headers.get(name, "") for name in HEADERS}
        key = headers["Idempotency-Key"]
        faults = record_check.header_faults(headers, KEY_SHAPES[path], token=self.require_token)
        record, unreadable = record_check.parse(body)
        faults += unreadable or self.record_faults(path, record, key)
        if len(self.violations) < MAX_VIOLATIONS:
            self.violations += [f"{key or 'no key'}: {fault}" for fault in faults]
        lane = str(record.get(ID_FIELDS[path]) or "")[:15] or key
        return Incoming(number, path, key, lane, record, body, headers, started), faults

    def record_faults(self, path: str, record: dict[str, Any], key: str) -> list[str]:
        """Return how a record differs from what the class at `path` takes."""
        if path == CALLBACK_PATH:
            return callback_check.record_faults(record, key, self.empty)
        return record_check.record_faults(record, key, self.empty, without_id=self.without_id)

    async def answer(
        self, request: web.Request, incoming: Incoming, faults: list[str]
    ) -> tuple[int, web.StreamResponse]:
        """Apply the rule, or else do the work."""
        reply = (self.rule and self.rule(incoming)) or Reply()
        status, body = reply.status or 200, reply.body
        if reply.cut != "before" and 200 <= status < 300:
            result, result_body = await self.attempt(incoming, faults)
            status = status if result == 200 else result
            body = result_body if body is None or result != 200 else body
        if await delay_or_cut(request, reply):
            return 0, web.Response()
        usage = {"Sforce-Limit-Info": f"api-usage={self.api_used}/{self.api_limit}"}
        return status, respond(status, body, usage | dict(reply.headers))

    async def attempt(self, incoming: Incoming, faults: list[str]) -> tuple[int, Any]:
        """Write a record as the org does, under the record's lock."""
        token = incoming.headers["Authorization"].removeprefix("Bearer ")
        if faults:
            return 400, platform_error("JSON_PARSER_ERROR", "; ".join(faults))
        if self.require_token and token not in self.tokens:
            return 401, platform_error("INVALID_SESSION_ID", EXPIRED)
        record_id = incoming.record[ID_FIELDS[incoming.path]] or ""
        outcome = expected_outcome(record_id)
        if outcome != "exists":
            return REFUSALS[outcome]
        if not record_id and incoming.path == CALLBACK_PATH:
            await asyncio.sleep(self.work)
            return self.keep(incoming)
        lane = incoming.lane
        self.self_caused_locks += lane in self.locked
        if lane in self.locked or self.locked_by_others(incoming):
            return 423, "Record is locked"
        self.locked.add(lane)
        try:
            await asyncio.sleep(self.work)
        finally:
            self.locked.discard(lane)
        return self.keep(incoming)

    def keep(self, incoming: Incoming) -> tuple[int, Any]:
        """Insert or update what a request writes, and return the class's answer."""
        key = incoming.key
        repeated = hash(key) in self.known
        self.repeated += repeated
        self.known.add(hash(key))
        if self.keep_requests:
            self.written[key] = incoming.record
        if incoming.path == CALLBACK_PATH:
            return 200, {"CaseNumber": f"{incoming.record['AcdEventsID']:08}"}
        return 200, {"key": key, "updated": repeated}

    def locked_by_others(self, incoming: Incoming) -> bool:
        """Return whether others have locked the record: the same for the same seed, key and try."""
        tries = self.refused.pop(incoming.key, 0)
        draw = zlib.crc32(f"{self.seed} {incoming.key} {tries}".encode()) / 2**32
        if tries >= MAX_LOCKS or draw >= self.lock_rate:
            return False
        self.refused[incoming.key] = tries + 1
        return True

    async def token(self, request: web.Request) -> web.StreamResponse:
        """Answer a token request as the platform does."""
        form = {name: str(value) for name, value in (await request.post()).items()}
        reply = (self.token_rule and self.token_rule(form)) or Reply()
        if await delay_or_cut(request, reply):
            return web.Response()
        if reply.status not in (None, 200):
            response = respond(reply.status or 500, reply.body, reply.headers)
        elif refusal := grant_refusal(form, str(request.url.origin())):
            body = dict(zip(("error", "error_description"), refusal, strict=True))
            response = respond(400, body, {})
        else:
            body = self.issue(str(request.url.origin())) | (reply.body or {})
            response = respond(200, body, reply.headers)
        await self.notify()
        return response

    def issue(self, origin: str) -> dict[str, str]:
        """Issue one more token; earlier ones stay good."""
        self.tokens_issued += 1
        token = f"00DDemo!Token.{self.tokens_issued}"
        self.tokens.add(token)
        return {
            "access_token": token,
            "instance_url": origin,
            "token_type": "Bearer",
            "issued_at": str(int(time.time() * 1000)),
            "scope": "api",
        }

    async def dial(self, request: web.Request) -> web.StreamResponse:
        """Answer onClickToDial: whether a call may be placed, by the end of the record's id."""
        self.api_used += 1
        parameters, faults = dial_check.read(request.method, request.rel_url.raw_query_string)
        if request.method == "GET":
            faults += dial_check.header_faults(request.headers, token=self.require_token)
        if len(self.violations) < MAX_VIOLATIONS:
            self.violations += [f"onClickToDial: {fault}" for fault in faults]
        if self.keep_requests:
            self.dials.append(parameters)
        await self.notify()
        reply = (self.dial_rule and self.dial_rule(parameters)) or Reply()
        if await delay_or_cut(request, reply):
            return web.Response()
        status, body = self.permission(request, parameters, faults)
        if reply.status is not None:
            status, body = reply.status, reply.body
        usage = {"Sforce-Limit-Info": f"api-usage={self.api_used}/{self.api_limit}"}
        return respond(status, body, usage | dict(reply.headers))

    def permission(
        self, request: web.Request, parameters: dict[str, str], faults: list[str]
    ) -> tuple[int, Any]:
        """Return what the org says to an agent's call."""
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.require_token and token not in self.tokens:
            return 401, platform_error("INVALID_SESSION_ID", EXPIRED)
        if request.method != "GET":
            return 405, platform_error("METHOD_NOT_ALLOWED", "Allowed are GET")
        if faults:
            return 400, {"code": "BAD_REQUEST", "message": "; ".join(faults)}
        return dial_check.ANSWERS[expected_outcome(parameters["SalesForceID"])]

    async def read_only(self, request: web.Request) -> web.StreamResponse:
        """Answer GET at the class's path, as Apex does for a class that has only @HttpPost."""
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.require_token and token not in self.tokens:
            return respond(401, platform_error("INVALID_SESSION_ID", EXPIRED), {})
        text = "HTTP Method 'GET' not allowed. Allowed are POST"
        return respond(405, platform_error("METHOD_NOT_ALLOWED", text), {"Allow": "POST"})

    async def unknown(self, _request: web.Request) -> web.StreamResponse:
        """Answer a request for a path without a class."""
        return respond(404, platform_error("NOT_FOUND", "Could not find a match for URL"), {})

    async def summary(self, _request: web.Request) -> web.StreamResponse:
        """Return the counts, for a stand-in that runs alone."""
        return respond(200, self.counts(), {})


@asynccontextmanager
async def serve(standin: StandIn, port: int = 0, *beside: Routes) -> AsyncIterator[str]:
    """Serve on loopback and yield the base URL; port 0 takes a free one.

    Raises `CallstatsdError` for a port that cannot be used.
    """
    application = web.Application()
    application.router.add_post(TOKEN_PATH, standin.token)
    for path in (WRITE_PATH, CALLBACK_PATH):
        application.router.add_post(path, standin.write)
        application.router.add_get(path, standin.read_only, allow_head=False)
    application.router.add_route("*", DIAL_PATH, standin.dial)
    for other in beside:
        other.add_routes(application.router)
    application.router.add_get("/", standin.summary)
    application.router.add_route("*", "/{path:.*}", standin.unknown)
    # Responses that are still delayed when a test ends are not waited for.
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        try:
            listener = socket.create_server(("127.0.0.1", port))
        except OSError as error:
            raise CallstatsdError(
                f"port {port} of 127.0.0.1 cannot be used: choose another"
            ) from error
        await web.SockSite(runner, listener, backlog=1024).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        await runner.cleanup()


def respond(status: int, body: Any, headers: Mapping[str, str]) -> web.Response:
    """Return a response: bytes and text as they are, None as no body, the rest as JSON."""
    if body is None or isinstance(body, bytes | str):
        return web.Response(status=status, body=body, headers=headers)
    return web.json_response(body, status=status, headers=headers)


def platform_error(code: str, message: str) -> list[dict[str, str]]:
    """Return an error body of the platform, not of the endpoint."""
    return [{"message": message, "errorCode": code}]


async def delay_or_cut(request: web.Request, reply: Reply) -> bool:
    """Delay the response as the rule says; True if the connection was closed instead."""
    if reply.hold is not None:
        await reply.hold.wait()
    await asyncio.sleep(reply.delay)
    if reply.cut is not None and request.transport is not None:
        request.transport.close()
    return reply.cut is not None
