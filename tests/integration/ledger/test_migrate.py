"""The ledger's migrations."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from daemon.demo.standin import Reply
from daemon.errors import ConfigurationError, DatabaseSetupError
from daemon.ledger import migrate
from daemon.ledger.binding import SCHEMA_VERSION
from daemon.ledger.instance import InstanceStatus, Tenure
from daemon.ledger.locks import ACTIVE_LOCK, UPGRADE_LOCK
from daemon.ledger.operator import OperatorStore
from daemon.ledger.overview import AlertStatus, LineFilter
from daemon.ledger.store import Ledger, open_ledger
from daemon.lines import NO_ID, FeedName, State
from tests.support.call_centre import CallCentre
from tests.support.calls import plain_call, record_id
from tests.support.daemon_process import PATIENCE, Daemon, command, running
from tests.support.load import stretched
from tests.support.old_ledgers import LINES, fill, hashes, lines_as_stored

PROJECT = Path(__file__).parents[3]


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
            assert (await ledger.progress(FeedName.STATISTICS)).watermark is None


async def test_whoever_may_not_create_schemas_is_told_so(empty_dsn: str) -> None:
    admin = await asyncpg.connect(empty_dsn)
    name = await admin.fetchval("SELECT current_database()")
    try:
        await admin.execute(f"CREATE ROLE clerk_{name} LOGIN")
        clerk = empty_dsn.replace("postgres@", f"clerk_{name}@")
        async with open_ledger(clerk, "callstatsd") as ledger:
            with pytest.raises(DatabaseSetupError, match="permission denied"):
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


CONCURRENCY = 4
"""The setting's default."""
HOLD = "SELECT pg_advisory_lock($1::integer, 'ledger'::regclass::oid::bigint::bit(32)::integer)"
BEAT = InstanceStatus("acd1", 4711, "0.0.9", 1.0, "sending", None, None)


def script(revision: str) -> str:
    """The SQL that brings an empty database to a revision."""
    environment = {**os.environ, "CALLSTATSD_LEDGER_SCHEMA": "callstatsd"}
    return subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", revision, "--sql"],
        cwd=PROJECT, env=environment, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip


@asynccontextmanager
async def session(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn, server_settings={"search_path": "callstatsd"})
    try:
        yield connection
    finally:
        await connection.close()


async def bring_up_to_date(ledger: Ledger, patience: float = PATIENCE) -> None:
    async with migrate.undisturbed(ledger, patience):
        await migrate.upgrade(ledger.database, "callstatsd")


async def test_a_ledger_of_the_first_version_is_upgraded_in_place_and_no_line_changes(
    empty_dsn: str,
) -> None:
    async with session(empty_dsn) as db, open_ledger(empty_dsn, "callstatsd") as ledger:
        await db.execute(script("0001"))
        await db.execute(
            f"""
            INSERT INTO line (call_id, group_id, leg_id, code_id, ordinal, lane, call_ended,
                              backfill, state, record, settled_at)
            SELECT n, 0, 0, 0, 1, n::text, now(), false,
                   (ARRAY['pending', 'delivered', 'rejected'])[1 + n % 3], '{{"n": 1}}', now()
            FROM generate_series(1, {LINES}) AS n
            """
        )
        columns = await db.fetchval(
            "SELECT string_agg(attname, ',' ORDER BY attnum) FROM pg_attribute"
            " WHERE attrelid = 'line'::regclass AND attnum > 0"
        )
        all_lines = f"SELECT count(*), sum(hashtextextended(({columns})::text, 0)) FROM line"
        before = tuple(await db.fetchrow(all_lines))
        assert before[0] == LINES
        # From several places at once: one of them does it.
        await asyncio.gather(*(bring_up_to_date(ledger) for _ in range(3)))
        await ledger.check_version()
        assert tuple(await db.fetchrow(all_lines)) == before
        assert await db.fetchval("SELECT count(*) FROM line WHERE act_id IS NOT NULL") == 0


