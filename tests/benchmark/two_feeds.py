"""What callbacks cost: the drain of statistics beside them, and a poll that finds none."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from statistics import median

from daemon.ingest.callbacks import END_WITHIN, CallbackFeed, CallbackOptions, CallbackSource
from daemon.ingest.intake import Intake
from daemon.ingest.poller import Poller
from daemon.ingest.readiness import ReadinessRules
from daemon.ingest.source import open_source
from daemon.ledger.store import open_ledger
from tests.benchmark import data
from tests.benchmark.drain import LINES, Run, backlog, day, our_drain
from tests.benchmark.harness import Harness, Site
from tests.benchmark.history import BERLIN, timed_polls
from tests.benchmark.result import Effort, Result, at_least, at_most, rate

EVENTS = 100_000
"""Old events in the table: callbacks, voice mails and others."""
SHARE = 5
"""One callback request for so many lines."""
RULES = ReadinessRules(timedelta(seconds=30), END_WITHIN, BERLIN)

OLD = """
INSERT INTO AcdEvents (ID, AcdEventTypesID, ClientsID, Sender, UserData, dtCreated)
SELECT n, 1 + n % 3, 1, '0049711' || n, NULL, now() - interval '40 days' + n * interval '30 s'
FROM generate_series(1, $1::bigint) AS n
"""
NEW = """
INSERT INTO AcdEvents (ID, AcdEventTypesID, ClientsID, Sender, UserData, dtCreated)
SELECT 9000000 + n, 3, 1, '0049711' || n, NULL, now() - interval '1 hour' + n * interval '50 ms'
FROM generate_series(1, $1::bigint) AS n
"""


async def callbacks(harness: Harness, effort: Effort) -> list[Result]:
    """The same backlog with callbacks off, on, and with one request for every five lines.

    The three take turns; without requests the lines and their number are the same.
    """
    calls = day(effort.of(LINES, 2000))
    requests = calls.lines // SHARE
    runs: dict[str, list[Run]] = {"off": [], "on": [], "both": []}
    async with backlog(harness, calls) as source:
        for turn in range(effort.rounds):
            for name in sorted(runs, reverse=bool(turn % 2)):
                site = await harness.site("feeds", source.name)
                lines = calls.lines
                if name == "both":
                    lines += requests
                    async with site.connection() as db:
                        await db.execute(NEW, requests)
                more = _off if name == "off" else _on
                runs[name].append(await our_drain(harness, site, lines, more))
                await harness.drop(site)
    off, on, both = runs["off"], runs["on"], runs["both"]
    return [
        Result(
            f"drain of {calls.lines:,} lines with callbacks on, none there: CPU per line",
            f"{median(run.cpu for run in on):.0f} µs",
            f"off: {median(run.cpu for run in off):.0f} µs",
            [before.cpu / after.cpu for before, after in zip(off, on, strict=True)],
            at_least(0.95),
        ),
        Result(
            f"the same with {requests:,} callbacks beside them: wall",
            rate(calls.lines + requests, [run.seconds for run in both]),
            f"off: {rate(calls.lines, [run.seconds for run in off])}",
            [
                (calls.lines + requests) / after.seconds / (calls.lines / before.seconds)
                for before, after in zip(off, both, strict=True)
            ],
            at_least(0.8),
        ),
        await _idle(harness, effort),
    ]


def _off(_url: str) -> dict[str, str]:
    return {}


def _on(url: str) -> dict[str, str]:
    return {"callback_url": f"{url}/callbacks"}


async def _idle(harness: Harness, effort: Effort) -> Result:
    """A poll for callbacks that finds none, after many old events against none."""
    sites = []
    for events in (0, effort.of(EVENTS, 1000)):
        site = await harness.site("events")
        async with site.connection() as db:
            await db.execute(OLD, events)
        await site.settle_down()
        sites.append(site)
    ratios, seconds = [], []
    async with _polling(sites[0]) as few, _polling(sites[1]) as many:
        for _ in range(2 * effort.rounds):
            short = median(await timed_polls(few))
            long = median(await timed_polls(many))
            ratios.append(long / short)
            seconds.append(long)
    for site in sites:
        await harness.drop(site)
    return Result(
        f"idle poll for callbacks, {effort.of(EVENTS, 1000):,} events",
        f"{median(seconds) * 1000:.2f} ms",
        "an empty table",
        ratios,
        at_most(1.2),
    )


@asynccontextmanager
async def _polling(site: Site) -> AsyncIterator[Poller]:
    async with (
        open_source(site.dsn, (data.SOURCE,), BERLIN, None) as source,
        open_ledger(site.dsn, data.LEDGER) as ledger,
    ):
        requests = CallbackSource(source.database, (data.SOURCE,), None)
        feed = CallbackFeed(requests, RULES, CallbackOptions(BERLIN, empty_as_string=False))
        poller = Poller(feed, ledger, Intake(feed, ledger), lambda: None)
        await poller.prepare(None, (data.SOURCE,))
        await poller.poll()
        yield poller
