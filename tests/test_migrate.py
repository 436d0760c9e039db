"""The ledger's migrations."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from daemon import migrate
from daemon.errors import RefusedError
from daemon.ledger import SCHEMA_VERSION, open_ledger

PROJECT = Path(__file__).parent.parent


def test_the_program_knows_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrate.folder()))
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_heads() == [SCHEMA_VERSION]
    revisions = [script.revision for script in scripts.walk_revisions()]
    assert all(revision.isdigit() and len(revision) == 4 for revision in revisions)


async def test_two_places_may_migrate_at_once(empty_dsn: str) -> None:
    async def upgrade() -> None:
        async with open_ledger(empty_dsn, "callstatsd") as ledger:
            await migrate.upgrade(ledger.database, "callstatsd")
            await ledger.check_version()

    await asyncio.gather(*(upgrade() for _ in range(5)))
    connection = await asyncpg.connect(empty_dsn)
    try:
        assert await connection.fetchval("SELECT count(*) FROM callstatsd.ledger") == 1
    finally:
        await connection.close()


async def test_two_ledgers_live_in_one_database(empty_dsn: str) -> None:
    for schema in ("callstatsd", "callstatsd_acme"):
        async with open_ledger(empty_dsn, schema) as ledger:
            await migrate.upgrade(ledger.database, schema)
            await ledger.check_version()
            assert (await ledger.progress()).watermark is None


async def test_whoever_may_not_create_schemas_is_told_so(empty_dsn: str) -> None:
    admin = await asyncpg.connect(empty_dsn)
    name = await admin.fetchval("SELECT current_database()")
    try:
        await admin.execute(f"CREATE ROLE clerk_{name} LOGIN")
        clerk = empty_dsn.replace("postgres@", f"clerk_{name}@")
        async with open_ledger(clerk, "callstatsd") as ledger:
            with pytest.raises(RefusedError, match="permission denied"):
                await migrate.upgrade(ledger.database, "callstatsd")
    finally:
        await admin.execute(f"DROP ROLE clerk_{name}")
        await admin.close()


def test_alembic_itself_prints_the_script_from_a_checkout() -> None:
    environment = os.environ | {"CALLSTATSD_LEDGER_SCHEMA": "elsewhere"}
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "head", "--sql"],
        cwd=PROJECT, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert 'SET LOCAL search_path TO "elsewhere"' in done.stdout
    assert "CREATE TABLE line" in done.stdout
    assert done.stdout.rstrip().endswith("COMMIT;")
