"""How fast the same backlog is sent by job queues, measured like the drain and in turns with it."""

import importlib.util
from importlib.metadata import version
from typing import Any

from tests.benchmark.drain import CONCURRENCY, LINES, backlog, day, our_drain
from tests.benchmark.harness import TOKEN, Harness, Site, endpoint, run_module
from tests.benchmark.peers import graphile_worker as graphile
from tests.benchmark.result import Effort, Goal, Result, SkippedError, at_least, rate


async def pgqueuer(harness: Harness, effort: Effort) -> list[Result]:
    """PgQueuer, with aiohttp."""
    if not importlib.util.find_spec("pgqueuer"):
        raise SkippedError("PgQueuer is not installed")
    name = f"PgQueuer {version('pgqueuer')}"
    return await _compare(harness, effort, name, at_least(2.3), "peers.pgqueuer")


async def graphile_worker(harness: Harness, effort: Effort) -> list[Result]:
    """graphile-worker, with Node and undici, installed into the folder of this run."""
    folder = harness.folder / "graphile_worker"
    folder.mkdir()
    try:
        name = f"graphile-worker {await graphile.install(folder)}"
    except graphile.NotInstalledError as error:
        raise SkippedError(str(error)) from error
    return await _compare(harness, effort, name, at_least(1), "peers.graphile_worker", folder)


async def _compare(
    harness: Harness, effort: Effort, name: str, goal: Goal, module: str, *arguments: Any
) -> list[Result]:
    """Drain the same lines with the daemon and with a queue, in turns.

    The queue counts from its first row read to its last job done, so with inserting its jobs.
    """
    calls = day(effort.of(LINES, 2000))
    ours: list[float] = []
    theirs: list[float] = []
    async with backlog(harness, calls) as source:
        for _ in range(effort.rounds):
            site = await harness.site("drain", source.name)
            ours.append((await our_drain(harness, site, calls.lines)).seconds)
            await harness.drop(site)
            site = await harness.site("queue", source.name)
            theirs.append(await _drain(site, calls.lines, module, *arguments))
            await harness.drop(site)
    return [
        Result(
            f"drain of {calls.lines:,} lines",
            rate(calls.lines, ours),
            f"{name}: {rate(calls.lines, theirs)}",
            [their / own for own, their in zip(ours, theirs, strict=True)],
            goal,
            {"lines": calls.lines, "seconds": ours, "theirs": theirs},
        )
    ]


async def _drain(site: Site, lines: int, module: str, *arguments: Any) -> float:
    """Drain with a queue; seconds."""
    async with endpoint() as salesforce:
        flags = ("--concurrency", CONCURRENCY, "--token", TOKEN)
        (seconds,) = await run_module(module, *arguments, site.dsn, salesforce.url, *flags)
        assert (await salesforce.tally()).answers == lines
    return seconds
