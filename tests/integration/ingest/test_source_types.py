"""Columns may be of other types; what fits into none spoils its own line."""

import sys
from datetime import timedelta
from itertools import product
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from daemon.demo.calls import day
from daemon.demo.record_ids import ids
from daemon.demo.rows import load
from daemon.ingest.columns import MAX_TIME
from daemon.ingest.readiness import Window
from daemon.ingest.record import salesforce_id
from daemon.ingest.schema import BLANKS, SHORT_TEXT
from daemon.ingest.source import Source, open_source
from daemon.ingest.statistics import RecordOptions
from daemon.lines import NOT_AN_ID, State
from tests.support.expected import BERLIN, data_lines
from tests.support.rows import (
    START,
    TIME_COLUMNS,
    add,
    at,
    call,
    code,
    leg,
    local_times,
    retype,
    sample,
)
from tests.support.source_reads import (
    SEED_003,
    bodies,
    ids_of,
    in_pages_of,
    keys,
    read,
    reading,
    records,
    taken,
)


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
    async with reading(dsn, zone=zone) as source:
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
    async with reading(dsn, clients_id=1) as source:
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
