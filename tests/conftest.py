"""What all tests share: one embedded Postgres, and databases of their own made from templates."""

import asyncio
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
import structlog

from daemon.database.pool import Database
from daemon.demo.postgres import create_database, embedded
from daemon.demo.standin import StandIn, serve
from daemon.ingest import reference_schema
from daemon.ledger import migrate
from daemon.ledger.binding import Binding
from daemon.ledger.store import open_ledger
from daemon.telegra.setup import create_telegra_tables
from tests.support import calls
from tests.support.call_centre import STOPPED_IN_ORDER, CallCentre
from tests.support.telegra_centre import TelegraCentre
from tests.support.telegra_site import TELEGRA_SCHEMA

TESTS = Path(__file__).parent
SCHEMA = "jtelstats"
LEDGER_SCHEMA = "callstatsd"

_numbers = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    """The tests and their processes speak English, whatever language the developer's shell has.

    Where no bytecode may be kept beside the sources, all processes of a run share a folder.
    """
    for name in ("LANGUAGE", "LC_ALL", "LC_MESSAGES"):
        os.environ.pop(name, None)
    os.environ["LANG"] = "C.UTF-8"
    if sys.dont_write_bytecode:
        folder = tempfile.mkdtemp(prefix="callstatsd-bytecode-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = folder
        sys.dont_write_bytecode = False


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of several processes let some wait while others compute: spread the tests that wait."""
    if not hasattr(config, "workerinput"):
        return
    folders = {item: item.path.relative_to(TESTS).parts[0] for item in items}
    waiting = [item for item in items if folders[item] == "acceptance"]
    computing = [item for item in items if folders[item] == "integration"]
    quick = [item for item in items if folders[item] not in {"acceptance", "integration"}]

    def place(group: list[pytest.Item]) -> dict[pytest.Item, float]:
        return {item: number / len(group) for number, item in enumerate(group)}

    places = place(waiting) | place(computing)
    items[:] = sorted(places, key=places.__getitem__) + quick


@pytest.fixture(autouse=True)
def no_settings_of_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the developer's own environment or .env."""
    for name in list(os.environ):
        if name.upper().startswith("CALLSTATSD_"):
            monkeypatch.delenv(name)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def logs_as_at_the_start() -> Iterator[None]:
    """No test hears at the level, or through the writer, that another one has set."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The DSN of an embedded Postgres that lives as long as the tests."""
    with embedded(tmp_path_factory.mktemp("postgres")) as dsn:
        yield dsn


@pytest.fixture(scope="session")
def template(server: str) -> str:
    """The name of a database with the reference schema and a migrated ledger."""

    async def make() -> None:
        dsn = await create_database(server, "template_all")
        async with Database("source", dsn, session={}, size=1) as database:
            await reference_schema.create_reference_schema(database, SCHEMA)
        async with open_ledger(dsn, LEDGER_SCHEMA) as ledger:
            await migrate.upgrade(ledger.database, LEDGER_SCHEMA)

    asyncio.run(make())
    return "template_all"


@pytest.fixture
async def dsn(server: str, template: str) -> str:
    """A database of the test's own: source tables in `jtelstats`, ledger in `callstatsd`."""
    return await create_database(server, f"test_{next(_numbers)}", template)


@pytest.fixture
async def empty_dsn(server: str) -> str:
    """An empty database of the test's own."""
    return await create_database(server, f"test_{next(_numbers)}")


@pytest.fixture
async def db(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to the test's database that sees the source tables, then the ledger's."""
    connection = await asyncpg.connect(
        dsn, server_settings={"search_path": f"{SCHEMA},{LEDGER_SCHEMA}"}
    )
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture
async def centre(dsn: str, db: asyncpg.Connection, tmp_path: Path) -> AsyncIterator[CallCentre]:
    """A whole call centre; whatever the test does, its Salesforce must have no complaint."""
    salesforce = StandIn()
    async with serve(salesforce) as url:
        await calls.masters(db)
        async with open_ledger(dsn, LEDGER_SCHEMA) as ledger:
            database = await db.fetchval("SELECT current_database()")
            await ledger.bind(Binding(None, database, (SCHEMA,)))
        await db.execute(STOPPED_IN_ORDER)
        yield CallCentre(dsn, url, salesforce, db, tmp_path)
    assert salesforce.violations == []
    assert salesforce.self_caused_locks == 0


@pytest.fixture(scope="session")
def telegra_template(server: str) -> str:
    """The name of a database with a Telegra installation's tables and a migrated ledger."""

    async def make() -> None:
        dsn = await create_database(server, "template_telegra")
        async with Database("source", dsn, session={}, size=1) as database:
            await create_telegra_tables(database, TELEGRA_SCHEMA)
        async with open_ledger(dsn, LEDGER_SCHEMA) as ledger:
            await migrate.upgrade(ledger.database, LEDGER_SCHEMA)

    asyncio.run(make())
    return "template_telegra"


@pytest.fixture
async def telegra_dsn(server: str, telegra_template: str) -> str:
    """A database of the test's own: tables of a Telegra installation, and its ledger."""
    return await create_database(server, f"test_{next(_numbers)}", telegra_template)


@pytest.fixture
async def telegra_db(telegra_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to it that sees the source tables, then the ledger's."""
    connection = await asyncpg.connect(
        telegra_dsn, server_settings={"search_path": f"{TELEGRA_SCHEMA},{LEDGER_SCHEMA}"}
    )
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture
async def telegra_centre(
    telegra_dsn: str, telegra_db: asyncpg.Connection, tmp_path: Path
) -> AsyncIterator[TelegraCentre]:
    """A whole Telegra installation; its Salesforce must have no complaint."""
    salesforce = StandIn(without_id=True)
    async with serve(salesforce) as url:
        async with open_ledger(telegra_dsn, LEDGER_SCHEMA) as ledger:
            database = await telegra_db.fetchval("SELECT current_database()")
            await ledger.bind(Binding(None, database, (TELEGRA_SCHEMA,)))
        await telegra_db.execute(STOPPED_IN_ORDER)
        yield TelegraCentre(telegra_dsn, url, salesforce, telegra_db, tmp_path)
    assert salesforce.violations == []
