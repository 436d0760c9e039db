"""Work per poll and per line does not grow with history: counted, not timed.

Counted are statements as the driver sends them, and rows and buffers as Postgres reports them, by a
daemon's own packages over a short history and over one that is twenty times as long.
"""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from daemon.database.pool import Database
from daemon.delivery.backoff import Backoff
from daemon.delivery.channel import Route
from daemon.delivery.flow_control import FlowControl
from daemon.delivery.gate import OrgGate
from daemon.delivery.outcome_writer import OutcomeWriter
from daemon.delivery.sender import Limits, Sender
from daemon.demo.postgres import create_database
from daemon.ingest.intake import Intake
from daemon.ingest.poller import Poller
from daemon.ingest.source import Source, open_source
from daemon.ingest.statistics import StatisticsFeed
from daemon.ingest.sweeper import Sweeper
from daemon.ledger.store import Ledger, open_ledger
from daemon.lines import FeedName
from daemon.salesforce.responses import Response
from tests.benchmark import data
from tests.support.counters import Counters, counters, no_autovacuum
from tests.support.daemon_process import PATIENCE
from tests.support.expected import BERLIN
from tests.support.site import RULES, SENDING

# Both end with the same calls: the pattern of calls repeats after 320.
SHORT, LONG = 320 * 15, 320 * 300
POLLS = 20
NEW_CALLS = 680
NEW_LINES = 1020
LOOKBACK = timedelta(hours=26)
NAME = re.compile(r"/\* callstatsd (\w+) \*/")

# Twenty times the history: one more level of each index that a statement enters, and what the
# planner asks the ends of indexes. Whatever followed the history would be far beyond.
ALLOWANCE = 1.35


@dataclass
class Rooms:
    """The daemon's parts over one database, and the statements they have sent."""

    source: Source
    ledger: Ledger
    poller: Poller
    sweeper: Sweeper
    statements: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Work:
    """What was counted while something was done."""

    statements: Counter[str]
    counted: Counters


class Answering:
    """Salesforce, as fast as can be; it answers all with 200."""

    async def post(self, key: str, record: bytes) -> Response:
        await asyncio.sleep(0)
        return Response(200, "", None, None)

    def unsent(self, key: str) -> bool:
        return False


@asynccontextmanager
async def rooms(dsn: str) -> AsyncIterator[Rooms]:
    """Open them as the daemon does, and listen to what they say to Postgres."""
    async with (
        open_source(dsn, (data.SOURCE,), BERLIN, None) as source,
        open_ledger(dsn, data.LEDGER) as ledger,
    ):
        feed = StatisticsFeed(source, RULES, SENDING)
        intake = Intake(feed, ledger)
        opened = Rooms(
            source,
            ledger,
            Poller(feed, ledger, intake, lambda: None),
            Sweeper(feed, ledger, intake, LOOKBACK, lambda: None),
        )
        await source.prepare()
        for database in (source.database, ledger.database):
            await listen(database, opened.statements)
        yield opened


async def listen(database: Database, statements: Counter[str]) -> None:
    """Count the named statements of all further connections; others are the driver's own."""
    initialise = database._initialise

    def heard(told: Any) -> None:
        if name := NAME.match(told.query):
            statements[name[1]] += 1

    async def listening(connection: Any) -> None:
        if initialise is not None:
            await initialise(connection)
        connection.add_query_logger(heard)

    database._initialise = listening
    await database.cut()


async def done(dsn: str, what: Any) -> Work:
    """Do something with fresh rooms, and count."""
    before = await counters(dsn)
    async with rooms(dsn) as opened:
        await what(opened)
        statements = Counter(opened.statements)
    return Work(statements, (await counters(dsn)).since(before))


NEWEST = """
SELECT count(*) FROM line
WHERE (ctid::text::point)[0] >= (
    SELECT relpages / 32 * 32 FROM pg_class WHERE oid = 'line'::regclass
)
"""


async def without_newest_range(dsn: str, what: Any) -> Work:
    """Count all but the newest 32 pages of lines: a BRIN index reads them whole, however full."""
    db = await asyncpg.connect(dsn, server_settings={"search_path": "callstatsd"})
    newest = await db.fetchval(NEWEST)
    await db.close()
    work = await done(dsn, what)
    rows = work.counted.rows_read - newest
    assert rows >= 0
    return replace(work, counted=replace(work.counted, rows_read=rows))


async def polls(opened: Rooms) -> None:
    """Polls that find nothing."""
    for _ in range(POLLS):
        taken = await opened.poller.poll()
        assert not taken.lines


