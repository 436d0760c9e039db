"""Windows and pages find every row once."""

import random
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest

from daemon.demo.rows import Sample, load
from daemon.ingest.callbacks import CallbackSource
from daemon.ingest.columns import MAX_TIME, MIN_TIME
from daemon.ingest.feed import Page
from daemon.ingest.readiness import Readiness, Window
from daemon.ingest.source import Source
from tests.support.expected import data_lines
from tests.support.rows import (
    NIGHTS,
    START,
    add,
    at,
    call,
    code,
    event,
    local_times,
    sample,
)
from tests.support.source_reads import bodies, ids_of, in_pages_of, pages_of, read, reading, records

SECOND = timedelta(seconds=1)
TICK = timedelta(microseconds=1)
EVER = Window(MIN_TIME, MAX_TIME)


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
        async with reading(dsn, clients_id=client) as source:
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
