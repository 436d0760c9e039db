"""A ledger that can be read and not written: sending stops, and nothing is lost."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg
import pytest

from daemon.delivery.outcome import Delivered
from daemon.delivery.outcome_writer import AttemptResult, OutcomeWriter
from daemon.demo.postgres import create_database, embedded
from daemon.errors import SettleTimeoutError
from daemon.ledger.store import Ledger, open_ledger
from daemon.lines import FeedName, Settlement, State
from tests.support.call_centre import CallCentre
from tests.support.calls import plain_call, record_id
from tests.support.daemon_process import PATIENCE, command, running
from tests.support.load import stretched
from tests.support.proxied_centre import (
    CONCURRENCY,
    Wired,
    busy,
    delivered_since,
    finished,
    outages,
)
from tests.support.traffic import traffic


async def read_only(db: asyncpg.Connection, *, on: bool, sessions_too: bool = True) -> None:
    """Let the test's database take no writes, or take them again."""
    name = await db.fetchval("SELECT current_database()")
    change = "SET default_transaction_read_only = on" if on else "RESET ALL"
    await db.execute(f'ALTER DATABASE "{name}" {change}')
    if sessions_too:
        await db.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = $1 AND application_name LIKE 'callstatsd%'",
            name,
        )


async def test_a_ledger_that_became_read_only_stops_sending_until_it_writes(wires: Wired) -> None:
    async with busy(wires) as (daemon, calls):
        wires.broke()
        await read_only(wires.centre.db, on=True)
        await asyncio.sleep(3)
        sent = [one for one in wires.centre.salesforce.requests if one.started > wires.breaks[0].at]
        await read_only(wires.centre.db, on=False)
        wires.broke()
        await finished(wires, daemon, calls)

    assert len(sent) <= CONCURRENCY + 64


async def test_a_ledger_that_writes_again_is_used_without_anybody_ending_sessions(
    wires: Wired,
) -> None:
    async with busy(wires) as (daemon, calls):
        began = time.time()
        wires.broke()
        await read_only(wires.centre.db, on=True)
        await asyncio.sleep(2)
        returned = time.time()
        await read_only(wires.centre.db, on=False, sessions_too=False)
        assert await delivered_since(daemon, returned, within=15) < stretched(5)
        await finished(wires, daemon, calls)

    assert outages(daemon, began) == (1, 1)


async def limited(db: asyncpg.Connection, milliseconds: int) -> None:
    """Let statements of new sessions take no longer; 0 takes the limit back."""
    name = await db.fetchval("SELECT current_database()")
    change = f"SET statement_timeout = {milliseconds}" if milliseconds else "RESET ALL"
    await db.execute(f'ALTER DATABASE "{name}" {change}')


async def end_sessions(db: asyncpg.Connection) -> None:
    await db.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name LIKE 'callstatsd%'"
    )


async def slow(db: asyncpg.Connection) -> None:
    """Let writing outcomes take longer than the limit, and everything else no longer."""
    await db.execute(
        """
        CREATE FUNCTION callstatsd.dawdle() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_sleep(0.8); RETURN NULL; END $$;
        CREATE TRIGGER dawdle AFTER UPDATE OF state ON callstatsd.line
        FOR EACH STATEMENT EXECUTE FUNCTION callstatsd.dawdle();
        """
    )


async def test_a_statement_timeout_is_one_outage_and_no_session_keeps_it(wires: Wired) -> None:
    async with busy(wires) as (daemon, calls):
        began = time.time()
        wires.broke()
        await slow(wires.centre.db)
        await limited(wires.centre.db, 400)
        await end_sessions(wires.centre.db)
        await daemon.until("database.lost", database="ledger")
        await asyncio.sleep(4)
        assert outages(daemon, began) == (1, 0)
        # The limit is withdrawn, and nobody ends the sessions that began under it.
        await limited(wires.centre.db, 0)
        returned = time.time()
        assert await delivered_since(daemon, returned, within=PATIENCE) < stretched(10)
        await wires.centre.db.execute("DROP FUNCTION callstatsd.dawdle CASCADE")
        wires.broke()
        await finished(wires, daemon, calls)

    assert outages(daemon, began) == (1, 1)


