"""A database's faults become errors of ours, whenever they come."""

import asyncio
import time
from contextlib import suppress

import pytest

from daemon.database.pool import Database
from daemon.errors import UnreachableError


@pytest.mark.parametrize("turns", range(8))
async def test_a_statement_that_is_cut_between_its_steps_is_one_that_could_not_be_sent(
    dsn: str, turns: int
) -> None:
    """The answer to its preparation has come, in the same turn of the loop as the cut."""
    async with Database("ledger", dsn, session={}, size=2) as database:
        async with database.connection() as connection:
            await connection.fetchval("SELECT 1")

        async def work() -> int:
            async with database.connection() as connection:
                return int(await connection.fetchval("SELECT $1::integer + 1", 1))

        working = asyncio.create_task(work())
        for _ in range(12):
            await asyncio.sleep(0)
        time.sleep(0.02)  # noqa: ASYNC251 - a frozen process: what comes meanwhile waits
        for _ in range(turns):
            await asyncio.sleep(0)
        await database.cut()
        with suppress(UnreachableError):
            assert await working == 2
        async with database.connection() as connection:
            assert await connection.fetchval("SELECT 2") == 2
