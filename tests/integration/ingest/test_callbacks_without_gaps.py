"""Whatever the order of requests, ends, polls, sweeps and restarts: each is taken, once."""

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.demo.rows import Call, Event
from daemon.lines import FeedName
from tests.support.expected import BERLIN
from tests.support.rows import call, event, local_times, on_local_clocks
from tests.support.site import LOOKBACK, Site

DELAY = timedelta(seconds=30)
END_WITHIN = timedelta(minutes=30)
LATEST = timedelta(hours=24)
"""How late rows may become visible; LOOKBACK is a little more, also over a repeated hour."""

BEGINNINGS = {
    "a day like any other": datetime(2026, 11, 19, 9, tzinfo=UTC),
    "the night when the clock is put back": datetime(2026, 10, 24, 21, tzinfo=UTC),
    "the night when the clock is put forward": datetime(2026, 3, 28, 21, tzinfo=UTC),
}
KINDS = ["timestamptz", "timestamp"]
COMING = 1000
"""Ids from here on are of calls that requests name before they are there."""


@pytest.fixture
def feed() -> FeedName:
    return FeedName.CALLBACKS


def seen(moment: datetime, *, local: bool) -> datetime:
    """The instant as which the source reads a time back: of a repeated hour the second."""
    if not local:
        return moment
    clock = moment.astimezone(BERLIN).replace(tzinfo=None)
    return clock.replace(tzinfo=BERLIN, fold=1).astimezone(UTC)


@dataclass
class World:
    """Requests and calls as committed so far, and the daemon over them."""

    site: Site
    local: bool
    page: int
    stack: AsyncExitStack
    start_from: datetime
    events: dict[int, Event] = field(default_factory=dict)
    calls: dict[int, Call] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    taken: int = 0

    async def restart(self) -> None:
        await self.stack.aclose()
        self.poller, self.sweeper = await self.stack.enter_async_context(
            self.site.callbacks(start_from=self.start_from, page=self.page)
        )

    async def go(self, step: tuple[Any, ...]) -> None:
        match step:
            case "request", late, about:
                await self.request(late, about)
            case "call", which, ends:
                await self.call(which, ends=ends)
            case "end", which:
                await self.end(which)
            case "pass", minutes:
                await self.site.pass_time(minutes=minutes)
            case ("poll",):
                await self.poll()
            case "sweep", wide:
                await self.sweep(wide=wide)
            case ("restart",):
                await self.restart()

    # What the ACD does.

    async def commit(self, row: Call | Event) -> None:
        await self.site.add(on_local_clocks(row, BERLIN) if self.local else row)

    async def request(self, late: int, about: int) -> None:
        """A request about no call (0), one of those that are there, or one that may come later."""
        number = len(self.events) + 1
        of = None
        if about:
            of = about % len(self.calls) + 1 if about > 0 and self.calls else COMING - about
        moment = self.site.now - timedelta(minutes=late)
        row = event(number, dtcreated=moment, statisticspartaid=of)
        await self.commit(row)
        self.events[number] = row

    async def call(self, coming: int, *, ends: bool) -> None:
        number = COMING + coming if coming else len(self.calls) + 1
        if number in self.calls:
            return
        now = self.site.now
        row = call(number, dtcallstart=now - timedelta(hours=1), dtcallend=now if ends else None)
        await self.commit(row)
        self.calls[number] = row

    async def end(self, which: int) -> None:
        running = [row for row in self.calls.values() if row.dtcallend is None]
        if not running:
            return
        row = running[which % len(running)]._replace(dtcallend=self.site.now)
        self.calls[row.id] = row
        await self.site.db.execute(
            "UPDATE StatisticsPartA SET dtCallEnd = $1 WHERE ID = $2",
            on_local_clocks(row, BERLIN).dtcallend if self.local else row.dtcallend,
            row.id,
        )

    # What the daemon does.

    async def poll(self) -> None:
        before = await self.site.watermark()
        self.taken += (await self.poller.poll()).lines
        after = await self.site.watermark()
        assert before <= after == self.site.now - DELAY
        await self.look(before, after)

    async def sweep(self, *, wide: bool) -> None:
        self.taken += (await self.sweeper.sweep(wide=wide)).lines
        watermark = await self.site.watermark()
        await self.look(watermark - LOOKBACK, watermark)

    # What must hold.

    def ready(self, row: Event) -> bool:
        created = seen(row.dtcreated, local=self.local)
        of = self.calls.get(row.statisticspartaid or 0)
        waits = of is not None and of.dtcallend is None and created > self.site.now - END_WITHIN
        return created <= self.site.now - DELAY and not waits

    async def look(self, since: datetime, until: datetime) -> None:
        """Nothing ready in (since, until] is missing, and nothing was taken before it was ready."""
        keys = await self.site.keys()
        assert len(keys) == len(set(keys))
        ready = {f"callback-{n}": row for n, row in self.events.items() if self.ready(row)}
        assert set(keys) - self.known <= ready.keys()
        self.known = set(keys)
        for key, row in ready.items():
            if since < seen(row.dtcreated, local=self.local) <= until:
                assert key in self.known, row


