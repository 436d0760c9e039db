"""The commands as a shell has them: output, exit codes, help."""

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from daemon import __version__
from daemon.cli.entry import app
from daemon.command_text import NAMES, addressed
from daemon.ingest.schema import REFERENCE_TABLES
from daemon.ledger import migrate
from daemon.ledger.binding import SCHEMA_VERSION
from tests.support.daemon_process import command, settings

NOBODY = "postgresql://postgres@127.0.0.1:1/nothing"
NOWHERE = "http://127.0.0.1:1"


@pytest.mark.parametrize("name", ["status", "check", "pause"])
async def test_faults_of_the_settings_are_named_one_to_a_line_and_exit_with_78(
    name: str, tmp_path: Path
) -> None:
    environment = settings(NOBODY, NOWHERE, concurrency="0", pol="1")
    code, output, errors = await command(name, environment=environment, folder=tmp_path)

    assert code == 78
    assert output == ""
    lines = errors.splitlines()
    assert all(line.startswith("callstatsd: CALLSTATSD_") for line in lines)
    assert {line.split()[1].split("=")[0] for line in lines} == {
        "CALLSTATSD_CONCURRENCY", "CALLSTATSD_POL",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["run", "migrate"])
async def test_every_fault_that_ends_a_service_is_an_event_of_the_log(
    name: str, tmp_path: Path
) -> None:
    environment = settings(NOBODY, NOWHERE, concurrency="0", pol="1", log_level="error")
    code, output, errors = await command(name, environment=environment, folder=tmp_path)
    assert (code, output) == (78, "")
    events = [json.loads(line) for line in errors.splitlines()]
    assert {(entry["event"], entry["level"], entry["exit_code"]) for entry in events} == {
        ("daemon.refused", "error", 78)
    }
    assert sorted(entry["error"].split()[0].split("=")[0] for entry in events) == [
        "CALLSTATSD_CONCURRENCY",
        "CALLSTATSD_POL",
    ]


@pytest.mark.parametrize("given", [{"log_format": "xml", "log_level": "loud"}, {}])
async def test_how_to_log_counts_where_it_is_right_and_else_the_default(
    given: dict[str, str], tmp_path: Path
) -> None:
    environment = settings(NOBODY, NOWHERE, **({"log_format": "console", "pol": "1"} | given))
    code, _, errors = await command("run", environment=environment, folder=tmp_path)
    assert code == 78
    if given:
        assert len([json.loads(line) for line in errors.splitlines()]) == 3
    else:
        assert re.fullmatch(
            r"\S+ \S+ error   daemon\.refused   exit_code=78 error='CALLSTATSD_POL .*'\n",
            errors,
        )


async def test_what_ends_a_service_has_the_journals_priority(tmp_path: Path) -> None:
    environment = settings(NOBODY, NOWHERE, pol="1")
    file = tmp_path / "journal"
    with file.open("wb") as journal:
        status = os.fstat(journal.fileno())
        environment["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "daemon", "run",
            env=environment, cwd=tmp_path, stderr=journal,
        )  # fmt: skip
        assert await process.wait() == 78
    assert file.read_text().startswith('<3>{"event":"daemon.refused","level":"error"')


async def test_a_migration_that_cannot_reach_its_database_says_so_in_the_log(
    tmp_path: Path,
) -> None:
    environment = settings(NOBODY, NOWHERE)
    code, output, errors = await command("migrate", environment=environment, folder=tmp_path)
    assert (code, output) == (69, "")
    target, last = errors.splitlines()
    assert target.startswith("Settings from the environment: ")
    event = json.loads(last)
    assert (event["event"], event["exit_code"]) == ("daemon.refused", 69)
    assert event["error"].startswith("the ledger database cannot be used now: ")


@pytest.mark.parametrize("name", ["run", "migrate"])
async def test_a_ledger_that_is_not_ours_is_the_last_word_of_the_log(
    dsn: str, db: asyncpg.Connection, name: str, tmp_path: Path
) -> None:
    await db.execute("UPDATE alembic_version SET version_num = '9999'")
    code, _, errors = await command(name, environment=settings(dsn, NOWHERE), folder=tmp_path)
    assert code == 78
    event = json.loads(errors.splitlines()[-1])
    assert (event["event"], event["exit_code"]) == ("daemon.refused", 78)
    assert "newer than this program's" in event["error"]


WRITING = (
    ("migrate",),
    ("pause",),
    ("resume",),
    ("requeue", "--state", "rejected"),
    ("discard", "--state", "rejected"),
    ("backfill", "--from", "2026-11-01", "--to", "2026-11-02", "--no-wait"),
)
READING = (
    ("status",),
    ("lines", "--state", "rejected"),
    ("show", "1"),
    ("check",),
    ("requeue", "--state", "rejected", "--dry-run"),
    ("discard", "--state", "rejected", "--dry-run"),
    ("backfill", "--from", "2026-11-01", "--to", "2026-11-02", "--dry-run"),
    ("migrate", "--sql"),
)


