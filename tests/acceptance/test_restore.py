"""A ledger restored from a copy while instances run: the tables are new, and one of them sends."""

import asyncio
import time
from itertools import groupby
from pathlib import Path

import pytest

from daemon.demo.postgres import ServerDirs, installed_programs
from daemon.ledger.lease import GRACE, TRUSTED_FOR
from tests.support.call_centre import CallCentre
from tests.support.calls import plain_call, record_id
from tests.support.daemon_process import PATIENCE, running
from tests.support.proxied_centre import MARGIN, as_named, lateness, not_before, starts_of, wired
from tests.support.proxy import Mode, proxied

LINES = 150
TRIES = 5
"""How often a restore is tried; nearly always once is enough."""


class Copy:
    """A dump of the ledger's schema, made and restored by Postgres' own programs."""

    def __init__(self, centre: CallCentre, *options: str) -> None:
        self.centre = centre
        self.options = options
        self.file = centre.folder / "ledger.dump"

    async def dump(self) -> None:
        options = ("--format=custom", "--schema=callstatsd", f"--dbname={self.centre.dsn}")
        assert await self.try_to("pg_dump", *options, "--file") is None

    async def restore(self) -> None:
        """Restore until it works: in steps, an instance may take a line before its key is there."""
        options = ("--clean", "--if-exists", "--exit-on-error", *self.options)
        for _ in range(TRIES):
            errors = await self.try_to("pg_restore", *options, f"--dbname={self.centre.dsn}")
            if errors is None or "could not create unique index" not in errors:
                break
        assert errors is None, errors

    async def try_to(self, program: str, *arguments: str | Path) -> str | None:
        """Run a program on the file; returns what it logged if it failed."""
        home = ServerDirs(self.centre.folder, self.centre.folder / "restore.log", None, None)
        process = home.start(installed_programs() / program, *arguments, self.file)
        return None if await asyncio.to_thread(process.wait) == 0 else home.log.read_text()


async def crowd(centre: CallCentre) -> None:
    """Lines of as many records, enough to send for as long as the test runs."""
    for number in range(1, LINES + 1):
        await plain_call(centre.db, number, record=record_id(number))
    code, _, errors = await centre.run(
        "backfill", "--from", "2020-01-01", "--to", "2100-01-01", "--no-wait"
    )
    assert code == 0, errors


@pytest.mark.parametrize("options", [(), ("--single-transaction",)], ids=["in steps", "at once"])
async def test_of_two_instances_whose_ledger_is_restored_one_sends_at_a_time(
    centre: CallCentre, options: tuple[str, ...]
) -> None:
    """Each of them begins to send a few times; between two beginnings nobody else sends."""
    centre.salesforce.work = 0.04
    await crowd(centre)
    copy = Copy(centre, *options)
    await copy.dump()
    ready = not_before(centre)
    async with (
        running(centre.settings(**as_named(centre, "first")), centre.folder) as first,
        running(centre.settings(**as_named(centre, "second")), centre.folder) as second,
    ):
        async with asyncio.timeout(PATIENCE):
            while not (first.seen("daemon.standby") or second.seen("daemon.standby")):
                await asyncio.sleep(0.02)
            ready.set()
            await centre.salesforce.until(lambda salesforce: salesforce.received >= 5)
        oid = await centre.db.fetchval("SELECT 'ledger'::regclass::oid")
        await copy.restore()
        assert await centre.db.fetchval("SELECT 'ledger'::regclass::oid") != oid
        await centre.until(delivered=LINES)
        assert await first.stop() == 0
        assert await second.stop() == 0

    senders = [name for name, _ in groupby(starts_of(centre), key=lambda start: start[1])]
    began = len(first.seen("daemon.started")) + len(second.seen("daemon.started"))
    assert began >= 2, first.text + second.text
    assert len(senders) <= began, senders


async def test_who_gets_a_restored_ledger_waits_for_one_that_cannot_know_of_it(
    centre: CallCentre,
) -> None:
    """The first one's network is cut; the copy's own row says that somebody stopped in order."""
    centre.salesforce.work = 0.04
    await crowd(centre)
    copy = Copy(centre)
    await copy.dump()
    ready = not_before(centre)
    async with wired(centre) as wires, proxied(centre.dsn) as (_, dsn), lateness() as late:
        environment = wires.settings(**as_named(centre, "first"))
        async with running(environment, centre.folder) as first:
            await first.until("daemon.started")
            environment = wires.settings(ledger_dsn=dsn, **as_named(centre, "second"))
            async with running(environment, centre.folder) as second:
                await second.until("daemon.standby")
                ready.set()
                await first.until("line.delivered", 5)
                restored_from = time.monotonic()
                await wires.ledger.switch(Mode.DEAF)
                cut = time.monotonic()
                await copy.restore()
                assert await centre.db.fetchval("SELECT stopped_at IS NOT NULL FROM instance")
                await second.until("line.delivered")
                assert await second.stop() == 0

    firsts = [at for at, name in starts_of(centre) if name == "first"]
    seconds = [at for at, name in starts_of(centre) if name == "second"]
    assert max(firsts) < cut + TRUSTED_FOR + MARGIN + late.worst
    assert min(seconds) > restored_from + GRACE
