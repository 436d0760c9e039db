"""The lease's invariants, attacked one by one over a real Postgres; see `daemon.ledger.lease`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from daemon.database import statements
from daemon.errors import DatabaseSetupError, LeaseLostError, UnreachableError
from daemon.ledger import lease
from daemon.ledger.binding import Binding
from daemon.ledger.instance import InstanceStatus
from daemon.ledger.lease import (
    GRACE,
    LOST_AFTER,
    SERVER_ENDS_AFTER,
    TRUSTED_FOR,
    Lease,
    seconds_since_boot,
)
from daemon.ledger.locks import ACTIVE_LOCK
from daemon.ledger.store import Ledger, open_ledger
from tests.support.daemon_process import PATIENCE
from tests.support.load import stretched
from tests.support.proxy import Mode, proxied

LEASE = statements.load("ledger/lease.sql")
RECREATED = """
BEGIN;
CREATE SCHEMA anew;
CREATE TABLE anew.ledger (LIKE callstatsd.ledger INCLUDING ALL);
INSERT INTO anew.ledger SELECT * FROM callstatsd.ledger;
CREATE TABLE anew.instance (LIKE callstatsd.instance INCLUDING ALL);
INSERT INTO anew.instance SELECT * FROM callstatsd.instance;
DROP TABLE callstatsd.ledger, callstatsd.instance;
ALTER TABLE anew.ledger SET SCHEMA callstatsd;
ALTER TABLE anew.instance SET SCHEMA callstatsd;
DROP SCHEMA anew;
COMMIT;
"""
"""What a restore does: the same rows in tables of another oid."""


def beat(*, stopped: bool = False) -> InstanceStatus:
    return InstanceStatus("acd-01", 4711, "0", 1.0, "sending", None, None, stopped=stopped)


class Holder:
    """An instance without its sender: a ledger of its own, a lease, and its pings."""

    def __init__(self, ledger: Ledger, lease: Lease) -> None:
        self.ledger = ledger
        self.lease = lease
        self.keeping: asyncio.Task[None] | None = None

    async def acquire(self) -> bool:
        """Try once, as `run` and backfills do; own the row and ping from then on."""
        if not await self.lease.try_acquire():
            return False
        self.keeping = asyncio.create_task(self.lease.keep())
        await self.claim()
        return True

    async def until_acquired(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while not await self.acquire():
                await asyncio.sleep(0.02)

    async def claim(self) -> None:
        await self.ledger.succeed(self.lease.tenure)
        await self.ledger.write_heartbeat(beat(), self.lease.tenure)

    async def stop(self) -> None:
        """Stop in order."""
        await self.ledger.write_heartbeat(beat(stopped=True), self.lease.tenure)
        await self.end()

    async def end(self) -> None:
        """End as a killed process does: nothing is written."""
        if self.keeping is not None:
            self.keeping.cancel()
            await asyncio.gather(self.keeping, return_exceptions=True)
        self.lease.release()

    async def lost(self) -> str:
        """Wait until the lease is given up; returns why."""
        assert self.keeping is not None
        with pytest.raises(LeaseLostError) as raised:
            async with asyncio.timeout(PATIENCE):
                await self.keeping
        return str(raised.value)


@asynccontextmanager
async def instance(dsn: str, connect_within: float = lease.CONNECT_WITHIN) -> AsyncIterator[Holder]:
    async with (
        open_ledger(dsn, "callstatsd") as ledger,
        Lease(ledger.database, is_daemon=True, connect_within=connect_within) as held,
    ):
        holder = Holder(ledger, held)
        try:
            yield holder
        finally:
            await holder.end()


@pytest.fixture
async def bound(dsn: str) -> str:
    """A ledger that belongs to a source, as `migrate` leaves it; nobody ever held it."""
    async with open_ledger(dsn, "callstatsd") as ledger:
        await ledger.bind(Binding(None, "acd", ("jtelstats",)))
    return dsn


async def until_free(db: asyncpg.Connection) -> None:
    """Wait until the server has noticed the end of the last holder's session."""
    async with asyncio.timeout(PATIENCE):
        while await db.fetchval(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted"
            " AND mode = 'ExclusiveLock' AND database ="
            " (SELECT oid FROM pg_database WHERE datname = current_database()))"
        ):
            await asyncio.sleep(0.01)


