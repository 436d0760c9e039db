"""How many notifications of a Telegra ACD are kept, and how fast; that none of them is lost."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from daemon.database.pool import Database
from daemon.demo.postgres import create_database
from daemon.ledger import migrate
from daemon.ledger.binding import Binding
from daemon.ledger.store import open_ledger
from daemon.telegra.setup import create_telegra_tables
from tests.benchmark import data
from tests.benchmark.harness import Harness, Site, daemon, environment, memory
from tests.benchmark.result import Effort, Result, at_least, at_most
from tests.support.raw import free_port
from tests.support.telegra_centre import TOKEN
from tests.support.telegra_load import Answers, tell_at

USUAL = 100
"""Notifications a second of a large installation."""
SCHEMA = "telegra"
FIRST, STEP, LAST = 400, 200, 6000
"""Rates that are tried, one after another, until one is refused."""


async def telegra(harness: Harness, effort: Effort) -> list[Result]:
    """A usual minute; rates that rise until a notification is refused; ten times the last one."""
    async with receiving(harness) as (port, process, site):
        usual = await tell_at(port, USUAL, USUAL * effort.of(60, 5))
        kept, rate = usual.kept, FIRST
        before = memory(process)[0]
        while rate < LAST:
            answers = await tell_at(port, rate, rate * effort.of(6, 2))
            kept += answers.kept
            if answers.statuses[503]:
                break
            rate += STEP
        flood, began = Answers(), time.perf_counter()
        while time.perf_counter() - began < effort.of(20, 3):
            answers = await tell_at(port, None, rate)
            flood.statuses += answers.statuses
            flood.seconds += answers.seconds
            flood.kept += answers.kept
        seconds = time.perf_counter() - began
        lost = await missing(site, [*kept, *flood.kept])
        after = memory(process)[0]
    told = f"{len(flood.seconds) / seconds:,.0f} a second"
    return [
        Result(
            f"{len(usual.seconds):,} notifications, {USUAL} a second: refused",
            f"half: {usual.percentile(50) * 1000:.0f} ms",
            f"99 of 100: {usual.percentile(99) * 1000:.0f} ms",
            [float(usual.statuses[503])],
            at_most(0, ""),
        ),
        Result("the same: 99 of 100", "", "", [usual.percentile(99)], at_most(1, "s")),
        Result(
            "the rate at which one is refused first", f"{rate:,} a second", "", [float(rate)],
            at_least(1000, ""),
        ),
        Result(
            f"as many as can be told, {told}: lost of {len(flood.kept):,} that were kept",
            f"{flood.statuses[503]:,} refused",
            "",
            [float(lost)],
            at_most(0, ""),
        ),
        Result(
            "the same: memory", f"{after / 1e6:.0f} MB", f"before: {before / 1e6:.0f} MB",
            [after / before], at_most(1.2),
        ),
    ]  # fmt: skip


@asynccontextmanager
async def receiving(harness: Harness) -> AsyncIterator[tuple[int, int, Site]]:
    """Run a Telegra installation: its port, its process and its database."""
    name, port = "telegra_load", free_port()
    site = Site(name, await create_database(harness.server, name))
    async with Database("source", site.dsn, session={}, size=1) as database:
        await create_telegra_tables(database, SCHEMA)
    async with open_ledger(site.dsn, data.LEDGER) as ledger:
        await migrate.upgrade(ledger.database, data.LEDGER)
        await ledger.bind(Binding(None, name, (SCHEMA,)))
    settings = environment(
        site, "http://127.0.0.1:9/", source_schemas=SCHEMA, telegra_token=TOKEN,
        api_listen=f"127.0.0.1:{port}", send_without_salesforce_id="true",
    )  # fmt: skip
    async with daemon(harness.folder, settings) as running:
        await running.until("daemon.started")
        yield port, running.process.pid, site


async def missing(site: Site, kept: list[int]) -> int:
    """Count the notifications that were answered 200 and are not in the database."""
    db = await asyncpg.connect(site.dsn, server_settings={"search_path": SCHEMA})
    try:
        rows = await db.fetch("SELECT (Parameters ->> 'id')::bigint FROM TelegraEvents")
    finally:
        await db.close()
    return len({*kept} - {row[0] for row in rows})
