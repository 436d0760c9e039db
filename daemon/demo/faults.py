"""Simulated faults: a rule that lets the stand-in fail as Salesforce does.

Every fault ends, so that each line can be settled: random ones affect a line at most
`MAX_PER_LINE` times, the others end with the simulation.
"""

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial

from daemon.demo.standin import Incoming, Reply, Routes, StandIn, platform_error, serve

MAX_PER_LINE = 3

NO_ROW_LOCK = "unable to obtain exclusive access to this record or 1 records"
PAGE = "<html><head><title>Error</title></head><body>An internal server error</body></html>"


@dataclass(frozen=True, slots=True)
class RandomFault:
    """Affects a random share `rate` of requests, each with one of `replies`."""

    name: str
    rate: float
    replies: Sequence[Callable[[], Reply]]


@dataclass(frozen=True, slots=True)
class Outage:
    """Affects every request from `since` until `until` seconds, at most `times`."""

    name: str
    since: float
    until: float
    reply: Callable[[], Reply]
    times: float = math.inf


@dataclass(frozen=True, slots=True)
class Expiry:
    """Tokens used before `at` seconds are refused from then on."""

    at: float


def locked() -> Reply:
    """Return 423, as an endpoint outside of Apex may."""
    return Reply(423, "Record is locked")


def locked_as_apex() -> Reply:
    """Return what Salesforce makes of a 423 that an Apex class sets."""
    return Reply(500, "Invalid status code for HTTP response: 423")


def row_locked(status: int) -> Reply:
    """Return the platform's error for a row that is locked."""
    return Reply(status, platform_error("UNABLE_TO_LOCK_ROW", NO_ROW_LOCK))


def row_locked_in_trigger() -> Reply:
    """Return the error of an Apex class that does not catch the row lock's exception."""
    said = f"System.DmlException: Insert failed. First error: UNABLE_TO_LOCK_ROW, {NO_ROW_LOCK}: []"
    return Reply(500, platform_error("APEX_ERROR", said))


def failed() -> Reply:
    """Return the error of an Apex class that threw another exception."""
    said = "System.NullPointerException: Attempt to de-reference a null object"
    return Reply(500, platform_error("APEX_ERROR", said))


def page(status: int) -> Reply:
    """Return an HTML page, as proxies before the org do."""
    return Reply(status, PAGE, {"Content-Type": "text/html"})


def empty(status: int) -> Reply:
    """Return a status without a body; with 200 the line is written."""
    return Reply(status, "")


def cut_before() -> Reply:
    """Cut the connection before the line is written."""
    return Reply(cut="before")


def cut_after() -> Reply:
    """Cut the connection after the line was written."""
    return Reply(cut="after")


def slow(seconds: float) -> Reply:
    """Write the line, and respond late."""
    return Reply(delay=seconds)


def unavailable() -> Reply:
    """Return 503 without Retry-After."""
    return Reply(503, page(503).body)


def unavailable_for(seconds: int) -> Reply:
    """Return 503 with Retry-After in seconds."""
    return Reply(503, "", {"Retry-After": str(seconds)})


def unavailable_until(seconds: int) -> Reply:
    """Return 503 with Retry-After as a date; in whole seconds, so up to 1 s early."""
    moment = datetime.now(UTC) + timedelta(seconds=seconds)
    return Reply(503, "", {"Retry-After": format_datetime(moment, usegmt=True)})


def limit_exceeded() -> Reply:
    """Return the error of an org whose daily API calls are used up."""
    said = "TotalRequests Limit exceeded."
    return Reply(403, platform_error("REQUEST_LIMIT_EXCEEDED", said))


def endpoint_missing() -> Reply:
    """Return the error of an org without the Apex class, as after a failed deployment."""
    return Reply(404, platform_error("NOT_FOUND", "Could not find a match for URL"))


def session_expired() -> Reply:
    """Return the error for a token that has expired."""
    return Reply(401, platform_error("INVALID_SESSION_ID", "Session expired or invalid"))


LOCKS = (
    RandomFault("record locked: 423", 0.05, (locked,)),
    RandomFault("record locked: 423 as Apex sends it", 0.05, (locked_as_apex,)),
    RandomFault(
        "record locked: UNABLE_TO_LOCK_ROW",
        0.05,
        (partial(row_locked, 400), partial(row_locked, 500), row_locked_in_trigger),
    ),
)
RANDOM_FAULTS = (
    *LOCKS,
    RandomFault("500", 0.04, (failed,)),
    RandomFault("HTML instead of JSON", 0.03, (partial(page, 500), partial(page, 502))),
    RandomFault("no body", 0.03, (partial(empty, 500), partial(empty, 504), partial(empty, 200))),
    RandomFault("cut before the work", 0.02, (cut_before,)),
    RandomFault("cut after the work", 0.02, (cut_after,)),
    RandomFault("slow answer", 0.04, (partial(slow, 0.2), partial(slow, 1.3))),
)


