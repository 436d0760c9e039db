"""A Salesforce stand-in on loopback: the token endpoint, writeCallStatistics, and their faults.

It takes nothing on trust: what differs from the contract is answered 400 and kept as a violation.
"""

import asyncio
import base64
import json
import re
import socket
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Literal

from aiohttp import web

from daemon.demo.calls import expected_outcome, is_id
from daemon.errors import CallstatsdError

CLIENT_ID = "callstatsd-demo"
CLIENT_SECRET = "not-a-secret"  # noqa: S105 - the demo's own, worth nothing
USERNAME = "callstatsd@demo.invalid"
PASSWORD = "demo"  # noqa: S105
SECURITY_TOKEN = "Token"  # noqa: S105
AUDIENCES = ("https://login.salesforce.com", "https://test.salesforce.com")
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"

TOKEN_PATH = "/services/oauth2/token"  # noqa: S105
WRITE_PATH = "/services/apexrest/jtelACD/writeCallStatistics"

HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json",
    "User-Agent": r"callstatsd/\S+",
    "Authorization": r"Bearer \S+",
    "Idempotency-Key": r"\d+-\d+-\d+-\d+",
}
EXPIRED = "Session expired or invalid"
MOST_VIOLATIONS = 1000
# A record is never found locked more often than this in a row for one line.
MOST_LOCKS = 3


@dataclass(frozen=True, slots=True)
class Incoming:
    """A write request as it came in; `record` is empty if the body is no JSON object.

    `lane` is the first 15 characters of the record id, or the key where there is none.
    """

    number: int
    key: str
    lane: str
    record: dict[str, Any]
    body: bytes
    headers: Mapping[str, str]
    started: float


@dataclass(frozen=True, slots=True)
class Received(Incoming):
    """A write request and what became of it; status 0 if the connection was cut instead."""

    status: int
    ended: float


@dataclass(frozen=True, slots=True)
class Reply:
    """How a rule wants a request answered.

    Without a status the stand-in does its ordinary work and answers with that; with a 2xx it does
    the work, and answers so if the work succeeded; with any other status nothing is written.
    `cut` closes the connection unanswered: "before" the work or "after" it. `hold` and `delay`
    (seconds) stand between work and answer. A body of bytes or str is sent as it is, others as
    JSON; None leaves the ordinary body.
    """

    status: int | None = None
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    hold: asyncio.Event | None = None
    cut: Literal["before", "after"] | None = None


Rule = Callable[[Incoming], Reply | None]
TokenRule = Callable[[Mapping[str, str]], Reply | None]


