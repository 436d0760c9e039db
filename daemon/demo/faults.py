"""The stand-in's bad day: a rule that answers as Salesforce does when things go wrong.

Every trouble ends. Those by chance strike one line `MOST_PER_LINE` times at most, the others are
over with the day, so that each line can be settled.
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

from daemon.demo.standin import Incoming, Reply, StandIn, platform_error, serve

MOST_PER_LINE = 3

NO_ROW_LOCK = "unable to obtain exclusive access to this record or 1 records"
PAGE = "<html><head><title>Error</title></head><body>An internal server error</body></html>"


@dataclass(frozen=True, slots=True)
class Chance:
    """Strikes a request by chance, `rate` of them, each with one of `replies`."""

    name: str
    rate: float
    replies: Sequence[Callable[[], Reply]]


@dataclass(frozen=True, slots=True)
class Outage:
    """Strikes every request from `since` until `until` seconds of the day, at most `times`."""

    name: str
    since: float
    until: float
    reply: Callable[[], Reply]
    times: float = math.inf


@dataclass(frozen=True, slots=True)
class Expiry:
    """Lets the tokens that were used before `at` seconds of the day be refused from then on."""

    at: float


def locked() -> Reply:
    """Answer 423, as an endpoint outside of Apex may."""
    return Reply(423, "Record is locked")


def locked_as_apex() -> Reply:
    """Answer what becomes of a 423 that an Apex class sets."""
    return Reply(500, "Invalid status code for HTTP response: 423")


def row_locked(status: int) -> Reply:
    """Answer as the platform does when somebody else holds the row."""
    return Reply(status, platform_error("UNABLE_TO_LOCK_ROW", NO_ROW_LOCK))


def row_locked_in_trigger() -> Reply:
    """Answer as an Apex class that lets the row lock's exception through."""
    said = f"System.DmlException: Insert failed. First error: UNABLE_TO_LOCK_ROW, {NO_ROW_LOCK}: []"
    return Reply(500, platform_error("APEX_ERROR", said))


def failed() -> Reply:
    """Answer as an Apex class that threw something else."""
    said = "System.NullPointerException: Attempt to de-reference a null object"
    return Reply(500, platform_error("APEX_ERROR", said))


def page(status: int) -> Reply:
    """Answer with a page for people, as what stands before the org does."""
    return Reply(status, PAGE, {"Content-Type": "text/html"})


def empty(status: int) -> Reply:
    """Answer with nothing but a status; a 200 is written all the same."""
    return Reply(status, "")


def cut_before() -> Reply:
    """Cut the connection before the line is written."""
    return Reply(cut="before")


def cut_after() -> Reply:
    """Cut the connection after the line was written."""
    return Reply(cut="after")


def slow(seconds: float) -> Reply:
    """Write the line, and take long to say so."""
    return Reply(delay=seconds)


def unavailable() -> Reply:
    """Answer 503 without a word about when."""
    return Reply(503, page(503).body)


def unavailable_for(seconds: int) -> Reply:
    """Answer 503 with Retry-After in seconds."""
    return Reply(503, "", {"Retry-After": str(seconds)})


def unavailable_until(seconds: int) -> Reply:
    """Answer 503 with Retry-After as a date; dates have whole seconds, so it is up to 1 s early."""
    moment = datetime.now(UTC) + timedelta(seconds=seconds)
    return Reply(503, "", {"Retry-After": format_datetime(moment, usegmt=True)})


def limit_exceeded() -> Reply:
    """Answer as an org whose daily calls are used up."""
    said = "TotalRequests Limit exceeded."
    return Reply(403, platform_error("REQUEST_LIMIT_EXCEEDED", said))


def endpoint_missing() -> Reply:
    """Answer as an org that lacks the Apex class, as during a deployment gone wrong."""
    return Reply(404, platform_error("NOT_FOUND", "Could not find a match for URL"))


def session_expired() -> Reply:
    """Answer a token that is good no more."""
    return Reply(401, platform_error("INVALID_SESSION_ID", "Session expired or invalid"))


LOCKS = (
    Chance("record locked: 423", 0.05, (locked,)),
    Chance("record locked: 423 as Apex sends it", 0.05, (locked_as_apex,)),
    Chance(
        "record locked: UNABLE_TO_LOCK_ROW",
        0.05,
        (partial(row_locked, 400), partial(row_locked, 500), row_locked_in_trigger),
    ),
)
CHANCES = (
    *LOCKS,
    Chance("500", 0.04, (failed,)),
    Chance("HTML instead of JSON", 0.03, (partial(page, 500), partial(page, 502))),
    Chance("no body", 0.03, (partial(empty, 500), partial(empty, 504), partial(empty, 200))),
    Chance("cut before the work", 0.02, (cut_before,)),
    Chance("cut after the work", 0.02, (cut_after,)),
    Chance("slow answer", 0.04, (partial(slow, 0.2), partial(slow, 1.3))),
)


