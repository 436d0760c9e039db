"""A source and a ledger with a clock that only the test moves."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from daemon.database.pool import Database
from daemon.demo.postgres import create_database
from daemon.demo.rows import load
from daemon.ingest import reference_schema
from daemon.ingest.callbacks import END_WITHIN, CallbackFeed, CallbackOptions, CallbackSource
from daemon.ingest.filters import Filters
from daemon.ingest.intake import Intake
from daemon.ingest.poller import REPORTED, Poller
from daemon.ingest.reader import PAGE
from daemon.ingest.readiness import ReadinessRules
from daemon.ingest.source import open_source
from daemon.ingest.statistics import RecordOptions, StatisticsFeed
from daemon.ingest.sweeper import Sweeper
from daemon.ledger.binding import Binding
from daemon.ledger.store import Ledger, open_ledger
from daemon.lines import FeedName, LineKey
from tests.support import rows
from tests.support.expected import BERLIN

SCHEMAS = ("jtelstats", "pg_catalog")
"""With pg_catalog named last, a function now() of the test's own comes before Postgres'."""

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
LOOKBACK = timedelta(hours=26)

RULES = ReadinessRules(timedelta(minutes=2), timedelta(hours=12), BERLIN)
SENDING = RecordOptions(BERLIN, empty_as_string=False, send_without_id=False)

ONE, TWO = "one database", "two databases"
EITHER_WAY = pytest.mark.parametrize("site", [ONE, TWO], indirect=True)
"""Source and ledger in one database, and in two: nothing may join across them."""

CLOCK = """
CREATE TABLE jtelstats.clock (moment timestamptz, standby boolean, replayed timestamptz);
INSERT INTO jtelstats.clock VALUES (NULL, false, NULL);
CREATE FUNCTION jtelstats.now() RETURNS timestamptz LANGUAGE sql STABLE
AS 'SELECT coalesce(moment, pg_catalog.now()) FROM jtelstats.clock';
CREATE FUNCTION jtelstats.pg_is_in_recovery() RETURNS boolean LANGUAGE sql STABLE
AS 'SELECT standby FROM jtelstats.clock';
CREATE FUNCTION jtelstats.pg_last_xact_replay_timestamp() RETURNS timestamptz LANGUAGE sql STABLE
AS 'SELECT replayed FROM jtelstats.clock';
"""


@dataclass
class Site:
    """Two databases, or one that is both; `now` is the source's time, which only the test moves."""

    source_dsn: str
    ledger_dsn: str
    db: asyncpg.Connection
    ledger_db: asyncpg.Connection
    now: datetime = LONG_AGO
    announced: int = 0
    feed: FeedName = FeedName.STATISTICS
    """Whose progress is read."""

    async def open(self) -> None:
        """Set the clock, bind the ledger, and insert the master rows."""
        await self.db.execute(CLOCK)
        real = await self.db.fetchval("SELECT pg_catalog.now()")
        await self.set_clock(real.replace(microsecond=0))
        database = await self.db.fetchval("SELECT current_database()")
        async with open_ledger(self.ledger_dsn, "callstatsd") as ledger:
            await ledger.bind(Binding(None, database, SCHEMAS))
        await load(self.db, rows.sample(), "jtelstats")

    async def set_clock(self, moment: datetime) -> None:
        """Let the source say that it is that time."""
        self.now = moment
        await self.db.execute("UPDATE jtelstats.clock SET moment = $1", moment)

    async def pass_time(self, **duration: float) -> None:
        """Let so much time pass for the source."""
        await self.set_clock(self.now + timedelta(**duration))

    async def become_standby(self, replayed: datetime | None) -> None:
        """Let the source say that it is a hot standby, and up to when it has replayed."""
        await self.db.execute("UPDATE jtelstats.clock SET standby = true, replayed = $1", replayed)

    def ago(self, **duration: float) -> datetime:
        """Return a time before now."""
        return self.now - timedelta(**duration)

    async def add(self, *made: rows.Row) -> None:
        """Insert rows into the source."""
        await rows.add(self.db, *made)

    @asynccontextmanager
    async def taking(
        self,
        options: RecordOptions = SENDING,
        *,
        rules: ReadinessRules = RULES,
        page: int = PAGE,
        feed_type: type[StatisticsFeed] = StatisticsFeed,
        ledger_type: type[Ledger] = Ledger,
    ) -> AsyncIterator[tuple[StatisticsFeed, Ledger, Intake]]:
        """Open both databases as the daemon does; the source is read in pages of so many rows."""
        async with (
            open_source(self.source_dsn, SCHEMAS, BERLIN, rules.clients_id, page=page) as source,
            open_ledger(self.ledger_dsn, "callstatsd") as opened,
        ):
            feed, ledger = feed_type(source, rules, options), ledger_type(opened.database)
            yield feed, ledger, Intake(feed, ledger)

    @asynccontextmanager
    async def sweeping(
        self,
        *,
        settle_delay: float = 120,
        stale_call_after: float = 12 * 3600,
        lookback: timedelta = LOOKBACK,
        start_from: datetime | None = None,
        clients_id: int | None = None,
        prepared: bool = True,
        send_without_id: bool = False,
        filters: Filters | None = None,
        page: int = PAGE,
        reported: int = REPORTED,
        feed_type: type[StatisticsFeed] = StatisticsFeed,
        ledger_type: type[Ledger] = Ledger,
    ) -> AsyncIterator[tuple[Poller, Sweeper]]:
        """Start a poller and its sweeper; durations in seconds. START_FROM is now unless given."""

        def announce() -> None:
            self.announced += 1

        rules = ReadinessRules(
            settle_delay=timedelta(seconds=settle_delay),
            stale_call_after=timedelta(seconds=stale_call_after),
            zone=BERLIN,
            start_from=start_from,
            clients_id=clients_id,
        )
        options = RecordOptions(BERLIN, False, send_without_id, filters)
        async with self.taking(
            options, rules=rules, page=page, feed_type=feed_type, ledger_type=ledger_type
        ) as (feed, ledger, intake):
            poller = Poller(feed, ledger, intake, announce, reported=reported)
            if prepared:
                await poller.prepare(clients_id, SCHEMAS)
            yield poller, Sweeper(feed, ledger, intake, lookback, announce)

    @asynccontextmanager
    async def poller(
        self,
        *,
        settle_delay: float = 120,
        stale_call_after: float = 12 * 3600,
        start_from: datetime | None = None,
        prepared: bool = True,
        page: int = PAGE,
        reported: int = REPORTED,
        ledger_type: type[Ledger] = Ledger,
    ) -> AsyncIterator[Poller]:
        """Start a poller alone."""
        async with self.sweeping(
            settle_delay=settle_delay,
            stale_call_after=stale_call_after,
            start_from=start_from,
            prepared=prepared,
            page=page,
            reported=reported,
            ledger_type=ledger_type,
        ) as (poller, _):
            yield poller

    @asynccontextmanager
    async def callbacks(
        self,
        *,
        delay: float = 30,
        lookback: timedelta = LOOKBACK,
        start_from: datetime | None = None,
        clients_id: int | None = None,
        prepared: bool = True,
        empty_as_string: bool = False,
        page: int = PAGE,
    ) -> AsyncIterator[tuple[Poller, Sweeper]]:
        """Start a poller and a sweeper of callback requests; the delay in seconds."""

        def announce() -> None:
            self.announced += 1

        self.feed = FeedName.CALLBACKS
        rules = ReadinessRules(
            settle_delay=timedelta(seconds=delay),
            stale_call_after=END_WITHIN,
            zone=BERLIN,
            start_from=start_from,
            clients_id=clients_id,
            near=lookback,
        )
        async with (
            open_source(self.source_dsn, SCHEMAS, BERLIN, clients_id) as source,
            open_ledger(self.ledger_dsn, "callstatsd") as ledger,
        ):
            requests = CallbackSource(source.database, SCHEMAS, clients_id, page)
            feed = CallbackFeed(requests, rules, CallbackOptions(BERLIN, empty_as_string))
            intake = Intake(feed, ledger)
            poller = Poller(feed, ledger, intake, announce)
            if prepared:
                await poller.prepare(None, SCHEMAS)
            yield poller, Sweeper(feed, ledger, intake, lookback, announce)

    async def lines(self) -> list[asyncpg.Record]:
        """Read the ledger's lines in sending order."""
        order = "call_ended, call_id, ordinal"
        return list(await self.ledger_db.fetch(f"SELECT * FROM callstatsd.line ORDER BY {order}"))

    async def keys(self) -> list[str]:
        """Read the ledger's keys in sending order."""
        parts = ("call_id", "group_id", "leg_id", "code_id", "feed")
        return [
            str(LineKey._make((*ids, FeedName(feed))))
            for *ids, feed in [[row[part] for part in parts] for row in await self.lines()]
        ]

    async def watermark(self) -> datetime:
        """Read how far calls are taken."""
        moment: datetime = await self.ledger_value("watermark")
        return moment

    async def start_from(self) -> datetime:
        """Read the START_FROM that was kept."""
        moment: datetime = await self.ledger_value("start_from")
        return moment

    async def ledger_value(self, column: str) -> Any:
        """Read a column of the feed's row."""
        return await self.ledger_db.fetchval(
            f"SELECT {column} FROM callstatsd.feed WHERE name = $1", self.feed
        )

    async def refuse(self, condition: str) -> None:
        """Let inserting a line fail where the condition on NEW holds."""
        await self.ledger_db.execute(
            f"""
            CREATE FUNCTION callstatsd.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF {condition} THEN RAISE EXCEPTION 'refused by the test'; END IF;
                RETURN NEW;
            END $$;
            CREATE TRIGGER refuse BEFORE INSERT ON callstatsd.line
            FOR EACH ROW EXECUTE FUNCTION callstatsd.refuse();
            """
        )

    async def accept(self) -> None:
        """End what `refuse` began."""
        await self.ledger_db.execute("DROP FUNCTION callstatsd.refuse CASCADE")


