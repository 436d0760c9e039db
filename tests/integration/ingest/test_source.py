"""Every line that contract 3 promises comes out of a real Postgres, once and in order."""

import random
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from itertools import product
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from daemon.demo.calls import day
from daemon.demo.record_ids import ids
from daemon.demo.rows import Sample, load
from daemon.errors import CallstatsdError, ConfigurationError
from daemon.ingest.callbacks import CallbackSource
from daemon.ingest.columns import MAX_TIME, MIN_TIME
from daemon.ingest.feed import Page, RowRef
from daemon.ingest.reader import PAGE
from daemon.ingest.readiness import Readiness, Window
from daemon.ingest.record import salesforce_id
from daemon.ingest.schema import BLANKS, SHORT_TEXT
from daemon.ingest.source import Source, open_source
from daemon.ingest.statistics import RecordOptions
from daemon.lines import NOT_AN_ID, DataLine, NewLine, State
from tests.support.expected import BERLIN, Line, data_lines
from tests.support.rows import (
    NIGHTS,
    START,
    TIME_COLUMNS,
    add,
    at,
    call,
    code,
    event,
    leg,
    local_times,
    retype,
    sample,
    visit,
)

GONE = 999_999
FORM = RecordOptions(BERLIN, empty_as_string=False, send_without_id=True)
SECOND = timedelta(seconds=1)
TICK = timedelta(microseconds=1)
EVER = Window(MIN_TIME, MAX_TIME)
TABLES = (
    "StatisticsPartA",
    "AcdStatisticsPartB",
    "StatisticsPartB",
    "AcdStatisticsTransactionCodes",
    "ServiceNumbers",
    "Users",
    "AcdGroups",
    "TransactionCodes",
)


def opened(
    dsn: str, *, zone: ZoneInfo = BERLIN, clients_id: int | None = None, page: int = PAGE
) -> AbstractAsyncContextManager[Source]:
    return open_source(dsn, ("jtelstats",), zone, clients_id, page=page)


@pytest.fixture
async def source(request: pytest.FixtureRequest, dsn: str) -> AsyncIterator[Source]:
    """A source that is read in pages of 2000 rows, or of as many as a test asks for."""
    async with opened(dsn, page=getattr(request, "param", PAGE)) as source:
        yield source


