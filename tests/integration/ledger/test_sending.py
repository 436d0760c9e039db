"""Outcomes are written once, whatever the network does to the answer of the database."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from daemon.delivery.outcome import Failed
from daemon.delivery.outcome_writer import AttemptResult, OutcomeWriter
from daemon.errors import UnreachableError
from daemon.ledger.store import Ledger, open_ledger
from daemon.lines import FeedName, LineKey, NewLine, PendingLine, Settlement, State

KEY = LineKey(1, 0, 0, 0)
ENDED = datetime(2026, 11, 20, 9, tzinfo=UTC)
COUNTS = "SELECT state, attempts, tries, unanswered FROM line"


@pytest.fixture
async def ledger(dsn: str) -> AsyncIterator[Ledger]:
    async with open_ledger(dsn, "callstatsd") as ledger:
        yield ledger


async def one_pending(ledger: Ledger) -> PendingLine:
    line = NewLine(KEY, 1, str(KEY), None, ENDED, State.PENDING, "{}")
    await ledger.take(FeedName.STATISTICS, [line])
    [pending] = await ledger.pending(FeedName.STATISTICS, 1, [])
    return pending


def failed(line: PendingLine) -> Settlement:
    return Settlement(
        key=line.key, generation=line.generation, lane=line.lane, state=State.PENDING, sent=True,
        age=0.1, failed=True, unanswered=True, attempts=line.attempts,
    )  # fmt: skip


async def test_an_attempt_that_is_written_twice_is_counted_once(
    ledger: Ledger, db: asyncpg.Connection
) -> None:
    settlement = failed(await one_pending(ledger))
    for again in (False, True, True):
        assert await ledger.settle([settlement], 60.0, again=again) == {KEY: (State.PENDING, 1)}
        assert tuple(await db.fetchrow(COUNTS)) == ("pending", 1, 1, 1)


async def test_an_attempt_whose_first_writing_never_came_is_counted(
    ledger: Ledger, db: asyncpg.Connection
) -> None:
    settlement = failed(await one_pending(ledger))
    assert await ledger.settle([settlement], 60.0, again=True) == {KEY: (State.PENDING, 1)}
    assert tuple(await db.fetchrow(COUNTS)) == ("pending", 1, 1, 1)


async def test_two_attempts_of_two_instances_are_both_counted(
    ledger: Ledger, db: asyncpg.Connection
) -> None:
    """One was frozen as it sent, and writes what came of it after the other one did."""
    settlement = failed(await one_pending(ledger))
    for attempts in (1, 2):
        assert await ledger.settle([settlement], 60.0) == {KEY: (State.PENDING, attempts)}
    assert tuple(await db.fetchrow(COUNTS)) == ("pending", 2, 2, 2)


class Unheard(Ledger):
    """A ledger whose first commit is not heard of."""

    writes = 0

    async def settle(self, *arguments: Any, **how: Any) -> dict[LineKey, tuple[State, int]]:
        done = await super().settle(*arguments, **how)
        self.writes += 1
        if self.writes == 1:
            raise UnreachableError("the connection was cut")
        return done


async def test_the_writer_counts_once_what_it_had_to_write_twice(
    ledger: Ledger, db: asyncpg.Connection
) -> None:
    line = await one_pending(ledger)
    unheard = Unheard(ledger.database)
    writer = OutcomeWriter(unheard, 60.0)
    writer.add(AttemptResult(line, 0.1, Failed(500, None), failed(line)))
    async with asyncio.timeout(10):
        await writer.finish(10.0)
    assert unheard.writes == 2
    assert tuple(await db.fetchrow(COUNTS)) == ("pending", 1, 1, 1)
