"""How soon: from a call's commit to its request, from start to READY, from SIGTERM to exit."""

import asyncio
import signal
import socket
import time
from datetime import timedelta
from pathlib import Path
from statistics import median, quantiles

import asyncpg

from tests.benchmark.harness import Harness, daemon, endpoint, environment
from tests.benchmark.result import Effort, Result, at_most

CALLS = 300
GAP = 0.0517
"""Seconds between two calls, of which no few make a second: all moments between polls are hit."""
WITHIN = 30.0
STARTS = 7
SETTLED = 2.0
"""Seconds after which a started daemon has nothing left to do."""

ENDED = """
INSERT INTO statisticsparta (ID, ClientsID, bOutbound, dtCallStart, dtCallEnd, UserData)
VALUES ($1, 1, false, clock_timestamp() - $2::interval, clock_timestamp(), $3)
"""


async def latency(harness: Harness, effort: Effort) -> list[Result]:
    """Calls end one by one; each is ready at once, and looked for once a second.

    From when the commit has returned to when the request has arrived, by the machine's one clock.
    """
    waits: list[float] = []
    for _ in range(effort.rounds):
        waits += await _waits(harness, effort.of(CALLS, 100))
    percentiles = quantiles(waits, n=100)
    details = {"samples": len(waits), "percentiles": percentiles}
    measured = f"{len(waits):,} calls, longest {max(waits):.2f} s"
    return [
        Result(
            "commit to request, half of all",
            measured,
            "POLL_INTERVAL 1, SETTLE_DELAY 0",
            [percentiles[49]],
            at_most(0.55, "s"),
            details,
        ),
        Result(
            "the same, 99 of 100",
            measured,
            "POLL_INTERVAL 1, SETTLE_DELAY 0",
            [percentiles[98]],
            at_most(1.1, "s"),
            details,
        ),
    ]


async def _waits(harness: Harness, calls: int) -> list[float]:
    site = await harness.site("latency")
    async with endpoint(arrivals=True) as salesforce, site.connection() as db:
        settings = environment(site, salesforce.url, settle_delay="0", poll_interval="1")
        async with daemon(harness.folder, settings) as running:
            await running.until("daemon.started")
            await asyncio.sleep(SETTLED)
            committed = await _end_calls(db, calls)
            async with asyncio.timeout(WITHIN):
                await running.while_it_runs(salesforce.answered(calls))
            arrivals = (await salesforce.tally()).arrivals
            await running.stop()
    await harness.drop(site)
    return [arrivals[key] - moment for key, moment in committed.items()]


async def _end_calls(db: asyncpg.Connection, calls: int) -> dict[str, float]:
    """Let calls end; returns when each was committed, by its line's key."""
    committed = {}
    began = time.monotonic()
    for number in range(1, calls + 1):
        await asyncio.sleep(max(0.0, began + number * GAP - time.monotonic()))
        await db.execute(ENDED, number, timedelta(seconds=30), f"003{number:012}AAA")
        committed[f"{number}-0-0-0"] = time.monotonic()
    return committed


async def life(harness: Harness, effort: Effort) -> list[Result]:
    """From the process's start to its READY to systemd, and from SIGTERM to its end when idle.

    The first start does not count: it compiles what an installation has compiled already.
    """
    starts: list[float] = []
    stops: list[float] = []
    site = await harness.site("life")
    async with endpoint() as salesforce:
        settings = environment(site, salesforce.url)
        await _life(harness.folder, settings)
        for _ in range(max(3, round(STARTS * min(1, effort.scale)))):
            started, stopped = await _life(harness.folder, settings)
            starts.append(started)
            stops.append(stopped)
    await harness.drop(site)
    return [
        Result(name, f"{len(each)} times", "", each, at_most(1, "s"), {"median": median(each)})
        for name, each in (("start to READY", starts), ("SIGTERM to exit, idle", stops))
    ]


async def _life(folder: Path, settings: dict[str, str]) -> tuple[float, float]:
    path = folder / "notify"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(path))
        systemd.setblocking(False)
        began = time.perf_counter()
        async with daemon(folder, settings | {"NOTIFY_SOCKET": str(path)}) as running:
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(WITHIN):
                while b"READY=1" not in await loop.sock_recv(systemd, 4096):
                    pass
            ready = time.perf_counter() - began
            await asyncio.sleep(SETTLED)
            began = time.perf_counter()
            running.process.send_signal(signal.SIGTERM)
            assert await running.process.wait() == 0
            return ready, time.perf_counter() - began