def in_pages_of(*rows: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("source", rows, indirect=True)


async def read(source: Source, rows: Sample) -> list[DataLine]:
    calls = sorted(rows.calls, key=lambda row: row.id, reverse=True)
    return await source.lines([row.id for row in calls])


def keys(lines: list[DataLine]) -> list[str]:
    return [str(line.key) for line in lines]


def taken(lines: list[DataLine]) -> list[NewLine]:
    return [FORM.new_line(line) for line in lines]


def records(lines: list[DataLine]) -> list[tuple[str, str | None]]:
    return [(str(entry.key), entry.record) for entry in taken(lines)]


def bodies(expected: list[Line]) -> list[tuple[str, str]]:
    return [(line.key, line.body) for line in expected]


async def pages_of(pages: AsyncIterator[Page]) -> list[list[RowRef]]:
    return [page.found async for page in pages]


async def ids_of(pages: AsyncIterator[Page]) -> list[int]:
    return [found.row_id for page in await pages_of(pages) for found in page]


SEED_003 = sample(
    call(1201),
    visit(2201, 1201, dtgroupstart=at(1)),
    visit(2202, 1201, dtgroupstart=at(60)),
    leg(3201, 1201, 2201, usersid=1, dtcallstart=at(2)),
    leg(3202, 1201, 2201, usersid=2, dtcallstart=at(30)),
    leg(3203, 1201, 2202, usersid=3, dtcallstart=at(61)),
    leg(3204, 1201, 2202, usersid=4, dtcallstart=at(90)),
    code(4201, 1201, 2202, 3203, transactioncodesid=1, dtcreated=at(85)),
    code(4202, 1201, 2202, 3204, transactioncodesid=2, dtcreated=at(118)),
    code(4203, 1201, 2202, 3204, transactioncodesid=3, dtcreated=at(140)),
)


async def test_the_table_of_seed_003_gives_its_five_lines_in_order(
    db: asyncpg.Connection, source: Source
) -> None:
    await load(db, SEED_003)
    lines = await source.lines([1201])
    assert keys(lines) == [
        "1201-2201-3201-0",
        "1201-2201-3202-0",
        "1201-2202-3203-4201",
        "1201-2202-3204-4202",
        "1201-2202-3204-4203",
    ]
    assert [line.ordinal for line in lines] == [1, 2, 3, 4, 5]
    assert [(line.agent_uid, line.export_key) for line in lines] == [
        ("agent.w", None),
        ("agent.x", None),
        ("agent.y", "AAA"),
        ("agent.z", "BBB"),
        ("agent.z", "CCC"),
    ]


# What each edge's rows are, and the keys that they give.
EDGES: dict[str, tuple[Sample, list[str]]] = {
    "a group visit without an attempt has one line": (
        sample(call(1), visit(21, 1), visit(22, 1, dtgroupstart=at(6)), leg(31, 1, 22)),
        ["1-21-0-0", "1-22-31-0"],
    ),
    "a call with neither visit nor leg has one line": (sample(call(1)), ["1-0-0-0"]),
    "a call with neither visit nor leg has its line beside those of codes without a leg": (
        sample(call(1), code(41, 1, None, None), code(42, 1, GONE, None)),
        ["1-0-0-0", "1-0-0-41", "1-999999-0-42"],
    ),
    "a leg that the IVR dialled has one line": (
        sample(call(1), leg(31, 1, None)),
        ["1-0-31-0"],
    ),
    "a leg that the IVR dialled has a line for each code": (
        sample(call(1), leg(31, 1, None), code(41, 1, None, 31), code(42, 1, None, 31)),
        ["1-0-31-41", "1-0-31-42"],
    ),
    "a leg whose visit is gone keeps the visit's id in its key": (
        sample(call(1), leg(31, 1, GONE), leg(32, 1, GONE), code(41, 1, GONE, 32)),
        ["1-999999-31-0", "1-999999-32-41"],
    ),
    "legs without a visit come after all visits": (
        sample(
            call(1),
            leg(31, 1, None, dtcallstart=at(1)),
            leg(32, 1, 21, dtcallstart=at(50)),
            visit(21, 1),
            visit(22, 1, dtgroupstart=None),
        ),
        ["1-21-32-0", "1-22-0-0", "1-0-31-0"],
    ),
    "a code without a leg has a line of its own, its group from its visit, its agent its user": (
        sample(
            call(1),
            visit(21, 1),
            leg(31, 1, 21, usersid=1),
            code(41, 1, 21, None, usersid=3, dtcreated=at(1)),
        ),
        ["1-21-31-0", "1-21-0-41"],
    ),
    "a code without a leg beside a visit without an attempt repeats nothing": (
        sample(call(1), visit(21, 1), code(41, 1, 21, None), code(42, 1, None, None)),
        ["1-21-0-0", "1-21-0-41", "1-0-0-42"],
    ),
    "a code whose leg is gone keeps the leg's id in its key": (
        sample(call(1), visit(21, 1), leg(31, 1, 21), code(41, 1, 21, GONE)),
        ["1-21-31-0", "1-21-999999-41"],
    ),
    "a code whose leg and visit are gone keeps both ids": (
        sample(call(1), code(41, 1, GONE, GONE + 1)),
        ["1-0-0-0", "1-999999-1000000-41"],
    ),
    "a code's leg decides on the group, not the code's own visit": (
        sample(call(1), visit(21, 1), leg(31, 1, 21), code(41, 1, GONE, 31)),
        ["1-21-31-41"],
    ),
    "a code on a leg without a visit has no group": (
        sample(call(1), visit(21, 1), leg(31, 1, None), code(41, 1, 21, 31)),
        ["1-21-0-0", "1-0-31-41"],
    ),
    "visits, legs and codes are ordered by time": (
        sample(
            call(1),
            visit(21, 1, dtgroupstart=at(50)),
            visit(22, 1, dtgroupstart=at(5)),
            leg(31, 1, 22, dtcallstart=at(20)),
            leg(32, 1, 22, dtcallstart=at(10)),
            leg(33, 1, 21, dtcallstart=at(51)),
            code(41, 1, 22, 32, dtcreated=at(60)),
            code(42, 1, 22, 32, dtcreated=at(40)),
        ),
        ["1-22-32-42", "1-22-32-41", "1-22-31-0", "1-21-33-0"],
    ),
    "of equal times the smaller id comes first": (
        sample(
            call(1),
            visit(22, 1),
            visit(21, 1),
            leg(34, 1, 22),
            leg(33, 1, 22),
            leg(32, 1, 21),
            leg(39, 1, None),
            leg(38, 1, None),
            code(43, 1, 21, 32),
            code(42, 1, 21, 32),
            code(45, 1, None, None),
            code(44, 1, None, None),
        ),
        [
            *("1-21-32-42", "1-21-32-43", "1-22-33-0", "1-22-34-0"),
            *("1-0-38-0", "1-0-39-0", "1-0-0-44", "1-0-0-45"),
        ],
    ),
    "NULL times come last": (
        sample(
            call(1),
            visit(21, 1, dtgroupstart=None),
            visit(22, 1, dtgroupstart=None),
            visit(23, 1, dtgroupstart=at(100)),
            leg(31, 1, 23, dtcallstart=None),
            leg(32, 1, 23, dtcallstart=at(101)),
            leg(33, 1, GONE, dtcallstart=None),
            leg(34, 1, None, dtcallstart=at(99)),
        ),
        ["1-23-32-0", "1-23-31-0", "1-21-0-0", "1-22-0-0", "1-0-34-0", "1-999999-33-0"],
    ),
    "a leg that connected and never ended counts up to the call's end": (
        sample(call(1), leg(31, 1, None, dtcallend=None)),
        ["1-0-31-0"],
    ),
    "a call that never ended has lines too": (
        sample(call(1, dtcallend=None), visit(21, 1), leg(31, 1, 21, dtcallend=None)),
        ["1-21-31-0"],
    ),
    "a visit of another call is none of this leg's": (
        sample(call(1), call(2), visit(21, 1), leg(31, 2, 21)),
        ["1-21-0-0", "2-21-31-0"],
    ),
    "a leg of another call is none of this code's": (
        sample(call(1), call(2), visit(21, 1), leg(31, 1, 21), code(41, 2, 21, 31)),
        ["1-21-31-0", "2-0-0-0", "2-21-31-41"],
    ),
    "rows of a call that is gone belong to nobody": (
        sample(call(1), visit(21, 7), leg(31, 7, 21), code(41, 7, 21, 31)),
        ["1-0-0-0"],
    ),
    "master rows that are gone leave their fields empty": (
        sample(
            call(1, servicenumbersid=GONE),
            visit(21, 1, acdgroupsid=GONE, acdagentgroupsid=None, acdconfigurationgroupsid=None),
            visit(22, 1, acdgroupsid=3, acdagentgroupsid=GONE, acdconfigurationgroupsid=GONE),
            visit(23, 1, acdgroupsid=3, acdagentgroupsid=4, acdconfigurationgroupsid=GONE),
            leg(31, 1, 21, usersid=GONE),
            leg(32, 1, 22, usersid=None),
            code(41, 1, 21, 31, transactioncodesid=GONE, usersid=1),
            code(42, 1, 22, 32, transactioncodesid=GONE, usersid=GONE),
        ),
        ["1-21-31-41", "1-22-32-42", "1-23-0-0"],
    ),
    "without ids of group, service and user the fields are empty": (
        sample(
            call(1, servicenumbersid=None, anumber=None, userdata=None, causecodesid=None),
            visit(21, 1, acdgroupsid=None, acdagentgroupsid=None, acdconfigurationgroupsid=None),
            leg(31, 1, 21, usersid=None, connres=None, causecodesid=None),
        ),
        ["1-21-31-0"],
    ),
    "the configuration group is the agents' where there is none": (
        sample(
            call(1),
            visit(21, 1, acdgroupsid=3, acdagentgroupsid=None, acdconfigurationgroupsid=None),
            visit(22, 1, acdgroupsid=3, acdagentgroupsid=5, acdconfigurationgroupsid=None),
            visit(23, 1, acdgroupsid=3, acdagentgroupsid=None, acdconfigurationgroupsid=8),
        ),
        ["1-21-0-0", "1-22-0-0", "1-23-0-0"],
    ),
    "an external destination has the user of its code": (
        sample(call(1), leg(31, 1, None, usersid=None), code(41, 1, None, 31, usersid=4)),
        ["1-0-31-41"],
    ),
    "calls are ordered by the end, or the start of a never-ended one, then by id": (
        sample(
            call(4),
            call(3),
            call(5, dtcallend=at(60)),
            call(2, dtcallend=None),
            call(1, dtcallend=at(500)),
        ),
        ["2-0-0-0", "5-0-0-0", "3-0-0-0", "4-0-0-0", "1-0-0-0"],
    ),
}


@pytest.mark.parametrize("edge", EDGES)
async def test_at_this_edge_lines_and_records_are_those_of_the_contract(
    db: asyncpg.Connection, source: Source, edge: str
) -> None:
    rows, expected = EDGES[edge]
    await load(db, rows)
    lines = await read(source, rows)
    assert keys(lines) == expected
    assert records(lines) == bodies(data_lines(rows))


async def test_codes_without_a_leg_are_ordered_by_time_whatever_leg_they_name(
    db: asyncpg.Connection, source: Source
) -> None:
    rows = sample(
        call(1),
        code(41, 1, None, 900, dtcreated=at(10)),
        code(42, 1, None, None, dtcreated=at(20)),
        code(43, 1, None, 800, dtcreated=at(30)),
    )
    await load(db, rows)
    assert keys(await source.lines([1])) == ["1-0-0-0", "1-0-900-41", "1-0-0-42", "1-0-800-43"]


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_generated_day_gives_the_lines_and_records_of_the_contract(
    db: asyncpg.Connection, source: Source, seed: int
) -> None:
    rows = day(400, seed, START + timedelta(hours=8))
    await load(db, rows)
    assert records(await read(source, rows)) == bodies(data_lines(rows))


def tangle(seed: int) -> Sample:
    """Rows that point anywhere: to their own call's rows, another's, a lost one, nowhere."""
    chance = random.Random(seed)
    rows = sample(*(call(n, dtcallend=at(chance.randrange(300, 303))) for n in (1, 2, 3)))

    def sometime() -> datetime | None:
        return chance.choice((None, at(chance.randrange(5))))

    def somewhere(first: int) -> int | None:
        places: list[int | None] = [None, GONE, GONE + 1, *range(first, first + 10)]
        return chance.choice(places)

    for n in range(10):
        rows.visits.append(visit(20 + n, chance.randrange(1, 5), dtgroupstart=sometime()))
        rows.legs.append(leg(40 + n, chance.randrange(1, 5), somewhere(20), dtcallstart=sometime()))
        rows.codes.append(
            code(
                *(60 + n, chance.randrange(1, 5), somewhere(20), somewhere(40)),
                dtcreated=at(chance.randrange(5)),
            )
        )
    return rows


async def test_rows_that_point_anywhere_give_the_lines_of_the_contract(
    db: asyncpg.Connection, source: Source
) -> None:
    for seed in range(40):
        rows = tangle(seed)
        await load(db, rows)
        assert records(await read(source, rows)) == bodies(data_lines(rows)), f"seed {seed}"
        await db.execute(f"TRUNCATE {', '.join(TABLES)}")


@pytest.mark.parametrize("asked", [[], [77]])
async def test_calls_that_are_not_there_have_no_lines(source: Source, asked: list[int]) -> None:
    assert await source.lines(asked) == []


async def test_lines_of_one_call_are_read_without_those_of_another(
    db: asyncpg.Connection, source: Source
) -> None:
    rows = sample(call(1), call(2), visit(21, 1), leg(31, 1, 21), leg(32, 2, 21))
    await load(db, rows)
    assert keys(await source.lines([2])) == ["2-21-32-0"]
    assert keys(await source.lines([1, 1])) == ["1-21-31-0"]


async def test_master_rows_twice_in_a_view_repeat_no_line(
    db: asyncpg.Connection, source: Source
) -> None:
    await load(db, SEED_003)
    for table in ("ServiceNumbers", "Users", "AcdGroups", "TransactionCodes"):
        await db.execute(f"ALTER TABLE {table} RENAME TO own_{table}")
        await db.execute(f"CREATE VIEW {table} AS TABLE own_{table} UNION ALL TABLE own_{table}")
    lines = await source.lines([1201])
    assert records(lines) == bodies(data_lines(SEED_003))
    ordinals = [line.ordinal for line in lines]
    assert ordinals == sorted(set(ordinals))


async def test_local_times_give_the_same_records_as_instants(
    db: asyncpg.Connection, source: Source
) -> None:
    rows = day(300, 5, START + timedelta(hours=8))
    await load(db, rows)
    await local_times(db)
    lines = await read(source, rows)
    assert records(lines) == bodies(data_lines(rows))
    assert lines[0].call_ended.tzinfo is not None


@pytest.mark.parametrize("table", TIME_COLUMNS)
async def test_tables_may_differ_in_how_they_keep_times(
    db: asyncpg.Connection, source: Source, table: str
) -> None:
    rows = day(60, 6, START + timedelta(hours=8))
    await load(db, rows)
    await local_times(db, [table])
    assert records(await read(source, rows)) == bodies(data_lines(rows))


async def test_local_time_is_that_of_the_acd_servers_zone(dsn: str, db: asyncpg.Connection) -> None:
    zone = ZoneInfo("America/New_York")
    rows = sample(call(1), leg(31, 1, None))
    await load(db, rows)
    await local_times(db, zone="America/New_York")
    async with opened(dsn, zone=zone) as source:
        (line,) = await source.lines([1])
        assert line.call_ended == at(120)
        entry = RecordOptions(zone, empty_as_string=False, send_without_id=True).new_line(line)
        assert entry.record == data_lines(rows, zone)[0].body


async def test_flags_may_be_small_numbers(db: asyncpg.Connection, source: Source) -> None:
    rows = sample(call(1, boutbound=True, bnumber="0043 1 5"), call(2))
    await load(db, rows)
    await db.execute(
        "ALTER TABLE StatisticsPartA ALTER bOutbound TYPE smallint USING bOutbound::int"
    )
    assert records(await read(source, rows)) == bodies(data_lines(rows))


IDS = {
    "StatisticsPartA": ("ID", "ClientsID", "ServiceNumbersID"),
    "AcdStatisticsPartB": (
        *("ID", "StatisticsPartAID", "AcdGroupsID", "AcdAgentGroupsID"),
        "AcdConfigurationGroupsID",
    ),
    "StatisticsPartB": ("ID", "StatisticsPartAID", "AcdStatisticsPartBID", "UsersID"),
    "AcdStatisticsTransactionCodes": (
        *("ID", "StatisticsPartAID", "AcdStatisticsPartBID", "StatisticsPartBID"),
        *("TransactionCodesID", "UsersID"),
    ),
    "ServiceNumbers": ("ID",),
    "Users": ("ID",),
    "AcdGroups": ("ID",),
    "TransactionCodes": ("ID",),
}


@pytest.mark.parametrize("type_name", ["text", "varchar(30)", "numeric(20)", "double precision"])
async def test_ids_may_be_of_another_type_everywhere(
    dsn: str, db: asyncpg.Connection, type_name: str
) -> None:
    rows = day(60, 7, START + timedelta(hours=8))
    await load(db, rows)
    for table, columns in IDS.items():
        await retype(db, table, type_name, *columns)
    async with opened(dsn, clients_id=1) as source:
        assert records(await read(source, rows)) == bodies(data_lines(rows))
        found = await ids_of(source.ended(Window(START - timedelta(days=1), MAX_TIME)))
        assert sorted(found) == sorted(row.id for row in rows.calls if row.dtcallend)


@pytest.mark.parametrize("table", ["StatisticsPartA", "StatisticsPartB", "Users"])
async def test_a_table_with_ids_as_text_joins_with_numbers(
    db: asyncpg.Connection, source: Source, table: str
) -> None:
    rows = day(60, 8, START + timedelta(hours=8))
    await load(db, rows)
    await retype(db, table, "text", *IDS[table])
    await db.execute(f"UPDATE {table} SET ID = ' ' || ID || ' '")
    assert records(await read(source, rows)) == bodies(data_lines(rows))


@pytest.mark.parametrize(
    ("table", "column", "invalid"),
    [
        ("AcdStatisticsPartB", "2202", ["1201-?-0-0"]),
        ("StatisticsPartB", "3202", ["1201-2201-?-0"]),
        ("AcdStatisticsTransactionCodes", "4203", ["1201-2202-3204-?"]),
    ],
)
async def test_an_id_that_is_no_number_spoils_its_own_line_only(
    db: asyncpg.Connection, source: Source, table: str, column: str, invalid: list[str]
) -> None:
    await load(db, SEED_003)
    await retype(db, table, "text", "ID")
    await db.execute(f"UPDATE {table} SET ID = 'abc' WHERE ID = '{column}'")
    entries = taken(await source.lines([1201]))
    spoilt = [entry for entry in entries if entry.state is State.INVALID]
    assert [
        "-".join("?" if part < 0 else str(part) for part in entry.key.ids) for entry in spoilt
    ] == invalid
    assert [entry.error for entry in spoilt] == [f"{table}.ID {NOT_AN_ID}"]
    assert all(entry.record is None for entry in spoilt)
    assert len(entries) - len(spoilt) >= 4
    assert [entry.key for entry in entries] == [e.key for e in taken(await source.lines([1201]))]


@pytest.mark.parametrize("type_name", ["bigint", "text", "numeric"])
async def test_every_number_that_fits_is_an_id(
    db: asyncpg.Connection, source: Source, type_name: str
) -> None:
    """Of 19 digits too, and below zero, as some write for "none"."""
    large, small = 2**63 - 1, -(10**17)
    await load(db, sample(call(large), call(small), leg(31, large, -1), leg(32, small, None)))
    await retype(db, "StatisticsPartA", type_name, "ID")
    await retype(
        db, "StatisticsPartB", type_name, "ID", "StatisticsPartAID", "AcdStatisticsPartBID"
    )
    entries = taken(await source.lines([large, small]))
    assert {(str(entry.key), entry.state) for entry in entries} == {
        (f"{large}--1-31-0", State.PENDING),
        (f"{small}-0-32-0", State.PENDING),
    }


async def test_a_call_whose_id_is_no_number_is_found_and_named(
    db: asyncpg.Connection, source: Source
) -> None:
    await load(db, sample(call(1), call(2), call(3), leg(31, 2, None)))
    await retype(db, "StatisticsPartA", "text", "ID")
    await db.execute("UPDATE StatisticsPartA SET ID = 'abc' WHERE ID = '2'")
    await db.execute("UPDATE StatisticsPartA SET ID = 'xyz' WHERE ID = '3'")
    found = await ids_of(source.ended(Window(START, at(120))))
    assert len(found) == 3
    entries = taken(await source.lines(found))
    assert len({entry.key for entry in entries}) == 3
    assert sorted((entry.state, entry.error or "") for entry in entries) == [
        (State.INVALID, f"StatisticsPartA.ID {NOT_AN_ID}"),
        (State.INVALID, f"StatisticsPartA.ID {NOT_AN_ID}"),
        (State.PENDING, ""),
    ]


@in_pages_of(10, 1)
@pytest.mark.parametrize("number", ["99999999999999999999", "12.5", "NaN"])
async def test_a_call_whose_id_is_no_whole_number_is_found_and_hides_no_other(
    db: asyncpg.Connection,
    source: Source,
    number: str,
) -> None:
    await load(db, sample(call(12), call(13), call(14, dtcallend=at(121))))
    await retype(db, "StatisticsPartA", "numeric", "ID")
    await db.execute(f"UPDATE StatisticsPartA SET ID = '{number}' WHERE ID = 13")
    found: list[int] = []
    async for page in source.ended(Window(START, at(121))):
        found += [row.row_id for row in page.found]
        assert len(found) <= 3
    assert {number for number in found if number > 0} == {12, 14}
    assert keys(await source.lines(found)) == ["12-0-0-0", "14-0-0-0"]


async def test_a_leg_with_an_id_beyond_bigint_spoils_its_own_line_only(
    db: asyncpg.Connection, source: Source
) -> None:
    await load(db, sample(call(1), leg(31, 1, None), leg(32, 1, None)))
    await retype(db, "StatisticsPartB", "numeric(20)", "ID")
    await db.execute("UPDATE StatisticsPartB SET ID = 18446744073709551615 WHERE ID = 32")
    entries = taken(await source.lines([1]))
    assert sorted((entry.state, entry.error or "") for entry in entries) == [
        (State.INVALID, f"StatisticsPartB.ID {NOT_AN_ID}"),
        (State.PENDING, ""),
    ]


async def test_results_may_be_text_and_what_is_none_spoils_its_own_line_only(
    db: asyncpg.Connection, source: Source
) -> None:
    rows = sample(call(1), leg(31, 1, None), leg(32, 1, None, connres=2), leg(33, 1, None))
    await load(db, rows)
    await retype(db, "StatisticsPartB", "text", "CONNRES", "CauseCodesID")
    await db.execute("UPDATE StatisticsPartB SET CONNRES = 'busy' WHERE ID = 33")
    entries = taken(await source.lines([1]))
    assert [entry.record for entry in entries[:2]] == [line.body for line in data_lines(rows)[:2]]
    assert entries[2].state is State.INVALID
    assert entries[2].error == "StatisticsPartB.CONNRES holds text where a whole number belongs"


@pytest.mark.parametrize("kind", ["timestamptz", "timestamp"])
async def test_an_impossible_time_of_a_leg_spoils_its_own_line_only(
    db: asyncpg.Connection, source: Source, kind: str
) -> None:
    columns = TIME_COLUMNS["StatisticsPartB"]
    moments = ("infinity", "-infinity", "4713-01-01 BC", "294276-01-01")
    spoilt = dict(enumerate(product(columns, moments), 32))
    await load(db, sample(call(1), *(leg(number, 1, None) for number in (31, *spoilt, 99))))
    if kind == "timestamp":
        await local_times(db)
    for number, (column, moment) in spoilt.items():
        await db.execute(f"UPDATE StatisticsPartB SET {column} = '{moment}' WHERE ID = {number}")
    entries = {entry.key.leg_id: entry for entry in taken(await source.lines([1]))}
    assert [entries[number].state for number in (31, 99)] == [State.PENDING, State.PENDING]
    assert {number: entries[number].error for number in spoilt} == {
        number: f"StatisticsPartB.{column} is out of range"
        for number, (column, _) in spoilt.items()
    }


@pytest.mark.parametrize("moment", ["-infinity", "infinity", "0044-03-15 BC"])
async def test_impossible_times_that_no_record_shows_spoil_nothing(
    db: asyncpg.Connection, source: Source, moment: str
) -> None:
    await load(db, SEED_003)
    await db.execute(f"UPDATE StatisticsPartA SET dtCallStart = '{moment}'")
    await db.execute(f"UPDATE AcdStatisticsPartB SET dtGroupStart = '{moment}' WHERE ID = 2201")
    await db.execute(
        f"UPDATE AcdStatisticsTransactionCodes SET dtCreated = '{moment}' WHERE ID = 4202"
    )
    entries = taken(await source.lines([1201]))
    assert [entry.state for entry in entries] == [State.PENDING] * 5


async def test_an_impossible_start_spoils_the_line_of_a_call_without_legs(
    db: asyncpg.Connection, source: Source
) -> None:
    await load(db, sample(call(1), call(2)))
    await db.execute("UPDATE StatisticsPartA SET dtCallStart = '0044-03-15 BC' WHERE ID = 1")
    found = await ids_of(source.ended(Window(START, at(120))))
    entries = taken(await source.lines(found))
    assert [(entry.state, entry.error) for entry in entries] == [
        (State.INVALID, "StatisticsPartA.dtCallStart is out of range"),
        (State.PENDING, None),
    ]


async def test_calls_with_impossible_ends_are_in_no_window_and_hide_no_other(
    db: asyncpg.Connection, source: Source
) -> None:
    await load(db, sample(call(1), call(2), call(3), call(4)))
    for number, moment in ((1, "infinity"), (2, "-infinity"), (3, "0044-03-15 BC")):
        await db.execute(f"UPDATE StatisticsPartA SET dtCallEnd = '{moment}' WHERE ID = {number}")
    assert await ids_of(source.ended(Window(START - timedelta(days=1), at(500)))) == [4]


async def test_each_missing_table_is_named(db: asyncpg.Connection, source: Source) -> None:
    for table in TABLES:
        await db.execute(f"ALTER TABLE {table} RENAME TO hidden")
        with pytest.raises(ConfigurationError) as caught:
            await source.prepare()
        (fault,) = caught.value.faults
        assert fault.startswith(f"table {table} is not in the source's jtelstats: ")
        await db.execute(f"ALTER TABLE hidden RENAME TO {table}")
    await source.prepare()


async def test_all_that_is_missing_or_wrong_is_named_at_once(
    db: asyncpg.Connection, source: Source
) -> None:
    await db.execute("DROP TABLE Users")
    await db.execute("ALTER TABLE StatisticsPartB DROP COLUMN CONNRES")
    await db.execute("ALTER TABLE TransactionCodes RENAME ExportKey TO Export_Key")
    await db.execute("ALTER TABLE StatisticsPartA ALTER dtCallEnd TYPE text")
    await db.execute("ALTER TABLE AcdStatisticsPartB ALTER dtGroupStart TYPE date")
    with pytest.raises(ConfigurationError) as caught:
        await source.prepare()
    faults = "\n".join(caught.value.faults)
    assert len(caught.value.faults) == 5
    assert "table Users is not in" in faults
    assert "column StatisticsPartB.CONNRES is missing" in faults
    assert "column TransactionCodes.ExportKey is missing" in faults
    assert "column StatisticsPartA.dtCallEnd is text: it must be timestamptz" in faults
    assert "column AcdStatisticsPartB.dtGroupStart is date: it must be timestamptz" in faults


async def test_columns_that_nothing_reads_may_be_missing(
    db: asyncpg.Connection, source: Source
) -> None:
    await load(db, SEED_003)
    await db.execute("ALTER TABLE StatisticsPartA DROP dtCallAlert, DROP dtCallConnect")
    await source.prepare()
    assert len(await source.lines([1201])) == 5


async def test_tables_are_found_in_the_first_schema_that_has_them(
    dsn: str, db: asyncpg.Connection
) -> None:
    await load(db, SEED_003)
    await db.execute('CREATE SCHEMA "Our Views"')
    await db.execute(
        'CREATE VIEW "Our Views".Users AS SELECT ID, upper(UID) AS UID FROM jtelstats.Users'
    )
    async with open_source(dsn, ("Our Views", "jtelstats"), BERLIN, None) as source:
        lines = await source.lines([1201])
    assert [line.agent_uid for line in lines[:2]] == ["AGENT.W", "AGENT.X"]


@pytest.fixture
async def reader(dsn: str, db: asyncpg.Connection) -> AsyncIterator[str]:
    """The DSN of a role that may log in, and nothing else."""
    name = f"reader_{dsn.partition('?')[0].rpartition('/')[2]}"
    await db.execute(f"CREATE ROLE {name} LOGIN")
    yield dsn.replace("postgres@", f"{name}@")
    await db.execute(f"DROP OWNED BY {name}")
    await db.execute(f"DROP ROLE {name}")


async def test_select_is_enough(db: asyncpg.Connection, reader: str) -> None:
    role = reader.partition("@")[0].rpartition("/")[2]
    await load(db, SEED_003)
    await db.execute(f"GRANT USAGE ON SCHEMA jtelstats TO {role}")
    await db.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA jtelstats TO {role}")
    await db.execute(f"ALTER ROLE {role} SET default_transaction_read_only = on")
    async with opened(reader) as source:
        clock = await source.clock()
        assert not clock.standby
        assert clock.replayed is None
        await source.prepare()
        window = Window(START, at(200))
        assert await ids_of(source.ended(window)) == [1201]
        assert await ids_of(source.never_ended(window)) == []
        ready = Readiness(at(120), START, START)
        assert await ids_of(source.late_codes(Window(at(130), at(200)), ready)) == [4203]
        assert len(await source.lines([1201])) == 5


async def test_a_table_that_may_not_be_read_is_a_fault_of_the_set_up(
    db: asyncpg.Connection, reader: str
) -> None:
    role = reader.partition("@")[0].rpartition("/")[2]
    async with opened(reader) as source:
        with pytest.raises(ConfigurationError, match="table StatisticsPartA is not in"):
            await source.prepare()
    await db.execute(f"GRANT USAGE ON SCHEMA jtelstats TO {role}")
    await db.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA jtelstats TO {role}")
    await db.execute(f"REVOKE SELECT ON Users FROM {role}")
    async with opened(reader) as source:
        with pytest.raises(CallstatsdError, match="permission denied for table users") as caught:
            await source.lines([1])
        assert caught.value.exit_code == 78


async def test_our_sessions_cannot_write(source: Source) -> None:
    async with source.database.connection() as connection:
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await connection.execute("DELETE FROM Users")


@pytest.mark.parametrize("change", ["DROP TABLE Users", "ALTER TABLE Users RENAME UID TO LoginUID"])
async def test_a_schema_that_changes_while_we_run_is_a_fault_of_the_set_up(
    db: asyncpg.Connection, source: Source, change: str
) -> None:
    await load(db, SEED_003)
    assert len(await source.lines([1201])) == 5
    await db.execute(change)
    with pytest.raises(CallstatsdError, match="does not exist") as caught:
        await source.lines([1201])
    assert caught.value.exit_code == 78


async def test_a_column_that_changes_its_type_while_we_run_is_read_on(
    db: asyncpg.Connection, source: Source
) -> None:
    await load(db, SEED_003)
    window = Window(START, at(200))
    assert await ids_of(source.ended(window)) == [1201]
    assert len(await source.lines([1201])) == 5
    await local_times(db)
    await retype(db, "StatisticsPartB", "text", "CONNRES")
    assert await ids_of(source.ended(window)) == [1201]
    assert records(await source.lines([1201])) == bodies(data_lines(SEED_003))


def calls_at_once(count: int, **changed: Any) -> Sample:
    rows = [call(number, **changed) for number in range(1, count + 1)]
    random.Random(1).shuffle(rows)
    return sample(*rows)


@pytest.mark.parametrize("kind", ["timestamptz", "timestamp"])
async def test_thousands_of_calls_that_end_in_one_millisecond_are_paged_by_id(
    db: asyncpg.Connection, source: Source, kind: str
) -> None:
    await load(db, calls_at_once(5000))
    if kind == "timestamp":
        await local_times(db)
    pages = await pages_of(source.ended(Window(at(120), at(120))))
    assert [len(page) for page in pages] == [2000, 2000, 1000]
    assert [found.row_id for page in pages for found in page] == list(range(1, 5001))
    assert {found.moment for page in pages for found in page} == {at(120)}


@in_pages_of(7)
async def test_never_ended_calls_and_late_codes_are_paged_alike(
    db: asyncpg.Connection, source: Source
) -> None:
    rows = calls_at_once(21, dtcallend=None)
    rows.codes.extend(code(40 + n, 1 + n % 3, None, None) for n in range(20))
    await load(db, rows)
    stale = await pages_of(source.never_ended(Window(at(0), at(0))))
    assert [len(page) for page in stale] == [7, 7, 7]
    assert [found.call_id for page in stale for found in page] == list(range(1, 22))
    late = source.late_codes(Window(at(130), at(130)), Readiness(at(0), at(0), at(0)))
    pages = await pages_of(late)
    assert [found.row_id for page in pages for found in page] == list(range(40, 60))
    assert [found.call_id for page in pages for found in page] == [1 + n % 3 for n in range(20)]


@in_pages_of(2)
async def test_rows_that_appear_between_two_pages_disturb_no_other(
    db: asyncpg.Connection, source: Source
) -> None:
    await load(db, sample(*(call(n, dtcallend=at(120 + n // 3)) for n in range(10, 20))))
    pages = source.ended(Window(at(0), at(500)))
    first = await anext(pages)
    await add(db, call(9, dtcallend=at(123)), call(99, dtcallend=at(123)))
    rest = await ids_of(pages)
    assert [found.row_id for found in first.found] == [10, 11]
    assert rest == [99, *range(12, 20)]


async def test_both_ends_of_a_window_are_in_it(db: asyncpg.Connection, source: Source) -> None:
    await load(db, sample(*(call(n, dtcallend=START + n * SECOND) for n in range(1, 6))))
    window = Window(START + 2 * SECOND, START + 4 * SECOND)
    assert await ids_of(source.ended(window)) == [2, 3, 4]
    assert await ids_of(source.ended(Window(window.since + TICK, window.until - TICK))) == [3]
    assert await ids_of(source.ended(Window(window.until, window.since))) == []


async def test_a_running_call_is_not_among_the_ended_ones_nor_an_ended_one_among_the_others(
    db: asyncpg.Connection, source: Source
) -> None:
    await load(db, sample(call(1), call(2, dtcallend=None)))
    assert await ids_of(source.ended(EVER)) == [1]
    assert await ids_of(source.never_ended(EVER)) == [2]


async def test_late_codes_are_those_of_calls_that_were_ready_before(
    db: asyncpg.Connection, source: Source
) -> None:
    since, until = at(200), at(300)
    rows = sample(
        call(1, dtcallend=at(190)),
        call(2, dtcallend=at(190) + TICK * 1000),
        call(3, dtcallend=None, dtcallstart=at(-50)),
        call(4, dtcallend=None, dtcallstart=at(-49)),
        call(5, dtcallend=at(10)),
        call(6, dtcallend=at(9)),
        code(41, 1, None, None, dtcreated=since),
        code(42, 1, None, None, dtcreated=until),
        code(43, 1, None, None, dtcreated=since - TICK * 1000),
        code(44, 1, None, None, dtcreated=until + TICK * 1000),
        *(code(50 + n, n, None, None, dtcreated=at(250)) for n in (2, 3, 4, 5, 6)),
        code(60, 77, None, None, dtcreated=at(250)),
    )
    await load(db, rows)

    async def late(floor: float) -> list[int]:
        ready = Readiness(ended_by=at(190), started_by=at(-50), floor=at(floor))
        return await ids_of(source.late_codes(Window(since, until), ready))

    assert await late(-50) == [41, 53, 55, 56, 42]
    assert await late(-49) == [41, 55, 56, 42]
    assert await late(10) == [41, 55, 42]


async def test_only_the_calls_of_our_client_are_found(dsn: str, db: asyncpg.Connection) -> None:
    rows = sample(
        *(call(n, clientsid=1 + n % 2) for n in (1, 2, 3, 4)),
        *(call(n, clientsid=1 + n % 2, dtcallend=None) for n in (5, 6)),
        *(code(40 + n, n, None, None) for n in range(1, 7)),
    )
    await load(db, rows)
    found: dict[int | None, list[list[int]]] = {}
    for client in (1, 2, 3, None):
        async with opened(dsn, clients_id=client) as source:
            found[client] = [
                await ids_of(source.ended(EVER)),
                await ids_of(source.never_ended(EVER)),
                await ids_of(
                    source.late_codes(Window(at(130), at(130)), Readiness(at(120), at(0), MIN_TIME))
                ),
            ]
    assert found == {
        1: [[2, 4], [6], [42, 44, 46]],
        2: [[1, 3], [5], [41, 43, 45]],
        3: [[], [], []],
        None: [[1, 2, 3, 4], [5, 6], [41, 42, 43, 44, 45, 46]],
    }


RATE = timedelta(seconds=97)
HOURS = timedelta(hours=6)
CHOOSE: dict[str, Callable[[Source, Window], AsyncIterator[Page]]] = {
    "ended": Source.ended,
    "never ended": Source.never_ended,
    "late codes": lambda source, window: source.late_codes(
        window, Readiness(MAX_TIME, MAX_TIME, MIN_TIME)
    ),
    "callbacks": lambda source, window: CallbackSource(
        source.database, ("jtelstats",), None, source._page
    ).ready(window, MIN_TIME),
}


async def a_night(db: asyncpg.Connection, kind: str, begin: datetime, choice: str) -> list[int]:
    """Fill the night with rows of that choice; returns their ids."""
    count = HOURS // RATE
    moments = {n: begin + n * RATE for n in range(1, count + 1)}
    early = begin - timedelta(days=1)
    if choice == "ended":
        rows = sample(*(call(n, dtcallstart=early, dtcallend=m) for n, m in moments.items()))
    elif choice == "never ended":
        rows = sample(*(call(n, dtcallstart=m, dtcallend=None) for n, m in moments.items()))
    elif choice == "callbacks":
        rows = sample(*(event(n, dtcreated=m) for n, m in moments.items()))
    else:
        ended = call(9999, dtcallstart=early, dtcallend=early)
        codes = (code(n, 9999, None, None, dtcreated=m) for n, m in moments.items())
        rows = sample(ended, *codes)
    await load(db, rows)
    if kind == "timestamp":
        await local_times(db)
    return list(moments)


@in_pages_of(3)
@pytest.mark.parametrize("choice", CHOOSE)
@pytest.mark.parametrize("kind", ["timestamptz", "timestamp"])
@pytest.mark.parametrize("night", NIGHTS)
async def test_when_the_clocks_change_windows_and_pages_find_every_row_once(
    db: asyncpg.Connection,
    source: Source,
    night: str,
    kind: str,
    choice: str,
) -> None:
    begin = NIGHTS[night]
    expected = await a_night(db, kind, begin, choice)
    one_window = await ids_of(CHOOSE[choice](source, Window(begin, begin + HOURS)))
    assert sorted(one_window) == expected

    many_windows: list[int] = []
    since = begin
    while since < begin + HOURS:
        until = since + timedelta(minutes=11)
        many_windows += await ids_of(CHOOSE[choice](source, Window(since + TICK, until)))
        since = until
    assert sorted(many_windows) == expected
    if kind == "timestamptz":
        assert many_windows == expected


@in_pages_of(3)
async def test_local_times_that_the_clock_skipped_are_found_once_too(
    db: asyncpg.Connection, source: Source
) -> None:
    """An ACD whose own clock was not put forward writes 02:30 in that night."""
    begin = NIGHTS["the clock is put forward"]
    expected = await a_night(db, "timestamptz", begin, "ended")
    await local_times(db, zone="Etc/GMT-1")
    found = await ids_of(source.ended(Window(begin - HOURS, begin + 2 * HOURS)))
    assert sorted(found) == expected


@pytest.mark.parametrize("kind", ["timestamptz", "timestamp"])
@pytest.mark.parametrize("night", NIGHTS)
async def test_when_the_clocks_change_records_tell_local_time(
    db: asyncpg.Connection, source: Source, night: str, kind: str
) -> None:
    begin = NIGHTS[night]
    rows = sample(
        *(
            call(n, dtcallstart=begin + n * RATE, dtcallend=begin + (n + 1) * RATE)
            for n in range(HOURS // RATE)
        )
    )
    await load(db, rows)
    if kind == "timestamp":
        await local_times(db)
    lines = await read(source, rows)
    assert sorted(records(lines)) == sorted(bodies(data_lines(rows)))


async def test_a_clock_is_the_servers_own(db: asyncpg.Connection, source: Source) -> None:
    before = await db.fetchval("SELECT clock_timestamp()")
    clock = await source.clock()
    after = await db.fetchval("SELECT clock_timestamp()")
    assert before <= clock.now <= after
    assert clock.database == await db.fetchval("SELECT current_database()")
    assert (clock.standby, clock.replayed) == (False, None)


async def test_columns_are_shown_with_their_types_in_lower_case(source: Source) -> None:
    columns = await source.columns()
    assert set(columns) == {table.lower() for table in TABLES}
    assert columns["statisticsparta"]["dtcallend"] == "timestamp with time zone"
    assert columns["users"] == {"id": "bigint", "uid": "text", "nickname": "text"}


# What may be long.


def test_blanks_are_what_a_record_is_trimmed_of() -> None:
    characters = map(chr, range(sys.maxunicode + 1))
    assert [ord(character) for character in characters if character.isspace()] == list(BLANKS)


async def test_of_user_data_as_much_is_read_as_an_id_can_need(
    db: asyncpg.Connection, source: Source
) -> None:
    short, long = ids(7)
    blanks = "".join(map(chr, BLANKS))
    texts = [
        *(f"{chr(code) * 120}{long}{chr(code)}" for code in BLANKS),
        *(f"{blanks * times}{short}{blanks * times}" for times in (1, 40)),
        " " * 60_000 + long,
        long + " " * 60_000,
        long + "x" * 10**6,
        long + " " * 200 + short,
        "\u200b" * 200 + long,  # no blank
        "é" * 10**6,
        blanks * 10,
        "",
        None,
    ]
    await add(db, *(call(n, userdata=text) for n, text in enumerate(texts, 1)))
    await add(db, *(code(n, n, None, None, userdata=text) for n, text in enumerate(texts, 1)))
    lines = await source.lines(range(1, len(texts) + 1))
    assert len(lines) == 2 * len(texts)
    for line in lines:
        wanted = salesforce_id(texts[line.key.call_id - 1])
        assert salesforce_id(line.call_user_data) == wanted
        assert salesforce_id(line.code_user_data) == (wanted if line.key.code_id else None)
        assert len((line.call_user_data or "").encode()) <= SHORT_TEXT
        assert len((line.code_user_data or "").encode()) <= SHORT_TEXT


async def test_a_call_of_thousands_of_lines_is_read_a_few_at_a_time(
    dsn: str, db: asyncpg.Connection, source: Source
) -> None:
    await add(db, call(1), call(2), *(leg(n, 1, None) for n in range(1, 51)), leg(99, 2, None))
    to_bigint = await source.lines([1, 2])
    async with open_source(dsn, ("jtelstats",), BERLIN, None, lines=7) as frugal:
        pages = [lines async for lines in frugal.line_pages([1, 2])]
    assert [len(lines) for lines in pages] == [7] * 7 + [2]
    assert [line for lines in pages for line in lines] == to_bigint
    assert [line.ordinal for line in to_bigint] == [*range(1, 51), 1]
