"""Every line that contract 3 promises comes out of a real Postgres, once and in order."""

import random
from datetime import datetime, timedelta

import asyncpg
import pytest

from daemon.demo.calls import day
from daemon.demo.rows import Sample, load
from daemon.ingest.source import Source
from tests.support.expected import data_lines
from tests.support.rows import (
    START,
    at,
    call,
    code,
    leg,
    sample,
    visit,
)
from tests.support.source_reads import SEED_003, TABLES, bodies, keys, read, records

GONE = 999_999


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