async def test_an_instance_that_does_not_stop_is_named_and_nothing_is_changed(
    empty_dsn: str,
) -> None:
    async with session(empty_dsn) as old, open_ledger(empty_dsn, "callstatsd") as ledger:
        await old.execute(script("0001"))
        await old.fetch(HOLD, ACTIVE_LOCK)
        with pytest.raises(ConfigurationError, match="a session still has the ledger"):
            await bring_up_to_date(ledger, 0.2)
        await old.execute(
            "INSERT INTO instance (host, pid, version, started_at, beat_at, state)"
            " VALUES ('acd1', 4711, '0.1.0', now(), now(), 'sending')"
        )
        with pytest.raises(ConfigurationError, match=r"on acd1 \(pid 4711\).*nothing was changed"):
            await bring_up_to_date(ledger, 0.2)
        assert await old.fetchval("SELECT version_num FROM alembic_version") == "0001"
        # It stops while the next one waits.
        waiting = asyncio.create_task(bring_up_to_date(ledger))
        async with asyncio.timeout(PATIENCE):
            while not await old.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.02)
        await old.close()
        await waiting
        await ledger.check_version()


async def test_where_nothing_is_to_be_changed_nobody_is_waited_for_or_asked(dsn: str) -> None:
    async with session(dsn) as active, open_ledger(dsn, "callstatsd") as ledger:
        await active.fetch(HOLD, ACTIVE_LOCK)
        async with migrate.undisturbed(ledger, 0.0):
            assert not (await ledger.write_heartbeat(BEAT, Tenure())).upgrade
            assert await active.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted") == 0


async def test_a_wish_reaches_instances_of_older_versions_only(dsn: str) -> None:
    version = int(SCHEMA_VERSION)
    async with session(dsn) as migration, open_ledger(dsn, "callstatsd") as ledger:
        await migration.fetch(HOLD, UPGRADE_LOCK + version)
        assert not (await ledger.write_heartbeat(BEAT, Tenure())).upgrade
        await migration.fetch(HOLD, UPGRADE_LOCK + version + 1)
        assert (await ledger.write_heartbeat(BEAT, Tenure())).upgrade
        await migration.close()
        async with asyncio.timeout(PATIENCE):
            while (await ledger.write_heartbeat(BEAT, Tenure())).upgrade:
                await asyncio.sleep(0.02)


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """A folder with the program as it may be one version later."""
    folder, version = tmp_path / "newer", f"{int(SCHEMA_VERSION) + 1:04}"
    for name in ("daemon", "migrations"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "migrations" / "versions" / f"{version}_later.py").write_text(
        f"from alembic import op\n\nrevision, down_revision = {version!r}, {SCHEMA_VERSION!r}\n"
        "def upgrade():\n    op.execute('CREATE TABLE later (number integer)')\n"
    )
    module = folder / "daemon" / "ledger" / "binding.py"
    own, later = (f'SCHEMA_VERSION = "{number}"' for number in (SCHEMA_VERSION, version))
    text = module.read_text(encoding="utf-8")
    assert own in text
    module.write_text(text.replace(own, later), encoding="utf-8")
    return folder


async def test_a_newer_program_waits_until_the_active_instance_has_drained(
    centre: CallCentre, newer: Path
) -> None:
    await plain_call(centre.db, 1, record=record_id(1))
    answer = asyncio.Event()
    centre.salesforce.rule = lambda _: Reply(hold=answer)
    async with running(centre.settings(), centre.folder) as daemon:
        async with asyncio.timeout(PATIENCE):
            await centre.salesforce.until(lambda salesforce: salesforce.in_flight == 1)
        migrating = asyncio.create_task(
            command("migrate", environment=centre.settings(), folder=newer)
        )
        await daemon.until("daemon.stopping")
        await plain_call(centre.db, 2, record=record_id(2))
        answer.set()
        assert await daemon.ended() == 78
        code, _, errors = await migrating
        assert code == 0, errors
    assert "callstatsd migrate is upgrading the ledger; install the new version" in daemon.text
    assert await centre.db.fetchval("SELECT version_num FROM alembic_version") > SCHEMA_VERSION
    # What was in flight has its outcome, and nothing else was begun.
    assert (await centre.states())["delivered"] == 1
    assert centre.salesforce.received == 1
    code, _, errors = await centre.run("status")
    assert (code, "newer than this program" in errors) == (78, True)


