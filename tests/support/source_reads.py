"""Reading a source, and what a test compares of it."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from zoneinfo import ZoneInfo

import pytest

from daemon.demo.rows import Sample
from daemon.ingest.feed import Page, RowRef
from daemon.ingest.reader import PAGE
from daemon.ingest.source import Source, open_source
from daemon.ingest.statistics import RecordOptions
from daemon.lines import DataLine, NewLine
from tests.support.expected import BERLIN, Line
from tests.support.rows import (
    at,
    call,
    code,
    leg,
    sample,
    visit,
)

FORM = RecordOptions(BERLIN, empty_as_string=False, send_without_id=True)
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


def reading(
    dsn: str, *, zone: ZoneInfo = BERLIN, clients_id: int | None = None, page: int = PAGE
) -> AbstractAsyncContextManager[Source]:
    return open_source(dsn, ("jtelstats",), zone, clients_id, page=page)


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
