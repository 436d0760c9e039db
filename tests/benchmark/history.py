"""What a long history costs: polls that find nothing, and sweeps that find nothing missing."""

import asyncio
import shutil
import time
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from statistics import median
from zoneinfo import ZoneInfo

from daemon.demo.postgres import installed_programs
from daemon.ingest.intake import Intake
from daemon.ingest.poller import Poller
from daemon.ingest.source import open_source
from daemon.ingest.statistics import StatisticsFeed
from daemon.ledger.store import open_ledger
from tests.benchmark import data
from tests.benchmark.harness import Harness, Site, run_module
from tests.benchmark.result import Effort, Result, at_most
from tests.support.counters import counters, no_autovacuum
from tests.support.site import RULES, SENDING

SHORT, LONG = 10_000, 3_000_000
POLLS = 50
BERLIN = ZoneInfo("Europe/Berlin")

SWEPT_LINES = 100_000
SWEEP_SPAN = timedelta(hours=20)
# A watermark of now would lie ahead of what is ready, and be pulled back.
COVERED = "UPDATE feed SET start_from = '2020-01-01', watermark = now() - interval '3 min'"


async def idle(harness: Harness, effort: Effort) -> list[Result]:
    """A poll when nothing has ended: its time, and the buffers of all its statements.

    The polls of both histories take turns, in blocks. Both histories are settled lines too, as
    old as the calls, without the records that retention has dropped.
    """
    sizes = SHORT, effort.of(LONG, 10 * SHORT)
    sites = [await _with_history(harness, size) for size in sizes]
    seconds: tuple[list[float], list[float]] = ([], [])
    ratios = []
    async with AsyncExitStack() as stack:
        pollers = [await stack.enter_async_context(polling(site)) for site in sites]
        for poller in pollers:
            await timed_polls(poller)  # the first prepares its statements
        for _ in range(2 * effort.rounds):
            block = [median(await timed_polls(poller)) for poller in pollers]
            ratios.append(block[1] / block[0])
            for each, spent in zip(seconds, block, strict=True):
                each.append(spent)
    buffers = [await buffers_of_poll(site) for site in sites]
    for site in sites:
        await harness.drop(site)
    milliseconds = [median(each) * 1000 for each in seconds]
    return [
        Result(
            f"idle poll, {sizes[1]:,} calls: time",
            f"{milliseconds[1]:.2f} ms",
            f"{sizes[0]:,} calls: {milliseconds[0]:.2f} ms",
            ratios,
            at_most(1.2),
            {"milliseconds": milliseconds},
        ),
        Result(
            "the same: buffers",
            f"{buffers[1]:.1f}",
            f"{buffers[0]:.1f}",
            [buffers[1] / buffers[0]],
            at_most(1.2),
        ),
    ]


async def _with_history(harness: Harness, calls: int) -> Site:
    """Make a site with so many calls, all taken and settled, the last an hour ago."""
    site = await harness.site("history")
    now = datetime.now(UTC)
    # Some 10,000 calls a day.
    span = timedelta(days=calls / 10_000)
    async with site.connection() as db:
        last = now - timedelta(hours=1)
        history = data.Calls(calls, last, span, min(calls, 20_000), lost=True)
        await data.add(db, history, taken=True)
        await db.execute(COVERED)
    await no_autovacuum(site.dsn)
    await site.settle_down()
    return site


@asynccontextmanager
async def polling(site: Site) -> AsyncIterator[Poller]:
    async with (
        open_source(site.dsn, (data.SOURCE,), BERLIN, None) as source,
        open_ledger(site.dsn, data.LEDGER) as ledger,
    ):
        feed = StatisticsFeed(source, RULES, SENDING)
        poller = Poller(feed, ledger, Intake(feed, ledger), lambda: None)
        await poller.prepare(None, (data.SOURCE,))
        await poller.poll()
        yield poller


async def timed_polls(poller: Poller) -> list[float]:
    """Poll some times; seconds of each."""
    seconds = []
    for _ in range(POLLS):
        began = time.perf_counter()
        taken = await poller.poll()
        seconds.append(time.perf_counter() - began)
        assert not taken.lines
    return seconds


async def buffers_of_poll(site: Site) -> float:
    """Buffers of one idle poll, beyond what starting costs."""
    spent = []
    for polls in (1, 1 + POLLS):
        before = await counters(site.dsn)
        async with polling(site) as poller:
            for _ in range(polls):
                await poller.poll()
        spent.append((await counters(site.dsn)).since(before).buffers)
    return (spent[1] - spent[0]) / POLLS


async def sweep(harness: Harness, effort: Effort) -> list[Result]:
    """A sweep of LOOKBACK when nothing is missing, against psql reading the keys it compares.

    psql reads the keys of the window's lines from the source, and those that the ledger has, in one
    statement each. The sweep runs in a process of its own, whose memory is compared with what it
    was after a sweep of a tenth of the window.
    """
    calls = data.calls_of(effort.of(SWEPT_LINES, 10_000))
    site = await harness.site("sweep")
    now = datetime.now(UTC)
    async with site.connection() as db:
        window = data.Calls(calls, now - timedelta(hours=1), SWEEP_SPAN, calls // 4)
        await data.add(db, window, taken=True)
        await db.execute(COVERED)
    await site.settle_down()
    ratios: list[float] = []
    swept: list[float] = []
    read: list[float] = []
    grown: list[float] = []
    for _ in range(effort.rounds):
        seconds, small, large = await run_module("sweeping", site.dsn, SWEEP_SPAN.total_seconds())
        swept.append(seconds)
        grown.append(large / small)
        read.append(await _read_by_psql(site))
        ratios.append(swept[-1] / read[-1])
    await harness.drop(site)
    lines = window.lines
    details = {"lines": lines, "seconds": swept, "theirs": read}
    return [
        Result(
            f"sweep of {lines:,} lines",
            f"{median(swept):.2f} s",
            f"psql reads the same keys: {median(read):.2f} s",
            ratios,
            at_most(2),
            details,
        ),
        Result("the same: memory", "most ever", "after a tenth of the window", grown, at_most(1.1)),
    ]


PSQL = """
SELECT c.id, v.id, l.id, t.id
FROM jtelstats.statisticsparta AS c
LEFT JOIN jtelstats.acdstatisticspartb AS v ON v.statisticspartaid = c.id
LEFT JOIN jtelstats.statisticspartb AS l ON l.acdstatisticspartbid = v.id
                                        AND l.statisticspartaid = c.id
LEFT JOIN jtelstats.acdstatisticstransactioncodes AS t ON t.statisticspartbid = l.id
                                                      AND t.statisticspartaid = c.id
WHERE c.dtcallend >= now() - interval '26 h';
SELECT call_id, group_id, leg_id, code_id FROM callstatsd.line
WHERE call_ended >= now() - interval '26 h'
"""


async def _read_by_psql(site: Site) -> float:
    """Seconds of a psql that reads the keys of both sides and prints them to nowhere."""
    own = installed_programs() / "psql"
    psql = str(own) if own.exists() else shutil.which("psql")
    assert psql, "psql is neither in the wheel nor on the path"
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        psql, "-XqAt", "-v", "ON_ERROR_STOP=1", "-c", PSQL, site.dsn, stdout=DEVNULL
    )
    assert await process.wait() == 0
    return time.perf_counter() - began
