import asyncio

import pytest

from daemon.tasks import in_background, run_until, run_within, sleep_or_stop


async def never_ends(cancelled: asyncio.Event) -> bool:
    try:
        return await asyncio.Event().wait()
    finally:
        cancelled.set()


async def seven() -> int:
    await asyncio.sleep(0)
    return 7


async def fails() -> int:
    await asyncio.sleep(0)
    raise ValueError


async def test_work_that_ends_before_stop_gives_its_result() -> None:
    assert await run_until(asyncio.Event(), seven()) == 7


async def test_stop_ends_work_that_is_under_way() -> None:
    stop, cancelled = asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().call_soon(stop.set)
    assert await run_until(stop, never_ends(cancelled)) is None
    assert cancelled.is_set()


async def test_an_error_of_the_work_is_raised() -> None:
    with pytest.raises(ValueError):
        await run_until(asyncio.Event(), fails())
    with pytest.raises(ValueError):
        await run_within(60.0, fails())


async def test_a_cancelled_caller_cancels_the_work() -> None:
    for limited in (False, True):
        cancelled = asyncio.Event()
        work = never_ends(cancelled)
        waiting = run_within(60.0, work) if limited else run_until(asyncio.Event(), work)
        caller = asyncio.create_task(waiting)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        caller.cancel()
        await asyncio.wait({caller})
        async with asyncio.timeout(1.0):
            await cancelled.wait()


async def test_a_sleep_says_whether_it_was_cut_short() -> None:
    stop = asyncio.Event()
    assert not await sleep_or_stop(stop, 0.0)
    asyncio.get_running_loop().call_soon(stop.set)
    assert await sleep_or_stop(stop, 60.0)
    assert await sleep_or_stop(stop, 0.0)


async def test_work_that_takes_too_long_is_given_up_without_waiting_for_its_end() -> None:
    entered, release = asyncio.Event(), asyncio.Event()

    async def silent_server() -> bool:
        try:
            return await asyncio.Event().wait()
        finally:
            entered.set()
            await release.wait()

    assert await run_within(0.01, silent_server()) is None
    async with asyncio.timeout(1.0):
        await entered.wait()
    release.set()


@pytest.mark.parametrize("seconds", [None, 60.0])
async def test_work_in_time_gives_its_result(seconds: float | None) -> None:
    assert await run_within(seconds, seven()) == 7


async def test_what_runs_beside_a_block_is_cancelled_at_its_end() -> None:
    first, second = asyncio.Event(), asyncio.Event()
    async with in_background(never_ends(first), never_ends(second)):
        await asyncio.sleep(0)
        assert not first.is_set()
    assert first.is_set()
    assert second.is_set()


async def test_an_error_beside_a_block_ends_the_block() -> None:
    with pytest.raises(ExceptionGroup) as raised:
        async with asyncio.timeout(60.0), in_background(fails()):
            await asyncio.Event().wait()
    assert [type(error) for error in raised.value.exceptions] == [ValueError]


async def test_an_error_of_the_block_ends_what_runs_beside_it() -> None:
    cancelled = asyncio.Event()
    with pytest.raises(ExceptionGroup) as raised:
        async with in_background(never_ends(cancelled)):
            await fails()
    assert [type(error) for error in raised.value.exceptions] == [ValueError]
    assert cancelled.is_set()
