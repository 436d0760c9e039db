"""Databases that are cut, stall, fall silent, restart or refuse to write: nothing is lost."""

import asyncio
import time
from pathlib import Path

import asyncpg
import pytest

from daemon.database.pool import Database
from daemon.demo.postgres import create_database, embedded
from daemon.ledger.lease import LOST_AFTER
from daemon.service.instance import MAY_STILL_SEND
from tests.support.audit import Break, audit
from tests.support.call_centre import CallCentre
from tests.support.daemon_process import PATIENCE, command, running
from tests.support.load import stretched
from tests.support.proxied_centre import (
    CONCURRENCY,
    Wired,
    busy,
    delivered_since,
    finished,
    later,
    outages,
    seconds_of,
)
from tests.support.proxy import Mode, proxied
from tests.support.traffic import traffic

# The ledger's network


@pytest.mark.parametrize("reset", [True, False], ids=["by RST", "by FIN"])
async def test_a_ledger_whose_connections_are_cut_is_used_again_at_once(
    wires: Wired, *, reset: bool
) -> None:
    async with busy(wires) as (daemon, calls):
        began = time.time()
        wires.broke()
        wires.ledger.cut(reset=reset)
        assert await delivered_since(daemon, began + 0.1, within=5) < stretched(3)
        await finished(wires, daemon, calls)

    # Nobody but the lock's session need notice, and that may be a new one before anyone asks.
    assert outages(daemon, began) in {(0, 0), (1, 1)}


async def test_a_ledger_that_refuses_for_a_while_is_lost_once_and_back_once(wires: Wired) -> None:
    async with busy(wires) as (daemon, calls):
        began = time.time()
        wires.broke()
        await wires.ledger.switch(Mode.REFUSE)
        wires.ledger.cut(reset=True)
        await asyncio.sleep(3)
        last = max(one.started for one in wires.centre.salesforce.requests)
        returned = time.time()
        await wires.ledger.switch(Mode.PASS)
        assert await delivered_since(daemon, returned, within=PATIENCE) < stretched(3)
        await finished(wires, daemon, calls)

    assert last < wires.breaks[0].at + stretched(0.5)
    assert outages(daemon, began) == (1, 1)


async def test_a_ledger_that_stalls_for_three_seconds_costs_nothing(
    wires: Wired,
) -> None:
    async with busy(wires) as (daemon, calls):
        began = time.time()
        await wires.ledger.switch(Mode.STALL)
        await asyncio.sleep(3)
        await wires.ledger.switch(Mode.PASS)
        await delivered_since(daemon, time.time(), within=3)
        found = await finished(wires, daemon, calls)

    assert outages(daemon, began) == (0, 0)
    assert found.repeated == 0


async def test_while_a_ledger_stalls_nothing_is_sent_beyond_what_it_may_repeat(
    wires: Wired,
) -> None:
    async with busy(wires) as (daemon, calls):
        began, mark = time.time(), time.monotonic()
        await wires.ledger.switch(Mode.STALL)
        lost = await daemon.until("database.lost", database="ledger")
        wires.broke()
        await asyncio.sleep(3)
        sent = [one for one in wires.centre.salesforce.requests if one.started > mark]
        returned = time.time()
        await wires.ledger.switch(Mode.PASS)
        assert await delivered_since(daemon, returned, within=PATIENCE) < stretched(5)
        await finished(wires, daemon, calls)

    assert seconds_of(lost, began) < LOST_AFTER + stretched(0.5)
    assert len(sent) <= CONCURRENCY + 64
    assert outages(daemon, began) == (1, 1)


async def test_a_ledger_that_falls_silent_is_noticed_within_six_seconds(wires: Wired) -> None:
    async with busy(wires) as (daemon, _):
        began, mark = time.time(), time.monotonic()
        await wires.ledger.switch(Mode.DEAF)
        lost = await daemon.until("database.lost", database="ledger")
        noticed = time.monotonic()
        await asyncio.sleep(1)

    assert seconds_of(lost, began) < LOST_AFTER + stretched(0.5)
    sent = [one for one in wires.centre.salesforce.requests if one.started > mark]
    assert len(sent) <= CONCURRENCY + 64
    assert all(one.started < noticed for one in sent)


