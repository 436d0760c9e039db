"""The DBA's way: what `migrate --sql --grant-to ROLE` prints is all that a user needs."""

import asyncio
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

import asyncpg
import pytest

from daemon.demo.postgres import create_database, installed_programs
from daemon.demo.standin import CALLBACK_PATH
from tests.support import rows
from tests.support.call_centre import CallCentre
from tests.support.calls import plain_call, record_id
from tests.support.daemon_process import running

ROLES = ("plain", 'With "quotes", and blanks')
"""Names of users, each made unique by the test's database."""


async def psql(dsn: str, script: str) -> str:
    """Run a script as a DBA does; returns what psql complains of."""
    parts = urlsplit(dsn)
    program = shutil.which("psql") or str(installed_programs() / "psql")
    done = await asyncio.to_thread(
        subprocess.run,
        [program, "-X", "-q", "-h", unquote(parse_qs(parts.query)["host"][0]), "-p", "5432",
         "-U", "postgres", "-d", unquote(parts.path[1:])],
        input=script, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stderr


def as_user(dsn: str, role: str) -> str:
    return dsn.replace("postgres@", f"{quote(role)}@")


@pytest.fixture
async def roles(db: asyncpg.Connection) -> list[str]:
    """Two users without any right but to log in."""
    name = await db.fetchval("SELECT current_database()")
    made = [f"{role} {name}" for role in ROLES]
    for role in made:
        await db.execute(f"CREATE ROLE {quoted(role)} LOGIN")
    # Where a DBA has taken what everybody may by default, too.
    await db.execute(f'REVOKE ALL ON DATABASE "{name}" FROM PUBLIC')
    return made


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


async def works(centre: CallCentre, *delivered: str, **dsns: str) -> None:
    """All of it as that user: migrate, check, run until these lines, and a call's, are there."""
    code, output, errors = await centre.run("migrate", **dsns)
    assert code == 0, errors
    assert "Bound the ledger" in output
    code, output, _ = await centre.run("check", **dsns)
    assert code == 0, output
    assert "fail" not in output
    assert "warn" not in output
    async with running(centre.settings(**dsns), centre.folder) as daemon:
        for key in ("1-0-0-0", *delivered):
            await daemon.until("line.delivered", key=key)
        assert await daemon.stop() == 0


async def test_one_user_in_one_database(centre: CallCentre, roles: list[str]) -> None:
    await centre.db.execute("DROP SCHEMA callstatsd CASCADE")
    await plain_call(centre.db, 1, record=record_id(1))
    user = roles[1]
    dsn = as_user(centre.dsn, user)

    code, _, errors = await centre.run("migrate", source_dsn=dsn)
    assert code == 78  # not even CONNECT
    code, script, errors = await centre.run("migrate", "--sql", "--grant-to", user, source_dsn=dsn)
    assert code == 0, errors
    assert await psql(centre.dsn, script) == ""
    await works(centre, source_dsn=dsn)
    assert await psql(centre.dsn, script.split("-- The ledger's user")[1].partition("\n")[2]) == ""


async def test_with_callbacks_the_script_grants_their_table_too(
    centre: CallCentre, roles: list[str]
) -> None:
    await centre.db.execute("DROP SCHEMA callstatsd CASCADE")
    await plain_call(centre.db, 1, record=record_id(1))
    await rows.add(centre.db, rows.event(73001, acdgroupsid=None))
    user = {"source_dsn": as_user(centre.dsn, roles[0])}
    on = user | {"callback_url": CALLBACK_PATH}
    grant = ("migrate", "--sql", "--grant-to", roles[0])
    _, without, _ = await centre.run(*grant, **user)
    code, script, errors = await centre.run(*grant, **on)
    assert code == 0, errors
    granted = re.compile(r"GRANT SELECT ON [^;]*, AcdEvents TO ")
    assert not granted.search(without)
    assert granted.search(script)
    assert await psql(centre.dsn, script) == ""
    await works(centre, "callback-73001", **on)
    state = await centre.db.fetchval("SELECT state FROM callstatsd.line WHERE call_id = 73001")
    assert state == "delivered"


async def test_two_users_in_two_databases(
    centre: CallCentre, roles: list[str], server: str
) -> None:
    await centre.db.execute("DROP SCHEMA callstatsd CASCADE")
    await plain_call(centre.db, 1, record=record_id(1))
    ledger = await create_database(server, f"{urlsplit(centre.dsn).path[1:]} apart")
    reader, writer = roles
    dsns = {"source_dsn": as_user(centre.dsn, reader), "ledger_dsn": as_user(ledger, writer)}
    code, script, _ = await centre.run("migrate", "--sql", "--grant-to", writer, **dsns)
    assert code == 0

    # The whole of it in either database does that part which belongs there, and nothing else.
    for dsn, other in ((centre.dsn, "Part 1 of 2"), (ledger, "Part 2 of 2")):
        complaints = await psql(dsn, script)
        assert f"ERROR:  {other} is for the database" in complaints
    assert await centre.db.fetchval("SELECT to_regnamespace('callstatsd')") is None
    connection = await asyncpg.connect(ledger)
    try:
        assert await connection.fetchval("SELECT to_regnamespace('jtelstats')") is None
    finally:
        await connection.close()
    await works(centre, **dsns)


async def test_whoever_may_not_create_the_ledger_is_told_what_a_dba_runs(
    centre: CallCentre, roles: list[str], empty_dsn: str, tmp_path: Path
) -> None:
    user = roles[0]
    dsns = {"source_dsn": centre.dsn, "ledger_dsn": as_user(empty_dsn, user)}
    code, output, errors = await centre.run("migrate", **dsns)
    assert (code, output) == (78, "")
    assert "permission denied for database" in errors
    assert f"`callstatsd migrate --sql --grant-to '{user}'`" in errors