async def test_a_backfill_that_sends_is_asked_too(centre: CallCentre, newer: Path) -> None:
    await plain_call(centre.db, 1, record=record_id(1), ended=datetime(2026, 11, 20, 9, tzinfo=UTC))
    answer = asyncio.Event()
    centre.salesforce.rule = lambda _: Reply(hold=answer)
    window = ("--from", "2026-11-20", "--to", "2026-11-21")
    filling = asyncio.create_task(centre.run("backfill", *window))
    async with asyncio.timeout(PATIENCE):
        await centre.salesforce.until(lambda salesforce: salesforce.in_flight == 1)
    migrating = asyncio.create_task(command("migrate", environment=centre.settings(), folder=newer))
    async with asyncio.timeout(PATIENCE):
        while not await centre.db.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0.02)
    answer.set()
    code, _, errors = await filling
    assert (code, "install the new version here too" in errors) == (78, True)
    assert (await migrating)[0] == 0
    assert await centre.states() == Counter(delivered=1)


# From version 0002, in use.

WITHIN = 15.0
"""Seconds for a hundred thousand lines: an ACD's calls wait meanwhile, its agents do not."""
PROGRESS = (
    "start_from, watermark, never_ended_until, swept_at, pruned_before, dropped_before,"
    " endpoint_proven, delivered_at, paused_since, paused_seconds"
)
ORDER = "backfill, call_ended, call_id, ordinal"


async def test_a_hundred_thousand_lines_are_upgraded_in_place(empty_dsn: str) -> None:
    async with session(empty_dsn) as db, open_ledger(empty_dsn, "callstatsd") as ledger:
        await db.execute(script("0002"))
        await fill(db)
        columns = await db.fetchval(
            "SELECT string_agg(attname, ',' ORDER BY attnum) FROM pg_attribute"
            " WHERE attrelid = 'line'::regclass AND attnum > 0"
        )
        before = await lines_as_stored(db, columns)
        assert len(before) == LINES
        progress = tuple(await db.fetchrow(f"SELECT {PROGRESS} FROM ledger"))
        binding = await db.fetchrow(
            "SELECT clients_id, source_database, source_schemas, bound_at, held_since, held_reason,"
            " probe_requested FROM ledger"
        )
        pending_before = await db.fetchval("SELECT count(*) FROM line WHERE state = 'pending'")
        skipped = {
            row["code_id"]: row["last_error"]
            for row in await db.fetch(
                "SELECT code_id, last_error FROM line WHERE state = 'skipped'"
            )
        }
        ready = await db.fetch(
            "SELECT code_id FROM line LEFT JOIN lane USING (lane) WHERE state = 'pending'"
            f" AND next_try_at IS NULL AND until IS NULL ORDER BY {ORDER} LIMIT 500"
        )

        began = time.monotonic()
        # From several places at once: one of them does it.
        await asyncio.gather(*(bring_up_to_date(ledger) for _ in range(3)))
        assert time.monotonic() - began < stretched(WITHIN)

        await ledger.check_version()
        after = await lines_as_stored(db, columns)
        reasons = {NO_ID: "no_id", "discarded by operator": "discarded"}
        written = {code_id for code_id, error in skipped.items() if error in reasons}
        assert {code_id for code_id in after if after[code_id] != before[code_id]} == written
        assert hashes(after) == hashes(before)
        assert {
            row["code_id"]: row["skip_reason"]
            for row in await db.fetch("SELECT code_id, skip_reason FROM line")
        } == {code_id: reasons.get(skipped.get(code_id, "")) for code_id in before}
        assert await db.fetchval("SELECT count(*) FROM line WHERE feed <> 'statistics'") == 0

        # What was counted for the whole ledger is the feed's; whose it is stays with the ledger.
        of_feed = f"SELECT {PROGRESS} FROM feed WHERE name = $1"
        assert tuple(await db.fetchrow(of_feed, "statistics")) == progress
        # Callbacks have not begun, and their endpoint has answered nothing.
        begun = (*[None] * 6, False, None, None, 0.0)
        assert tuple(await db.fetchrow(of_feed, "callbacks")) == begun
        assert await db.fetchval("SELECT count(*) FROM feed") == len(FeedName)
        kept = tuple(await db.fetchrow("SELECT * FROM ledger"))[1:]
        assert kept == (*binding, *[None] * 3)
        # Alerts were never on: when they are, what failed before is in none.
        assert await db.fetchval("SELECT count(*) FROM line WHERE state = 'rejected'") > 0
        assert re.fullmatch("[0-9a-f]{8}", await ledger.begin_alerts(3600.0))
        assert await ledger.alert_status() == AlertStatus(waiting=0)
        assert await ledger.number_alert() is None
        assert await db.fetchval("SELECT feed FROM streak") == "statistics"

        # The same lines come next, in the same order.
        pending = await ledger.pending(FeedName.STATISTICS, 500, [])
        assert [line.key.code_id for line in pending] == [row["code_id"] for row in ready]
        counts = await OperatorStore(ledger.database).count(LineFilter((State.PENDING,)))
        assert counts.lines == {"pending": pending_before}


