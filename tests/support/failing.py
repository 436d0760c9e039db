"""A sender whose endpoint fails as a test wants it, and what its ledger has then."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from daemon.delivery.backoff import Backoff
from daemon.delivery.channel import Route
from daemon.delivery.flow_control import FAILING_AFTER, FlowControl
from daemon.delivery.gate import OrgGate
from daemon.delivery.outcome_writer import OutcomeWriter
from daemon.delivery.sender import Limits, Sender
from daemon.ledger.store import Ledger
from daemon.lines import FeedName, LineKey, NewLine, State
from daemon.salesforce.responses import Response
from tests.support.daemon_process import PATIENCE

BASE = datetime.now(UTC) - timedelta(hours=1)
FAST = Backoff(0.01, 0.05)

Logs = list[MutableMapping[str, Any]]


def pending(number: int, lane: str | None = None) -> NewLine:
    """A line to send, by default of a record of its own; the higher its number, the later."""
    ended = BASE + timedelta(milliseconds=number)
    lane = lane or f"record {number}"
    return NewLine(LineKey(number, 0, 0, 0), 1, lane, None, ended, State.PENDING, "{}")


def pendings(count: int, first: int = 1) -> list[NewLine]:
    return [pending(number) for number in range(first, first + count)]


def key(number: int) -> str:
    return f"{number}-0-0-0"


@dataclass
class EndpointUrl:
    """Answers each line with a status, and keeps which came in what order."""

    rule: Callable[[int], int]
    body: str = ""
    posted: list[int] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    held: dict[int, asyncio.Event] = field(default_factory=dict)

    def unsent(self, key: str) -> bool:
        return False

    async def post(self, key: str, record: bytes) -> Response:
        number = int(key.partition("-")[0])
        self.posted.append(number)
        async with self.changed:
            self.changed.notify_all()
        if number in self.held:
            await self.held[number].wait()
        return Response(self.rule(number), self.body)

    async def until(self, requests: int) -> None:
        """Wait for so many requests in all."""
        async with asyncio.timeout(PATIENCE), self.changed:
            await self.changed.wait_for(lambda: len(self.posted) >= requests)


@asynccontextmanager
async def sending(
    ledger: Ledger, endpoint: EndpointUrl, *, concurrency: int = 1, proven: bool = True, **more: Any
) -> AsyncIterator[Sender]:
    """Let a sender work that begins with what the ledger says; at the end it stops in order."""
    writer = OutcomeWriter(ledger, 86400.0)
    failing = await ledger.failing_answers(FeedName.STATISTICS)
    flow = FlowControl(
        OrgGate(concurrency), concurrency, FAST, endpoint_proven=proven, failing=failing, **more
    )
    limits = Limits(concurrency, request_timeout=60.0, idle=600.0)
    route = Route(FeedName.STATISTICS, endpoint, flow)
    sender = Sender(ledger, [route], writer, FAST, limits, lambda: True)
    stop = asyncio.Event()
    settling = asyncio.create_task(writer.run())
    running = asyncio.create_task(sender.run(stop))
    try:
        yield sender
        stop.set()
        await running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await writer.finish(PATIENCE)
        settling.cancel()
        await asyncio.gather(settling, return_exceptions=True)


async def states(db: asyncpg.Connection) -> Counter[str]:
    rows = await db.fetch("SELECT state, count(*) AS n FROM line GROUP BY state")
    return Counter({row["state"]: row["n"] for row in rows})


async def until(there: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not there():
            await asyncio.sleep(0.01)


def events(logs: Logs, event: str) -> list[dict[str, Any]]:
    return [dict(entry) for entry in logs if entry["event"] == event]


async def fail(ledger: Ledger, probes: int = 1, **more: Any) -> EndpointUrl:
    """Let a sender meet an endpoint that refuses all, until it has probed it so often."""
    endpoint = EndpointUrl(lambda _: 400)
    async with sending(ledger, endpoint, **more):
        await endpoint.until(FAILING_AFTER + probes)
    return endpoint