# The wait of a new holder


async def test_the_first_holder_of_a_ledger_waits_as_nobody_can_say_who_was_there(
    bound: str,
) -> None:
    async with instance(bound) as first:
        asked_at = seconds_since_boot()
        assert await first.acquire()
        assert not first.lease.held
        await first.lease.until_held()
        assert seconds_since_boot() >= asked_at + GRACE


async def test_after_one_that_stopped_in_order_nobody_waits(bound: str) -> None:
    async with instance(bound) as first, instance(bound) as second:
        assert await first.acquire()
        await first.lease.until_held()
        await first.stop()
        await second.until_acquired()
        assert second.lease.held


async def test_after_one_that_was_killed_the_next_one_waits(bound: str) -> None:
    async with instance(bound) as first, instance(bound) as second:
        assert await first.acquire()
        await first.lease.until_held()
        ended_at = seconds_since_boot()
        await first.end()
        await second.until_acquired()
        assert not second.lease.held
        await second.lease.until_held()
        assert seconds_since_boot() >= ended_at + GRACE


async def test_a_process_does_not_wait_for_itself(bound: str, db: asyncpg.Connection) -> None:
    async with instance(bound) as first:
        assert await first.acquire()
        await first.lease.until_held()
        await first.end()
        await until_free(db)
        assert await first.acquire()
        assert first.lease.held


async def test_a_process_that_loses_its_lock_while_it_waits_still_waits(
    bound: str, db: asyncpg.Connection
) -> None:
    """Otherwise its own row, written while it waited, would hide the holder it waits for."""
    async with instance(bound) as first, instance(bound) as second:
        assert await first.acquire()
        await first.lease.until_held()
        ended_at = seconds_since_boot()
        await first.end()
        for _ in range(2):
            await second.until_acquired()
            await second.end()
            await until_free(db)
        await second.until_acquired()
        await second.lease.until_held()
        assert seconds_since_boot() >= ended_at + GRACE


async def test_what_a_copy_brings_back_says_nothing_of_the_last_holder(
    bound: str, db: asyncpg.Connection
) -> None:
    async with instance(bound) as first, instance(bound) as second:
        assert await first.acquire()
        await first.lease.until_held()
        await first.stop()
        recreated_at = seconds_since_boot()
        await db.execute(RECREATED)
        assert await db.fetchval("SELECT stopped_at IS NOT NULL FROM instance")
        await second.until_acquired()
        assert not second.lease.held
        await second.lease.until_held()
        assert seconds_since_boot() >= recreated_at + GRACE


async def test_a_process_whose_row_came_from_a_copy_waits_too(
    bound: str, db: asyncpg.Connection
) -> None:
    async with instance(bound) as first:
        assert await first.acquire()
        await first.lease.until_held()
        await db.execute(RECREATED)
        await first.lost()
        await first.until_acquired()
        assert not first.lease.held


# The row


async def test_a_holder_whom_another_one_overtook_owns_no_row_and_has_no_lease(
    bound: str, db: asyncpg.Connection
) -> None:
    """What it wrote was long under way: its session had ended, and somebody else began."""
    async with instance(bound) as first, instance(bound) as second:
        assert await first.lease.try_acquire()
        first.lease.release()
        await second.until_acquired()
        with pytest.raises(LeaseLostError):
            await first.claim()
        assert await db.fetchval("SELECT lease FROM instance") == second.lease.tenure.lease


async def test_a_late_word_of_an_earlier_holder_changes_nothing(
    bound: str, db: asyncpg.Connection
) -> None:
    async with instance(bound) as first, instance(bound) as second:
        assert await first.acquire()
        earlier = first.lease.tenure
        await first.end()
        await second.until_acquired()
        for stopped in (False, True):
            with pytest.raises(LeaseLostError):
                await first.ledger.write_heartbeat(beat(stopped=stopped), earlier)
        row = await db.fetchrow("SELECT lease, stopped_at FROM instance")
        assert tuple(row) == (second.lease.tenure.lease, None)


