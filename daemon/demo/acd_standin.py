"""A stand-in for the ACD's REST server, strict about tokens, headers and what a new event says."""

import json
import re
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from aiohttp import web

from daemon.acd.answers import ALERT_PREFIX
from daemon.demo.standin import MAX_VIOLATIONS, Reply, delay_or_cut, respond

BASE_PATH = "/rest/v1.0/1"
"""The path of `{baseURL}`, for the client 1."""
TOKEN = "acd-demo-token"  # noqa: S105 - the demo's own, worth nothing
GROUP = 235

TYPES = ("VoiceMail", "Fax", "Callback", "SMS", "Email", "WorkFlowConnector", "Chat")
STATUSES = {
    0: "EnterSystem",
    1: "Distribute",
    2: "TransportSMTP",
    4: "TransportToGroup",
    10: "TransportAgent",
    20: "New",
    30: "Seen",
    40: "Remind",
    98: "ChatClosed",
    99: "Done",
    100: "Error",
}
INTEGERS = {
    "AcdEventTypesID",
    "AcdGroupsID",
    "AcdConfigurationGroupsID",
    "AcdAgentGroupsID",
    "UsersID",
    "nPriority",
}
REQUIRED_TEXTS = {"Sender", "Subject"}
TEXTS = REQUIRED_TEXTS | {
    "Receiver",
    "Body",
    "CrmURL",
    "UserData",
    "dtAppointmentDate",
    "dtAppointmentTime",
}
PAIR = {"AcdConfigurationGroupsID", "AcdAgentGroupsID"}
SAMPLES: tuple[dict[str, Any], ...] = (
    {"AcdEventTypesID": 5, "AcdEventStatusID": 99, "Sender": "erika@example.com",
     "Subject": "Rechnung 4711"},
    {"AcdEventTypesID": 3, "AcdEventStatusID": 20, "Sender": "493023125017",
     "Subject": "Bitte um Rückruf"},
    {"AcdEventTypesID": 6, "AcdEventStatusID": 30, "Sender": "shop", "UserData": "987654",
     "Subject": "Bestellung 4712 fehlt"},
)  # fmt: skip


class AcdRequest(NamedTuple):
    """A request to the ACD: its path below the base, and its body, which a GET has not."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


Answer = tuple[int, Any]
AcdRule = Callable[[AcdRequest], Reply | None]


def local_time() -> datetime:
    """Return the time on the ACD's clock, without its zone."""
    return datetime.now(ZoneInfo("Europe/Berlin")).replace(tzinfo=None)


@dataclass(kw_only=True, eq=False)
class AcdStandIn:
    """An ACD of client 1 with some groups, where `unique_groups` take no duplicates.

    A duplicate is an open event of the same type, group, sender and user data. Without `lists` it
    has neither types nor statuses. A `rule` answers as that of the other stand-in does. Without
    `keep_requests` the list of requests stays empty.
    """

    groups: set[int] = field(default_factory=lambda: {GROUP})
    unique_groups: set[int] = field(default_factory=set)
    lists: bool = True
    keep_requests: bool = True
    rule: AcdRule | None = None
    now: Callable[[], datetime] = local_time
    events: list[dict[str, Any]] = field(default_factory=list)
    requests: list[AcdRequest] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Serve everything below the base path's root, so that a wrong client is answered too."""
        router.add_route("*", "/rest/{path:.*}", self.handle)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        incoming = AcdRequest(
            request.method,
            request.path.removeprefix(BASE_PATH),
            dict(request.headers),
            await request.read(),
        )
        if self.keep_requests:
            self.requests.append(incoming)
        for fault in header_faults(incoming):
            if len(self.violations) < MAX_VIOLATIONS:
                self.violations.append(f"{incoming.method} {incoming.path}: {fault}")
        reply = (self.rule and self.rule(incoming)) or Reply()
        status, body = reply.status or 200, reply.body
        if reply.cut != "before" and 200 <= status < 300:
            done, result = self.answer(incoming, request.path.startswith(f"{BASE_PATH}/"))
            status = status if done == 200 else done
            body = result if body is None or done != 200 else body
        if await delay_or_cut(request, reply):
            return web.Response()
        return respond(status, body, reply.headers)

    @property
    def alerts(self) -> list[dict[str, Any]]:
        """Events that a daemon raised."""
        return [
            event for event in self.events if (event["UserData"] or "").startswith(ALERT_PREFIX)
        ]

    def add_samples(self) -> None:
        """Add events as agents have them in front of them."""
        for fields in SAMPLES:
            self.events.append(self.event({"AcdGroupsID": GROUP, **fields}))

    def answer(self, request: AcdRequest, of_client: bool) -> Answer:
        """Do what a request asks for."""
        if request.headers.get("Authorization") != f"Bearer {TOKEN}" or not of_client:
            return refusal(401, "Unauthorized")
        match request.method, request.path:
            case "GET", "/acd/events":
                return 200, listed(self.events, "dtCreated")
            case "GET", "/acd/events/types" if self.lists:
                rows = list(enumerate(TYPES, 1))
                return 200, listed([row("AcdEventTypes", *each) for each in rows], "ID")
            case "GET", "/acd/events/status" if self.lists:
                rows = list(STATUSES.items())
                return 200, listed([row("AcdEventStatus", *each) for each in rows], "ID")
            case "POST", "/acd/events/create":
                return self.create(request)
            case "GET", path if match := re.fullmatch(r"/acd/events/event/([^/]+)", path):
                return self.one(match[1])
        return 404, "<html><body>Not Found</body></html>"

    def one(self, number: str) -> Answer:
        """Return an event by its ID."""
        if not re.fullmatch(r"[0-9]{1,18}", number):
            return refusal(400, f"{number} is no AcdEventsID")
        found = [event for event in self.events if event["ID"] == int(number)]
        return single(found[0]) if found else refusal(404, f"AcdEvent {number} not found")

    def create(self, request: AcdRequest) -> Answer:
        """Create an event, or add a comment to the one that is there."""
        if request.headers.get("Content-Type") != "application/json":
            return refusal(400, "Content-Type must be application/json")
        try:
            body = json.loads(request.body)
        except ValueError:
            return refusal(400, "the body is no JSON")
        if not isinstance(body, dict):
            return refusal(400, "the body is no JSON object")
        if faults := body_faults(body):
            return refusal(400, "; ".join(faults))
        group = body.get("AcdGroupsID")
        if group is not None and group not in self.groups:
            return refusal(404, f"AcdGroup {group} not found")
        made = {key: value for key, value in body.items() if key != "Body"}
        for event in self.events if group in self.unique_groups else ():
            same = ("AcdEventTypesID", "AcdGroupsID", "Sender", "UserData")
            if event["AcdEventStatusID"] != 99 and all(event[k] == made.get(k) for k in same):
                return single(event | {"Result_": "UPDATED"})
        event = self.event(made, body.get("Body", ""))
        self.events.append(event)
        return single(event)

    def event(self, fields: Mapping[str, Any], body: str = "") -> dict[str, Any]:
        """Return a new event."""
        created = self.now().isoformat(timespec="milliseconds")
        return dict.fromkeys(sorted(INTEGERS | TEXTS - {"Body"})) | {
            "ID": 102039 + len(self.events),
            "AcdEventStatusID": 1,
            "EventData": f"<eventData><body>{body}</body></eventData>",
            "dtCreated": created,
            "dtModified": created,
            "dtLastModified": created,
            **fields,
        }


