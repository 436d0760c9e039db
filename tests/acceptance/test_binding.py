"""A ledger belongs to one client and source: no command, and no daemon, touches another's."""

from urllib.parse import urlsplit

import pytest

from daemon.demo.postgres import create_database
from tests.support.call_centre import CallCentre
from tests.support.calls import plain_call, record_id
from tests.support.daemon_process import running

AWAY = "postgresql://callstatsd:secret@127.0.0.1:1/acd"

COMMANDS = (
    ("status",),
    ("show", "1"),
    ("show", "--salesforce-id", record_id(1)),
    ("pause",),
    ("resume",),
    ("requeue", "--state", "rejected"),
    ("requeue", "--state", "rejected", "--dry-run"),
    ("discard", "--state", "pending"),
    ("backfill", "--from", "2026-11-01", "--to", "2026-11-02", "--dry-run"),
    ("migrate",),
    ("check",),
    ("run",),
)


async def pending(centre: CallCentre, **more: str) -> None:
    """A line that waits, and nobody to send it."""
    await plain_call(centre.db, 1, record=record_id(1))
    code, _, errors = await centre.run(
        "backfill", "--from", "2026-11-01", "--to", "2100-01-01", "--no-wait", **more
    )
    assert code == 0, errors


async def untouched(centre: CallCentre) -> bool:
    """Whether the line still waits as it was, and nobody paused anything."""
    line = await centre.db.fetchrow("SELECT state, attempts, generation FROM line")
    held = await centre.db.fetchval("SELECT held_since FROM ledger")
    return (*line, held) == ("pending", 0, 0, None) and not centre.salesforce.requests


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
async def test_the_ledger_of_another_client_is_refused(
    centre: CallCentre, arguments: tuple[str, ...]
) -> None:
    await pending(centre)
    code, output, errors = await centre.run(*arguments, clients_id="7")
    assert code == 78
    told = output + errors
    assert "the ledger holds the lines of all clients of database" in told
    assert "the settings name client 7 of database" in told
    assert await untouched(centre)


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
async def test_the_ledger_of_another_source_is_refused(
    centre: CallCentre, server: str, template: str, arguments: tuple[str, ...]
) -> None:
    await pending(centre)
    other = await create_database(server, f"{urlsplit(centre.dsn).path[1:]}_other", template)
    code, output, errors = await centre.run(*arguments, source_dsn=other, ledger_dsn=centre.dsn)
    assert code == 78
    assert "of database" in output + errors
    assert await untouched(centre)


@pytest.mark.parametrize(
    "arguments", [*COMMANDS[:3], ("pause",), ("discard", "--state", "pending")], ids=" ".join
)
async def test_what_needs_the_ledger_alone_compares_what_it_can_and_works_without_a_source(
    centre: CallCentre, arguments: tuple[str, ...]
) -> None:
    await pending(centre)
    away = {"source_dsn": AWAY, "ledger_dsn": centre.dsn}
    code, _, errors = await centre.run(*arguments, clients_id="7", **away)
    assert code == 78
    assert "the settings name client 7" in errors
    assert await untouched(centre)
    code, _, errors = await centre.run(*arguments, **away)
    assert code == 0, errors


async def test_a_daemon_whose_source_is_away_sends_for_its_own_client_only(
    centre: CallCentre,
) -> None:
    await pending(centre)
    away = {"source_dsn": AWAY, "ledger_dsn": centre.dsn}
    async with running(centre.settings(clients_id="7", **away), centre.folder) as daemon:
        assert await daemon.ended() == 78
    assert await untouched(centre)
    async with running(centre.settings(**away), centre.folder) as daemon:
        await daemon.until("line.delivered", key="1-0-0-0")
        assert await daemon.stop() == 0


async def test_a_daemon_whose_ledger_is_bound_anew_ends(centre: CallCentre) -> None:
    async with running(centre.settings(), centre.folder) as daemon:
        await daemon.until("daemon.started")
        assert (await centre.run("migrate", "--rebind", clients_id="77"))[0] == 0
        assert await daemon.ended() == 78
    assert "the ledger holds the lines of client 77" in daemon.text


@pytest.mark.parametrize("arguments", [("status",), ("pause",), ("check",), ("run",)])
async def test_a_ledger_that_belongs_to_nobody_yet_is_refused(
    centre: CallCentre, arguments: tuple[str, ...]
) -> None:
    await centre.db.execute("UPDATE ledger SET bound_at = NULL")
    code, output, errors = await centre.run(*arguments)
    assert code == 78
    assert "run `callstatsd migrate`" in output + errors
