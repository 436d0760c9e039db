"""A day of a Telegra ACD ends in Salesforce as the contract has it, whatever happens meanwhile."""

import asyncio
import itertools
import random
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import aiohttp
import asyncpg
import pytest

from daemon.demo.standin import CALLBACK_PATH
from tests.support.daemon_process import PATIENCE, Daemon, running
from tests.support.expected import data_lines
from tests.support.expected_callbacks import CallbackDay, callback_line
from tests.support.expected_telegra import Ids, Told, rows_of
from tests.support.raw import free_port
from tests.support.telegra_centre import Acd, TelegraCentre
from tests.support.telegra_days import Day

WAYS = (("HEAD", "query"), ("GET", "query"), ("PUT", "form"), ("PUT", "json"), ("PUT", "query"))
TELLERS = 16
RECEIVING = {"settle_delay": "PT20H", "stale_call_after": "PT24H", "telegra_grace": "0.2"}
"""Nothing is settled, and so nothing is sent, before all was told."""
SENDING = {"stale_call_after": "PT1H", "callback_url": CALLBACK_PATH, "callback_delay": "0",
           "concurrency": "8"}  # fmt: skip


async def tell_all(day: Sequence[Told], ports: Sequence[int], chance: random.Random) -> int:
    """Tell everything disordered and twice, at any of the ports, until it is kept: the tries."""
    queue = chance.sample([*day, *day], 2 * len(day))
    tries = 0
    async with aiohttp.ClientSession() as session:
        acds = itertools.cycle([Acd(session, port) for port in ports])

        async def tell() -> None:
            nonlocal tries
            while queue:
                told = queue.pop()
                method, form = chance.choice(WAYS)
                while True:
                    tries += 1
                    with suppress(aiohttp.ClientError, OSError):
                        if await next(acds).tell(told, method, form) == 200:
                            break
                    await asyncio.sleep(0.02)

        await asyncio.gather(*(tell() for _ in range(TELLERS)))
    return tries


async def ids_in(db: asyncpg.Connection) -> Ids:
    """Return which ids the calls, notifications and codes have got."""
    events = await db.fetch("SELECT Parameters ->> 'id' AS number, ID FROM TelegraEvents")
    calls = await db.fetch("SELECT TaskID, StatisticsPartAID FROM TelegraCalls")
    codes = await db.fetch(
        "SELECT ClassificationCategoryID, ClassificationReason, TransactionCodesID"
        " FROM TelegraCodes"
    )
    numbers = dict(map(tuple, events))
    return Ids(
        dict(map(tuple, calls)),
        lambda told: int(numbers[told["id"]]),
        {(category, reason): row for category, reason, row in codes},
    )


async def assert_all_sent(
    centre: TelegraCentre, told: Sequence[Told], sent: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Wait until Salesforce has exactly the lines that were told of, besides those sent before.

    A leg's line without a code stays as it was sent when a code comes late. Returns all lines.
    """
    sample = rows_of(told, await ids_in(centre.db))
    expected = dict(sent or {}) | {line.key: line.record for line in data_lines(sample)}
    callbacks = CallbackDay(
        sample.calls, sample.visits, sample.legs, sample.codes, sample.events,
        sample.service_numbers, sample.users, sample.groups, sample.transaction_codes,
    )  # fmt: skip
    requests = [callback_line(callbacks, event) for event in sample.events]
    expected |= {line.key: line.record for line in requests}
    await centre.until(delivered=len(expected))
    found: dict[str, Any] = centre.salesforce.written
    assert found.keys() == expected.keys()
    assert [key for key in expected if found[key] != expected[key]] == []
    return expected


async def test_a_day_told_in_disorder_and_twice(telegra_centre: TelegraCentre) -> None:
    centre, day = telegra_centre, Day(80, 1, datetime.now(UTC))
    async with running(centre.settings(**RECEIVING), centre.folder):
        await centre.listening()
        await tell_all(day.told, [centre.port], random.Random(1))
        await ends_written(centre, day.told)
    async with running(centre.settings(**SENDING), centre.folder):
        await centre.listening()
        sent = await assert_all_sent(centre, day.told)
        await tell_all(day.late, [centre.port], random.Random(2))
    # What comes late, with its own time long ago, is found by a sweep.
    async with running(centre.settings(**SENDING), centre.folder):
        await assert_all_sent(centre, [*day.told, *day.late], sent)


@pytest.mark.long
async def test_a_day_with_kills_and_outages(telegra_centre: TelegraCentre, server: str) -> None:
    centre, day, chance = telegra_centre, Day(2000, 2, datetime.now(UTC)), random.Random(2)
    other = replace(centre, port=free_port())
    async with AsyncExitStack() as stack:
        chaos = asyncio.create_task(disturb([centre, other], server, chance, stack))
        tries = await tell_all(day.told, [centre.port, other.port], chance)
        chaos.cancel()
        await asyncio.gather(chaos, return_exceptions=True)
        await allow_connections(centre, server, allowed=True)
        await ends_written(centre, day.told)
    assert tries > 2 * len(day.told)
    async with running(centre.settings(**SENDING), centre.folder):
        await centre.listening()
        sent = await assert_all_sent(centre, day.told)
        await tell_all(day.late, [centre.port], chance)
    async with running(centre.settings(**SENDING), centre.folder):
        await assert_all_sent(centre, [*day.told, *day.late], sent)


async def ends_written(centre: TelegraCentre, day: Sequence[Told]) -> None:
    """Wait until every end that was told is in StatisticsPartA."""
    ends = {one["taskid"] for one in day if one.get("eventtype") == "CallEnd"}
    async with asyncio.timeout(PATIENCE):
        query = "SELECT count(*) FROM StatisticsPartA WHERE dtCallEnd IS NOT NULL"
        while await centre.db.fetchval(query) < len(ends):
            await asyncio.sleep(0.05)


async def disturb(
    centres: Sequence[TelegraCentre], server: str, chance: random.Random, stack: AsyncExitStack
) -> None:
    """Run both instances, kill one after another, and take the database away now and then."""
    daemons: list[Daemon] = []

    async def start(centre: TelegraCentre) -> Daemon:
        settings = centre.settings(**RECEIVING)
        return await stack.enter_async_context(running(settings, centre.folder))

    daemons += [await start(centre) for centre in centres]
    for turn in itertools.count():
        await asyncio.sleep(chance.uniform(0.5, 2.0))
        if turn % 3 == 2:
            await allow_connections(centres[0], server, allowed=False)
            await asyncio.sleep(chance.uniform(0.2, 1.5))
            await allow_connections(centres[0], server, allowed=True)
        else:
            victim = turn % 2
            daemons[victim].process.kill()
            await daemons[victim].process.wait()
            daemons[victim] = await start(centres[victim])


async def allow_connections(centre: TelegraCentre, server: str, *, allowed: bool) -> None:
    """Take the database away from all, or give it back; the test's own session stays."""
    name = await centre.db.fetchval("SELECT current_database()")
    own = await centre.db.fetchval("SELECT pg_backend_pid()")
    admin = await asyncpg.connect(server)
    try:
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {str(allowed).lower()}")
        if not allowed:
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = $1 AND pid <> $2",
                name,
                own,
            )
    finally:
        await admin.close()
