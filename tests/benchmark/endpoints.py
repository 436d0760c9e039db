"""How near the daemon comes to what a slow endpoint, or one that locks records, allows."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from tests.benchmark import data
from tests.benchmark.drain import CONCURRENCY, bare_loop, day, write_bodies
from tests.benchmark.endpoint import EndpointCounts
from tests.benchmark.harness import Harness, daemon, drained, endpoint, environment, moment
from tests.benchmark.result import Effort, Result, at_least, at_most, rate

SLOW = 0.1
SLOW_LINES = 9600

HOT_WORK = 0.008
HOT_LINES = 20_000
HOT_RECORDS = 200
HOT = 0.05


async def slow(harness: Harness, effort: Effort) -> list[Result]:
    """An answer takes 100 ms; from the first request's arrival to the last answer.

    A bare client at the same endpoint shows how near the limit a client comes at all.
    """
    calls = day(effort.of(SLOW_LINES, 1920))
    ours: list[float] = []
    bare: list[float] = []
    for _ in range(effort.rounds):
        run = await sent(harness, calls, delay=SLOW)
        ours.append(run.counts.seconds)
        bare.append((await bare_loop(run.bodies, calls.lines, delay=SLOW)).counts.seconds)
    limit = CONCURRENCY / SLOW
    return [
        Result(
            f"slow endpoint, {SLOW * 1000:.0f} ms",
            rate(calls.lines, ours),
            f"{CONCURRENCY} / {SLOW} s = {limit:,.0f} lines/s; "
            f"a bare loop comes to {rate(calls.lines, bare)}",
            [calls.lines / seconds / limit for seconds in ours],
            at_least(0.98),
            {"lines": calls.lines, "seconds": ours, "theirs": bare},
        )
    ]


async def hot(harness: Harness, effort: Effort) -> list[Result]:
    """Few records carry half of the lines, at an endpoint that refuses a record in use.

    What the lanes allow is the longer of two times: all lines' work shared by all requests in
    flight, and the longest lane's work one after another; work as the endpoint measured it.
    Counted from the first request's arrival to the last answer. A bare client that knows all
    lanes beforehand, and begins with the longest, shows how near that a client comes at all.
    """
    count = data.calls_of(effort.of(HOT_LINES, 4000))
    end = datetime.now(UTC) - timedelta(hours=1)
    calls = data.Calls(count, end, timedelta(hours=9), HOT_RECORDS, hot=HOT)
    ours: list[Sent] = []
    shares: list[float] = []
    bare: list[float] = []
    for _ in range(effort.rounds):
        run = await sent(harness, calls, delay=HOT_WORK, locks=True)
        ours.append(run)
        shares.append(_share(run.counts, run.longest_lane))
        theirs = await bare_loop(run.bodies, calls.lines, delay=HOT_WORK, locks=True)
        bare.append(_share(theirs.counts, run.longest_lane))
    lane = ours[0].longest_lane
    locked: list[float] = [run.counts.locked for run in ours]
    measured = rate(calls.lines, [run.counts.seconds for run in ours])
    details = {"lines": calls.lines, "longest_lane": lane, "shares": shares, "bare_shares": bare}
    return [
        Result(
            f"hot records: {HOT:.0%} carry half",
            f"{measured}, {median(shares):.2f} of what the lanes allow",
            f"a bare loop that keeps the lanes: {median(bare):.2f} "
            f"({HOT_WORK * 1000:.0f} ms of work, longest lane {lane:,})",
            [own / their for own, their in zip(shares, bare, strict=True)],
            at_least(1),
            details,
        ),
        Result(
            "the same: 423s caused by us", measured, "none", locked, at_most(0, "423s"), details
        ),
    ]


def _share(counts: EndpointCounts, longest_lane: int) -> float:
    """The share of what the lanes allow that a client came to."""
    lines = counts.answers - counts.locked
    allowed = counts.working / lines * max(lines / CONCURRENCY, longest_lane)
    return allowed / counts.seconds


@dataclass(frozen=True, slots=True)
class Sent:
    """What came in, the lines of the longest lane, and the bodies in a file."""

    counts: EndpointCounts
    longest_lane: int
    bodies: Path


async def sent(
    harness: Harness,
    calls: data.Calls,
    *,
    delay: float,
    locks: bool = False,
    concurrency: int = CONCURRENCY,
) -> Sent:
    """Let the daemon send all lines of these calls."""
    site = await harness.site("endpoints")
    async with site.connection() as db:
        await data.add(db, calls)
    await site.settle_down()
    async with endpoint(delay=delay, locks=locks) as salesforce:
        settings = environment(
            site, salesforce.url, concurrency=str(concurrency), start_from="2020-01-01"
        )
        async with daemon(harness.folder, settings) as running:
            started = moment(await running.until("daemon.started"))
            await running.while_it_runs(salesforce.answered(calls.lines))
            await running.while_it_runs(drained(site, started, calls.lines))
            await running.stop()
        counts = await salesforce.tally()
    assert counts.most_in_flight <= concurrency, asdict(counts)
    async with site.connection() as db:
        longest: int = await db.fetchval(
            "SELECT count(*) AS lines FROM line GROUP BY lane ORDER BY lines DESC LIMIT 1"
        )
    bodies = await write_bodies(harness, site)
    await harness.drop(site)
    return Sent(counts, longest, bodies)
