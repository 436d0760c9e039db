"""Databases with the tables of a Telegra installation."""

import asyncio
import itertools
from collections.abc import AsyncIterator

import asyncpg
import pytest

from daemon.database.pool import Database
from daemon.demo.postgres import create_database
from daemon.ledger import migrate
from daemon.ledger.store import open_ledger
from daemon.telegra.tables import create_telegra_tables
from tests.conftest import LEDGER_SCHEMA
from tests.support.telegra_site import TELEGRA_SCHEMA

_numbers = itertools.count(1)


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
    """A database of the test's own."""
    return await create_database(server, f"telegra_{next(_numbers)}", telegra_template)


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
