"""A pooler before a database: what it drops is noticed, and says where to connect instead."""

import json
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.support.call_centre import CallCentre
from tests.support.calls import plain_call, record_id
from tests.support.daemon_process import running
from tests.support.pooler import ALL_OURS, needs_pgbouncer, pgbouncer

pytestmark = needs_pgbouncer

COMMANDS = (
    ("run",),
    ("migrate",),
    ("status",),
    ("show", "1"),
    ("pause",),
    ("backfill", "--from", "2026-11-01", "--to", "2026-11-02"),
)


@pytest.mark.parametrize(
    ("mode", "arguments"),
    [
        *(("session", arguments) for arguments in COMMANDS),
        ("transaction", ("run",)),
        ("transaction", ("status",)),
    ],
)
async def test_a_pooler_that_drops_our_settings_is_refused_by_all_commands(
    centre: CallCentre, mode: str, arguments: tuple[str, ...]
) -> None:
    async with pgbouncer(centre.dsn, mode) as dsn:
        code, output, errors = await centre.run(*arguments, source_dsn=centre.dsn, ledger_dsn=dsn)
    said = output + errors
    assert code == 78, said
    assert "connect to Postgres itself" in said
    assert "plan_cache_mode" in said
    assert "Traceback" not in said
    assert await centre.db.fetchval("SELECT held_since FROM ledger") is None


@pytest.mark.parametrize("mode", ["session", "transaction"])
@pytest.mark.parametrize("database", ["source", "ledger"])
async def test_check_names_a_pooler_that_drops_our_settings(
    centre: CallCentre, mode: str, database: str
) -> None:
    async with pgbouncer(centre.dsn, mode) as dsn:
        dsns = {"source_dsn": centre.dsn, "ledger_dsn": centre.dsn, f"{database}_dsn": dsn}
        code, output, _ = await centre.run("check", "--json", **dsns)
    [failed] = [one for one in json.loads(output) if one["verdict"] == "fail"]
    assert code == 78
    assert failed["check"] == database
    assert "PgBouncer" in failed["text"]
    assert f"CALLSTATSD_{database.upper()}_DSN" in failed["text"]


@pytest.mark.parametrize("mode", ["session", "transaction"])
async def test_a_pooler_that_refuses_our_settings_is_no_outage(
    centre: CallCentre, mode: str
) -> None:
    async with pgbouncer(centre.dsn, mode, ignore="extra_float_digits") as dsn:
        for arguments in (("run",), ("check",)):
            code, output, errors = await centre.run(
                *arguments, source_dsn=centre.dsn, ledger_dsn=dsn
            )
            assert code == 78
            assert "unsupported startup parameter" in output + errors
            assert "connect to Postgres itself" in output + errors


async def defaults(db: asyncpg.Connection, **settings: str) -> None:
    """What a DBA could give the user so that nothing is missing behind a pooler."""
    name = await db.fetchval("SELECT current_database()")
    for setting, value in settings.items():
        await db.execute(f"""ALTER DATABASE "{name}" SET {setting} = {value}""")


OF_SOURCE = {
    "search_path": "jtelstats",
    "plan_cache_mode": "force_custom_plan",
    "default_transaction_read_only": "on",
}


async def test_a_source_behind_a_pooler_in_session_mode_works_where_its_user_has_our_settings(
    centre: CallCentre, server: str, template: str
) -> None:
    from daemon.demo.postgres import create_database

    ledger = await create_database(server, f"{urlsplit(centre.dsn).path[1:]}_apart", template)
    await plain_call(centre.db, 1, record=record_id(1))
    await defaults(centre.db, **OF_SOURCE)
    async with pgbouncer(centre.dsn, "session") as dsn:
        apart = {"source_dsn": dsn, "ledger_dsn": ledger}
        assert (await centre.run("migrate", **apart))[0] == 0
        code, output, _ = await centre.run("check", **apart)
        assert code == 0, output
        async with running(centre.settings(**apart), centre.folder) as daemon:
            await daemon.until("line.delivered", key="1-0-0-0")
            assert await daemon.stop() == 0


async def test_a_pooler_that_lends_sessions_is_refused_even_with_our_settings(
    centre: CallCentre, server: str, template: str
) -> None:
    """In transaction mode the lock of the one sender would belong to nobody."""
    await defaults(
        centre.db,
        search_path="callstatsd",
        plan_cache_mode="force_custom_plan",
        idle_in_transaction_session_timeout="'10s'",
        idle_session_timeout="'10s'",
    )
    async with pgbouncer(centre.dsn, "transaction") as dsn:
        for arguments in (("run",), ("check",)):
            code, output, errors = await centre.run(
                *arguments, source_dsn=centre.dsn, ledger_dsn=dsn
            )
            assert code == 78, output + errors
            assert "connect to Postgres itself" in output + errors


async def test_a_pooler_that_is_away_is_an_outage_and_no_fault_of_the_settings(
    centre: CallCentre,
) -> None:
    async with pgbouncer(centre.dsn, "session", ignore=ALL_OURS) as dsn:
        pass
    code, _, errors = await centre.run("status", source_dsn=centre.dsn, ledger_dsn=dsn)
    assert code == 69
    assert "connection refused" in errors
