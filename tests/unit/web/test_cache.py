"""Queries that are shared, and never waited for too long."""

import asyncio

import pytest

from daemon.errors import UnreachableError
from daemon.web.cache import BoundedReads, CachedQuery, SharedQuery


async def test_a_reading_that_was_slow_is_kept_for_longer() -> None:
    asked = 0

    async def read() -> int:
        nonlocal asked
        asked += 1
        await gate.wait()
        return asked

    gate = asyncio.Event()
    reading = CachedQuery(read, 0.05)
    assert await reading.get() is None
    assert reading.failing
    gate.set()
    while await reading.get() is None:
        await asyncio.sleep(0)
    assert await reading.get() == 1
    assert not reading.failing
    assert asked == 1


class Counting:
    """A query that counts how often it runs, and may fail."""

    def __init__(self) -> None:
        self.runs = 0
        self.gate = asyncio.Event()
        self.fails = False

    async def read(self) -> int:
        self.runs += 1
        await self.gate.wait()
        if self.fails:
            raise UnreachableError("away")
        return self.runs


async def test_those_who_ask_at_once_share_a_query() -> None:
    counting = Counting()
    query = SharedQuery(counting.read)
    waiting = [asyncio.create_task(query.get(0.0)) for _ in range(5)]
    await asyncio.sleep(0)
    counting.gate.set()
    assert [await one for one in waiting] == [1] * 5


async def test_each_says_how_old_a_result_may_be() -> None:
    counting = Counting()
    counting.gate.set()
    query = SharedQuery(counting.read)
    assert await query.get(0.0) == 1
    assert await query.get(60.0) == 1
    assert await query.get(0.0) == 2
    assert await query.get(60.0) == 2


async def test_a_query_that_failed_is_not_kept() -> None:
    counting = Counting()
    counting.gate.set()
    counting.fails = True
    query = SharedQuery(counting.read)
    with pytest.raises(UnreachableError):
        await query.get(60.0)
    counting.fails = False
    assert await query.get(60.0) == 2


async def test_who_gives_up_does_not_end_the_query_of_the_others() -> None:
    counting = Counting()
    query = SharedQuery(counting.read)
    impatient = asyncio.create_task(query.get(0.0))
    patient = asyncio.create_task(query.get(0.0))
    await asyncio.sleep(0)
    impatient.cancel()
    counting.gate.set()
    assert await patient == 1


async def test_a_visitors_reads_take_turns_and_none_waits_for_ever() -> None:
    reads = BoundedReads(0.05)
    gate = asyncio.Event()
    running, most = 0, 0

    async def slow() -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await gate.wait()
        finally:
            running -= 1
        return "read"

    async def nothing() -> int | None:
        return None

    results = await asyncio.gather(reads.read(slow), reads.read(slow), return_exceptions=True)
    assert [type(result) for result in results] == [UnreachableError, UnreachableError]
    assert (running, most) == (0, 1)
    gate.set()
    assert await reads.read(nothing) is None
    assert await reads.read(slow) == "read"
