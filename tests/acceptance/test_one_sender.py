"""One instance sends for a ledger, whatever happens to it, its session or its network."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from daemon.ledger.lease import GRACE, TRUSTED_FOR
from daemon.service.instance import MAY_STILL_SEND
from tests.support.audit import audit
from tests.support.call_centre import CallCentre
from tests.support.calls import plain_call, record_id
from tests.support.daemon_process import PATIENCE, Daemon, running
from tests.support.proxied_centre import (
    BOTH_FEEDS,
    MARGIN,
    OperatorPause,
    Wired,
    as_named,
    delivered_since,
    lateness,
    not_before,
    starts_of,
    taken_over,
    wired,
)
from tests.support.proxy import Mode, proxied
from tests.support.traffic import traffic

LOCK_SESSIONS = """
SELECT pid FROM pg_stat_activity JOIN pg_locks USING (pid)
WHERE application_name = 'callstatsd lock' AND locktype = 'advisory' AND granted
  AND mode = 'ExclusiveLock' AND pg_locks.database =
      (SELECT oid FROM pg_database WHERE datname = current_database())
"""


async def test_after_a_kill_another_instance_delivers_within_five_seconds(
    centre: CallCentre,
) -> None:
    centre.salesforce.work = 0.01
    async with wired(centre) as wires:
        async with (
            running(wires.settings(**BOTH_FEEDS), centre.folder) as first,
            traffic(centre.dsn, callbacks=True) as calls,
        ):
            await first.until("line.delivered", 10)
            async with running(wires.settings(**BOTH_FEEDS), centre.folder) as second:
                await second.until("daemon.standby")
                wires.broke()
                first.signal(signal.SIGKILL)
                seconds = await taken_over(second, time.monotonic(), within=5)
                await calls.end()
                await wires.settled(calls.lines)
                assert await second.stop() == 0
        found = await audit(centre, breaks=wires.breaks, callbacks=True)
    print(f"{seconds:.2f} s", found)  # noqa: T201 - shown by pytest -s, and with a failure
    assert found.repeated_after_breaks <= 4 + 64


@pytest.mark.parametrize("mode", [Mode.DEAF, Mode.STALL])
async def test_a_silent_source_delays_no_takeover(centre: CallCentre, mode: Mode) -> None:
    """What is in the ledger can be sent without it."""
    async with wired(centre) as wires:
        async with (
            running(wires.settings(), centre.folder) as first,
            running(wires.settings(), centre.folder) as second,
        ):
            async with asyncio.timeout(PATIENCE):
                while not (started := first.seen("daemon.started") + second.seen("daemon.started")):
                    await asyncio.sleep(0.01)
            assert len(started) == 1
            holder, other = (first, second) if first.seen("daemon.started") else (second, first)
            await other.until("daemon.standby")
            await plain_call(centre.db, 1, record=record_id(1))
            await holder.until("line.delivered")
            await wires.source.switch(mode)
            await centre.db.execute(
                "UPDATE line SET state = 'pending', settled_at = NULL, generation = generation + 1"
            )
            holder.signal(signal.SIGKILL)
            seconds = await taken_over(other, time.monotonic(), within=5)
            assert len(other.seen("daemon.standby")) == 1
            assert await other.stop() == 0
    print(f"{seconds:.2f} s")  # noqa: T201


def starts(*daemons: Daemon) -> int:
    """How often any of them began to send."""
    return sum(len(daemon.seen("daemon.started")) for daemon in daemons)


async def test_a_lock_session_ended_by_an_administrator_costs_at_most_what_is_in_flight(
    centre: CallCentre,
) -> None:
    centre.salesforce.work = 0.02
    async with wired(centre) as wires:
        async with (
            running(wires.settings(), centre.folder) as first,
            running(wires.settings(), centre.folder) as second,
            traffic(centre.dsn) as calls,
        ):
            for times in range(5):
                async with asyncio.timeout(PATIENCE):
                    while starts(first, second) <= times:
                        await asyncio.sleep(0.01)
                await asyncio.sleep(0.5)
                [holder] = await centre.db.fetch(LOCK_SESSIONS)
                wires.broke()
                await centre.db.execute("SELECT pg_terminate_backend($1)", holder["pid"])
            await calls.end()
            await wires.settled(calls.ended)
            # Before one stops, which lets the other begin.
            assert starts(first, second) == 6
            assert await first.stop() == 0
            assert await second.stop() == 0
        found = await audit(centre, breaks=wires.breaks)
    print(found)  # noqa: T201


async def test_a_holder_that_cannot_hear_of_its_lost_lock_starts_nothing_after_2_5_seconds(
    centre: CallCentre,
) -> None:
    """The server ends the session while the network is cut, say in a failover."""
    centre.salesforce.work = 0.05
    for number in range(1, 151):
        await plain_call(centre.db, number, record=record_id(number))
    ready = not_before(centre)
    async with wired(centre) as wires, proxied(centre.dsn) as (_, dsn), lateness() as late:
        environment = wires.settings(**as_named(centre, "first"))
        async with running(environment, centre.folder) as first:
            await first.until("daemon.started")
            environment = wires.settings(ledger_dsn=dsn, **as_named(centre, "second"))
            async with running(environment, centre.folder) as second:
                await second.until("daemon.standby")
                ready.set()
                await first.until("line.delivered", 10)
                [holder] = await centre.db.fetch(LOCK_SESSIONS)
                await wires.ledger.switch(Mode.DEAF)
                cut = time.monotonic()
                await centre.db.execute("SELECT pg_terminate_backend($1)", holder["pid"])
                await first.until("database.lost", database="ledger")
                await wires.settled(150)
                assert await second.stop() == 0
    starts = starts_of(centre)
    last = max(at for at, name in starts if name == "first") - cut
    next_one = min(at for at, name in starts if name == "second") - cut
    print(f"{last:.2f} s, {next_one:.2f} s, {late.worst:.3f} s late")  # noqa: T201
    assert last < TRUSTED_FOR + MARGIN + late.worst
    # The session ended after the cut.
    assert next_one > GRACE
    assert centre.salesforce.repeated <= 1 + 64


@pytest.mark.parametrize("what", ["the network", "the server process"])
async def test_three_seconds_without_an_answer_to_a_ping_cost_nothing(
    centre: CallCentre, what: str
) -> None:
    """A request that is out meanwhile is not aborted, no line is repeated, nobody takes over."""
    release = asyncio.Event()
    out = OperatorPause(release, "1-0-0-0")
    centre.salesforce.rule = out
    centre.salesforce.work = 0.01
    async with (
        wired(centre) as wires,
        proxied(centre.dsn) as (_, dsn),
        traffic(centre.dsn) as calls,
    ):
        environment = wires.settings(request_timeout="60")
        async with running(environment, centre.folder) as first:
            async with asyncio.timeout(PATIENCE):
                await out.waiting.wait()
            async with running(wires.settings(ledger_dsn=dsn), centre.folder) as second:
                await second.until("daemon.standby")
                await first.until("line.delivered", 10)
                [holder] = await centre.db.fetch(LOCK_SESSIONS)
                async with stalled(wires, holder["pid"], what):
                    await asyncio.sleep(3)
                back = time.time()
                assert await delivered_since(first, back, within=PATIENCE) < PATIENCE
                release.set()
                await calls.end()
                await wires.settled(calls.ended)
                assert not second.seen("daemon.started")
                assert await second.stop() == 0
            assert await first.stop() == 0
        found = await audit(centre)
    assert found.repeated == 0
    assert not first.seen("daemon.standby")
    assert not first.seen("database.lost", database="ledger")
    assert not first.seen("sender.paused")
    assert await centre.db.fetchval("SELECT max(attempts + unanswered) FROM line") == 1


@asynccontextmanager
async def stalled(wires: Wired, pid: int, what: str) -> AsyncIterator[None]:
    """Pings get no answer meanwhile; afterwards they do."""
    if what == "the network":
        await wires.ledger.switch(Mode.STALL)
    else:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        if what == "the network":
            await wires.ledger.switch(Mode.PASS)
        else:
            os.kill(pid, signal.SIGCONT)


async def test_an_instance_whose_machine_vanished_is_replaced_within_fifteen_seconds(
    centre: CallCentre,
) -> None:
    """Nothing comes from it any more, no end of a connection either, and nothing reaches it."""
    centre.salesforce.work = 0.01
    async with wired(centre) as wires, wired(centre) as others, traffic(centre.dsn) as calls:
        async with running(wires.settings(), centre.folder) as first:
            await first.until("line.delivered", 10)
            async with running(others.settings(), centre.folder) as second:
                await second.until("daemon.standby")
                wires.broke()
                for wire in (wires.salesforce, wires.ledger, wires.source):
                    await wire.switch(Mode.DEAF)
                seconds = await taken_over(second, time.monotonic(), within=15)
                first.signal(signal.SIGKILL)
                await calls.end()
                await wires.settled(calls.ended)
                assert await second.stop() == 0
        found = await audit(centre, breaks=wires.breaks)
    print(f"{seconds:.2f} s", found)  # noqa: T201


async def test_after_a_stop_in_order_the_next_one_sends_at_once(centre: CallCentre) -> None:
    """A restart, and a standby: neither waits for a holder that is surely gone."""
    await plain_call(centre.db, 1, record=record_id(1))
    async with running(centre.settings(), centre.folder) as first:
        await first.until("line.delivered")
        async with running(centre.settings(), centre.folder) as second:
            await second.until("daemon.standby")
            assert await first.stop() == 0
            await second.until("daemon.started")
            assert await second.stop() == 0
    async with running(centre.settings(), centre.folder) as third:
        await third.until("daemon.started")
        assert await third.stop() == 0
    for daemon in (second, third):
        assert not daemon.seen("daemon.waiting", error=MAY_STILL_SEND), daemon.text


async def test_after_a_kill_the_next_one_waits(centre: CallCentre) -> None:
    await plain_call(centre.db, 1, record=record_id(1))
    async with running(centre.settings(), centre.folder) as first:
        await first.until("line.delivered")
        killed_at = time.monotonic()
        first.signal(signal.SIGKILL)
    await plain_call(centre.db, 2, record=record_id(2))
    async with running(centre.settings(), centre.folder) as second:
        await centre.until(delivered=2)
        assert second.seen("daemon.waiting", error=MAY_STILL_SEND)
        assert await second.stop() == 0
    assert centre.salesforce.requests[-1].started > killed_at + GRACE


async def test_two_ledgers_in_one_database_do_not_wait_for_each_other(centre: CallCentre) -> None:
    await plain_call(centre.db, 1, record=record_id(1))
    other = {"ledger_schema": "callstatsd_two"}
    assert (await centre.run("migrate", **other))[0] == 0
    async with (
        running(centre.settings(), centre.folder) as first,
        running(centre.settings(**other), centre.folder) as second,
    ):
        await first.until("line.delivered")
        await second.until("line.delivered")
        assert len(await centre.db.fetch(LOCK_SESSIONS)) == 2
        assert await first.stop() == 0
        assert await second.stop() == 0
