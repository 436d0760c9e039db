"""The source may be a hot standby: read with SELECT alone, and what lags behind is not lost."""

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest
from structlog.testing import capture_logs

from daemon import logs
from daemon.database.pool import Database
from daemon.demo.postgres import (
    UNSAFE_SETTINGS,
    create_cluster,
    create_database,
    installed_programs,
    private_server_dirs,
    reachable,
    running,
)
from daemon.demo.rows import load
from daemon.ingest import reference_schema
from daemon.ingest.intake import Intake
from daemon.ingest.poller import Poller
from daemon.ingest.source import Source, open_source
from daemon.ingest.statistics import StatisticsFeed
from daemon.ingest.sweeper import Sweeper
from daemon.ledger import migrate
from daemon.ledger.binding import Binding
from daemon.ledger.store import Ledger, open_ledger
from daemon.lines import FeedName
from tests.support.expected import BERLIN
from tests.support.rows import add, call, code, ended, leg, sample
from tests.support.site import RULES, SENDING

PATIENCE = 30.0
SCHEMAS = ("jtelstats",)

_numbers = itertools.count(1)


@contextmanager
def pair(folder: Path) -> Iterator[tuple[str, str, Path]]:
    """Run a primary and its hot standby, and give the DSNs of both and their log."""
    quarters = private_server_dirs(folder)
    try:
        programs = reachable(installed_programs(), quarters)
        first, second = quarters.home / "primary", quarters.home / "standby"
        host = quote(str(quarters.home))
        create_cluster(programs, first, quarters)
        with running(programs, first, quarters, UNSAFE_SETTINGS):
            backup = quarters.start(
                *(programs / "pg_basebackup", f"--host={quarters.home}", "--username=postgres"),
                *("--no-sync", "--checkpoint=fast", "--write-recovery-conf", f"--pgdata={second}"),
            )
            assert backup.wait() == 0, quarters.log.read_text()
            lagging = (*UNSAFE_SETTINGS, "port=5433", "max_standby_streaming_delay=0")
            with running(programs, second, quarters, lagging):
                yield (
                    f"postgresql://postgres@/postgres?host={host}",
                    f"postgresql://postgres@/postgres?host={host}&port=5433",
                    quarters.log,
                )
    finally:
        shutil.rmtree(quarters.home)


# Made once: all tests of one group run in one process.
pytestmark = pytest.mark.xdist_group("standby")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Path]]:
    with pair(tmp_path_factory.mktemp("pair")) as servers:
        yield servers


class Replica:
    """A source on the primary, as its standby shows it, and a ledger beside the primary."""

    def __init__(
        self,
        primary: asyncpg.Connection,
        standby: asyncpg.Connection,
        source: str,
        ledger: str,
        log: Path,
    ) -> None:
        self.primary = primary
        self.standby = standby
        self.source = source
        self.ledger = ledger
        self.log = log

    async def replayed(self) -> None:
        """Wait until the standby shows what the primary has."""
        reached = await self.primary.fetchval("SELECT pg_current_wal_insert_lsn()")
        await self.until("pg_last_wal_replay_lsn() >= $1", reached)

    async def until(self, condition: str, *arguments: Any) -> None:
        """Wait for the standby."""
        async with asyncio.timeout(PATIENCE):
            while not await self.standby.fetchval(f"SELECT {condition}", *arguments):
                await asyncio.sleep(0.01)

    async def pause(self) -> None:
        """Let the standby fall behind from now on."""
        await self.replayed()
        await self.standby.execute("SELECT pg_wal_replay_pause()")
        await self.until("pg_get_wal_replay_pause_state() = 'paused'")

    async def resume(self) -> None:
        """Let the standby catch up."""
        await self.standby.execute("SELECT pg_wal_replay_resume()")
        await self.replayed()

    async def now(self) -> datetime:
        moment: datetime = await self.primary.fetchval("SELECT clock_timestamp()")
        return moment

    async def last_replayed(self) -> datetime:
        moment: datetime = await self.standby.fetchval("SELECT pg_last_xact_replay_timestamp()")
        return moment

    @asynccontextmanager
    async def daemon(
        self, settle_delay: float = 0.0
    ) -> AsyncIterator[tuple[Poller, Sweeper, Source, Ledger]]:
        """Poll and sweep the standby, as a role that may SELECT and no more."""
        rules = replace(
            RULES,
            settle_delay=timedelta(seconds=settle_delay),
            start_from=await self.now() - timedelta(days=1),
        )
        async with (
            open_source(self.source, SCHEMAS, BERLIN, None) as source,
            open_ledger(self.ledger, "callstatsd") as ledger,
        ):
            feed = StatisticsFeed(source, rules, SENDING)
            intake = Intake(feed, ledger)
            await ledger.bind(Binding(None, (await source.clock()).database, SCHEMAS))
            poller = Poller(feed, ledger, intake, lambda: None)
            await poller.prepare(None, SCHEMAS)
            sweeper = Sweeper(feed, ledger, intake, timedelta(hours=26), lambda: None)
            yield poller, sweeper, source, ledger