@dataclass(kw_only=True, eq=False)
class StandIn:
    """An org that inserts a task in `work` seconds, its record locked meanwhile; see `serve`.

    `lock_rate` is the chance that somebody else holds the record. `empty` is what stands for empty
    strings and times (None or ""), `without_id` accepts lines without SalesForceID. Without
    `keep_requests`, `requests` and `written` stay empty and memory stays flat.
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
    api_used: int = 0
    api_limit: int = 5_000_000
    requests: list[Received] = field(default_factory=list)
    written: dict[str, dict[str, Any]] = field(default_factory=dict)
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
        """Let every token issued so far be answered with 401."""
        self.tokens.clear()

    def counts(self) -> dict[str, Any]:
        """Sum up what happened so far."""
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
        """Wait until `condition` holds; it is looked at as requests come in and are answered."""
        async with self.changed:
            await self.changed.wait_for(lambda: condition(self))

    async def tell(self) -> None:
        """Wake those who wait in `until`."""
        async with self.changed:
            self.changed.notify_all()

    async def write(self, request: web.Request) -> web.StreamResponse:
        """Answer writeCallStatistics."""
        started = time.monotonic()
        self.received += 1
        number = self.received
        self.api_used += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            body = await request.read()
            incoming, faults = self.read(number, request.headers, body, started)
            await self.tell()
            status, response = await self.answer(request, incoming, faults)
        finally:
            self.in_flight -= 1
        self.by_status[status] += 1
        if self.keep_requests:
            seen = {each.name: getattr(incoming, each.name) for each in fields(incoming)}
            self.requests.append(Received(**seen, status=status, ended=time.monotonic()))
        await self.tell()
        return response

    def read(
        self, number: int, sent: Mapping[str, str], body: bytes, started: float
    ) -> tuple[Incoming, list[str]]:
        """Take a request apart, and note what the contract does not allow."""
        headers = {name: sent.get(name, "") for name in HEADERS}
        key = headers["Idempotency-Key"]
        faults = header_faults(headers, token=self.require_token)
        record, unreadable = parse(body)
        faults += unreadable or record_faults(record, key, self.empty, without_id=self.without_id)
        if len(self.violations) < MOST_VIOLATIONS:
            self.violations += [f"{key or 'no key'}: {fault}" for fault in faults]
        lane = str(record.get("SalesForceID") or "")[:15] or key
        return Incoming(number, key, lane, record, body, headers, started), faults

    async def answer(
        self, request: web.Request, incoming: Incoming, faults: list[str]
    ) -> tuple[int, web.StreamResponse]:
        """Follow the rule, or else do the work."""
        reply = (self.rule and self.rule(incoming)) or Reply()
        status, body = reply.status or 200, reply.body
        if reply.cut != "before" and 200 <= status < 300:
            found, said = await self.attempt(incoming, faults)
            status = status if found == 200 else found
            body = said if body is None or found != 200 else body
        if await leave(request, reply):
            return 0, web.Response()
        usage = {"Sforce-Limit-Info": f"api-usage={self.api_used}/{self.api_limit}"}
        return status, respond(status, body, usage | dict(reply.headers))

    async def attempt(self, incoming: Incoming, faults: list[str]) -> tuple[int, Any]:
        """Do what the org does with a record, under the record's lock."""
        token = incoming.headers["Authorization"].removeprefix("Bearer ")
        key, lane = incoming.key, incoming.lane
        if faults:
            return 400, platform_error("JSON_PARSER_ERROR", "; ".join(faults))
        if self.require_token and token not in self.tokens:
            return 401, platform_error("INVALID_SESSION_ID", EXPIRED)
        destiny = expected_outcome(incoming.record["SalesForceID"] or "")
        if destiny == "missing":
            return 404, "Salesforce record not found"
        if destiny == "conflict":
            return 409, "Conflict in the data"
        self.self_caused_locks += lane in self.locked
        if lane in self.locked or self.locked_by_others(incoming):
            return 423, "Record is locked"
        self.locked.add(lane)
        try:
            await asyncio.sleep(self.work)
        finally:
            self.locked.discard(lane)
        repeated = hash(key) in self.known
        self.repeated += repeated
        self.known.add(hash(key))
        if self.keep_requests:
            self.written[key] = incoming.record
        return 200, {"key": key, "updated": repeated}

    def locked_by_others(self, incoming: Incoming) -> bool:
        """Draw whether somebody else holds the record: the same for the same seed, key and try."""
        tries = self.refused.pop(incoming.key, 0)
        draw = zlib.crc32(f"{self.seed} {incoming.key} {tries}".encode()) / 2**32
        if tries >= MOST_LOCKS or draw >= self.lock_rate:
            return False
        self.refused[incoming.key] = tries + 1
        return True

    async def token(self, request: web.Request) -> web.StreamResponse:
        """Answer the three OAuth flows as the platform does."""
        form = {name: str(value) for name, value in (await request.post()).items()}
        reply = (self.token_rule and self.token_rule(form)) or Reply()
        if await leave(request, reply):
            return web.Response()
        if reply.status not in (None, 200):
            response = respond(reply.status or 500, reply.body, reply.headers)
        elif refusal := grant_refusal(form, str(request.url.origin())):
            body = dict(zip(("error", "error_description"), refusal, strict=True))
            response = respond(400, body, {})
        else:
            body = self.issue(str(request.url.origin())) | (reply.body or {})
            response = respond(200, body, reply.headers)
        await self.tell()
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

    async def read_only(self, request: web.Request) -> web.StreamResponse:
        """Answer GET at the class's path, as Apex does for a class that has only @HttpPost."""
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.require_token and token not in self.tokens:
            return respond(401, platform_error("INVALID_SESSION_ID", EXPIRED), {})
        text = "HTTP Method 'GET' not allowed. Allowed are POST"
        return respond(405, platform_error("METHOD_NOT_ALLOWED", text), {"Allow": "POST"})

    async def unknown(self, _request: web.Request) -> web.StreamResponse:
        """Answer a path that no class serves."""
        return respond(404, platform_error("NOT_FOUND", "Could not find a match for URL"), {})

    async def summary(self, _request: web.Request) -> web.StreamResponse:
        """Show the counts to whoever runs the stand-in alone."""
        return respond(200, self.counts(), {})


