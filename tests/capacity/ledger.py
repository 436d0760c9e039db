"""What a ledger costs by its size: disk, reads and writes, retention, vacuum, upgrade."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Any

import asyncpg

from daemon.ledger import migrate
from daemon.ledger.operator import OperatorStore
from daemon.ledger.overview import LineQuery
from daemon.ledger.store import Ledger, open_ledger
from daemon.lines import FeedName, PendingLine, Settlement, State
from tests.benchmark import data
from tests.benchmark.harness import Harness, Site
from tests.benchmark.history import buffers_of_poll, polling, timed_polls
from tests.capacity.life import BATCH, DAY, DAYS, DEAD, RECORD_DAYS, Lived, live, remove_all
from tests.capacity.tables import Table
from tests.support.counters import counters

SIZES = 10_000, 1_000_000, 10_000_000
TIMES = 5
BACKLOG = 10_000
FETCH = 2500
SETTLED_AT_ONCE = 64
RETRY_FOR = 72 * 3600.0
PAGE = 50
WAITING, FAILED, ACTS = 5, 200, 5
"""What the status page shows."""
MEGABYTE = 1_000_000

Work = Callable[[Ledger], Awaitable[object]]


@dataclass
class Ledgers:
    """The tables as they are filled, one column for each size."""

    disk: Table
    costs: Table
    upkeep: Table


def figures(milliseconds: float, buffers: float | None = None) -> str:
    """Milliseconds, and the buffers of 8 kB in brackets."""
    shown = f"{milliseconds:,.1f}" if milliseconds < 100 else f"{milliseconds:,.0f}"
    return f"{shown} ms" if buffers is None else f"{shown} ms ({buffers:,.0f})"


async def ledgers(harness: Harness, sizes: Sequence[int], days: int) -> list[Table]:
    """Let ledgers of these sizes live for so many days, one after another, and measure each."""
    made = Ledgers(
        Table("ledger, MB for a million lines"), Table("time (buffers)"), Table("upkeep")
    )
    for size in sizes:
        lived = await live(harness, size, days)
        await measure(made, lived)
        await harness.drop(lived.site)
    return [made.disk, made.costs, made.upkeep]


async def measure(made: Ledgers, lived: Lived) -> None:
    """Measure a ledger; what changes it comes last."""
    column = f"{lived.lines:,} lines"
    await disk(made.disk.column(column), lived)
    await reads(made.costs.column(column), lived.site)
    await writes(made.costs.column(column), lived.site)
    await upkeep(made.upkeep.column(column), lived)


SIZES_OF = """
SELECT c.relname AS name, pg_relation_size(c.oid) AS bytes
FROM pg_class AS c
WHERE c.oid = 'callstatsd.line'::regclass
   OR c.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = 'callstatsd.line'::regclass)
