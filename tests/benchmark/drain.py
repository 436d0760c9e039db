"""How fast a backlog is sent, from source rows to settled lines, where the endpoint is no limit."""

import importlib.util
import sys
from asyncio.subprocess import PIPE, create_subprocess_exec
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmark import data
from tests.benchmark.ground import (
    ROOT,
    TOKEN,
    Ground,
    Site,
    cpu,
    daemon,
    drained,
    endpoint,
    environment,
    moment,
)
from tests.benchmark.result import Effort, Result, at_least, rate

LINES = 50_000
CONCURRENCY = 32
CALLS_PER_RECORD = 4


async def drain(ground: Ground, effort: Effort) -> list[Result]:
    """All lines of a day at once, the default log to a file, 32 requests at once.

    Ours counts from the log's `daemon.started` to the last line's settlement in the ledger, so
    with all reading, taking and settling; the bare loop's from its first request to its last
    answer; PgQueuer's from its first row read to its last job done. Start-up counts for none.
    """
    calls = day(effort.of(LINES, 2000))
    source = await ground.site("drain_source")
    async with source.connection() as db:
        await data.add(db, calls)
    await source.settle_down()
    ours: list[float] = []
    bare: list[float] = []
    rival: list[float] = []
    costs: list[dict[str, float]] = []
    for _ in range(effort.repeat):
        site = await ground.site("drain", source.name)
        seconds, cost = await our_drain(ground, site, calls.lines)
        ours.append(seconds)
        costs.append(cost)
        bare.append(await bare_loop(await bodies(ground, site), calls.lines))
        await ground.drop(site)
        if importlib.util.find_spec("pgqueuer"):
            site = await ground.site("drain_rival", source.name)
            rival.append(await rivals_drain(site, calls.lines))
            await ground.drop(site)
    await ground.drop(source)
    details = {
        "lines": calls.lines,
        "seconds": ours,
        "cpu_microseconds_per_line": {name: median(c[name] for c in costs) for name in costs[0]},
    }
    results = [
        Result(
            f"drain of {calls.lines:,} lines",
            rate(calls.lines, ours),
            f"bare aiohttp loop: {rate(calls.lines, bare)}",
            [theirs / own for own, theirs in zip(ours, bare, strict=True)],
            at_least(0.75),
            details | {"theirs": bare},
        )
    ]
    if rival:
        results.append(
            Result(
                "the same",
                rate(calls.lines, ours),
                f"PgQueuer: {rate(calls.lines, rival)}",
                [theirs / own for own, theirs in zip(ours, rival, strict=True)],
                at_least(2),
                details | {"theirs": rival},
            )
        )
    return results


def day(lines: int) -> data.Calls:
    """Calls of the last hours that give about so many lines, about many records."""
    count = data.calls_of(lines)
    end = datetime.now(UTC) - timedelta(hours=1)
    return data.Calls(count, end, timedelta(hours=9), max(20, count // CALLS_PER_RECORD))


async def our_drain(ground: Ground, site: Site, lines: int) -> tuple[float, dict[str, float]]:
    """Drain with the daemon; seconds, and microseconds of CPU per line by process."""
    before = await ground.postgres_cpu()
    async with endpoint() as salesforce:
        settings = environment(
            site, salesforce.url, concurrency=str(CONCURRENCY), start_from="2020-01-01"
        )
        async with daemon(ground.folder, settings) as running:
            started = moment(await running.until("daemon.started"))
            await running.while_it_runs(salesforce.answered(lines))
            seconds = await running.while_it_runs(drained(site, started, lines))
            cost = {
                "daemon": cpu(running.process.pid),
                "postgres": await ground.postgres_cpu() - before,
                "endpoint": cpu(salesforce.process.pid),
            }
            await running.stop()
    return seconds, {name: round(spent / lines * 1e6, 1) for name, spent in cost.items()}


async def bodies(ground: Ground, site: Site) -> Path:
    """Write down what was sent, in its order."""
    async with site.connection() as db:
        rows = await db.fetch(
            "SELECT concat_ws('-', call_id, group_id, leg_id, code_id) AS key, record FROM line"
            " ORDER BY call_ended, call_id, ordinal"
        )
    path = ground.folder / "bodies"
    path.write_text("".join(f"{row['key']}\t{row['record']}\n" for row in rows))
    return path


async def bare_loop(path: Path, lines: int, delay: float = 0.0) -> float:
    """Post the same with nothing around it, to an endpoint that takes `delay`; seconds."""
    async with endpoint(delay=delay) as salesforce:
        flags = ("--workers", CONCURRENCY, "--token", TOKEN)
        seconds = await told("bare", salesforce.url, path, *flags)
        assert (await salesforce.tally()).answers == lines
    return seconds


async def rivals_drain(site: Site, lines: int) -> float:
    """Do the same with PgQueuer; seconds."""
    async with endpoint() as salesforce:
        flags = ("--concurrency", CONCURRENCY, "--token", TOKEN)
        seconds = await told("rival", site.dsn, salesforce.url, *flags)
        assert (await salesforce.tally()).answers == lines
    return seconds


async def told(module: str, *arguments: Any) -> float:
    """Run a module beside this one in a process of its own; returns the figure it prints."""
    (figure,) = await told_all(module, *arguments)
    return figure


async def told_all(module: str, *arguments: Any) -> list[float]:
    """Run a module beside this one in a process of its own; returns all figures it prints."""
    process = await create_subprocess_exec(
        sys.executable, "-m", f"tests.benchmark.{module}", *map(str, arguments),
        cwd=ROOT, stdout=PIPE,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0, module
    return [float(figure) for figure in output.split()]
