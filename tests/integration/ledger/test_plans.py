"""Each named query finds what it wants by the right index, and touches few rows of a long history.

Every statement of the .sql files is in a table of `expected_plans`, so that none is forgotten. What
is not expected to touch a large table must not; rows are counted as Postgres reports them after
running the statement (in a transaction that is rolled back).
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import orjson
import pytest

from daemon.database import statements
from daemon.demo.postgres import create_database
from daemon.ingest.callbacks import CallbackSource
from daemon.ingest.columns import MIN_TIME
from daemon.ingest.reader import PAGE
from daemon.ingest.source import open_source
from daemon.ledger.store import open_ledger
from tests.benchmark import data
from tests.support.counters import no_autovacuum
from tests.support.expected import BERLIN
from tests.support.expected_plans import (
    ANYWHERE,
    BACKLOG,
    BEFORE_ALL,
    CALLBACKS,
    CALLS,
    DAYS,
    DESK,
    EVENTS,
    FEED,
    FEEDS,
    LARGE,
    LEDGER,
    LISTED,
    LISTING,
    LISTS,
    NOW,
    PARTS,
    PER_HOUR,
    PLANNED,
    READER,
    READY,
    SETTLED,
    SOURCE,
    WAITED,
    Look,
    by,
    entries,
)

LEDGER_SQL = {
    name: text
    for part in (
        "alerts",
        "binding",
        "taking",
        "sending",
        "instance",
        "pruning",
        "lease",
        "migrate",
    )
    for name, text in statements.load(f"ledger/{part}.sql").items()
}


# Made once: all tests of one group run in one process.
pytestmark = pytest.mark.xdist_group("plans")


@pytest.fixture(scope="module")
def long_ledger(server: str, template: str) -> str:
    """A database with months of calls; a backlog that the planner's statistics do not know of."""
    return asyncio.run(make(server, template))


async def make(server: str, template: str) -> str:
    dsn = await create_database(server, "plans", template)
    db = await asyncpg.connect(dsn, server_settings={"search_path": "callstatsd,jtelstats"})
    try:
        await data.masters(db)
        last = NOW - timedelta(minutes=3)
        calls = data.Calls(CALLS, last, timedelta(days=DAYS), 5000, lost=True)
        await data.add(db, calls, taken=True)
        await db.execute("UPDATE feed SET start_from = '2020-01-01', watermark = now()")
        await db.execute("UPDATE feed SET dropped_before = now() - interval '30 days 15 minutes'")
        await db.execute(f"UPDATE line SET state = 'rejected' WHERE call_id % {CALLS // 100} = 0")
        await db.execute(
            "INSERT INTO streak (since, until)"
            " SELECT settled_at - interval '1 s', settled_at + interval '1 s' FROM line"
            " WHERE state = 'rejected' ORDER BY settled_at DESC LIMIT 20"
        )
        await db.execute(
            "INSERT INTO act (kind, who, began_at)"
            " SELECT 'requeue', 'alice@acd1', now() - interval '99 days'"
            " FROM generate_series(1, 100)"
        )
        await db.execute("UPDATE line SET act_id = 1 + call_id % 2 WHERE state = 'rejected'")
        await db.execute(
            "INSERT INTO acdevents (ID, ClientsID, AcdEventTypesID, StatisticsPartAID, dtCreated)"
            " SELECT n, 1, 1 + n % 7, CASE WHEN n % 3 > 0 THEN n END,"
            " $1::timestamptz - ($2 - n) * $3::interval / $2 FROM generate_series(1, $2) AS n",
            last,
            EVENTS,
            timedelta(days=DAYS),
        )
        await db.execute("VACUUM ANALYZE")
        middle = CALLS // 2
        await db.execute(
            "UPDATE line SET state = 'pending', settled_at = NULL, record = '{}'"
            " WHERE call_id BETWEEN $1 AND $2",
            middle - BACKLOG // 3,
            middle + BACKLOG // 3,
        )
        # As autovacuum does when a range is full.
        for index in ("line_call_ended", "line_settled_at"):
            await db.execute("SELECT brin_summarize_new_values($1)", index)
    finally:
        await db.close()
    await no_autovacuum(dsn)
    return dsn


@asynccontextmanager
async def source_session(dsn: str) -> AsyncIterator[tuple[Any, dict[str, str]]]:
    """A session as the daemon's own to the source, and the statements as it sends them."""
    async with open_source(dsn, ("jtelstats",), BERLIN, None) as source:
        await source.prepare()
        async with source.database.connection() as connection:
            yield connection, source._sql


@asynccontextmanager
async def ledger_session(dsn: str) -> AsyncIterator[Any]:
    """A session as the daemon's own to the ledger."""
    async with open_ledger(dsn, "callstatsd") as ledger, ledger.database.connection() as connection:
        yield connection