async def test_a_late_stop_of_ones_own_earlier_holding_changes_nothing(
    bound: str, db: asyncpg.Connection
) -> None:
    async with instance(bound) as first:
        assert await first.acquire()
        earlier = first.lease.tenure
        await first.end()
        await until_free(db)
        assert await first.acquire()
        with pytest.raises(LeaseLostError):
            await first.ledger.write_heartbeat(beat(stopped=True), earlier)
        assert await db.fetchval("SELECT stopped_at FROM instance") is None


# Pings


async def test_tables_created_anew_end_the_lease_and_it_is_had_again_under_the_new_oid(
    bound: str, db: asyncpg.Connection
) -> None:
    async with instance(bound) as first:
        assert await first.acquire()
        old = first.lease.tenure.ledger_oid
        await db.execute(RECREATED)
        assert "created anew" in await first.lost()
        assert not first.lease.held
        await first.until_acquired()
        assert first.lease.tenure.ledger_oid not in {old, None}
        assert first.lease.tenure.ledger_oid == await db.fetchval("SELECT 'ledger'::regclass::oid")


async def test_one_that_stands_by_wants_the_tables_that_were_created_anew(
    bound: str, db: asyncpg.Connection
) -> None:
    async with instance(bound) as first, instance(bound) as second:
        assert await first.acquire()
        assert not await second.acquire()
        await db.execute(RECREATED)
        await first.lost()
        await second.until_acquired()
        assert second.lease.tenure.ledger_oid == await db.fetchval("SELECT 'ledger'::regclass::oid")
        assert await second.lease.daemon_waiting()


async def test_without_tables_the_lease_ends_and_cannot_be_had(
    bound: str, db: asyncpg.Connection
) -> None:
    async with instance(bound) as first:
        assert await first.acquire()
        await db.execute("ALTER TABLE ledger RENAME TO gone")
        assert "removed" in await first.lost()
        with pytest.raises(DatabaseSetupError):
            await first.acquire()
        await db.execute("ALTER TABLE gone RENAME TO ledger")
        await first.until_acquired()


@pytest.mark.parametrize(
    ("unfinished", "finished"),
    [
        (
            "ALTER TABLE line DROP CONSTRAINT line_pkey",
            "ALTER TABLE line ADD PRIMARY KEY (call_id, group_id, leg_id, code_id)",
        ),
        ("UPDATE ledger SET bound_at = NULL", "UPDATE ledger SET bound_at = now()"),
        (
            "CREATE TABLE kept AS TABLE ledger; TRUNCATE ledger",
            "INSERT INTO ledger SELECT * FROM kept",
        ),
    ],
    ids=["without keys", "unbound", "without its row"],
)
async def test_nobody_gets_a_ledger_whose_restore_is_under_way(
    bound: str, db: asyncpg.Connection, unfinished: str, finished: str
) -> None:
    async with instance(bound) as first:
        await db.execute(unfinished)
        with pytest.raises(UnreachableError, match="restored or migrated"):
            await first.acquire()
        await db.execute(finished)
        assert await first.acquire()


async def test_no_lock_of_a_table_holds_up_a_ping(bound: str, db: asyncpg.Connection) -> None:
    async with instance(bound) as first:
        assert await first.acquire()
        await first.lease.until_held()
        async with db.transaction():
            await db.execute("LOCK TABLE ledger, instance, line, lane IN ACCESS EXCLUSIVE MODE")
            await asyncio.sleep(TRUSTED_FOR + 0.5)
            assert first.keeping is not None
            assert not first.keeping.done()
            await first.lease.until_held()