@asynccontextmanager
async def serve(standin: StandIn, port: int = 0) -> AsyncIterator[str]:
    """Serve on loopback and give the base URL; port 0 takes a free one.

    Raises `CallstatsdError` for a port that cannot be had.
    """
    application = web.Application()
    application.router.add_post(TOKEN_PATH, standin.token)
    application.router.add_post(WRITE_PATH, standin.write)
    application.router.add_get(WRITE_PATH, standin.read_only, allow_head=False)
    application.router.add_get("/", standin.summary)
    application.router.add_route("*", "/{path:.*}", standin.unknown)
    # Answers that are still held back when a test ends are not waited for.
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        try:
            listener = socket.create_server(("127.0.0.1", port))
        except OSError as error:
            raise CallstatsdError(
                f"port {port} of 127.0.0.1 cannot be had: choose another"
            ) from error
        await web.SockSite(runner, listener, backlog=1024).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        await runner.cleanup()


def respond(status: int, body: Any, headers: Mapping[str, str]) -> web.Response:
    """Send bytes and text as they are, None as nothing, and the rest as JSON."""
    if body is None or isinstance(body, bytes | str):
        return web.Response(status=status, body=body, headers=headers)
    return web.json_response(body, status=status, headers=headers)


def platform_error(code: str, message: str) -> list[dict[str, str]]:
    """Give the array that the platform, not the endpoint, answers with."""
    return [{"message": message, "errorCode": code}]


async def leave(request: web.Request, reply: Reply) -> bool:
    """Hold the answer back as long as the rule wants; True if the connection is closed instead."""
    if reply.hold is not None:
        await reply.hold.wait()
    await asyncio.sleep(reply.delay)
    if reply.cut is not None and request.transport is not None:
        request.transport.close()
    return reply.cut is not None


def grant_refusal(form: Mapping[str, str], origin: str) -> tuple[str, str] | None:
    """Tell why a token request is refused, as error and description; None grants it."""
    grant = form.get("grant_type")
    if grant == JWT_BEARER:
        return assertion_refusal(form.get("assertion", ""), origin)
    if grant not in ("client_credentials", "password"):
        return "unsupported_grant_type", "grant type not supported"
    if form.get("client_id") != CLIENT_ID:
        return "invalid_client_id", "client identifier invalid"
    if form.get("client_secret") != CLIENT_SECRET:
        return "invalid_client", "invalid client credentials"
    person = (form.get("username"), form.get("password"))
    if grant == "password" and person != (USERNAME, PASSWORD + SECURITY_TOKEN):
        return "invalid_grant", "authentication failure"
    return None


