"""What an instance costs that has nothing to do, and what a second one beside the first costs."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime

from daemon.ledger import migrate
from daemon.ledger.binding import Binding
from daemon.ledger.store import open_ledger
from tests.benchmark import data
from tests.benchmark.drain import day
from tests.benchmark.harness import (
    PATIENCE,
    Daemon,
    Harness,
    Site,
    cpu_time,
    daemon,
    descriptors,
    endpoint,
    environment,
    memory,
    moment,
)
from tests.capacity.tables import Table
from tests.support.raw import free_port

LINES = 20_000
"""Of each client."""
FAST, USUAL = (0.0, 32), (0.1, 4)
"""Seconds of an answer, and requests at once."""
USUAL_LINES = 600
IDLE_SECONDS = 60.0
WARM_UP = 10.0
MEGABYTE = 1_000_000

CONNECTIONS = """
SELECT count(*) FROM pg_stat_activity
WHERE application_name LIKE 'callstatsd%' AND datname = current_database()
"""

OPEN = """
SELECT count(*) FILTER (WHERE ordinal = 1) AS calls, count(*) FILTER (WHERE state = 'pending')
FROM line
"""


@dataclass(frozen=True, slots=True)
class Client:
    """A client of the ACD, and the schema of its ledger."""

    number: int
    schema: str


CLIENTS = (Client(1, data.LEDGER), Client(2, f"{data.LEDGER}_second"))


async def clients(harness: Harness) -> list[Table]:
    """One client's instance alone, then both clients' beside each other, on one server."""
    table = Table("")
    for (delay, concurrency), lines in ((FAST, LINES), (USUAL, USUAL_LINES)):
        answers = f"answers in {delay * 1000:.0f} ms" if delay else "answers at once"
        for running in (CLIENTS[:1], CLIENTS):
            site = await two_clients(harness, lines)
            name = f"{len(running)} at {concurrency}, {answers}"
            column = table.column(name)
            await drained_by(harness, site, running, delay, concurrency, column)
            await harness.drop(site)
    return [table, await idle(harness)]


async def two_clients(harness: Harness, lines: int) -> Site:
    """Make a source with so many lines of each client, and a ledger for each."""
    site = await harness.site("clients")
    async with site.connection() as db:
        await data.add(db, day(2 * lines))
        await db.execute("UPDATE statisticsparta SET clientsid = 1 + id / 20 % 2")
    for client in CLIENTS:
        async with open_ledger(site.dsn, client.schema) as ledger:
            await migrate.upgrade(ledger.database, client.schema)
            binding = Binding(client.number, site.name, (data.SOURCE,))
            await ledger.bind(binding, rebind=True)
    await site.settle_down()
    return site


async def drained_by(
    harness: Harness,
    site: Site,
    running: tuple[Client, ...],
    delay: float,
    concurrency: int,
    column: dict[str, str],
) -> None:
    """Let these clients' instances drain what is theirs, at once."""
    async with AsyncExitStack() as stack:
        instances: list[Daemon] = []
        postgres = await harness.postgres_cpu()
        for client in running:
            salesforce = await stack.enter_async_context(endpoint(delay=delay))
            settings = environment(
                site,
                salesforce.url,
                clients_id=str(client.number),
                ledger_schema=client.schema,
                concurrency=str(concurrency),
                start_from="2020-01-01",
            )
            instances.append(await stack.enter_async_context(daemon(harness.folder, settings)))
        started = [moment(await one.until("daemon.started")) for one in instances]
        before = sum(cpu_time(one.process.pid) for one in instances)
        ends = await asyncio.gather(*(last_settled(site, client) for client in running))
        used = sum(cpu_time(one.process.pid) for one in instances) - before
        spent = await harness.postgres_cpu() - postgres
        async with site.connection() as db:
            connections = await db.fetchval(CONNECTIONS)
        lines = sum(lines for lines, _ in ends)
        seconds = (max(end for _, end in ends) - min(started)).total_seconds()
        column["lines a second, together"] = f"{lines / seconds:,.0f}"
        column["CPU of the instances, µs a line"] = f"{used / lines * 1e6:.0f}"
        column["CPU of Postgres, µs a line"] = f"{spent / lines * 1e6:.0f}"
        most = [memory(one.process.pid)[1] / MEGABYTE for one in instances]
        column["memory at most, MB"] = ", ".join(f"{each:.0f}" for each in most)
        column["connections to Postgres"] = str(connections)
        for one in instances:
            await one.stop()


async def last_settled(site: Site, client: Client) -> tuple[int, datetime]:
    """Wait until nothing of a client is pending; its lines, and when the last was settled."""
    async with site.connection() as db, asyncio.timeout(PATIENCE):
        await db.execute(f"SET search_path = {client.schema},{data.SOURCE}")
        calls = await db.fetchval(
            "SELECT count(*) FROM statisticsparta WHERE clientsid = $1", client.number
        )
        while await db.fetchrow(OPEN) != (calls, 0):
            await asyncio.sleep(0.5)
        lines, last = await db.fetchrow("SELECT count(*), max(settled_at) FROM line")
    return lines, last


async def idle(harness: Harness) -> Table:
    """An instance with the default settings and nothing to send, its page asked by nobody."""
    table = Table("idle")
    column = table.column("an instance")
    site = await harness.site("idle")
    async with endpoint() as salesforce:
        settings = environment(site, salesforce.url, http_listen=f"127.0.0.1:{free_port()}")
        async with daemon(harness.folder, settings) as running:
            await running.until("daemon.started")
            await asyncio.sleep(WARM_UP)
            before, postgres = cpu_time(running.process.pid), await harness.postgres_cpu()
            await asyncio.sleep(IDLE_SECONDS)
            used = cpu_time(running.process.pid) - before
            theirs = await harness.postgres_cpu() - postgres
            column["CPU, % of a core"] = f"{used / IDLE_SECONDS * 100:.1f}"
            column["CPU of Postgres for it, % of a core"] = f"{theirs / IDLE_SECONDS * 100:.1f}"
            column["memory, MB"] = f"{memory(running.process.pid)[0] / MEGABYTE:.0f}"
            column["descriptors"] = str(descriptors(running.process.pid))
            async with site.connection() as db:
                column["connections to Postgres"] = str(await db.fetchval(CONNECTIONS))
            await running.stop()
    await harness.drop(site)
    return table