class FaultInjector:
    """A rule for `StandIn`; `counts` has the number of faults by name.

    Random faults depend on the seed, the line and its earlier faults, the others on the seconds
    since `start` (of `time.monotonic`).
    """

    def __init__(
        self,
        seed: int,
        start: float,
        *,
        random_faults: Sequence[RandomFault] = RANDOM_FAULTS,
        outages: Sequence[Outage] = (),
        expiries: Sequence[Expiry] = (),
    ) -> None:
        self.seed = seed
        self.start = start
        self.random_faults = random_faults
        self.outages = outages
        self.expiries = expiries
        self.counts: Counter[str] = Counter()
        self._of_line: Counter[str] = Counter()
        self._old_tokens: dict[Expiry, set[str]] = {expiry: set() for expiry in expiries}

    @property
    def locks(self) -> int:
        """Number of requests whose record was locked, whatever the response was."""
        return sum(self.counts[fault.name] for fault in LOCKS)

    def __call__(self, incoming: Incoming) -> Reply | None:
        """Return the reply to a request; None if the org is to handle it."""
        elapsed = incoming.started - self.start
        expired = self._expired(incoming.headers["Authorization"], elapsed)
        for outage in self.outages:
            if outage.since <= elapsed < outage.until and self.counts[outage.name] < outage.times:
                self.counts[outage.name] += 1
                return outage.reply()
        if expired:
            self.counts["token expired"] += 1
            return session_expired()
        return self._by_chance(incoming.key)

    def _expired(self, token: str, elapsed: float) -> bool:
        """Return whether the token was used before an expiry that has passed."""
        for expiry, tokens in self._old_tokens.items():
            if elapsed < expiry.at:
                tokens.add(token)
            elif token in tokens:
                return True
        return False

    def _by_chance(self, key: str) -> Reply | None:
        faults = self._of_line[key]
        if faults >= MAX_PER_LINE:
            return None
        draw = random.Random(f"{self.seed} {key} {faults}")  # noqa: S311 - to be repeated
        left = draw.random()
        for fault in self.random_faults:
            left -= fault.rate
            if left < 0:
                self._of_line[key] += 1
                self.counts[fault.name] += 1
                return draw.choice(fault.replies)()
        return None


def all_faults(seed: int, start: float, seconds: float = 20.0) -> FaultInjector:
    """Return an injector with every kind of fault; outages end after `seconds`."""

    def outage(name: str, since: float, until: float, reply: Callable[[], Reply]) -> Outage:
        return Outage(name, since * seconds, until * seconds, reply)

    def once(name: str, since: float, reply: Callable[[], Reply]) -> Outage:
        return Outage(name, since * seconds, seconds, reply, times=1)

    return FaultInjector(
        seed,
        start,
        outages=(
            outage("outage, 503 for all", 0.45, 0.54, unavailable),
            outage("REQUEST_LIMIT_EXCEEDED", 0.65, 0.74, limit_exceeded),
            outage("endpoint missing", 0.82, 0.91, endpoint_missing),
            once("503 with Retry-After in seconds", 0.08, partial(unavailable_for, 1)),
            once("503 with Retry-After as a date", 0.32, partial(unavailable_until, 2)),
        ),
        expiries=(Expiry(0.60 * seconds),),
    )


class ClosableServer:
    """A stand-in whose port can be closed: connections are refused, open ones are cut."""

    def __init__(self, salesforce: StandIn, *beside: Routes) -> None:
        self.salesforce = salesforce
        self._beside = beside
        self.url = ""
        self._open = AsyncExitStack()
        self._listens = False

    async def open(self) -> None:
        """Listen, always on the same port, unless it does."""
        if self._listens:
            return
        self._listens = True
        port = int(self.url.rpartition(":")[2] or 0)
        self.url = await self._open.enter_async_context(serve(self.salesforce, port, *self._beside))

    async def close(self) -> None:
        """Refuse connections."""
        await self._open.aclose()
        self._listens = False

    async def interrupt(self, after: float, seconds: float) -> None:
        """Close the port for `seconds`, `after` seconds from now."""
        await asyncio.sleep(after)
        began = time.monotonic()
        await self.close()
        await asyncio.sleep(began + seconds - time.monotonic())
        await self.open()


@asynccontextmanager
async def serve_closable(salesforce: StandIn, *beside: Routes) -> AsyncIterator[ClosableServer]:
    """Serve on loopback, on a port that can be closed."""
    server = ClosableServer(salesforce, *beside)
    await server.open()
    try:
        yield server
    finally:
        await server.close()
