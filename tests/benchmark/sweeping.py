"""Sweeps in a process of its own: prints seconds, and its most memory before and after them."""

import asyncio
import sys
import time
from datetime import timedelta

import uvloop

from daemon.ingest.intake import Intake
from daemon.ingest.source import open_source
from daemon.ingest.statistics import StatisticsFeed
from daemon.ingest.sweeper import Sweeper
from daemon.ledger.store import open_ledger
from daemon.lines import FeedName
from tests.benchmark import data
from tests.benchmark.harness import memory_of_this_process
from tests.support.expected import BERLIN
from tests.support.site import RULES, SENDING

QUIET = timedelta(hours=1)


async def sweep(dsn: str, span: timedelta) -> tuple[float, int, int]:
    """Sweep a tenth of the window, then all of it."""
    async with (
        open_source(dsn, (data.SOURCE,), BERLIN, None) as source,
        open_ledger(dsn, data.LEDGER) as ledger,
    ):
        feed = StatisticsFeed(source, RULES, SENDING)
        intake = Intake(feed, ledger)
        await source.prepare()
        clock = await source.clock()
        await ledger.swept(FeedName.STATISTICS, clock.now)
        seconds, peaks = 0.0, []
        for part in (span / 10, span):
            lookback = QUIET + part
            sweeper = Sweeper(feed, ledger, intake, lookback, lambda: None)
            began = time.perf_counter()
            taken = await sweeper.sweep(wide=True)
            seconds = time.perf_counter() - began
            assert not taken.lines
            peaks.append(memory_of_this_process())
    return seconds, peaks[0], peaks[1]


def main() -> None:
    dsn, span = sys.argv[1], timedelta(seconds=float(sys.argv[2]))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(*runner.run(sweep(dsn, span)))  # noqa: T201 - its result


if __name__ == "__main__":
    main()
