"""A ledger as months of the daemon's work leave it: taken, settled, stripped, pruned, vacuumed.

Each line is inserted as pending, and written again when it is settled, and once more when its
record is dropped. How a table looks in the end, and what its indexes are worth, hangs on that.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import asyncpg
import orjson

from daemon.ledger.store import open_ledger
from daemon.lines import FeedName
from tests.benchmark import data
from tests.benchmark.harness import Harness, Site
from tests.support.counters import no_autovacuum
from tests.support.standin_client import LINE

DAYS = 90
"""As many as RETENTION keeps."""
RECORD_DAYS = 30
"""As many as RECORD_RETENTION keeps."""
SOURCE_DAYS = 2
"""As many as LOOKBACK reaches back to, and some more."""
RECORDS = 300_000
BATCH = 1000
"""Lines that retention removes at once, as the daemon does."""
SLICE = 2000
"""Calls that are taken before the first of them is settled."""
VACUUM_SHARE, VACUUM_LEAST = 0.2, 50
"""When autovacuum comes, by its defaults: dead rows as a share of the table, and at least."""

RECORD = orjson.dumps(LINE).decode()
DAY = timedelta(days=1)

SETTLE = """
UPDATE callstatsd.line
SET state = 'delivered', settled_at = taken_at, attempts = 1, last_status = 200, first_try = 0
WHERE call_id >= $1 AND call_id < $1 + $2 AND state = (SELECT 'pending')
"""
DEAD = """
SELECT n_dead_tup AS dead, n_live_tup AS live, n_tup_upd AS updated, n_tup_hot_upd AS hot
FROM pg_stat_user_tables WHERE relid = 'callstatsd.line'::regclass
"""


Remove = Callable[[FeedName, float, int], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Lived:
    """A ledger of so many lines, how often it was vacuumed, and the share of HOT updates."""

    site: Site
    days: int
    lines: int
    vacuums: int
    hot: float


async def live(harness: Harness, lines: int, days: int = DAYS) -> Lived:
    """Let a ledger live through so many days; at the end, now, it has so many lines."""
    site = await harness.site("ledger")
    per_day = data.calls_of(lines // DAYS)
    end = datetime.now(UTC) - timedelta(minutes=5)
    vacuums = 0
    await no_autovacuum(site.dsn)  # it comes when it is due by rows, not by the clock
    async with (
        site.connection() as db,
        data.prepared(db, RECORDS),
        open_ledger(site.dsn, data.LEDGER) as ledger,
    ):
        await db.execute("UPDATE feed SET start_from = '2020-01-01', watermark = $1", end)
        for day in range(days):
            midnight = end - (days - day) * DAY
            calls = data.Calls(per_day, midnight + DAY, DAY, RECORDS, first=1 + day * per_day)
            await take_and_settle(db, calls, source=day >= days - SOURCE_DAYS)
            since = datetime.now(UTC) - midnight - DAY
            await remove_all(ledger.prune, since + DAYS * DAY)
            await remove_all(ledger.drop_records, since + RECORD_DAYS * DAY)
            vacuums += await vacuum_if_due(db)
        await db.execute("ANALYZE")
        stats = await db.fetchrow(DEAD)
    return Lived(site, days, stats["live"], vacuums, stats["hot"] / stats["updated"])


async def take_and_settle(db: asyncpg.Connection, calls: data.Calls, *, source: bool) -> None:
    """Let the calls of a day be taken and settled, some thousands at a time."""
    for done in range(0, calls.count, SLICE):
        count = min(SLICE, calls.count - done)
        end = calls.end - calls.span * (1 - (done + count) / calls.count)
        span = calls.span * (count / calls.count)
        some = replace(calls, count=count, end=end, span=span, first=calls.first + done)
        async with db.transaction():
            await data.insert(db, some, source=source, taken=True, pending=True, record=RECORD)
        await db.execute(SETTLE, some.first, count)


async def vacuum_if_due(db: asyncpg.Connection) -> bool:
    """Do what autovacuum does, as soon as it is due."""
    await db.execute("SELECT pg_stat_force_next_flush()")
    stats = await db.fetchrow(DEAD)
    due = stats["dead"] > VACUUM_LEAST + VACUUM_SHARE * stats["live"]
    if due:
        await db.execute("VACUUM (ANALYZE) callstatsd.line")
    return bool(due)


async def remove_all(remove: Remove, age: timedelta) -> list[float]:
    """Let retention remove what is so old, in batches; returns the seconds of each."""
    seconds = []
    while True:
        began = time.perf_counter()
        removed = await remove(FeedName.STATISTICS, age.total_seconds(), BATCH)
        seconds.append(time.perf_counter() - began)
        if not removed:
            return seconds