def assertion_refusal(assertion: str, origin: str) -> tuple[str, str] | None:
    """Check the claims of a JWT; its signature is taken on trust, since there is no key here."""
    try:
        head, claims, _ = (
            base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in assertion.split(".")
        )
        algorithm, claim = json.loads(head).get("alg"), json.loads(claims)
        left = float(claim["exp"]) - time.time()
    except (ValueError, KeyError, TypeError, AttributeError):
        return "invalid_grant", "invalid assertion"
    if algorithm != "RS256" or claim.get("aud") not in (*AUDIENCES, origin):
        return "invalid_grant", "audience is invalid"
    if claim.get("iss") != CLIENT_ID:
        return "invalid_client_id", "client identifier invalid"
    if claim.get("sub") != USERNAME:
        return "invalid_grant", "user hasn't approved this consumer"
    return None if 0 < left <= 300 else ("invalid_grant", "expired authorization code")


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a JSON object whose keys are all different."""
    if len(pairs) != len(dict(pairs)):
        raise ValueError("a key occurs twice")
    return dict(pairs)


def parse(body: bytes) -> tuple[dict[str, Any], list[str]]:
    """Read a body as one JSON object, strictly; what is wrong comes as sentences."""
    try:
        record = json.loads(body.decode("utf-8"), object_pairs_hook=once)
    except ValueError as error:
        return {}, [f"the body is not UTF-8 JSON: {error}"]
    return (record, []) if isinstance(record, dict) else ({}, ["the body is not an object"])


def header_faults(headers: Mapping[str, str], *, token: bool) -> list[str]:
    """Compare the headers with section 5 of the contract."""
    return [
        f"{name} is not {shape}"
        for name, shape in HEADERS.items()
        if (token or name != "Authorization") and not shaped(shape)(headers[name])
    ]


def shaped(pattern: str) -> Callable[[Any], bool]:
    """Make a test for strings of a shape."""
    return lambda v: (
        isinstance(v, str) and re.fullmatch(pattern, v, re.ASCII | re.DOTALL) is not None
    )


def is_time(value: Any) -> bool:
    """Tell a real date and time without fraction and offset."""
    try:
        shape = shaped(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
        return shape(value) and datetime.fromisoformat(value) is not None
    except ValueError:
        return False


def is_integer(value: Any) -> bool:
    """Tell an integer; JSON's true is none."""
    return type(value) is int


TEXT = ("text", shaped(".+"))
TIME = ("a time", is_time)
NUMBER = ("an integer", is_integer)
FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "SalesForceID": ("a record id", is_id),
    "jtelStatisticsPartAID": NUMBER,
    "AgentUID": TEXT,
    "bOutbound": ("0 or 1", lambda value: is_integer(value) and value in (0, 1)),
    "CallerID": ("digits without leading 00", shaped("(?!00)[0-9]+")),
    "ServiceNumber": TEXT,
    "ServiceName": TEXT,
    "AcdAgentGroupsName": TEXT,
    "AcdConfigurationGroupsName": TEXT,
    "dtCallStart": TIME,
    "dtCallAlert": TIME,
    "dtCallConnect": TIME,
    "dtCallEnd": TIME,
    "nDuration": ("an integer from -1 on", lambda value: is_integer(value) and value >= -1),
    "CONNRES": NUMBER,
    "Cause": NUMBER,
    "TransactionCodeExportKey": TEXT,
}


def record_faults(
    record: dict[str, Any], key: str, empty: str | None, *, without_id: bool
) -> list[str]:
    """Compare a record with section 4 of the contract."""
    if list(record) != list(FIELDS):
        return [f"the keys are {', '.join(record)}"]
    required = {"jtelStatisticsPartAID", "bOutbound", "nDuration"}
    if not without_id:
        required.add("SalesForceID")
    faults = []
    for name, (what, fits) in FIELDS.items():
        void = None if name in ("CONNRES", "Cause") else empty
        if not fits(record[name]) and (name in required or record[name] != void):
            faults.append(f"{name} is not {what}: {record[name]!r}")
    if key.partition("-")[0] != str(record["jtelStatisticsPartAID"]):
        faults.append(f"the key is not one of call {record['jtelStatisticsPartAID']}")
    if (record["nDuration"] == -1) != (record["dtCallConnect"] == empty):
        faults.append("nDuration is -1 with a connect, or another without")
    return faults
