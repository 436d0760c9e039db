"""The same work by graphile-worker: read the calls, make the records, queue them, post each.

Set up as its own performance page says, for speed: jobs inserted by `add_jobs` in batches, fetched
in batches of 500 by the local queue, completed in batches. Node posts with undici, by as many
connections as the others have and as many jobs at once; twice as many jobs were not faster, and
neither were more than its 10 connections to Postgres. It logs only errors. The reading and the
records are ours, so that only queueing and posting differ. It prints the seconds from the first row
read to the last job done; Node's start counts for none.
"""

import argparse
import asyncio
import json
import os
import shutil
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process, create_subprocess_exec
from pathlib import Path

import asyncpg
import orjson
import uvloop

from tests.benchmark.peers.bare_aiohttp import USER_AGENT
from tests.benchmark.peers.lines import batches

PACKAGES = ("graphile-worker@~0.17.3", "undici@^7.0.0")
INSTALL_TIMEOUT = 120.0
WORKER = Path(__file__).with_suffix(".mjs")

ADD_JOBS = """
SELECT count(*) FROM graphile_worker.add_jobs(ARRAY(
    SELECT ('write', payload::json, NULL, NULL, NULL, NULL, NULL, NULL)::graphile_worker.job_spec
    FROM unnest($1::text[]) AS payload
))
"""


class NotInstalledError(Exception):
    """Node, npm or a package is not there."""


async def install(folder: Path) -> str:
    """Install the packages and the worker into a folder; returns graphile-worker's version."""
    if missing := [program for program in ("node", "npm") if not shutil.which(program)]:
        raise NotInstalledError(f"no {' and no '.join(missing)}")
    npm = await create_subprocess_exec(
        "npm", "install", "--prefix", folder, "--no-audit", "--no-fund", *PACKAGES,
        stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(INSTALL_TIMEOUT):
            _, errors = await npm.communicate()
    except TimeoutError:
        raise NotInstalledError(f"npm took more than {INSTALL_TIMEOUT:.0f} s") from None
    finally:
        if npm.returncode is None:
            npm.kill()
            await npm.wait()
    if npm.returncode:
        raise NotInstalledError(f"npm failed: {errors.decode().strip()[-200:]}")
    shutil.copy(WORKER, folder)
    package = folder / "node_modules" / "graphile-worker" / "package.json"
    return str(json.loads(package.read_text())["version"])


async def enqueue(dsn: str, db: asyncpg.Connection) -> None:
    """Queue all lines of the source as `{"key": …, "body": …}`."""
    async for lines in batches(dsn):
        payloads = [
            orjson.dumps({"key": str(line.key), "body": line.record}).decode() for line in lines
        ]
        await db.execute(ADD_JOBS, payloads)


async def drain(folder: Path, dsn: str, url: str, concurrency: int, token: str) -> float:
    """Do all of it; returns the seconds."""
    worker = await create_subprocess_exec(
        "node", folder / WORKER.name, dsn, url, str(concurrency), token, USER_AGENT,
        stdin=PIPE, stdout=PIPE, env=os.environ | {"NO_LOG_SUCCESS": "1"},
    )  # fmt: skip
    db = await asyncpg.connect(dsn)
    try:
        await _said(worker, b"ready")
        began = time.perf_counter()
        await enqueue(dsn, db)
        assert worker.stdin
        worker.stdin.write(b"begin\n")
        await _said(worker, b"done")
        seconds = time.perf_counter() - began
        assert not await db.fetchval("SELECT count(*) FROM graphile_worker.jobs")
        assert await worker.wait() == 0
        return seconds
    finally:
        await db.close()
        if worker.returncode is None:
            worker.kill()
            await worker.wait()


async def _said(worker: Process, word: bytes) -> None:
    assert worker.stdout
    line = await worker.stdout.readline()
    if line.strip() != word:
        sys.exit(f"the worker ended before it was {word.decode()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("dsn")
    parser.add_argument("url")
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--token", required=True)
    chosen = parser.parse_args()
    work = drain(chosen.folder, chosen.dsn, chosen.url, chosen.concurrency, chosen.token)
    print(uvloop.run(work))  # noqa: T201 - its result


if __name__ == "__main__":
    main()
