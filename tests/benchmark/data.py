"""Calls by the million, made by Postgres itself: 30 lines of each 20 calls, as on a common day."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from daemon.demo.record_ids import ids
from daemon.demo.rows import Sample, load

SOURCE, LEDGER = "jtelstats", "callstatsd"
SOURCE_TABLES = (
    "statisticsparta",
    "acdstatisticspartb",
    "statisticspartb",
    "acdstatisticstransactioncodes",
)
BULK = 100_000
"""Calls from which on it pays to build the indexes afterwards."""

# The lines of the 20 kinds of calls: visit, leg and code of each, counted in the call, 0 for none.
ANSWERED, WRAPPED_UP = [(1, 1, 0)], [(1, 1, 1)]
KINDS = (
    *[WRAPPED_UP] * 6,
    *[ANSWERED] * 5,
    *[[(1, 1, 0), (1, 2, 1)]] * 3,  # the second agent answers
    *[[(1, 1, 0), (1, 2, 0), (2, 3, 0), (2, 4, 1)]] * 2,  # handed over to another group
    *[[(1, 0, 0)]] * 2,  # hung up in the queue
    [(0, 0, 0)],  # hung up before any group
    [(1, 1, 1), (1, 1, 2)],  # two codes
)
LINES_PER_CALL = sum(map(len, KINDS)) / len(KINDS)


@dataclass(frozen=True, slots=True)
class Calls:
    """So many calls from the id `first` on, spread evenly over `span` before `end`.

    They are about `records` Salesforce records in turn; with `hot` that share of the records has
    half of the calls. With `lost` the end of 3 calls in 1,000 was never written.
    """

    count: int
    end: datetime
    span: timedelta
    records: int
    first: int = 1
    hot: float | None = None
    lost: bool = False

    @property
    def lines(self) -> int:
        """How many lines they give; `count` should be a multiple of 20."""
        return round(self.count * LINES_PER_CALL)


def calls_of(lines: int) -> int:
    """How many calls give about so many lines."""
    return max(20, round(lines / LINES_PER_CALL / 20) * 20)


CHOSEN = """
CREATE TEMPORARY TABLE chosen ON COMMIT DROP AS
SELECT $1::bigint + i AS call_id, i::integer % 20 AS kind,
       $2::timestamptz - $3::interval * (1 - (i + 1)::double precision / $4) AS ended,
       CASE WHEN $6::integer IS NULL THEN ($1::bigint + i) * 7919 % $5
            WHEN i / 20 % 2 = 0 THEN (i / 40 * 21 + i % 20) % $6
            ELSE $6 + (i / 40 * 21 + i % 20) % ($5 - $6)
       END::integer AS record,
       NOT ($7::boolean AND i % 320 = 17) AS ends
FROM generate_series(0, $4::bigint - 1) AS i
"""

PARTS = {
    "statisticsparta": """
        INSERT INTO jtelstats.statisticsparta
        SELECT c.call_id, 1, 1 + c.call_id % 5, c.kind = 10,
               (ARRAY['4930231250100', '+49 (0) 30 23125 017', 'sip:+4940669690200@10.20.30.40'])
                   [1 + c.call_id % 3],
               '0049899999830' || c.call_id % 10, c.ended - interval '90 s',
               c.ended - interval '89 s', c.ended - interval '88 s',
               CASE WHEN c.ends THEN c.ended END, 16, r.id
        FROM chosen AS c JOIN record AS r ON r.number = c.record ORDER BY c.call_id
    """,
    "acdstatisticspartb": """
        INSERT INTO jtelstats.acdstatisticspartb
        SELECT c.call_id * 2 + k.visit, c.call_id, 1 + c.call_id % 6, 1 + c.call_id % 6,
               CASE WHEN c.call_id % 3 = 0 THEN 7 END,
               c.ended - interval '80 s' + k.visit * interval '5 s'
        FROM chosen AS c JOIN (SELECT DISTINCT kind, visit FROM shape WHERE visit > 0) AS k
        USING (kind) ORDER BY c.call_id
    """,
    "statisticspartb": """
        INSERT INTO jtelstats.statisticspartb
        SELECT c.call_id * 4 + k.leg, c.call_id, c.call_id * 2 + k.visit, 1 + c.call_id % 38,
               c.ended - interval '60 s' + k.leg * interval '9 s',
               c.ended - interval '59 s' + k.leg * interval '9 s',
               CASE WHEN k.leg = 1 THEN c.ended - interval '49.5 s' END,
               c.ended - interval '2 s', 1 + k.leg % 2, 16
        FROM chosen AS c JOIN (SELECT DISTINCT kind, visit, leg FROM shape WHERE leg > 0) AS k
        USING (kind) ORDER BY c.call_id
    """,
    "acdstatisticstransactioncodes": """
        INSERT INTO jtelstats.acdstatisticstransactioncodes
        SELECT c.call_id * 2 + k.code, c.call_id, c.call_id * 2 + k.visit, c.call_id * 4 + k.leg,
               1 + c.call_id % 6, 1 + c.call_id % 38, c.ended + interval '3 s', NULL
        FROM chosen AS c JOIN shape AS k ON k.kind = c.kind AND k.code > 0 ORDER BY c.call_id
    """,
}

TAKEN = """
    INSERT INTO callstatsd.line (call_id, group_id, leg_id, code_id, ordinal, lane, salesforce_id,
                                 call_ended, backfill, state, record, attempts, last_status,
                                 taken_at, pending_since, first_try, settled_at)
    SELECT c.call_id, CASE WHEN k.visit > 0 THEN c.call_id * 2 + k.visit ELSE 0 END,
           CASE WHEN k.leg > 0 THEN c.call_id * 4 + k.leg ELSE 0 END,
           CASE WHEN k.code > 0 THEN c.call_id * 2 + k.code ELSE 0 END,
           k.ordinal, left(r.id, 15), r.id,
           CASE WHEN c.ends THEN c.ended ELSE c.ended - interval '90 s' END,
           false, s.state, $1, s.attempts, s.status, c.ended + interval '2 min',
           c.ended + interval '2 min', s.first_try,
           CASE WHEN NOT $2 THEN c.ended + interval '2 min' END
    FROM chosen AS c JOIN shape AS k USING (kind) JOIN record AS r ON r.number = c.record
    JOIN (VALUES (true, 'pending', 0, NULL, NULL), (false, 'delivered', 1, 200, 0::float8))
         AS s (pending, state, attempts, status, first_try) ON s.pending = $2::boolean
    ORDER BY c.call_id