ORDER BY bytes DESC, name
"""


async def disk(column: dict[str, str], lived: Lived) -> None:
    """Megabytes for a million lines, of the table and each of its indexes."""
    async with lived.site.connection() as db:
        rows = await db.fetch(SIZES_OF)
    for row in rows:
        column[row["name"]] = f"{row['bytes'] / lived.lines:,.1f}"
    total = sum(row["bytes"] for row in rows)
    column["all"] = f"{total / lived.lines:,.0f}"
    column["all, MB"] = f"{total / MEGABYTE:,.0f}"


async def cost(site: Site, work: Work, times: int = TIMES) -> str:
    """Milliseconds and buffers of some work, median of some times, after a first one."""
    before = await counters(site.dsn)
    seconds = []
    async with open_ledger(site.dsn, data.LEDGER) as ledger:
        for _ in range(times + 1):
            began = time.perf_counter()
            await work(ledger)
            seconds.append(time.perf_counter() - began)
    spent = (await counters(site.dsn)).since(before)
    return figures(median(seconds[1:]) * 1000, spent.buffers / (times + 1))


async def reads(column: dict[str, str], site: Site) -> None:
    """What the daemon, the page and the commands read."""
    async with polling(site) as poller:
        seconds = await timed_polls(poller)
    column["poll that finds nothing"] = figures(median(seconds) * 1000, await buffers_of_poll(site))
    now = datetime.now(UTC)
    noon = now.replace(hour=12, minute=0, second=0, microsecond=0)
    async with site.connection() as db:
        call_id = await db.fetchval("SELECT max(call_id) / 2 FROM line")
        lane = await db.fetchval("SELECT lane FROM line WHERE call_id = $1 LIMIT 1", call_id)

    def store(ledger: Ledger) -> OperatorStore:
        return OperatorStore(ledger.database)

    def lines(**query: Any) -> Work:
        chosen = LineQuery(State.DELIVERED, PAGE, **query)
        return lambda ledger: store(ledger).lines(chosen)

    def a_day(before: int) -> tuple[datetime, datetime]:
        return noon - before * DAY, noon - (before - 1) * DAY

    works: dict[str, Work] = {
        "page and /metrics: what waits": lambda ledger: store(ledger).waiting(),
        "page: oldest, latest failed, commands": lambda ledger: store(ledger).glance(
            WAITING, FAILED, ACTS
        ),
        "page: the last 24 hours": lambda ledger: store(ledger).tally(now - DAY),
        "`show`": lambda ledger: store(ledger).call(call_id),
        "`lines`, newest first": lines(),
        "`lines` of a day 45 days ago, by when they were settled": lines(
            settled_since=a_day(45)[0], settled_until=a_day(45)[1]
        ),
        "`lines` of a record": lines(lane=lane),
        "`lines --from --to` of yesterday": lines(since=a_day(2)[0], until=a_day(2)[1]),
        "the same, 45 days ago": lines(since=a_day(45)[0], until=a_day(45)[1]),
        "`backfill --dry-run` of yesterday, the ledger's part": lambda ledger: store(ledger).window(
            *a_day(2)
        ),
        "`status`": lambda ledger: store(ledger).overview(),
    }
    for name, work in works.items():
        column[name] = await cost(site, work)


async def writes(column: dict[str, str], site: Site) -> None:
    """Fetching and settling a backlog, as the sender does."""
    async with site.connection() as db:
        await db.execute(
            "UPDATE line SET state = 'pending', settled_at = NULL, attempts = 0, record = '{}'"
            " WHERE call_id > (SELECT max(call_id) FROM line) - $1",
            BACKLOG * 2 // 3,
        )
    column[f"next {FETCH:,} of a backlog of {BACKLOG:,}"] = await cost(
        site, lambda ledger: ledger.pending(FeedName.STATISTICS, FETCH, [])
    )
    before = await counters(site.dsn)
    async with open_ledger(site.dsn, data.LEDGER) as ledger:
        lines = await ledger.pending(FeedName.STATISTICS, BACKLOG, [])
        began = time.perf_counter()
        for first in range(0, len(lines), SETTLED_AT_ONCE):
            some = [delivered(line) for line in lines[first : first + SETTLED_AT_ONCE]]
            await ledger.settle(some, RETRY_FOR)
        seconds = time.perf_counter() - began
    spent = (await counters(site.dsn)).since(before)
    column[f"settling, {SETTLED_AT_ONCE} at once"] = (
        f"{len(lines) / seconds:,.0f} lines/s ({spent.buffers / len(lines):,.0f} a line)"
    )


def delivered(line: PendingLine) -> Settlement:
    return Settlement(
        line.key, line.generation, line.lane, State.DELIVERED, sent=True, age=0.1, status=200
    )


async def upkeep(column: dict[str, str], lived: Lived) -> None:
    """A day's retention, the vacuum after it, and the upgrade that builds indexes."""
    site = lived.site
    column["updates that were HOT"] = f"{lived.hot:.1%}"
    column["vacuums so far"] = f"{lived.vacuums} in {lived.days} days"
    async with site.connection() as db:
        await db.execute("VACUUM callstatsd.line")
    async with open_ledger(site.dsn, data.LEDGER) as ledger:
        for name, remove, days in (
            ("records dropped", ledger.drop_records, RECORD_DAYS),
            ("lines pruned", ledger.prune, DAYS),
        ):
            seconds = await remove_all(remove, (days - 1) * DAY)
            column[f"a day's {name}"] = f"{sum(seconds):.1f} s"
            column[f"{name}: a batch of {BATCH:,}"] = f"{median(seconds) * 1000:.0f} ms"
            column[f"{name}: none left"] = f"{seconds[-1] * 1000:.0f} ms"
    async with site.connection() as db:
        await db.execute("SELECT pg_stat_force_next_flush()")
        stats = await db.fetchrow(DEAD)
        column["dead rows then"] = f"{stats['dead']:,} of {stats['live']:,}"
        column["vacuum"] = await seconds_of(db, "VACUUM callstatsd.line")
        await db.execute("DROP INDEX callstatsd.line_listed")
        await db.execute("UPDATE callstatsd.alembic_version SET version_num = '0006'")
    async with open_ledger(site.dsn, data.LEDGER) as ledger:
        began = time.perf_counter()
        await migrate.upgrade(ledger.database, data.LEDGER)
        column["`migrate` from 0006"] = f"{time.perf_counter() - began:.1f} s"


async def seconds_of(db: asyncpg.Connection, statement: str) -> str:
    began = time.perf_counter()
    await db.execute(statement)
    return f"{time.perf_counter() - began:.1f} s"
