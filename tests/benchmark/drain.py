"""How fast a backlog is sent, from source rows to settled lines, where the endpoint is no limit."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmark import data
from tests.benchmark.endpoint import EndpointCounts
from tests.benchmark.harness import (
    TOKEN,
    Harness,
    Site,
    cpu,
    cpu_time,
    daemon,
    drained,
    endpoint,
    environment,
    moment,
    run_module,
)
from tests.benchmark.result import Effort, Result, at_least, rate

LINES = 50_000
CONCURRENCY = 32
CALLS_PER_RECORD = 4


@dataclass(frozen=True, slots=True)
class Run:
    """Seconds that one side took, microseconds of CPU per line, and what came in.

    `cpu` is that of the one process that sends; Postgres and the endpoint are `others`.
    """

    seconds: float
    cpu: float
    others: dict[str, float]
    counts: EndpointCounts

    def as_json(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "cpu_microseconds": self.cpu, **self.others}


async def drain(harness: Harness, effort: Effort) -> list[Result]:
    """All lines of a day at once, the default log to a file, 32 requests at once.

    Ours counts from the log's `daemon.started` to the last line's settlement in the ledger, so
    with all reading, taking and settling; the bare loop's from its first request to its last
    answer. Start-up counts for none, in time and in CPU. The two take turns as in ABBA, so that
    a machine that slows down in the middle slows both.
    """
    calls = day(effort.of(LINES, 2000))
    ours: list[Run] = []
    bare: list[Run] = []
    async with backlog(harness, calls) as source:
        bodies = Path()
        for turn in range(effort.rounds):
            if turn % 2:
                bare.append(await bare_loop(bodies, calls.lines))
            site = await harness.site("drain", source.name)
            ours.append(await our_drain(harness, site, calls.lines))
            bodies = await write_bodies(harness, site)
            await harness.drop(site)
            if not turn % 2:
                bare.append(await bare_loop(bodies, calls.lines))
    pairs = list(zip(ours, bare, strict=True))
    details = {
        "lines": calls.lines,
        "ours": [run.as_json() for run in ours],
        "theirs": [run.as_json() for run in bare],
    }
    return [
        Result(
            f"drain of {calls.lines:,} lines: CPU per line",
            f"{median(run.cpu for run in ours):.0f} µs",
            f"bare aiohttp loop: {median(run.cpu for run in bare):.0f} µs",
            [theirs.cpu / own.cpu for own, theirs in pairs],
            at_least(0.5),
            details,
        ),
        Result(
            "the same: wall",
            rate(calls.lines, [run.seconds for run in ours]),
            f"bare aiohttp loop: {rate(calls.lines, [run.seconds for run in bare])}",
            [theirs.seconds / own.seconds for own, theirs in pairs],
            at_least(0.47),
            details,
        ),
    ]


def day(lines: int) -> data.Calls:
    """Calls of the last hours that give about so many lines, about many records."""
    count = data.calls_of(lines)
    end = datetime.now(UTC) - timedelta(hours=1)
    return data.Calls(count, end, timedelta(hours=9), max(20, count // CALLS_PER_RECORD))


@asynccontextmanager
async def backlog(harness: Harness, calls: data.Calls) -> AsyncIterator[Site]:
    """Make a site with these calls, to be copied for each run."""
    source = await harness.site("drain_source")
    async with source.connection() as db:
        await data.add(db, calls)
    await source.settle_down()
    yield source
    await harness.drop(source)


async def our_drain(
    harness: Harness,
    site: Site,
    lines: int,
    more: Callable[[str], dict[str, str]] = lambda _: {},
    beside: Callable[[str], AbstractAsyncContextManager[object]] = lambda _: nullcontext(),
) -> Run:
    """Drain with the daemon; settings that depend on the endpoint's URL, and what runs beside."""
    postgres = await harness.postgres_cpu()
    async with endpoint() as salesforce:
        settings = environment(
            site,
            salesforce.url,
            concurrency=str(CONCURRENCY),
            start_from="2020-01-01",
            **more(salesforce.url),
        )
        async with daemon(harness.folder, settings) as running:
            started = moment(await running.until("daemon.started"))
            before = cpu_time(running.process.pid)
            async with beside(salesforce.url):
                counts = await running.while_it_runs(salesforce.answered(lines))
                seconds = await running.while_it_runs(drained(site, started, lines))
            spent = cpu_time(running.process.pid) - before
            others = {
                "postgres": await harness.postgres_cpu() - postgres,
                "endpoint": cpu(salesforce.process.pid),
            }
            await running.stop()
    by_process = {name: each / lines * 1e6 for name, each in others.items()}
    return Run(seconds, spent / lines * 1e6, by_process, counts)


async def write_bodies(harness: Harness, site: Site) -> Path:
    """Write down what was sent, in its order."""
    async with site.connection() as db:
        rows = await db.fetch(
            "SELECT concat_ws('-', call_id, group_id, leg_id, code_id) AS key, record FROM line"
            " ORDER BY call_ended, call_id, ordinal"
        )
    path = harness.folder / "bodies"
    path.write_text("".join(f"{row['key']}\t{row['record']}\n" for row in rows))
    return path


async def bare_loop(path: Path, lines: int, *, delay: float = 0.0, locks: bool = False) -> Run:
    """Post the same with nothing around it, to an endpoint that takes `delay`, or locks records."""
    async with endpoint(delay=delay, locks=locks) as salesforce:
        flags = ("--workers", CONCURRENCY, "--token", TOKEN, *["--lanes"] * locks)
        seconds, spent = await run_module("peers.bare_aiohttp", salesforce.url, path, *flags)
        counts = await salesforce.tally()
        assert counts.answers == lines
        others = {"endpoint": cpu(salesforce.process.pid) / lines * 1e6}
    return Run(seconds, spent / lines * 1e6, others, counts)