"""


async def masters(db: asyncpg.Connection) -> None:
    """Insert the master rows, once in a database."""
    await load(db, Sample(), SOURCE)


async def add(
    db: asyncpg.Connection,
    calls: Calls,
    *,
    source: bool = True,
    taken: bool = False,
    pending: bool = False,
    record: str | None = None,
) -> None:
    """Insert calls, without `source` none of their rows; with `taken` the ledger has their lines.

    They are delivered, or `pending`, with that record's text. A ledger keeps no texts of what is
    older than RECORD_RETENTION, so none is the usual history.
    """
    tables = [f"{SOURCE}.{table}" for table in SOURCE_TABLES] if source else []
    if taken:
        tables.append(f"{LEDGER}.line")
    async with (
        db.transaction(),
        _without_indexes(db, tables if calls.count >= BULK else ()),
        prepared(db, calls.records),
    ):
        await insert(db, calls, source=source, taken=taken, pending=pending, record=record)


@asynccontextmanager
async def prepared(db: asyncpg.Connection, records: int) -> AsyncIterator[None]:
    """Make the tables, seen by this session only, from which `insert` makes its rows."""
    await db.execute(
        "CREATE TEMPORARY TABLE shape"
        " (kind integer, ordinal integer, visit integer, leg integer, code integer)"
    )
    shape = [
        (kind, ordinal, *line)
        for kind, lines in enumerate(KINDS)
        for ordinal, line in enumerate(lines, 1)
    ]
    await db.copy_records_to_table("shape", records=shape)
    await db.execute("CREATE TEMPORARY TABLE record (number integer, id text)")
    made = [(number, ids(number)[1]) for number in range(records)]
    await db.copy_records_to_table("record", records=made)
    await db.execute("ALTER TABLE record ADD PRIMARY KEY (number)")
    await db.execute("ANALYZE shape, record")
    yield
    await db.execute("DROP TABLE shape, record")


async def insert(
    db: asyncpg.Connection,
    calls: Calls,
    *,
    source: bool,
    taken: bool,
    pending: bool,
    record: str | None,
) -> None:
    """Insert as `add` does, in a transaction, where the tables are prepared."""
    hot = None if calls.hot is None else max(1, round(calls.records * calls.hot))
    values = (calls.first, calls.end, calls.span, calls.count, calls.records, hot, calls.lost)
    await db.execute(CHOSEN, *values)
    await db.execute("ANALYZE chosen")
    if source:
        for statement in PARTS.values():
            await db.execute(statement)
    if taken:
        await db.execute(TAKEN, record, pending)


@asynccontextmanager
async def _without_indexes(db: asyncpg.Connection, tables: Iterable[str]) -> AsyncIterator[None]:
    """Drop the tables' indexes, and build them again at the end."""
    again = []
    for table in tables:
        keys = await db.fetch(
            "SELECT conname AS name, pg_get_constraintdef(oid) AS definition FROM pg_constraint"
            " WHERE conrelid = $1::regclass AND contype = 'p'",
            table,
        )
        for key in keys:
            await db.execute(f"ALTER TABLE {table} DROP CONSTRAINT {key['name']}")
            again.append(f"ALTER TABLE {table} ADD CONSTRAINT {key['name']} {key['definition']}")
        indexes = await db.fetch(
            "SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition"
            " FROM pg_index WHERE indrelid = $1::regclass",
            table,
        )
        for index in indexes:
            await db.execute(f"DROP INDEX {index['name']}")
            again.append(index["definition"])
    yield
    await db.execute("SET LOCAL maintenance_work_mem = '512MB'")
    for statement in again:
        await db.execute(statement)
