"""How much memory a backfill takes, however long its window."""

import asyncio
from datetime import UTC, datetime, timedelta

from tests.benchmark import data
from tests.benchmark.drain import CONCURRENCY
from tests.benchmark.harness import Harness, daemon, endpoint, environment, memory
from tests.benchmark.result import Effort, Result, at_most

SMALL, LARGE = 20_000, 300_000
MEGABYTE = 1_000_000
SAMPLE = 0.1


async def backfill(harness: Harness, effort: Effort) -> list[Result]:
    """The most memory of a `callstatsd backfill` that takes and sends all lines of a window.

    Once each: the large one takes minutes, and memory varies little.
    """
    sizes = SMALL, effort.of(LARGE, 2 * SMALL)
    peaks = [await _peak(harness, size) for size in sizes]
    measured = f"{peaks[1] / MEGABYTE:.0f} MB"
    return [
        Result(
            f"backfill of {sizes[1]:,} lines: memory",
            measured,
            f"{sizes[0]:,} lines: {peaks[0] / MEGABYTE:.0f} MB",
            [peaks[1] / peaks[0]],
            at_most(1.2),
        ),
        Result("the same: most", measured, "", [peaks[1] / MEGABYTE], at_most(150, "MB")),
    ]


async def _peak(harness: Harness, lines: int) -> int:
    """Bytes of memory that a backfill of so many lines had at most."""
    site = await harness.site("backfill")
    now = datetime.now(UTC)
    count = data.calls_of(lines)
    # Two days ago, as a day ago may be today by the ACD's clock, which the window ends before.
    calls = data.Calls(count, now - timedelta(days=2), timedelta(days=20), max(20, count // 4))
    async with site.connection() as db:
        await data.add(db, calls)
    await site.settle_down()
    window = [f"{(now - timedelta(days=ago)):%Y-%m-%d}" for ago in (25, 0)]
    most = 0
    async with endpoint() as salesforce:
        settings = environment(site, salesforce.url, concurrency=str(CONCURRENCY))
        command = ("backfill", "--from", window[0], "--to", window[1])
        async with daemon(harness.folder, settings, *command) as running:
            while running.process.returncode is None:
                try:
                    most = max(most, memory(running.process.pid)[1])
                except (FileNotFoundError, KeyError, ProcessLookupError):
                    break  # it has just ended
                await asyncio.sleep(SAMPLE)
            code = await running.process.wait()
            assert code == 0, running.log.read_text()[-2000:]
        counts = await salesforce.tally()
        assert counts.answers == calls.lines, (calls.lines, counts, running.log.read_text()[-2000:])
    await harness.drop(site)
    return most
