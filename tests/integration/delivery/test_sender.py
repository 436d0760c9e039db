"""The sender by itself, over a real ledger: who is sent first, and what ends it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from daemon.delivery.backoff import Backoff
from daemon.delivery.channel import Route
from daemon.delivery.flow_control import FlowControl
from daemon.delivery.gate import OrgGate
from daemon.delivery.outcome_writer import OutcomeWriter
from daemon.delivery.pending_reader import FETCH, LOW_WATER
from daemon.delivery.sender import LANE_DEPTH, Limits, Sender
from daemon.ledger.store import Ledger, open_ledger
from daemon.lines import FeedName, LineKey, NewLine, PauseReason, PendingLine, State
from daemon.salesforce.responses import NoResponse, Response, TokenFailure

BASE = datetime.now(UTC) - timedelta(hours=1)
PATIENCE = 10.0
CROWDED = LOW_WATER // LANE_DEPTH + 1
"""Records that hold more lines in memory than `LOW_WATER`."""


class Reader(Ledger):
    """A ledger that counts how often lines were read."""

    reads = 0

    async def pending(
        self, feed: FeedName, limit: int, without_lanes: Sequence[str]
    ) -> list[PendingLine]:
        lines = await super().pending(feed, limit, without_lanes)
        self.reads += 1
        return lines


class EndpointUrl:
    """Answers nobody before it is told to; `fault` is raised in place of the answer."""

    def __init__(self) -> None:
        self.posted: list[str] = []
        self.answers = asyncio.Event()
        self.fault: Exception | None = None
        self.without_permit: set[str] = set()

    def unsent(self, key: str) -> bool:
        return key in self.without_permit

    async def post(self, key: str, record: bytes) -> Response:
        assert record
        self.posted.append(key)
        await self.answers.wait()
        if self.fault is not None:
            raise self.fault
        return Response(200)


def pending(number: int, lane: str) -> NewLine:
    """A line to send; the higher its number, the later."""
    ended = BASE + timedelta(milliseconds=number)
    return NewLine(LineKey(number, 0, 0, 0), 1, lane, None, ended, State.PENDING, "{}")


@asynccontextmanager
async def sending(
    ledger: Ledger, endpoint: EndpointUrl, concurrency: int, stop: asyncio.Event
) -> AsyncIterator[tuple[Sender, asyncio.Task[None]]]:
    """Let a sender work that looks into the ledger at its start only, unless it runs low."""
    writer = OutcomeWriter(ledger, 86400.0)
    backoff = Backoff(1.0, 60.0)
    flow = FlowControl(OrgGate(concurrency), concurrency, backoff, endpoint_proven=True)
    limits = Limits(concurrency, request_timeout=60.0, idle=600.0)
    route = Route(FeedName.STATISTICS, endpoint, flow)
    sender = Sender(ledger, [route], writer, backoff, limits, lambda: True)
    settling = asyncio.create_task(writer.run())
    running = asyncio.create_task(sender.run(stop))
    try:
        yield sender, running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await writer.finish(PATIENCE)
        settling.cancel()
        await asyncio.gather(settling, return_exceptions=True)


async def until(there: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not there():
            await asyncio.sleep(0.01)


async def test_crowded_records_keep_nobody_else_waiting(dsn: str) -> None:
    """They fill the first page read, and one request at a time is all that each may have."""
    concurrency = CROWDED + 4
    crowd = [pending(n, f"crowded {n % CROWDED}") for n in range(1, FETCH + 500)]
    others = [pending(len(crowd) + n, f"other {n}") for n in range(1, 10)]
    endpoint, stop = EndpointUrl(), asyncio.Event()
    async with open_ledger(dsn, "callstatsd") as ledger:
        await ledger.take(FeedName.STATISTICS, crowd + others)
        async with sending(ledger, endpoint, concurrency, stop):
            await until(lambda: len(endpoint.posted) == concurrency)
            endpoint.answers.set()
    firsts = {f"{entry.key}" for entry in others[:4]}
    assert firsts <= set(endpoint.posted[:concurrency])


async def test_a_full_page_of_known_lines_is_not_the_end(dsn: str) -> None:
    """A look that brings nothing new, because enough is here, must not stop the reading."""
    lines = [pending(n, f"record {n}") for n in range(1, 2 * FETCH)]
    endpoint, stop = EndpointUrl(), asyncio.Event()
    async with open_ledger(dsn, "callstatsd") as opened:
        ledger = Reader(opened.database)
        await ledger.take(FeedName.STATISTICS, lines)
        async with sending(ledger, endpoint, 8, stop) as (sender, _):
            await until(lambda: len(endpoint.posted) == 8)
            reads = ledger.reads
            sender.wake()
            await until(lambda: ledger.reads > reads)
            endpoint.answers.set()
            await until(lambda: len(endpoint.posted) == len(lines))
    assert len(set(endpoint.posted)) == len(lines) == len(endpoint.posted)


@pytest.mark.parametrize("draining", [False, True])
async def test_a_defect_ends_the_sender(dsn: str, *, draining: bool) -> None:
    """Whenever it comes: a line in flight for ever would be a line lost."""
    endpoint, stop = EndpointUrl(), asyncio.Event()
    endpoint.fault = ValueError("a defect")
    async with open_ledger(dsn, "callstatsd") as ledger:
        await ledger.take(FeedName.STATISTICS, [pending(1, "a"), pending(2, "b")])
        async with sending(ledger, endpoint, 2, stop) as (_, running):
            await until(lambda: len(endpoint.posted) == 2)
            if draining:
                stop.set()
                await asyncio.sleep(0.05)
            endpoint.answers.set()
            with pytest.raises(ValueError, match="a defect"):
                await asyncio.wait_for(running, PATIENCE)
        async with ledger.database.connection() as connection:
            assert (
                await connection.fetchval("SELECT count(*) FROM line WHERE state = 'pending'") == 2
            )


async def test_an_answer_that_cannot_be_judged_is_unanswered_and_a_defect(dsn: str) -> None:
    """Nothing that an answer holds ends the daemon."""

    class Odd(EndpointUrl):
        async def post(self, key: str, record: bytes) -> Response:
            await super().post(key, record)
            return Response(200, cast("str", None))

    endpoint, stop = Odd(), asyncio.Event()
    endpoint.answers.set()
    async with open_ledger(dsn, "callstatsd") as ledger:
        await ledger.take(FeedName.STATISTICS, [pending(1, "a")])
        with capture_logs() as logs:
            async with sending(ledger, endpoint, 1, stop) as (sender, running):
                async with ledger.database.connection() as connection:

                    async def counted() -> int:
                        return cast(
                            "int", await connection.fetchval("SELECT sum(unanswered) FROM line")
                        )

                    async with asyncio.timeout(PATIENCE):
                        while not await counted():
                            await asyncio.sleep(0.01)
                assert not running.done()
                assert sender.status().paused is None
    defects = [event for event in logs if event["event"] == "request.defect"]
    assert [(event["key"], event["log_level"]) for event in defects] == [("1-0-0-0", "error")]
    assert "classify" in defects[0]["exception"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (NoResponse(sent=False, error="no"), PauseReason.UNAVAILABLE),
        (Response(503), PauseReason.UNAVAILABLE),
        (Response(504), PauseReason.UNANSWERED),
        (
            Response(404, '[{"errorCode":"NOT_FOUND","message":"Could not find a match for URL"}]'),
            PauseReason.ENDPOINT_MISSING,
        ),
        (TokenFailure(refused=True, error="no"), PauseReason.UNAUTHORIZED),
        (Response(403), PauseReason.CONFIGURATION),
        (Response(403, '[{"errorCode":"REQUEST_LIMIT_EXCEEDED"}]'), PauseReason.API_LIMIT),
    ],
)
async def test_a_pause_that_a_second_probe_did_not_end_is_reported_where_the_org_may_have_moved(
    dsn: str, answer: Response | NoResponse | TokenFailure, reason: PauseReason
) -> None:
    """And with every probe after it."""
    calls: list[int] = []
    posted: list[str] = []

    class Away(EndpointUrl):
        async def post(self, key: str, record: bytes) -> Any:
            posted.append(key)
            return answer

    backoff = Backoff(0.05, 0.1)
    flow = FlowControl(OrgGate(1), 1, backoff, endpoint_proven=True)
    stop = asyncio.Event()
    async with open_ledger(dsn, "callstatsd") as ledger:
        await ledger.take(FeedName.STATISTICS, [pending(n, f"record {n}") for n in range(1, 10)])
        writer = OutcomeWriter(ledger, 86400.0)

        def lasts() -> None:
            calls.append(flow.current_pause.tries if flow.current_pause else 0)

        route = Route(FeedName.STATISTICS, Away(), flow, lasts)
        limits = Limits(1, request_timeout=60.0, idle=0.1)
        sender = Sender(ledger, [route], writer, backoff, limits, lambda: True)
        settling = asyncio.create_task(writer.run())
        running = asyncio.create_task(sender.run(stop))
        await until(lambda: flow.current_pause is not None and flow.current_pause.tries >= 5)
        stop.set()
        await running
        await writer.finish(PATIENCE)
        settling.cancel()
        await asyncio.gather(settling, return_exceptions=True)
    assert flow.current_pause is not None
    assert flow.current_pause.reason is reason
    moved = reason in {
        PauseReason.UNAVAILABLE,
        PauseReason.UNANSWERED,
        PauseReason.ENDPOINT_MISSING,
    }
    assert calls == ([*range(3, flow.current_pause.tries + 1)] if moved else [])


async def test_what_never_left_when_the_sender_is_cut_counts_as_no_attempt(dsn: str) -> None:
    """A request that still waits for its permit is not sent; one that is out may have arrived."""
    endpoint, stop = EndpointUrl(), asyncio.Event()
    async with open_ledger(dsn, "callstatsd") as ledger:
        await ledger.take(FeedName.STATISTICS, [pending(1, "a"), pending(2, "b")])
        async with sending(ledger, endpoint, 2, stop):
            await until(lambda: len(endpoint.posted) == 2)
            endpoint.without_permit = {"1-0-0-0"}
        async with ledger.database.connection() as connection:
            rows = await connection.fetch(
                "SELECT call_id, state, attempts, unanswered FROM line ORDER BY call_id"
            )
    assert [tuple(row) for row in rows] == [(1, "pending", 0, 0), (2, "pending", 1, 1)]