async def test_after_silence_the_daemon_works_again_within_fifteen_seconds(wires: Wired) -> None:
    async with busy(wires) as (daemon, calls):
        began = time.time()
        wires.broke()
        await wires.ledger.switch(Mode.DEAF)
        await daemon.until("database.lost", database="ledger")
        wires.broke()
        await asyncio.sleep(3)
        returned = time.time()
        await wires.ledger.switch(Mode.PASS)
        await calls.end()
        await wires.settled(calls.ended, within=PATIENCE)
        assert time.time() - returned < stretched(15)
        await finished(wires, daemon, calls)

    assert outages(daemon, began) == (1, 1)


async def test_a_statement_cancelled_on_a_silent_connection_stays_cancelled(dsn: str) -> None:
    async with (
        proxied(dsn) as (proxy, near),
        Database("ledger", near, session={}, size=1) as database,
    ):
        asked = asyncio.Event()

        async def ask() -> None:
            async with database.connection() as connection:
                asked.set()
                await connection.fetchval("SELECT pg_sleep(60)")

        asking = asyncio.create_task(ask())
        await asked.wait()
        await proxy.switch(Mode.DEAF)
        await asyncio.sleep(0.2)
        asking.cancel()
        await asyncio.wait({asking}, timeout=PATIENCE)
        assert asking.cancelled()


async def test_a_ledger_that_restarts_while_lines_are_sent_loses_none(
    centre: CallCentre, tmp_path: Path
) -> None:
    folder = tmp_path / "ledger"
    centre.salesforce.work = 0.005
    postgres = embedded(folder)
    server = await asyncio.to_thread(postgres.__enter__)
    try:
        ledger_dsn = await create_database(server, "ledger")
        environment = centre.settings(ledger_dsn=ledger_dsn, retry_max="1")
        assert (await command("migrate", environment=environment, folder=centre.folder))[0] == 0
        async with running(environment, centre.folder) as daemon:
            await daemon.until("daemon.started")
            async with traffic(centre.dsn) as calls:
                await daemon.until("line.delivered", 20)
                began = time.time()
                mark = time.monotonic()
                await asyncio.to_thread(postgres.__exit__, None, None, None)
                postgres = embedded(folder)
                await asyncio.to_thread(postgres.__enter__)
                back = await daemon.until("database.back", database="ledger")
                assert await delivered_since(
                    daemon, began + seconds_of(back, began), 5
                ) < stretched(3)
            ledger = await asyncpg.connect(
                ledger_dsn, server_settings={"search_path": "callstatsd"}
            )
            try:
                near = CallCentre(ledger_dsn, centre.url, centre.salesforce, ledger, centre.folder)
                await near.until(delivered=calls.ended)
                assert await daemon.stop() == 0
                found = await audit(near, source=centre.db, breaks=[Break(mark, CONCURRENCY + 64)])
            finally:
                await ledger.close()
    finally:
        await asyncio.to_thread(postgres.__exit__, None, None, None)
    print(found)  # noqa: T201
    assert len(later(daemon, "daemon.started", began)) == 1
    assert not later(daemon, "daemon.waiting", began, error=MAY_STILL_SEND)


# The source's network


async def test_while_the_source_is_away_what_was_taken_is_sent(wires: Wired) -> None:
    wires.centre.salesforce.work = 0.05
    async with busy(wires, concurrency="1") as (daemon, calls):
        await asyncio.sleep(1)
        began = time.time()
        await wires.source.switch(Mode.REFUSE)
        wires.source.cut(reset=True)
        await daemon.until("database.lost", database="source")
        assert await delivered_since(daemon, time.time() + 0.5, within=5) < stretched(1)
        await asyncio.sleep(1)
        returned = time.time()
        await wires.source.switch(Mode.PASS)
        await daemon.until("database.back", database="source")
        await calls.end()
        async with asyncio.timeout(PATIENCE):
            while not later(daemon, "poll.taken", returned):
                await asyncio.sleep(0.02)
        wires.centre.salesforce.work = 0.0
        await finished(wires, daemon, calls)

    assert outages(daemon, began, "source") == (1, 1)
    assert outages(daemon, began, "ledger") == (0, 0)


async def test_a_source_that_stalls_is_read_again_as_soon_as_it_moves(wires: Wired) -> None:
    async with busy(wires) as (daemon, calls):
        await wires.source.switch(Mode.STALL)
        await asyncio.sleep(8)
        returned = time.time()
        await wires.source.switch(Mode.PASS)
        assert await delivered_since(daemon, returned, within=PATIENCE) < stretched(2)
        found = await finished(wires, daemon, calls)

    assert found.repeated == 0