@asynccontextmanager
async def small_disk(dsn: str) -> AsyncIterator[Path]:
    """A file system of 3 MB that this Postgres may write to; needs the right to mount one."""
    folder = Path(unquote(parse_qs(urlsplit(dsn).query)["host"][0])) / "small"
    owner = "nobody" if os.geteuid() == 0 else str(os.geteuid())
    mounted = await asyncio.create_subprocess_exec(
        "mount", "-t", "tmpfs", "-o", f"size=3m,uid={owner},mode=700,X-mount.mkdir",
        "tmpfs", str(folder), stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    if await mounted.wait():
        pytest.skip("no right to mount a file system")
    try:
        yield folder
    finally:
        unmounting = await asyncio.create_subprocess_exec("umount", "--lazy", str(folder))
        assert await unmounting.wait() == 0


async def fill(db: asyncpg.Connection) -> None:
    """Write until the disk is full, then a little into what is left of it."""
    await db.execute("CREATE TABLE filler (text text) TABLESPACE small")
    for size in (100_000, 1_000, 10):
        with contextlib.suppress(asyncpg.DiskFullError):
            while True:
                await db.execute(
                    "INSERT INTO filler SELECT gen_random_uuid()::text "
                    "FROM generate_series(1, $1::integer)",
                    size // 40 + 1,
                )


async def test_a_full_disk_is_one_outage(centre: CallCentre, tmp_path: Path) -> None:
    with embedded(tmp_path / "ledger") as server:
        async with small_disk(server) as folder:
            ledger_dsn = await create_database(server, "ledger")
            environment = centre.settings(ledger_dsn=ledger_dsn, retry_max="1")
            code, _, errors = await command("migrate", environment=environment, folder=tmp_path)
            assert code == 0, errors
            ledger = await asyncpg.connect(
                ledger_dsn, server_settings={"search_path": "callstatsd"}
            )
            try:
                await ledger.execute(f"CREATE TABLESPACE small LOCATION '{folder}'")
                await ledger.execute("ALTER TABLE line SET TABLESPACE small")
                near = CallCentre(ledger_dsn, centre.url, centre.salesforce, ledger, centre.folder)
                async with running(environment, tmp_path) as daemon:
                    await daemon.until("daemon.started")
                    async with traffic(centre.dsn) as calls:
                        await daemon.until("line.delivered", 20)
                        began = time.time()
                        await fill(ledger)
                        lost = await daemon.until("database.lost", database="ledger")
                        await asyncio.sleep(4)
                        assert outages(daemon, began) == (1, 0)
                        await ledger.execute("DROP TABLE filler")
                        await daemon.until("database.back", database="ledger")
                    await near.until(delivered=calls.ended)
                    assert await daemon.stop() == 0
                assert outages(daemon, began) == (1, 1)
                assert "No space left on device" in lost["error"]
            finally:
                await ledger.close()


async def unwritable(db: asyncpg.Connection) -> None:
    """Let no outcome be written: updating a line fails, everything else works."""
    await db.execute(
        """
        CREATE FUNCTION callstatsd.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'refused by the test'; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON callstatsd.line
        FOR EACH ROW EXECUTE FUNCTION callstatsd.refuse();
        """
    )


async def writable(db: asyncpg.Connection) -> None:
    await db.execute("DROP FUNCTION callstatsd.refuse CASCADE")


async def test_while_outcomes_cannot_be_written_sending_stops_and_then_goes_on_by_itself(
    wires: Wired,
) -> None:
    async with busy(wires) as (daemon, calls):
        await unwritable(wires.centre.db)
        mark = time.monotonic()
        await daemon.until("database.lost", database="ledger")
        await asyncio.sleep(2)
        stopped = time.monotonic() - 1
        sent = [one for one in wires.centre.salesforce.requests if one.started > mark]
        returned = time.time()
        await writable(wires.centre.db)
        assert await delivered_since(daemon, returned, within=5) < stretched(2)
        found = await finished(wires, daemon, calls)

    assert len(sent) <= CONCURRENCY + 64
    assert all(one.started < stopped for one in sent)
    assert found.repeated == 0


async def test_one_outage_of_writing_is_told_once(wires: Wired) -> None:
    async with busy(wires) as (daemon, calls):
        began = time.time()
        await unwritable(wires.centre.db)
        await asyncio.sleep(4)
        await writable(wires.centre.db)
        await delivered_since(daemon, time.time(), within=5)
        await finished(wires, daemon, calls)

    assert outages(daemon, began) == (1, 1)


# Giving up


async def one_pending(ledger: Ledger, db: asyncpg.Connection) -> AttemptResult:
    await db.execute(
        """
        INSERT INTO line (call_id, group_id, leg_id, code_id, ordinal, lane, call_ended, backfill,
                          state, record)
        VALUES (1, 0, 0, 0, 1, 'a', now(), false, 'pending', '{}')
        """
    )
    [line] = await ledger.pending(FeedName.STATISTICS, 1, [])
    settlement = Settlement(
        key=line.key, generation=0, lane="a", state=State.DELIVERED, sent=True, age=0.1, status=200
    )
    return AttemptResult(line, 0.1, Delivered(200, expected=True), settlement)


async def test_outcomes_that_cannot_be_written_for_long_end_the_process(
    dsn: str, db: asyncpg.Connection
) -> None:
    async with open_ledger(dsn, "callstatsd") as ledger:
        writer = OutcomeWriter(ledger, 60.0, unwritable_for=1.2)
        writer.add(await one_pending(ledger, db))
        await unwritable(db)
        began = time.monotonic()
        with pytest.raises(SettleTimeoutError, match=r"1 outcomes could not be written for 1 s"):
            await writer.run()
        assert 1.2 <= time.monotonic() - began < stretched(3)
        assert writer.waiting == 1


async def test_outcomes_that_can_be_written_in_time_end_nothing(
    dsn: str, db: asyncpg.Connection
) -> None:
    allowed = stretched(2.0)
    async with open_ledger(dsn, "callstatsd") as ledger:
        writer = OutcomeWriter(ledger, 60.0, unwritable_for=allowed)
        writer.add(await one_pending(ledger, db))
        await unwritable(db)
        running_settler = asyncio.create_task(writer.run())
        await asyncio.sleep(1.0)
        await writable(db)
        async with asyncio.timeout(PATIENCE):
            await writer.wait_written()
        await asyncio.sleep(allowed)
        assert not running_settler.done()
        running_settler.cancel()
    assert await db.fetchval("SELECT state FROM line") == "delivered"


@pytest.mark.long
async def test_after_two_minutes_of_unwritable_outcomes_the_process_exits_and_none_is_lost(
    centre: CallCentre,
) -> None:
    for number in range(1, 201):
        await plain_call(centre.db, number, record=record_id(number))
    await unwritable(centre.db)
    environment = centre.settings(retry_max="1")
    async with running(environment, centre.folder) as daemon:
        await daemon.until("database.lost", database="ledger")
        began = time.monotonic()
        async with asyncio.timeout(stretched(150)):
            assert await daemon.process.wait() == 1
        assert 110 < time.monotonic() - began < stretched(130)
    assert "Traceback" not in daemon.text
    sent = centre.salesforce.received
    assert sent <= CONCURRENCY + 64

    await writable(centre.db)
    async with running(environment, centre.folder) as daemon:
        await centre.until(delivered=200)
        assert await daemon.stop() == 0
    assert centre.salesforce.repeated == sent
