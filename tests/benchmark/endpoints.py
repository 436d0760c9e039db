"""How near the daemon comes to what a slow endpoint, or one that locks records, allows."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from math import nan
from statistics import median

from tests.benchmark import data
from tests.benchmark.drain import CONCURRENCY, bare_loop, day, write_bodies
from tests.benchmark.endpoint import EndpointCounts
from tests.benchmark.harness import Harness, Site, daemon, drained, endpoint, environment, moment
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
    rates = []
    bare = []
    for _ in range(effort.rounds):
        run = await sent(harness, await made(harness, calls), calls.lines, delay=SLOW, bare=True)
        rates.append(calls.lines / (run.tally.last - run.tally.first))
        bare.append(run.bare)
    limit = CONCURRENCY / SLOW
    return [
        Result(
            f"slow endpoint, {SLOW * 1000:.0f} ms",
            rate(calls.lines, [calls.lines / each for each in rates]),
            f"{CONCURRENCY} / {SLOW} s = {limit:,.0f} lines/s; "
            f"a bare loop comes to {rate(calls.lines, bare)}",
            [each / limit for each in rates],
            at_least(0.98),
            {"lines": calls.lines, "rates": rates, "bare": bare},
        )
    ]


async def hot(harness: Harness, effort: Effort) -> list[Result]:
    """Few records carry half of the lines, at an endpoint that refuses a record in use.

    What the lanes allow is the longer of two times: all lines' work shared by all requests in
    flight, and the longest lane's work one after another; work as the endpoint measured it.
    Counted from the first request's arrival to the last answer. The same run at an endpoint that
    locks nothing shows what the locks cost, and a bare client at that endpoint how near 32 times
    its work a client comes at all.
    """
    count = data.calls_of(effort.of(HOT_LINES, 4000))
    end = datetime.now(UTC) - timedelta(hours=1)
    calls = data.Calls(count, end, timedelta(hours=9), HOT_RECORDS, hot=HOT)
    shares: list[float] = []
    seconds: list[float] = []
    unlocked: list[float] = []
    locked: list[float] = []
    bare: list[float] = []
    lane = 0
    for _ in range(effort.rounds):
        site = await made(harness, calls)
        run = await sent(harness, site, calls.lines, delay=HOT_WORK, locks=True)
        tally, lane = run.tally, run.longest_lane
        locked.append(tally.locked)
        work = tally.working / calls.lines
        allowed = work * max(calls.lines / CONCURRENCY, lane)
        seconds.append(tally.last - tally.first)
        shares.append(allowed / seconds[-1])
        site = await made(harness, calls)
        run = await sent(harness, site, calls.lines, delay=HOT_WORK, bare=True)
        unlocked.append(run.tally.last - run.tally.first)
        bare.append(work * calls.lines / CONCURRENCY / run.bare)
    details = {
        "lines": calls.lines,
        "longest_lane": lane,
        "seconds": seconds,
        "unlocked": unlocked,
        "bare_shares": bare,
    }
    measured = rate(calls.lines, seconds)
    return [
        Result(
            f"hot records: {HOT:.0%} carry half",
            f"{measured}; without locks {rate(calls.lines, unlocked)}",
            f"what the lanes allow, {HOT_WORK * 1000:.0f} ms of work, longest lane {lane:,}; "
            f"a bare loop comes to {median(bare):.2f} of such a limit",
            shares,
            at_least(0.9),
            details,
        ),
        Result(
            "the same: 423s caused by us", measured, "none", locked, at_most(0, "423s"), details
        ),
    ]


async def made(harness: Harness, calls: data.Calls) -> Site:
    """Make a site with these calls."""
    site = await harness.site("endpoints")
    async with site.connection() as db:
        await data.add(db, calls)
    await site.settle_down()
    return site


@dataclass(frozen=True, slots=True)
class Run:
    """What came in, the lines of the longest lane, and a bare client's seconds for the same."""

    tally: EndpointCounts
    longest_lane: int
    bare: float


async def sent(
    harness: Harness,
    site: Site,
    lines: int,
    *,
    delay: float,
    locks: bool = False,
    bare: bool = False,
) -> Run:
    """Let the daemon send all, and then a bare client if asked to."""
    async with endpoint(delay=delay, locks=locks) as salesforce:
        settings = environment(
            site, salesforce.url, concurrency=str(CONCURRENCY), start_from="2020-01-01"
        )
        async with daemon(harness.folder, settings) as running:
            started = moment(await running.until("daemon.started"))
            await running.while_it_runs(salesforce.answered(lines))
            await running.while_it_runs(drained(site, started, lines))
            await running.stop()
        tally = await salesforce.tally()
    assert tally.most_in_flight <= CONCURRENCY, asdict(tally)
    async with site.connection() as db:
        longest: int = await db.fetchval(
            "SELECT count(*) AS lines FROM line GROUP BY lane ORDER BY lines DESC LIMIT 1"
        )
    seconds = nan
    if bare:
        seconds = (await bare_loop(await write_bodies(harness, site), lines, delay)).seconds
    await harness.drop(site)
    return Run(tally, longest, seconds)
