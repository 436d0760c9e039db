"""Lines a second, by requests at once and by how long Salesforce takes for one."""

from tests.benchmark.drain import day
from tests.benchmark.endpoints import sent
from tests.benchmark.harness import Harness
from tests.capacity.tables import Table

CONCURRENCIES = 1, 4, 16, 32, 64
LATENCIES = 0.0, 0.02, 0.1, 0.4
SECONDS = 8.0
"""How long a cell is measured, as far as the limit allows it."""
FEWEST, MOST = 60, 12_000
"""Lines of a cell."""


async def sending(harness: Harness) -> list[Table]:
    """Drain a backlog for each cell, from the first request's arrival to the last answer."""
    table = Table("`CALLSTATSD_CONCURRENCY`")
    for latency in LATENCIES:
        column = table.column(f"{latency * 1000:.0f} ms" if latency else "at once")
        for concurrency in CONCURRENCIES:
            column[str(concurrency)] = await cell(harness, concurrency, latency)
    return [table]


async def cell(harness: Harness, concurrency: int, latency: float) -> str:
    """Lines a second, and the share of requests at once divided by the latency."""
    lines = MOST
    if latency:
        lines = int(min(MOST, max(FEWEST, SECONDS * concurrency / latency)))
    calls = day(lines)
    run = await sent(harness, calls, delay=latency, concurrency=concurrency)
    rate = calls.lines / run.counts.seconds
    shown = f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}"
    return f"{shown} ({rate * latency / concurrency:.2f})" if latency else shown
