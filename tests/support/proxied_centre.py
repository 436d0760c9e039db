"""A whole call centre whose ledger, source and Salesforce are behind proxies of the test's."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from daemon.demo.standin import CALLBACK_PATH, WRITE_PATH, Incoming, Reply
from daemon.ledger.lease import GRACE, TRUSTED_FOR
from tests.support.audit import UNSETTLED, Audit, Break, audit
from tests.support.call_centre import CallCentre
from tests.support.daemon_process import PATIENCE, Daemon, running
from tests.support.load import stretched
from tests.support.proxy import Proxy, fronting, proxied
from tests.support.traffic import Traffic, traffic

CONCURRENCY = 4
MARGIN = GRACE - TRUSTED_FOR
"""Seconds that a request may take from the holder's decision to the stand-in, on a busy machine."""


BOTH_FEEDS = {"callback_url": CALLBACK_PATH, "callback_delay": "0"}
"""Settings with which callback requests are sent too."""


@dataclass
class Wired:
    """A centre, its three wires, and the moments at which the test broke something."""

    centre: CallCentre
    ledger: Proxy
    source: Proxy
    salesforce: Proxy
    ledger_dsn: str
    source_dsn: str
    url: str
    breaks: list[Break] = field(default_factory=list)

    def settings(self, **more: str) -> dict[str, str]:
        """Settings of a daemon that sees everything through the proxies."""
        near = CallCentre(
            self.source_dsn, self.url, self.centre.salesforce, self.centre.db, self.centre.folder
        )
        usual = {
            "ledger_dsn": self.ledger_dsn,
            "concurrency": str(CONCURRENCY),
            "retry_max": "1",
            "request_timeout": "5",
        }
        return near.settings(**(usual | more))

    def broke(self) -> None:
        """Note that from now on answers may be lost: what is in flight or unsettled is repeated."""
        self.breaks.append(Break(time.monotonic(), CONCURRENCY + UNSETTLED))

    async def settled(self, lines: int, within: float = PATIENCE) -> None:
        """Wait until the ledger has so many lines and none of them is pending."""
        async with asyncio.timeout(stretched(within)):
            while True:  # a table tells nobody
                states = await self.centre.states()
                if states.total() == lines and not states["pending"]:
                    return
                await asyncio.sleep(0.05)


@asynccontextmanager
async def wired(centre: CallCentre) -> AsyncIterator[Wired]:
    """Put proxies before everything that the centre's daemon talks to."""
    async with (
        proxied(centre.dsn) as (ledger, ledger_dsn),
        proxied(centre.dsn) as (source, source_dsn),
        fronting(centre.url) as (salesforce, url),
    ):
        yield Wired(centre, ledger, source, salesforce, ledger_dsn, source_dsn, url)


def as_named(centre: CallCentre, name: str) -> dict[str, str]:
    """Settings by which the stand-in knows one instance from another: a token of its own."""
    centre.salesforce.tokens.add(name)
    return {
        "request_timeout": "60",
        "auth": "bearer",
        "bearer_token": name,
        "endpoint_url": f"{centre.url}{WRITE_PATH}",
        "concurrency": "1",
    }


def not_before(centre: CallCentre) -> asyncio.Event:
    """Let no request be answered before the event: both instances shall be there by then."""
    ready = asyncio.Event()
    centre.salesforce.rule = lambda _: Reply(hold=ready)
    return ready


def starts_of(centre: CallCentre) -> list[tuple[float, str]]:
    """When requests came (`time.monotonic`), and from which of the instances so named."""
    return sorted(
        (one.started, one.headers["Authorization"].removeprefix("Bearer "))
        for one in centre.salesforce.requests
    )


@dataclass
class Lateness:
    """By how many seconds this process got its turn too late, at worst."""

    worst: float = 0.0

    async def watch(self) -> None:
        while True:
            due = time.monotonic() + 0.01
            await asyncio.sleep(0.01)
            self.worst = max(self.worst, time.monotonic() - due)


@asynccontextmanager
async def lateness() -> AsyncIterator[Lateness]:
    """Watch how late the stand-in may have seen what came in time."""
    late = Lateness()
    watching = asyncio.create_task(late.watch())
    try:
        yield late
    finally:
        watching.cancel()
        await asyncio.wait({watching})


def seconds_of(event: dict[str, Any], since: float) -> float:
    """When an event was logged, in seconds after `since` (by `time.time`)."""
    return datetime.fromisoformat(event["timestamp"]).timestamp() - since


def later(daemon: Daemon, event: str, since: float, **fields: Any) -> list[dict[str, Any]]:
    """The events logged after `since` (by `time.time`)."""
    return [one for one in daemon.seen(event, **fields) if seconds_of(one, since) > 0]


async def delivered_since(daemon: Daemon, since: float, within: float) -> float:
    """Wait for the first delivery after `since` (by `time.time`); returns the seconds it took."""
    async with asyncio.timeout(stretched(within)):
        while not (found := later(daemon, "line.delivered", since)):
            await asyncio.sleep(0.02)
    return seconds_of(found[0], since)


async def taken_over(daemon: Daemon, since: float, within: float) -> float:
    """Wait until the daemon that stood by sends; returns the seconds since (`time.monotonic`)."""
    async with asyncio.timeout(stretched(within)):
        while not daemon.seen("line.delivered"):
            await asyncio.sleep(0.01)
    return time.monotonic() - since


class OperatorPause:
    """A rule that keeps the first answer to one line until the test lets it go."""

    def __init__(self, release: asyncio.Event, key: str, reply: Reply | None = None) -> None:
        self.release = release
        self.key = key
        self.reply = reply or Reply()
        self.waiting = asyncio.Event()

    def __call__(self, incoming: Incoming) -> Reply | None:
        if incoming.key != self.key or self.waiting.is_set():
            return None
        self.waiting.set()
        return Reply(self.reply.status, self.reply.body, self.reply.headers, hold=self.release)


@asynccontextmanager
async def busy(wires: Wired, **more: str) -> AsyncIterator[tuple[Daemon, Traffic]]:
    """A daemon that delivers what ends every few milliseconds."""
    async with running(wires.settings(**more), wires.centre.folder) as daemon:
        await daemon.until("daemon.started")
        async with traffic(wires.centre.dsn) as calls:
            await daemon.until("line.delivered", 20)
            yield daemon, calls


async def finished(wires: Wired, daemon: Daemon, calls: Traffic) -> Audit:
    """See all lines settled, the daemon stop in order, and the audit pass."""
    await calls.end()
    await wires.settled(calls.ended)
    assert await daemon.stop() == 0
    found = await audit(wires.centre, breaks=wires.breaks, request_timeout=5.0)
    print(found)  # noqa: T201 - shown by pytest -s, and with a failure
    return found


def outages(daemon: Daemon, since: float, database: str = "ledger") -> tuple[int, int]:
    """How often a database was told lost, and back."""
    return (
        len(later(daemon, "database.lost", since, database=database)),
        len(later(daemon, "database.back", since, database=database)),
    )