async def test_a_try_that_waits_for_a_locked_table_has_a_limit_of_its_own(
    bound: str, db: asyncpg.Connection
) -> None:
    async with instance(bound) as first, db.transaction():
        await db.execute("LOCK TABLE ledger IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(UnreachableError):
            async with asyncio.timeout(PATIENCE):
                await first.acquire()


async def test_a_try_over_a_network_that_fell_silent_has_a_limit_of_its_own(bound: str) -> None:
    async with (
        proxied(bound) as (proxy, near),
        instance(bound) as first,
        instance(near, connect_within=0.5) as second,
    ):
        assert await first.acquire()
        assert not await second.acquire()
        await proxy.switch(Mode.DEAF)
        for _ in range(2):  # of the session that it had, and of a new one
            with pytest.raises(UnreachableError):
                async with asyncio.timeout(PATIENCE):
                    await second.acquire()
        await proxy.switch(Mode.PASS)
        assert not await second.acquire()


async def test_without_answers_the_right_ends_first_and_the_lease_later(bound: str) -> None:
    async with proxied(bound) as (proxy, near), instance(near) as first:
        assert await first.acquire()
        await first.lease.until_held()
        assert first.keeping is not None
        await proxy.switch(Mode.STALL)
        while first.lease.held:
            await asyncio.sleep(0.01)
        answered = first.lease._pinged_at
        assert not first.keeping.done()
        await first.lost()
        assert seconds_since_boot() >= answered + LOST_AFTER


async def test_an_answer_after_a_stall_gives_the_right_back(bound: str) -> None:
    async with proxied(bound) as (proxy, near), instance(near) as first:
        assert await first.acquire()
        await first.lease.until_held()
        await proxy.switch(Mode.STALL)
        while first.lease.held:
            await asyncio.sleep(0.01)
        waiting = asyncio.create_task(first.lease.until_held())
        await asyncio.sleep(0.5)
        assert not waiting.done()
        await proxy.switch(Mode.PASS)
        async with asyncio.timeout(PATIENCE):
            await waiting
        assert first.keeping is not None
        assert not first.keeping.done()


async def test_the_locks_session_is_ended_by_the_server_when_it_falls_silent(bound: str) -> None:
    async with instance(bound) as first:
        assert await first.lease.try_acquire()
        assert await first.lease._connection.fetchval("SHOW idle_session_timeout") == "8s"


def test_the_numbers_keep_two_holders_apart() -> None:
    assert lease.PING_EVERY < TRUSTED_FOR < GRACE < LOST_AFTER < lease.SERVER_ENDS_AFTER


async def test_a_session_that_fell_silent_within_a_request_is_ended_too(bound: str) -> None:
    """The server waits for the rest of it, and counts that session as busy, not as idle."""
    async with proxied(bound) as (proxy, dsn), instance(dsn) as cut_off, instance(bound) as other:
        assert await cut_off.acquire()
        await proxy.switch(Mode.TORN)
        assert "lost" in await cut_off.lost()
        began = seconds_since_boot()
        async with asyncio.timeout(stretched(2 * SERVER_ENDS_AFTER)):
            while not await other.acquire():
                await asyncio.sleep(lease.TRY_EVERY)
        assert LOST_AFTER + seconds_since_boot() - began > SERVER_ENDS_AFTER


@pytest.mark.parametrize(("name", "ended"), [("callstatsd lock", 1), ("callstatsd migrate", 0)])
async def test_only_an_instance_is_ended_within_a_request(
    bound: str, name: str, ended: int
) -> None:
    """A migration waits for the lock as long as that; its request is old when it has the lock."""
    holder, waiting = [
        await asyncpg.connect(
            bound, server_settings={"application_name": each, "search_path": "callstatsd"}
        )
        for each in (name, "test")
    ]
    blocked = asyncio.Event()

    async def rows() -> AsyncIterator[bytes]:
        await blocked.wait()
        yield b""

    await holder.fetchval(LEASE["lock"], ACTIVE_LOCK)
    await holder.execute("CREATE TEMPORARY TABLE t ()")
    copying = asyncio.create_task(holder.copy_to_table("t", source=rows()))
    async with asyncio.timeout(PATIENCE):
        while (
            await waiting.fetchval(
                "SELECT wait_event FROM pg_stat_activity WHERE pid = $1", holder.get_server_pid()
            )
            != "ClientRead"
        ):
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert len(await waiting.fetch(LEASE["end_silent_holder"], ACTIVE_LOCK, 60.0)) == 0
    assert len(await waiting.fetch(LEASE["end_silent_holder"], ACTIVE_LOCK, 0.1)) == ended
    copying.cancel()
    holder.terminate()
    waiting.terminate()