STATISTICS = "SELECT * FROM feed WHERE name = 'statistics'"


async def test_a_ledger_of_one_feed_gets_the_other_and_no_line_is_written(empty_dsn: str) -> None:
    async with session(empty_dsn) as db, open_ledger(empty_dsn, "callstatsd") as ledger:
        await db.execute(script("0002"))
        await fill(db)
        await db.execute(script("0002:0003"))
        columns = await db.fetchval(
            "SELECT string_agg(attname, ',' ORDER BY attnum) FROM pg_attribute"
            " WHERE attrelid = 'line'::regclass AND attnum > 0"
        )
        before = await lines_as_stored(db, columns)
        progress = await db.fetch("SELECT * FROM feed")
        expected = f"version 0003, this program needs {SCHEMA_VERSION}"
        with pytest.raises(ConfigurationError, match=expected):
            await ledger.check_version()
        await bring_up_to_date(ledger)
        await ledger.check_version()
        assert await lines_as_stored(db, columns) == before
        assert await db.fetchval("SELECT count(*) FROM line WHERE answer IS NOT NULL") == 0
        statistics = dict(progress[0]) | {"pause_reason": None, "retry_at": None}
        assert [dict(row) for row in await db.fetch(STATISTICS)] == [statistics]
        assert (await ledger.progress(FeedName.CALLBACKS)).floor is None
        # It begins when callbacks are on for the first time.
        now = datetime.now(UTC)
        for start in (now, now + timedelta(hours=1)):
            await ledger.start(FeedName.CALLBACKS, start, start)
        assert (await ledger.progress(FeedName.CALLBACKS)).floor == now
        assert [dict(row) for row in await db.fetch(STATISTICS)] == [statistics]


async def test_an_active_instance_under_load_drains_and_one_that_stands_by_gives_up(
    centre: CallCentre, newer: Path
) -> None:
    calls, answered = 120, 20
    for number in range(1, calls + 1):
        await plain_call(centre.db, number, record=record_id(number))
    gate = asyncio.Event()
    salesforce = centre.salesforce
    salesforce.rule = lambda _: Reply(hold=gate if salesforce.received > answered else None)
    async with (
        running(centre.settings(), centre.folder) as one,
        running(centre.settings(), centre.folder) as two,
    ):
        async with asyncio.timeout(PATIENCE):
            await salesforce.until(lambda salesforce: salesforce.in_flight == CONCURRENCY)
        migrating = asyncio.create_task(
            command("migrate", environment=centre.settings(), folder=newer)
        )
        active = await first_to_log("daemon.stopping", one, two)
        other = two if active is one else one
        gate.set()
        assert await active.ended() == 78
        code, _, errors = await migrating
        assert code == 0, errors
        assert await other.ended() == 78
    assert "callstatsd migrate is upgrading the ledger" in active.text
    assert f"newer than this program's {SCHEMA_VERSION}" in other.text
    assert "line.delivered" not in other.text
    # What was in flight has its outcome, the rest is untouched.
    states = await centre.states()
    assert states["delivered"] == salesforce.received < calls
    assert states["pending"] == calls - states["delivered"]
    async with running(centre.settings(), newer) as upgraded:
        async with asyncio.timeout(stretched(PATIENCE)):
            while await centre.states() != Counter(delivered=calls):
                assert upgraded.process.returncode is None, upgraded.text
                await asyncio.sleep(0.05)
    assert salesforce.received == calls


async def first_to_log(event: str, *daemons: Daemon) -> Daemon:
    waiting = {asyncio.create_task(daemon.until(event)): daemon for daemon in daemons}
    done, others = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    return waiting[done.pop()]