async def explained(connection: Any, statement: str, arguments: Iterable[Any]) -> dict[str, Any]:
    """Run a statement, undo it, and return its plan."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        text = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
        plan: dict[str, Any] = orjson.loads(await connection.fetchval(text, *arguments))[0]["Plan"]
    finally:
        await transaction.rollback()
    return plan


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All nodes of a plan."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def assert_reads(plan: dict[str, Any], look: Look) -> None:
    """Compare how a statement went about it with how it shall."""
    scans = [
        node
        for node in nodes(plan)
        if node.get("Relation Name") in LARGE and node["Node Type"].endswith("Scan")
    ]
    indexes = {node["Index Name"] for node in nodes(plan) if "Index Name" in node}
    own = {name for name in indexes if not name.startswith(("lane_", "pg_"))}
    touched = sum(
        (
            node["Actual Rows"]
            + node.get("Rows Removed by Filter", 0)
            + node.get("Rows Removed by Index Recheck", 0)
        )
        * node["Actual Loops"]
        for node in scans
    )
    scanned = {node["Relation Name"] for node in scans if node["Node Type"] == "Seq Scan"}
    report = (
        f"by {sorted(own)}, {touched:,.0f} rows, all of {sorted(scanned)}; expected "
        f"{sorted(look.indexes)}, {look.rows:,} rows:\n"
        + orjson.dumps(plan, option=orjson.OPT_INDENT_2).decode()
    )
    assert not (scanned and look.indexes), report
    assert (own & INDEXES) - look.also == look.indexes, report
    assert touched <= look.rows, report


INDEXES = {
    index
    for looks in (SOURCE, CALLBACKS, LEDGER, DESK, LISTING)
    for look in looks.values()
    for index in look.indexes
}


def test_every_named_query_is_looked_at() -> None:
    assert statements.load("ingest/reader.sql").keys() == READER.keys()
    assert statements.load("ingest/source.sql").keys() == SOURCE.keys() | PARTS
    assert statements.load("ingest/callbacks.sql").keys() == CALLBACKS.keys()
    assert LEDGER_SQL.keys() == LEDGER.keys()
    assert statements.load("ledger/operator.sql").keys() == DESK.keys()
    assert statements.load("ledger/listing.sql").keys() == LISTING.keys()


@pytest.mark.parametrize("name", SOURCE)
async def test_source(name: str, long_ledger: str) -> None:
    async with source_session(long_ledger) as (connection, sql):
        assert_reads(await explained(connection, sql[name], SOURCE[name].arguments), SOURCE[name])


@pytest.mark.parametrize("name", READER)
async def test_reader(name: str, long_ledger: str) -> None:
    sql = statements.load("ingest/reader.sql")
    async with source_session(long_ledger) as (connection, _):
        assert_reads(await explained(connection, sql[name], READER[name].arguments), READER[name])


@pytest.mark.parametrize("name", CALLBACKS)
async def test_callbacks(name: str, long_ledger: str) -> None:
    look = CALLBACKS[name]
    async with open_source(long_ledger, ("jtelstats",), BERLIN, None) as source:
        requests = CallbackSource(source.database, ("jtelstats",), None)
        await requests.prepare()
        async with requests.database.connection() as connection:
            assert_reads(await explained(connection, requests._sql[name], look.arguments), look)


async def test_a_poll_of_requests_reads_what_is_new_whatever_the_calls_say(
    long_ledger: str,
) -> None:
    """A minute out of months, of one client."""
    minute = (READY - timedelta(minutes=1), READY, MIN_TIME, 0, 1, PAGE, WAITED)
    async with open_source(long_ledger, ("jtelstats",), BERLIN, 1) as source:
        requests = CallbackSource(source.database, ("jtelstats",), 1)
        await requests.prepare()
        async with requests.database.connection() as connection:
            plan = await explained(connection, requests._sql["ready"], minute)
    assert_reads(plan, replace(CALLBACKS["ready"], rows=20))


@pytest.mark.parametrize("name", [name for name in LEDGER if name not in {"in_order", "in_bulk"}])
async def test_ledger(name: str, long_ledger: str) -> None:
    sql = LEDGER_SQL
    async with ledger_session(long_ledger) as connection, connection.transaction():
        if name in PLANNED:
            await connection.execute(sql[PLANNED[name]])
        assert_reads(await explained(connection, sql[name], LEDGER[name].arguments), LEDGER[name])


@pytest.mark.parametrize("name", DESK)
async def test_desk(name: str, long_ledger: str) -> None:
    sql = statements.load("ledger/operator.sql")
    async with ledger_session(long_ledger) as connection, connection.transaction():
        if name in {"oldest_pending", "allow_probe"}:
            await connection.execute(LEDGER_SQL["in_order"])
        assert_reads(await explained(connection, sql[name], DESK[name].arguments), DESK[name])


@pytest.mark.parametrize(
    ("name", "look"), [*((name, LISTING[name]) for name in LISTING if name != "for_values"), *LISTS]
)
async def test_lists(name: str, look: Look, long_ledger: str) -> None:
    sql = statements.load("ledger/listing.sql")
    async with ledger_session(long_ledger) as connection, connection.transaction():
        await connection.execute(sql["for_values"])
        assert_reads(await explained(connection, sql[name], look.arguments), look)


async def test_a_day_and_all_counts_are_read_by_indexes_where_retention_has_moved_lines(
    dsn: str, db: asyncpg.Connection
) -> None:
    """Lines without their records lie elsewhere, and later lines where they were."""
    await no_autovacuum(dsn)
    # What is committed without waiting VACUUM does not take for visible to all yet.
    await db.execute("SET synchronous_commit = on")
    days, per_day = 60, 400
    half = timedelta(days=days // 2)
    early = data.Calls(days // 2 * per_day, NOW - half, half, 1000)
    await data.add(db, early, source=False, taken=True, record="x" * 600)
    await db.execute("VACUUM line")
    await db.execute("UPDATE line SET record = NULL")
    await db.execute("VACUUM line")
    late = replace(early, end=NOW, first=1 + early.count)
    await data.add(db, late, source=False, taken=True, record="x" * 600)
    await db.execute("VACUUM ANALYZE line")
    day = (NOW - half - timedelta(days=10), NOW - half - timedelta(days=9))
    sql = statements.load("ledger/listing.sql")
    async with ledger_session(dsn) as connection, connection.transaction():
        await connection.execute(sql["for_values"])
        arguments = (FEEDS, 101, *LISTED, *ANYWHERE, *day, None)
        plan = await explained(connection, sql["list_chosen"], arguments)
        assert_reads(plan, by("line_call_ended", rows=3 * 2 * per_day + 4 * 1000))
        plan = await explained(connection, statements.load("ledger/operator.sql")["counts"], ())
        assert_reads(plan, by("line_listed", "line_pending", rows=days * 2 * per_day))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("count_lines", SETTLED), ("select_lines", (*SETTLED, *BEFORE_ALL, "", 1000))],
)
async def test_lines_settled_in_a_window_are_found_by_when_they_were_settled(
    name: str, arguments: tuple[Any, ...], long_ledger: str
) -> None:
    look = by("line_listed", rows=3 * PER_HOUR)
    async with ledger_session(long_ledger) as connection:
        assert_reads(
            await explained(connection, statements.load("ledger/operator.sql")[name], arguments),
            look,
        )


async def test_a_backlog_of_a_new_ledger_is_read_in_order(dsn: str, db: asyncpg.Connection) -> None:
    """Nothing was ever counted there, so the planner believes that few lines are pending."""
    await no_autovacuum(dsn)
    await data.masters(db)
    calls = data.Calls(data.calls_of(BACKLOG), READY, timedelta(hours=9), 1000)
    await data.add(db, calls, taken=True, record="{}")
    await db.execute("UPDATE line SET state = 'pending', settled_at = NULL")
    sql = LEDGER_SQL
    look = LEDGER["pending"]
    async with ledger_session(dsn) as connection, connection.transaction():
        await connection.execute(sql["in_order"])
        plan = await explained(connection, sql["pending"], look.arguments)
        assert_reads(plan, look)
        assert all(node["Node Type"] != "Sort" for node in nodes(plan))
        # Of another feed, whose lines come after all of these, it reads none of these.
        await db.execute(
            "INSERT INTO line (call_id, group_id, leg_id, code_id, feed, ordinal, lane, call_ended,"
            " backfill, state, record) SELECT n, 0, 0, 0, 'other', 1, n::text, now(), false,"
            " 'pending', '{}' FROM generate_series(1, 5) AS n"
        )
        plan = await explained(connection, sql["pending"], (*look.arguments[:-1], "other"))
        assert_reads(plan, replace(look, rows=5))
        look = LEDGER["newest"]
        plan = await explained(connection, sql["newest"], (*look.arguments[:-1], "other"))
        assert_reads(plan, replace(look, rows=10 * 5))


async def test_taking_into_a_ledger_without_statistics_compares_no_line_with_each(
    dsn: str, db: asyncpg.Connection
) -> None:
    """Nor where one call has thousands of lines, of which a page is taken again."""
    await no_autovacuum(dsn)
    await data.masters(db)
    calls = data.Calls(data.calls_of(BACKLOG), READY, timedelta(hours=9), 1000)
    await data.add(db, calls, taken=True)
    await db.execute(
        "INSERT INTO line (call_id, group_id, leg_id, code_id, ordinal, lane, call_ended, backfill,"
        " state) SELECT $1, 0, n, n % 2 * n, n, 'x', now(), false, 'delivered'"
        " FROM generate_series(1, $2::bigint) AS n",
        10**9,
        BACKLOG,
    )
    count = 2000
    lines = entries([[10**9] * count, [7] * count, [*range(1, count + 1)], [0] * count], "pending")
    sql = LEDGER_SQL
    async with ledger_session(dsn) as connection, connection.transaction():
        await connection.execute(sql["in_bulk"])
        plan = await explained(connection, sql["take"], (*lines, False, None, FEED))
    assert_reads(plan, by("line_pkey", rows=BACKLOG + count))
    assert all(node["Node Type"] != "Nested Loop" for node in nodes(plan))
    assert not [node for node in nodes(plan) if node.get("Rows Removed by Join Filter", 0) > count]