def header_faults(request: AcdRequest) -> list[str]:
    """Return what a client of the contract never sends."""
    faults = []
    if request.headers.get("Accept") != "application/json":
        faults.append("Accept is not application/json")
    if not re.fullmatch(r"callstatsd/\S+", request.headers.get("User-Agent", "")):
        faults.append("User-Agent is not callstatsd/VERSION")
    if request.method == "GET" and request.body:
        faults.append("GET with a body")
    return faults


def body_faults(body: dict[str, Any]) -> list[str]:
    """Return what is wrong with a new event."""
    faults = [f"unknown parameter {name}" for name in sorted(body.keys() - INTEGERS - TEXTS)]
    faults += [
        f"{name} must be an integer"
        for name in sorted(body.keys() & INTEGERS)
        if type(body[name]) is not int
    ]
    faults += [
        f"{name} must be a string"
        for name in sorted(body.keys() & TEXTS)
        if not isinstance(body[name], str)
    ]
    faults += [f"{name} is required" for name in sorted(REQUIRED_TEXTS) if not body.get(name)]
    if body.get("AcdEventTypesID") not in range(1, len(TYPES) + 1):
        faults.append("AcdEventTypesID is required and must be a type's ID")
    if ("AcdGroupsID" in body) == bool(PAIR & body.keys()) or len(PAIR & body.keys()) == 1:
        faults.append("either AcdGroupsID, or AcdConfigurationGroupsID with AcdAgentGroupsID")
    if "Body" in body and body.get("AcdEventTypesID") != 3:
        faults.append("Body is for callbacks only")
    return faults


def listed(records: list[dict[str, Any]], order: str) -> dict[str, Any]:
    """Return the answer of a function that lists."""
    return {
        "filter": "",
        "limitStart": 0,
        "limitPageSize": -1,
        "records": records,
        "count": len(records),
        "orderBy": order,
        "ascending": True,
        "status": 200,
    }


def single(event: dict[str, Any]) -> Answer:
    """Return the answer of a function that gives one event."""
    return 200, {"records": [event], "count": 1, "status": 200}


def row(table: str, number: int, name: str) -> dict[str, Any]:
    """Return a record of a list of names."""
    return {"ShortText": f"{table}.{name}", "ID": number}


def refusal(status: int, error: str) -> Answer:
    """Return an error as the REST server words it."""
    return status, {"status": status, "error": error}


def settings(url: str) -> dict[str, str]:
    """Return the settings of a daemon whose alerts are raised here; `url` has no path."""
    return {
        "CALLSTATSD_ACD_URL": f"{url}{BASE_PATH}",
        "CALLSTATSD_ACD_TOKEN": TOKEN,
        "CALLSTATSD_ALERT_GROUP_ID": str(GROUP),
    }


@asynccontextmanager
async def serve_acd(standin: AcdStandIn) -> AsyncIterator[str]:
    """Serve on a free port of loopback and yield the base URL with the ClientsID."""
    application = web.Application()
    standin.add_routes(application.router)
    # Responses that are still delayed when a test ends are not waited for.
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        listener = socket.create_server(("127.0.0.1", 0))
        await web.SockSite(runner, listener).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}{BASE_PATH}"
    finally:
        await runner.cleanup()