async def lines(opened: Rooms) -> None:
    """Take what is new, send it and settle it."""
    taken = await opened.poller.poll()
    assert taken.lines == NEW_LINES
    backoff = Backoff(1, 900)
    writer = OutcomeWriter(opened.ledger, 3600)
    flow = FlowControl(OrgGate(4), 4, backoff, endpoint_proven=True)
    sender = Sender(
        opened.ledger,
        [Route(FeedName.STATISTICS, Answering(), flow)],
        writer,
        backoff,
        Limits(concurrency=4, request_timeout=60, idle=60),
        lambda: True,
    )
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group, asyncio.timeout(PATIENCE):
        settling = group.create_task(writer.run())
        sending = group.create_task(sender.run(stop))
        async with opened.ledger.database.connection() as connection:
            while await connection.fetchval(PENDING):  # a table tells nobody
                await asyncio.sleep(0.05)
        stop.set()
        await sending
        settling.cancel()


PENDING = "SELECT EXISTS (SELECT FROM line WHERE state = 'pending')"


async def near_sweep(opened: Rooms) -> None:
    """Look again at the last half hour."""
    await opened.sweeper.sweep(wide=False)


# Made once: all tests of one group run in one process.
pytestmark = pytest.mark.xdist_group("complexity")


@pytest.fixture(scope="module")
def histories(server: str, template: str) -> tuple[str, str]:
    """Two databases: some days of settled calls, and some months; as many a day in both."""
    short, long = (asyncio.run(history(server, template, calls)) for calls in (SHORT, LONG))
    return short, long


async def history(server: str, template: str, calls: int) -> str:
    """All calls but the last NEW_CALLS are taken and settled; the watermark is between them."""
    dsn = await create_database(server, f"history_{calls}", template)
    now = datetime.now(UTC)
    db = await asyncpg.connect(dsn, server_settings={"search_path": "callstatsd,jtelstats"})
    try:
        await data.masters(db)
        last = now - timedelta(hours=1)
        span = timedelta(days=calls / 1000)
        await data.add(db, data.Calls(calls, last, span, 1000, lost=True), taken=True)
        await db.execute(
            "UPDATE feed SET start_from = '2020-01-01', endpoint_proven = true,"
            " watermark = now() - interval '3 min'"
        )
        await db.execute("VACUUM ANALYZE")
    finally:
        await db.close()
    await no_autovacuum(dsn)
    return dsn


async def new_calls(dsn: str) -> None:
    """Let calls end between the watermark and now."""
    db = await asyncpg.connect(dsn, server_settings={"search_path": "callstatsd,jtelstats"})
    try:
        await db.execute("UPDATE feed SET watermark = now() - interval '30 min'")
        end = datetime.now(UTC) - timedelta(minutes=5)
        calls = data.Calls(NEW_CALLS, end, timedelta(minutes=20), 300, first=10_000_001)
        await data.add(db, calls)
    finally:
        await db.close()


def assert_no_dearer(short: Work, long: Work) -> None:
    """The longer history costs no more, but for the depth of indexes."""
    assert long.statements == short.statements
    assert long.counted.rows_written <= short.counted.rows_written * ALLOWANCE
    assert long.counted.rows_read <= short.counted.rows_read * ALLOWANCE
    assert long.counted.buffers <= short.counted.buffers * ALLOWANCE


async def test_an_idle_poll_costs_the_same_after_months(histories: tuple[str, str]) -> None:
    short, long = [await done(dsn, polls) for dsn in histories]
    assert_no_dearer(short, long)
    # The clock, the ledger's row, three questions, the watermark.
    assert long.statements.total() == 6 * POLLS
    assert long.counted.rows_read <= 30 * POLLS


async def test_a_sweep_of_the_last_half_hour_costs_the_same_after_months(
    histories: tuple[str, str],
) -> None:
    short, long = [await without_newest_range(dsn, near_sweep) for dsn in histories]
    assert_no_dearer(short, long)


async def test_a_thousand_lines_cost_the_same_after_months(histories: tuple[str, str]) -> None:
    works = []
    for dsn in histories:
        await new_calls(dsn)
        works.append(await done(dsn, lines))
    short, long = works
    # How many outcomes come together is up to the moment; all else is said once.
    batches = [work.statements.pop("settle") for work in works]
    assert max(batches) <= NEW_LINES / 4
    assert_no_dearer(short, long)
    assert max(long.statements.values()) <= 2
    assert long.counted.rows_read <= 10 * NEW_LINES
    assert long.counted.rows_written <= 3 * NEW_LINES
