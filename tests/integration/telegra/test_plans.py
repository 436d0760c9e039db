"""Each statement of the receiver finds what it wants by an index, however long the history is."""

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import orjson
import pytest

from daemon.database import statements
from daemon.telegra.store import KEEP_EVENTS_FOR, MAX_BATCH

SQL = statements.load("telegra/store.sql")
FIRST = 4_000_000_000_000_000
CALLS = 20_000
NOW = datetime.now(UTC)
LARGE = {"telegraevents", "telegracalls", "statisticsparta", "acdstatisticspartb",
         "statisticspartb", "acdstatisticstransactioncodes", "acdevents"}  # fmt: skip
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
ONE, TEXT, TIME = [FIRST + 77], ["x"], [NOW]

FILL = f"""
INSERT INTO TelegraCalls SELECT {FIRST} + n, 4711, to_hex(n), to_hex(n), t, t, t, true, false
FROM (SELECT n, now() - n * interval '1 minute' AS t FROM generate_series(1, {CALLS}) AS n) AS c;
INSERT INTO TelegraEvents
SELECT {FIRST} + 100000 + n * 5 + e, decode(md5(n || '-' || e), 'hex'), 'callevent', 4711,
       {FIRST} + n, NULL, '{{"eventtype": "Alerting"}}', t, t, false
FROM (SELECT n, now() - n * interval '1 minute' AS t FROM generate_series(1, {CALLS}) AS n) AS c,
     generate_series(0, 4) AS e;
INSERT INTO StatisticsPartA (ID, ClientsID, bOutbound, dtCallStart, dtCallEnd)
SELECT StatisticsPartAID, 4711, false, dtCallStart, dtCallEnd FROM TelegraCalls;
INSERT INTO AcdStatisticsPartB (ID, StatisticsPartAID, AcdGroupsID, dtGroupStart)
SELECT ID + 1000000, ID, 40, dtCallStart FROM StatisticsPartA;
INSERT INTO StatisticsPartB (ID, StatisticsPartAID, dtCallStart)
SELECT ID + 2000000, ID, dtCallStart FROM StatisticsPartA;
INSERT INTO AcdStatisticsTransactionCodes (ID, StatisticsPartAID, TransactionCodesID, dtCreated)
SELECT ID + 3000000, ID, 1, dtCallStart FROM StatisticsPartA;
INSERT INTO AcdEvents (ID, AcdEventTypesID, dtCreated)
SELECT ID + 4000000, 3, dtCallStart FROM StatisticsPartA;
ANALYZE;
"""
NONE: list[Any] = [None]
STATEMENTS: dict[str, tuple[tuple[Any, ...], int]] = {
    "find_calls": (([4711], ["4d,77"]), 5),
    "lock_calls": (([4711], ["4d"], ["4d"], MINUTE), 5),
    "keep": ((([b"x"], TEXT, [4711], ONE, NONE, ["{}"], TIME, [False])), 5),
    "bind_codes": ((ONE, [4711], ["4d"], [False], DAY), 5),
    "waiting": ((DAY, MAX_BATCH), 5),
    "kept": ((ONE,), 20),
    "legs": ((ONE,), 5),
    "name_codes": ((TEXT, TEXT), 5),
    "codes": ((TEXT, TEXT), 5),
    "write_calls": ((ONE, [1], NONE, [False], NONE, NONE, TIME, NONE, NONE, [16], NONE, NONE), 5),
    "write_visits": ((ONE, [FIRST + 5_000_001], ONE, [40], TIME), 5),
    "write_legs": ((ONE, [FIRST + 5_000_002], ONE, NONE, NONE, TIME, NONE, NONE, NONE, NONE, NONE),
                   5),
    "write_codes": (([FIRST + 5_000_003], ONE, NONE, NONE, [1], NONE, TIME), 5),
    "note_calls": ((ONE, TIME, TIME, [False], [False]), 5),
    "touch_calls": ((ONE,), 5),
    "make_users": (([1], TEXT), 5),
    "make_groups": (([1], TEXT), 5),
    "make_service_numbers": (([1], TEXT, TEXT), 5),
    "plan_callbacks": (([FIRST + 5_000_004], [1], NONE, NONE, TEXT, TEXT, NONE, NONE, TIME), 5),
    "write_ends": ((MINUTE, MAX_BATCH), 5),
    "overview": ((DAY, DAY), 10),
    "call_of_task": (("4d",), 5),
    "prune_events": ((KEEP_EVENTS_FOR, DAY, DAY, 100), 1000),
    "prune_calls": ((10 * DAY, 10), 200),
    "prune_planned": ((10 * DAY, 10), 50),
}  # fmt: skip
"""Arguments of each statement, and how many rows of large tables it may touch."""


def test_every_statement_is_here() -> None:
    assert STATEMENTS.keys() == SQL.keys()


@pytest.fixture
async def filled(telegra_db: asyncpg.Connection) -> asyncpg.Connection:
    await telegra_db.execute(FILL)
    return telegra_db


async def test_statements_touch_few_rows(filled: asyncpg.Connection) -> None:
    found = {}
    for name, (arguments, _) in STATEMENTS.items():
        transaction = filled.transaction()
        await transaction.start()
        try:
            text = f"EXPLAIN (ANALYZE, FORMAT JSON) {SQL[name]}"
            plan = orjson.loads(await filled.fetchval(text, *arguments))
        finally:
            await transaction.rollback()
        found[name] = touched(plan[0]["Plan"])
    too_many = {name: rows for name, rows in found.items() if rows > STATEMENTS[name][1]}
    assert too_many == {}


def touched(node: dict[str, Any]) -> float:
    """Count the rows of large tables that a plan reads, also those that it filters out."""
    rows = 0.0
    if node.get("Relation Name") in LARGE and "Scan" in node["Node Type"]:
        read = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
        rows = read * node["Actual Loops"]
    return rows + sum(touched(child) for child in node.get("Plans", ()))
