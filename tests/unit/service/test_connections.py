"""Waiting for a database at the start."""

import asyncio

import pytest

from daemon.errors import ConfigurationError, DatabaseSetupError, UnreachableError
from daemon.service.connections import retry_until_reachable


async def test_a_database_that_is_away_is_asked_again_until_it_is_there() -> None:
    answers = [UnreachableError("away"), UnreachableError("away"), None]
    failures: list[int] = []

    async def call() -> None:
        if (error := answers.pop(0)) is not None:
            raise error

    await retry_until_reachable(call, asyncio.Event(), lambda: failures.append(len(answers)))
    assert answers == []
    assert failures == [2, 1]


@pytest.mark.parametrize("error", [DatabaseSetupError("no right"), ConfigurationError("wrong")])
async def test_what_waiting_does_not_cure_is_raised_at_once(error: Exception) -> None:
    async def call() -> None:
        raise error

    with pytest.raises(type(error)):
        await retry_until_reachable(call, asyncio.Event(), lambda: None)


async def test_stop_ends_the_waiting() -> None:
    stop = asyncio.Event()

    async def call() -> None:
        stop.set()
        raise UnreachableError("away")

    async with asyncio.timeout(10.0):
        await retry_until_reachable(call, stop, lambda: None)