@pytest.fixture
async def replica(
    servers: tuple[str, str, Path], request: pytest.FixtureRequest
) -> AsyncIterator[Replica]:
    primary, standby, log = servers
    name = f"acd_{next(_numbers)}"
    acd = await create_database(primary, name)
    books = await create_database(primary, f"{name}_ledger")
    async with Database("source", acd, session={}, size=1) as database:
        await reference_schema.create_reference_schema(database, "jtelstats")
    async with open_ledger(books, "callstatsd") as ledger:
        await migrate.upgrade(ledger.database, "callstatsd")
    on_primary = await asyncpg.connect(acd, server_settings={"search_path": "jtelstats"})
    await on_primary.execute(
        f"""
        CREATE ROLE reader_{name} LOGIN;
        GRANT USAGE ON SCHEMA jtelstats TO reader_{name};
        GRANT SELECT ON ALL TABLES IN SCHEMA jtelstats TO reader_{name};
        REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC;
        """
    )
    await load(on_primary, sample())
    replica_dsn = standby.replace("/postgres?", f"/{name}?")
    reader = replica_dsn.replace("postgres@", f"reader_{name}@")
    on_standby = await asyncpg.connect(standby)
    replica = Replica(on_primary, on_standby, reader, books, log)
    try:
        await replica.replayed()
        yield replica
    finally:
        await replica.resume()
        await on_primary.close()
        await on_standby.close()


async def taken(poll: Callable[[], Any], wanted: int) -> None:
    """Poll until so many lines are new."""
    async with asyncio.timeout(PATIENCE):
        lines = 0
        while lines < wanted:
            lines += (await poll()).lines
    assert lines == wanted


async def test_a_hot_standby_is_read_with_select_alone(replica: Replica) -> None:
    now = await replica.now()
    hour = timedelta(hours=1)
    await add(
        replica.primary,
        *(ended(n, now - timedelta(minutes=n)) for n in range(1, 50)),
        leg(31, 1, None),
        code(41, 1, None, 31, dtcreated=now - hour),
        call(100, dtcallstart=now - 13 * hour, dtcallend=None),
    )
    await replica.replayed()
    async with replica.daemon() as (poller, sweeper, source, ledger):
        clock = await source.clock()
        assert clock.standby
        assert clock.replayed is not None
        assert now < clock.replayed <= clock.now
        assert (await poller.poll()).lines == 50
        watermark = (await ledger.progress(FeedName.STATISTICS)).watermark
        assert watermark == clock.replayed
        await add(
            replica.primary,
            leg(32, 2, None),
            ended(101, now - hour),
            code(42, 1, None, 31, dtcreated=now),
        )
        await replica.replayed()
        new = (await poller.poll()).lines + (await sweeper.sweep(wide=True)).lines
        assert new == 3
        replayed = await replica.last_replayed()
        for wide in (False, True):
            assert (await sweeper.sweep(wide=wide)).lines == 0
        assert len(await ledger.known(FeedName.STATISTICS, [*range(1, 102)])) == 53
        swept_at = (await ledger.progress(FeedName.STATISTICS)).swept_at
        assert swept_at is not None
        assert replayed <= swept_at <= await replica.last_replayed()


async def test_a_replay_that_lags_holds_the_watermark_back_and_loses_nothing(
    replica: Replica,
) -> None:
    async with replica.daemon() as (poller, _, source, ledger):
        now = await replica.now()
        await add(
            replica.primary,
            ended(1, now - timedelta(seconds=1)),
            # Rows that are visible before they are ready.
            ended(2, now + timedelta(seconds=0.5)),
            ended(3, now + timedelta(seconds=0.6)),
        )
        await replica.pause()
        replayed = await replica.last_replayed()
        await taken(poller.poll, 3)
        assert (await ledger.progress(FeedName.STATISTICS)).watermark == replayed
        # The primary goes on meanwhile.
        hidden = [ended(n, await replica.now()) for n in range(4, 20)]
        await add(replica.primary, *hidden, leg(31, 4, None), code(41, 4, None, 31, dtcreated=now))
        beyond = await replica.now()
        assert (await poller.poll()).lines == 0
        assert (await ledger.progress(FeedName.STATISTICS)).watermark == replayed
        assert (await source.clock()).now > beyond
        await replica.resume()
        assert (await poller.poll()).lines == 16
        watermark = (await ledger.progress(FeedName.STATISTICS)).watermark
        assert watermark == await replica.last_replayed()
        assert watermark > replayed
        assert (await poller.poll()).lines == 0


async def test_a_statement_cancelled_by_the_replay_is_repeated_and_no_fault(
    replica: Replica,
) -> None:
    """The standby waits for no reader here; what one still sees is vacuumed meanwhile."""
    await add(
        replica.primary, ended(1, await replica.now() - timedelta(minutes=1)), leg(31, 1, None)
    )
    await replica.primary.execute(
        """
        CREATE FUNCTION public.slowly(bigint) RETURNS bigint LANGUAGE sql VOLATILE
        AS 'SELECT $1 FROM pg_sleep(5)';
        ALTER TABLE Users RENAME TO own_users;
        CREATE VIEW Users AS SELECT public.slowly(ID) AS ID, UID FROM own_users WHERE ID = 1;
        GRANT SELECT ON Users TO PUBLIC;
        """
    )
    await replica.replayed()
    async with replica.daemon() as (poller, _, _source, ledger):
        with capture_logs() as events:
            polling = asyncio.create_task(poller.poll())
            await replica.until(
                "EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep')"
            )
            # The repetition shall not sleep.
            await replica.primary.execute(
                """
                CREATE OR REPLACE FUNCTION public.slowly(bigint)
                RETURNS bigint LANGUAGE sql VOLATILE AS 'SELECT $1'
                """
            )
            # What else is under way on the primary may keep the first vacuum from removing rows.
            cancelled = "canceling statement due to conflict with recovery"
            while cancelled not in replica.log.read_text():
                assert not polling.done()
                await replica.primary.execute("UPDATE StatisticsPartA SET CauseCodesID = 17")
                await replica.primary.execute("VACUUM StatisticsPartA")
                await replica.replayed()
                await asyncio.sleep(0.1)
            assert (await polling).lines == 1
        assert [event["event"] for event in events] == [logs.POLL_TAKEN]
        assert len(await ledger.known(FeedName.STATISTICS, [1])) == 1