async def test_a_command_that_writes_says_first_what_it_acts_on(dsn: str, tmp_path: Path) -> None:
    """And one that reads does not; with a file, a password and a client."""
    secret = dsn.replace("//postgres@", "//postgres:hunter2@")
    environment = settings(secret, NOWHERE)
    (tmp_path / "north.env").write_text(
        "".join(
            f"{name}='{environment.pop(name)}'\n"
            for name in [*environment]
            if name.startswith("CALLSTATSD_") and not name.startswith("CALLSTATSD_LOG_")
        )
        + "CALLSTATSD_CLIENTS_ID=7\n"
    )
    database = urlsplit(dsn).path[1:]
    for arguments in (*WRITING, *READING):
        code, output, errors = await command(
            *arguments, "--env-file", "north.env", environment=environment, folder=tmp_path
        )
        first = errors.partition("\n")[0]
        assert "hunter2" not in output + errors
        if arguments in WRITING:
            assert code == 0, errors
            assert first.startswith(f"Settings from {tmp_path}/north.env: client 7; ")
            assert f"ledger database {database} on " in first
            assert first.endswith("schema callstatsd.")
        else:
            assert "Settings from" not in errors


async def test_what_an_instance_prints_names_the_instance(dsn: str, tmp_path: Path) -> None:
    environment = settings(dsn, NOWHERE, instance="north")

    async def printed(*arguments: str) -> str:
        _, output, errors = await command(*arguments, environment=environment, folder=tmp_path)
        return output + errors

    assert "run `callstatsd migrate --instance north`" in await printed("status")
    assert "run `callstatsd migrate --instance north`" in await printed("check", "--json")
    assert "run `callstatsd migrate --instance north`" in await printed("run")
    await printed("migrate")
    assert "`callstatsd resume --instance north` continues sending" in await printed("pause")


def test_the_commands_that_are_named_are_all_that_need_settings() -> None:
    names = {
        info.name or getattr(info.callback, "__name__", "") for info in app.registered_commands
    }
    groups = {info.name for info in app.registered_groups}
    assert names | groups == {*NAMES, "demo", "systemd"}
    assert addressed("`callstatsd show 1`, callstatsd run; callstatsd", "--instance n") == (
        "`callstatsd show --instance n 1`, callstatsd run --instance n; callstatsd"
    )
    once = addressed("callstatsd check", "--env-file '/a b'")
    assert addressed(once, "--env-file '/a b'") == once == "callstatsd check --env-file '/a b'"
    assert addressed("callstatsd runs, callstatsd check", "") == "callstatsd runs, callstatsd check"


async def test_a_database_that_is_away_ends_a_one_off_command_with_69(tmp_path: Path) -> None:
    environment = settings(NOBODY, NOWHERE)
    code, output, errors = await command("status", environment=environment, folder=tmp_path)
    assert (code, output) == (69, "")
    assert errors.startswith("callstatsd: the ledger database cannot be used now: ")
    assert len(errors.splitlines()) == 1


async def test_status_of_a_database_without_a_ledger_says_what_to_run(
    empty_dsn: str, tmp_path: Path
) -> None:
    code, _, errors = await command(
        "status", environment=settings(empty_dsn, NOWHERE), folder=tmp_path
    )
    assert code == 78
    assert "run `callstatsd migrate`" in errors


async def test_status_shows_a_glance_for_people_and_json_for_programs(
    dsn: str, tmp_path: Path
) -> None:
    environment = settings(dsn, NOWHERE)
    await command("migrate", environment=environment, folder=tmp_path)
    code, output, _ = await command("status", environment=environment, folder=tmp_path)
    assert code == 0
    assert "sender          stopped" in output
    assert "oldest pending  nothing is pending" in output
    code, output, _ = await command("status", "--json", environment=environment, folder=tmp_path)
    assert code == 0
    assert json.loads(output)["watermark"] is None


async def test_version_and_help(tmp_path: Path) -> None:
    environment = settings(NOBODY, NOWHERE)
    assert await command("--version", environment=environment, folder=tmp_path) == (
        0, f"callstatsd {__version__}\n", "",
    )  # fmt: skip
    for name in ("run", "migrate", "status", "demo"):
        code, output, _ = await command(name, "--help", environment=environment, folder=tmp_path)
        assert code == 0
        assert re.search(rf"Examples?: callstatsd {name}\b", output)
    code, *_ = await command("no-such-command", environment=environment, folder=tmp_path)
    assert code == 2


