"""Bounded waits: until stop, for some seconds or until stop, with a time limit, beside a block."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

T = TypeVar("T")


async def run_until(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """Return what the work returns; None if stop was set first, after cancelling the work."""
    working = asyncio.create_task(work)
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        stopped.cancel()
        await asyncio.gather(working, stopped, return_exceptions=True)


async def sleep_or_stop(stop: asyncio.Event, seconds: float) -> bool:
    """Sleep, but only until the event is set; returns whether it is."""
    try:
        async with asyncio.timeout(seconds):
            return await stop.wait()
    except TimeoutError:
        return False


async def run_within(seconds: float | None, work: Coroutine[Any, Any, T]) -> T | None:
    """Return what the work returns; None if it takes longer, without waiting for its end.

    The work is cancelled then, but a statement to a silent server delays even that. Without
    `seconds` there is no limit.
    """
    working = asyncio.create_task(work)
    try:
        done, _ = await asyncio.wait({working}, timeout=seconds)
        return working.result() if done else None
    finally:
        working.cancel()


@asynccontextmanager
async def in_background(*work: Coroutine[Any, Any, object]) -> AsyncIterator[None]:
    """Run the work beside the block, and cancel it at the block's end.

    Its first error cancels the block; errors of either leave as an exception group.
    """
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one) for one in work]
        yield
        for task in tasks:
            task.cancel()