class FaultInjector:
    """A rule for `StandIn`; `struck` counts what happened, by name.

    What strikes by chance depends on the seed, the line and its earlier strikes, the rest on the
    seconds since `start` (of `time.monotonic`).
    """

    def __init__(
        self,
        seed: int,
        start: float,
        *,
        chances: Sequence[Chance] = CHANCES,
        spells: Sequence[Outage] = (),
        expiries: Sequence[Expiry] = (),
    ) -> None:
        """Compose a day of its troubles; of those that strike all, the first named goes first."""
        self.seed = seed
        self.start = start
        self.chances = chances
        self.spells = spells
        self.expiries = expiries
        self.struck: Counter[str] = Counter()
        self._of_line: Counter[str] = Counter()
        self._old_tokens: dict[Expiry, set[str]] = {expiry: set() for expiry in expiries}

    @property
    def locks(self) -> int:
        """Count the requests that found their record locked, whatever the answer said of it."""
        return sum(self.struck[chance.name] for chance in LOCKS)

    def __call__(self, incoming: Incoming) -> Reply | None:
        """Answer a request in place of the org, or leave it to the org."""
        elapsed = incoming.started - self.start
        expired = self._expired(incoming.headers["Authorization"], elapsed)
        for spell in self.spells:
            if spell.since <= elapsed < spell.until and self.struck[spell.name] < spell.times:
                self.struck[spell.name] += 1
                return spell.reply()
        if expired:
            self.struck["token expired"] += 1
            return session_expired()
        return self._by_chance(incoming.key)

    def _expired(self, token: str, elapsed: float) -> bool:
        """Tell whether the token was in use before one of the expiries that are over."""
        for expiry, tokens in self._old_tokens.items():
            if elapsed < expiry.at:
                tokens.add(token)
            elif token in tokens:
                return True
        return False

    def _by_chance(self, key: str) -> Reply | None:
        strikes = self._of_line[key]
        if strikes >= MOST_PER_LINE:
            return None
        draw = random.Random(f"{self.seed} {key} {strikes}")  # noqa: S311 - to be repeated
        left = draw.random()
        for chance in self.chances:
            left -= chance.rate
            if left < 0:
                self._of_line[key] += 1
                self.struck[chance.name] += 1
                return draw.choice(chance.replies)()
        return None


def bad_day(seed: int, start: float, seconds: float = 20.0) -> FaultInjector:
    """Make a day of so many seconds with everything in it; after it there are no more spells."""

    def spell(name: str, since: float, until: float, reply: Callable[[], Reply]) -> Outage:
        return Outage(name, since * seconds, until * seconds, reply)

    def once(name: str, since: float, reply: Callable[[], Reply]) -> Outage:
        return Outage(name, since * seconds, seconds, reply, times=1)

    return FaultInjector(
        seed,
        start,
        spells=(
            spell("outage, 503 for all", 0.45, 0.54, unavailable),
            spell("REQUEST_LIMIT_EXCEEDED", 0.65, 0.74, limit_exceeded),
            spell("endpoint missing", 0.82, 0.91, endpoint_missing),
            once("503 with Retry-After in seconds", 0.08, partial(unavailable_for, 1)),
            once("503 with Retry-After as a date", 0.32, partial(unavailable_until, 2)),
        ),
        expiries=(Expiry(0.60 * seconds),),
    )


class ClosableServer:
    """A stand-in whose port can be shut: connections are refused, those in use are cut."""

    def __init__(self, salesforce: StandIn) -> None:
        """Take who is behind the door; see `door`."""
        self.salesforce = salesforce
        self.url = ""
        self._open = AsyncExitStack()

    async def open(self) -> None:
        """Listen, on the same port as the last time."""
        port = int(self.url.rpartition(":")[2] or 0)
        self.url = await self._open.enter_async_context(serve(self.salesforce, port))

    async def shut(self) -> None:
        """Refuse whoever comes."""
        await self._open.aclose()

    async def break_off(self, after: float, seconds: float) -> None:
        """Be shut for so many seconds, `after` seconds from now."""
        await asyncio.sleep(after)
        began = time.monotonic()
        await self.shut()
        await asyncio.sleep(began + seconds - time.monotonic())
        await self.open()


@asynccontextmanager
async def door(salesforce: StandIn) -> AsyncIterator[ClosableServer]:
    """Serve on loopback behind a door, open at first."""
    made = ClosableServer(salesforce)
    await made.open()
    try:
        yield made
    finally:
        await made.shut()