AT_ONCE = st.integers(0, 2)
SOON_OR_LATE = st.one_of(
    AT_ONCE, st.integers(0, 60), st.integers(0, LATEST // timedelta(minutes=1))
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("request"), SOON_OR_LATE, st.integers(-2, 5)),
        st.tuples(st.just("call"), st.sampled_from([0, 0, 0, 1, 2]), st.booleans()),
        st.tuples(st.just("end"), st.integers(0, 9)),
        st.tuples(st.just("request"), AT_ONCE, st.integers(1, 5)),
        st.tuples(st.just("pass"), st.one_of(AT_ONCE, st.integers(0, 30), st.integers(0, 2000))),
        st.tuples(st.just("poll")),
        st.tuples(st.just("sweep"), st.booleans()),
        st.tuples(st.just("restart")),
    ),
    min_size=5,
    max_size=50,
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("begin", BEGINNINGS)
@settings(
    max_examples=10,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS, page=st.sampled_from([2, 2000]))
async def test_whatever_the_order_each_request_is_taken_once_and_none_too_early(
    site: Site, begin: str, kind: str, steps: list[Any], page: int
) -> None:
    await start_over(site, BEGINNINGS[begin], local=kind == "timestamp")
    async with AsyncExitStack() as stack:
        world = World(site, kind == "timestamp", page, stack, site.now)
        await world.restart()
        # Rows of the days before START_FROM would be nobody's.
        await site.pass_time(hours=26)
        for step in steps:
            await world.go(step)
        await site.pass_time(hours=2)
        await world.poll()
        await world.sweep(wide=True)
        found = await site.keys()
    assert sorted(found) == sorted(f"callback-{number}" for number in world.events)
    assert world.taken == len(found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("begin", BEGINNINGS)
async def test_when_the_clocks_change_a_request_every_97_seconds_is_taken(
    site: Site, begin: str, kind: str
) -> None:
    """Every third one is about a call that ends ten minutes later."""
    start = BEGINNINGS[begin]
    local = kind == "timestamp"
    await start_over(site, start, local=local)
    arriving: list[tuple[datetime, Call | Event]] = []
    for number in range(1, 221):
        moment = start + number * timedelta(seconds=97)
        of = number if number % 3 == 0 else None
        if of is not None:
            arriving.append((moment, call(of, dtcallstart=moment, dtcallend=None)))
        arriving.append((moment, event(number, dtcreated=moment, statisticspartaid=of)))
    async with site.callbacks(start_from=start, page=10) as (poller, sweeper):
        steps = 0
        while site.now < start + timedelta(hours=9):
            steps += 1
            due = [row for moment, row in arriving if moment <= site.now]
            arriving = [pair for pair in arriving if pair[0] > site.now]
            await site.add(*(on_local_clocks(row, BERLIN) if local else row for row in due))
            ended = site.now.astimezone(BERLIN).replace(tzinfo=None) if local else site.now
            await site.db.execute(
                "UPDATE StatisticsPartA SET dtCallEnd = $1"
                " WHERE dtCallEnd IS NULL AND dtCallStart + interval '10 min' <= $1",
                ended,
            )
            await poller.poll()
            if steps % 4 == 0:
                await sweeper.sweep(wide=False)
            await site.pass_time(minutes=8)
        await sweeper.sweep(wide=False)
    assert sorted(await site.keys()) == sorted(f"callback-{n}" for n in range(1, 221))


async def start_over(site: Site, begin: datetime, *, local: bool) -> None:
    """Empty the source and forget the ledger's lines and start."""
    types = await site.db.fetchval(
        "SELECT format_type(atttypid, NULL) FROM pg_attribute"
        " WHERE attrelid = 'AcdEvents'::regclass AND attname = 'dtcreated'"
    )
    await site.db.execute("TRUNCATE StatisticsPartA, AcdEvents")
    if local and types != "timestamp without time zone":
        await local_times(site.db)
    await site.ledger_db.execute(
        "TRUNCATE callstatsd.line;"
        " UPDATE callstatsd.feed SET start_from = NULL, watermark = NULL, swept_at = NULL,"
        " never_ended_until = NULL"
    )
    await site.set_clock(begin)
