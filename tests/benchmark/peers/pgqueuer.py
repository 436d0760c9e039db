"""The same work by PgQueuer: read the calls, make the records, queue them, post each with aiohttp.

Set up as its own performance guide says, for speed where that costs no durability: the durable
tables (our ledger's are, too) with its autovacuum settings, one direct asyncpg connection for the
queue manager, jobs inserted in batches, uvloop. Batches of 100; 32 requests at once by the limit of
the connector, as `max_concurrent_tasks` must be twice the batch. Its log is left at warnings.
No deduplication key, which would cost it an index. The reading and the records are ours, so that
only queueing differs. It prints the seconds from the first row read to the last job done.
"""

import argparse
import time

import aiohttp
import asyncpg
import uvloop
from pgqueuer.core.qm import QueueManager
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from pgqueuer.types import QueueExecutionMode
from yarl import URL

from tests.benchmark.peers.bare_aiohttp import USER_AGENT
from tests.benchmark.peers.lines import batches

BATCH = 100
ENTRYPOINT = "write"


async def install(connection: asyncpg.Connection) -> Queries:
    """Make its tables, once for each database, outside what counts."""
    queries = Queries(AsyncpgDriver(connection))
    await queries.install()
    await queries.optimize_autovacuum()
    return queries


async def enqueue(dsn: str, queries: Queries) -> None:
    """Queue all lines of the source as `KEY<tab>BODY`."""
    async for lines in batches(dsn):
        jobs: list[bytes | None] = [f"{line.key}\t{line.record}".encode() for line in lines]
        await queries.enqueue([ENTRYPOINT] * len(jobs), jobs, [0] * len(jobs))


async def work(queries: Queries, url: URL, concurrency: int, token: str) -> None:
    """Post every job, until none is left."""
    manager = QueueManager(queries)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=concurrency),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={
            "Accept": "application/json",
            "User-Agent": USER_AGENT,
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
        },
    ) as session:

        async def write(job: Job) -> None:
            key, body = (job.payload or b"").split(b"\t", 1)
            headers = {"Idempotency-Key": key.decode()}
            async with session.post(url, data=body, headers=headers) as answer:
                await answer.read()
                answer.raise_for_status()

        manager.entrypoint(ENTRYPOINT)(write)
        await manager.run(
            batch_size=BATCH, mode=QueueExecutionMode.drain, max_concurrent_tasks=2 * BATCH
        )


async def drain(dsn: str, url: URL, concurrency: int, token: str) -> float:
    """Do all of it; returns the seconds."""
    connection = await asyncpg.connect(dsn)
    try:
        queries = await install(connection)
        began = time.perf_counter()
        await enqueue(dsn, queries)
        await work(queries, url, concurrency, token)
        return time.perf_counter() - began
    finally:
        await connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dsn")
    parser.add_argument("url")
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--token", required=True)
    chosen = parser.parse_args()
    work = drain(chosen.dsn, URL(chosen.url), chosen.concurrency, chosen.token)
    print(uvloop.run(work))  # noqa: T201 - its result


if __name__ == "__main__":
    main()
