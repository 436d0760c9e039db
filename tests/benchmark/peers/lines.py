"""All lines of a source, read and made by our own code: what differs between peers is the queue."""

from collections.abc import AsyncIterator
from datetime import timedelta
from zoneinfo import ZoneInfo

from daemon.ingest.columns import MAX_TIME, MIN_TIME
from daemon.ingest.readiness import Window
from daemon.ingest.source import open_source
from daemon.ingest.statistics import StatisticsFeed
from daemon.lines import NewLine
from tests.benchmark import data
from tests.support.site import RULES, SENDING

BATCH = 1000
"""Jobs that are inserted by one statement."""
BERLIN = ZoneInfo("Europe/Berlin")
YEAR = timedelta(days=365)


async def batches(dsn: str) -> AsyncIterator[list[NewLine]]:
    """Read all lines, in batches to insert."""
    async with open_source(dsn, (data.SOURCE,), BERLIN, None) as source:
        feed = StatisticsFeed(source, RULES, SENDING)
        batch: list[NewLine] = []
        async for page in feed.ready_in(Window(MIN_TIME + YEAR, MAX_TIME - YEAR)):
            async for lines in feed.new_lines(page.found):
                batch += lines
                while len(batch) >= BATCH:
                    yield batch[:BATCH]
                    del batch[:BATCH]
        if batch:
            yield batch
