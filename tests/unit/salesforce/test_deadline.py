"""One timer ends each late request as `asyncio.timeout` would, and no other."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from daemon.salesforce.deadline import Deadline

SHORT = 0.05


async def within(deadline: Deadline, work: Callable[[], Awaitable[str]]) -> str:
    with deadline:
        return await work()


async def quick() -> str:
    await asyncio.sleep(0)
    return "done"


async def never() -> str:
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_late_block_ends_with_a_timeout_and_its_task_goes_on() -> None:
    deadline = Deadline(SHORT)
    with pytest.raises(TimeoutError):
        await within(deadline, never)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    assert await within(deadline, quick) == "done"


async def test_blocks_end_in_the_order_in_which_they_began_each_after_its_own_time() -> None:
    deadline = Deadline(2 * SHORT)
    loop = asyncio.get_running_loop()
    took: list[float] = []

    async def one(after: float) -> None:
        await asyncio.sleep(after)
        began = loop.time()
        with pytest.raises(TimeoutError):
            await within(deadline, never)
        took.append(loop.time() - began)

    await asyncio.gather(*(one(number * SHORT / 2) for number in range(5)))
    assert len(took) == 5
    assert min(took) >= 2 * SHORT - 0.001


async def test_a_block_that_ends_in_time_is_left_alone_while_another_is_late() -> None:
    deadline = Deadline(SHORT)
    late = asyncio.create_task(within(deadline, never))
    for _ in range(100):
        assert await within(deadline, quick) == "done"
    with pytest.raises(TimeoutError):
        await late


async def test_who_cancels_the_task_gets_a_cancelled_task() -> None:
    deadline = Deadline(60)
    task = asyncio.create_task(within(deadline, never))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_a_task_that_is_cancelled_while_it_is_late_stays_cancelled() -> None:
    deadline = Deadline(SHORT)

    async def late() -> str:
        try:
            return await never()
        except asyncio.CancelledError:
            task.cancel()
            raise

    task = asyncio.create_task(within(deadline, late))
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_of_a_late_block_is_not_hidden() -> None:
    deadline = Deadline(SHORT)

    async def fails() -> str:
        try:
            return await never()
        except asyncio.CancelledError:
            raise OSError("the connection broke") from None

    with pytest.raises(OSError, match="broke"):
        await within(deadline, fails)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_without_blocks_no_timer_is_left() -> None:
    deadline = Deadline(SHORT)
    assert await within(deadline, quick) == "done"
    await asyncio.sleep(2 * SHORT)
    assert deadline._timer is None