async def test_migrate_creates_binds_compares_and_rebinds_and_says_so(
    dsn: str, empty_dsn: str, tmp_path: Path
) -> None:
    async def migrates(*arguments: str, client: str) -> tuple[int, str, str]:
        environment = settings(dsn, NOWHERE, clients_id=client, ledger_dsn=empty_dsn)
        return await command("migrate", *arguments, environment=environment, folder=tmp_path)

    database = urlsplit(dsn).path[1:]
    of_one = f"client 1 of database {database}, schemas jtelstats"
    of_two = f"client 2 of database {database}, schemas jtelstats"
    created = f"Created the ledger in schema callstatsd, at version {SCHEMA_VERSION}."
    code, output, _ = await migrates(client="1")
    assert (code, output) == (0, f"{created}\nBound the ledger to {of_one}.\n")
    nothing = (
        f"Nothing to do: the ledger in schema callstatsd is at version {SCHEMA_VERSION}, "
        f"bound to {of_one}.\n"
    )
    code, output, _ = await migrates(client="1")
    assert (code, output) == (0, nothing)

    code, output, errors = await migrates(client="2")
    assert (code, output) == (78, "")
    assert of_one in errors
    assert of_two in errors
    assert "--rebind" in errors

    code, output, _ = await migrates("--rebind", client="2")
    assert (code, output) == (0, f"Rebound the ledger from {of_one} to {of_two}.\n")


@pytest.mark.parametrize("arguments", [["migrate"], ["check"], ["status"]])
async def test_a_newer_ledger_is_refused_by_all(
    dsn: str, db: asyncpg.Connection, arguments: list[str], tmp_path: Path
) -> None:
    await db.execute("UPDATE alembic_version SET version_num = '9999'")
    code, output, errors = await command(
        *arguments, environment=settings(dsn, NOWHERE), folder=tmp_path
    )
    assert code == 78
    assert "newer than this program's" in output + errors
    assert "Traceback" not in errors


async def test_a_ledger_that_cannot_hold_every_name_is_refused(
    server: str, empty_dsn: str, tmp_path: Path
) -> None:
    name = f"{urlsplit(empty_dsn).path[1:]}_latin"
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(
            f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"
        )
    finally:
        await connection.close()
    latin = urlsplit(empty_dsn)._replace(path=f"/{name}").geturl()
    environment = settings(empty_dsn, NOWHERE, ledger_dsn=latin)
    for arguments in (["migrate"], ["check"]):
        code, output, errors = await command(*arguments, environment=environment, folder=tmp_path)
        assert code == 78
        assert "has the encoding LATIN1" in output + errors


async def test_migrate_makes_the_reference_schema_when_asked(
    empty_dsn: str, tmp_path: Path
) -> None:
    environment = settings(empty_dsn, NOWHERE)
    said = []
    connection = await asyncpg.connect(empty_dsn)
    try:
        for turn in range(3):
            code, output, _ = await command(
                "migrate", "--reference-schema", environment=environment, folder=tmp_path
            )
            assert code == 0
            said.append(output.splitlines()[0])
            if turn == 1:
                await connection.execute("DROP TABLE jtelstats.users")
        assert await connection.fetchval("SELECT count(*) FROM jtelstats.statisticsparta") == 0
    finally:
        await connection.close()
    assert said[0] == f"Created in schema jtelstats: {', '.join(REFERENCE_TABLES)}."
    assert said[1] == "The ACD's 9 tables are in schema jtelstats already."
    assert said[2].startswith("Created in schema jtelstats: Users. Already there: StatisticsPartA,")


async def test_options_for_a_dba_go_with_the_script_only(tmp_path: Path) -> None:
    environment = settings(NOBODY, NOWHERE)
    for arguments in (["--grant-to", "x"], ["--from-version", "0001"]):
        code, output, errors = await command(
            "migrate", *arguments, environment=environment, folder=tmp_path
        )
        assert (code, output) == (2, "")
        assert "need --sql" in errors
    code, _, errors = await command(
        "migrate", "--sql", "--from-version", "7", environment=environment, folder=tmp_path
    )
    assert code == 2
    assert SCHEMA_VERSION in errors


async def test_the_script_for_a_dba_makes_the_same_ledger(empty_dsn: str, tmp_path: Path) -> None:
    environment = settings(empty_dsn, NOWHERE)
    code, script, _ = await command("migrate", "--sql", environment=environment, folder=tmp_path)
    assert code == 0
    assert script == migrate.script("callstatsd") + "\n"

    connection = await asyncpg.connect(empty_dsn)
    try:
        await connection.execute(script)
        version = await connection.fetchval("SELECT version_num FROM callstatsd.alembic_version")
        assert version == SCHEMA_VERSION
    finally:
        await connection.close()
    # Afterwards `migrate` finds nothing to create, and binds.
    assert (await command("migrate", environment=environment, folder=tmp_path))[0] == 0