@asynccontextmanager
async def opened(
    source_dsn: str, server: str, template: str, request: pytest.FixtureRequest
) -> AsyncIterator[Site]:
    """Open a site as EITHER_WAY asks; of two databases each loses the other's tables."""
    ledger_dsn = source_dsn
    if getattr(request, "param", ONE) == TWO:
        name = source_dsn.partition("?")[0].rpartition("/")[2]
        ledger_dsn = await create_database(server, f"{name}_ledger", template)
    async with AsyncExitStack() as stack:
        db = await asyncpg.connect(source_dsn, server_settings={"search_path": "jtelstats"})
        stack.push_async_callback(db.close)
        ledger_db = await asyncpg.connect(ledger_dsn)
        stack.push_async_callback(ledger_db.close)
        if source_dsn != ledger_dsn:
            await db.execute("DROP SCHEMA callstatsd CASCADE")
            await ledger_db.execute("DROP SCHEMA jtelstats CASCADE")
        site = Site(source_dsn, ledger_dsn, db, ledger_db)
        await site.open()
        yield site


async def without_encoding(source_dsn: str, server: str) -> str:
    """Make a source in SQL_ASCII: it takes any bytes, and refuses to give what is no UTF-8."""
    name = f"{urlsplit(source_dsn).path[1:]}_ascii"
    dsn = urlsplit(source_dsn)._replace(path=f"/{name}").geturl()
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(
            f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0"
        )
    finally:
        await connection.close()
    async with Database("source", dsn, session={}, size=1) as database:
        await reference_schema.create_reference_schema(database, "jtelstats")
    return dsn
