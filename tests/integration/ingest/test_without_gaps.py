"""Whatever the order of late commits, polls, sweeps and restarts: every line is taken, once."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.demo.rows import Call, Code, Leg, Visit
from daemon.ingest.intake import Intake
from daemon.ingest.poller import Poller
from daemon.ingest.readiness import NEAR, ReadinessRules
from daemon.ingest.source import Source, open_source
from daemon.ingest.statistics import StatisticsFeed
from daemon.ingest.sweeper import Sweeper
from daemon.ledger.store import Ledger, open_ledger
from tests.support.expected import BERLIN, data_lines, lines_of
from tests.support.rows import call, code, leg, local_times, on_local_clocks, sample, visit
from tests.support.site import LOOKBACK, SCHEMAS, SENDING, Site

SETTLE = timedelta(seconds=120)
STALE = timedelta(hours=12)
LATEST = timedelta(hours=25)
"""How late rows may become visible; LOOKBACK is a little more."""

BEGINNINGS = {
    "a day like any other": datetime(2026, 11, 19, 9, tzinfo=UTC),
    "the night when the clock is put back": datetime(2026, 10, 24, 21, tzinfo=UTC),
    "the night when the clock is put forward": datetime(2026, 3, 28, 21, tzinfo=UTC),
}


@dataclass
class World:
    """The source's rows as committed so far, and the daemon over them."""

    site: Site
    source: Source
    ledger: Ledger
    local: bool
    rows: dict[int, Call | Visit | Leg | Code] = field(default_factory=dict)
    versions: dict[str, Any] = field(default_factory=dict)
    taken: int = 0

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        rules = ReadinessRules(SETTLE, STALE, BERLIN, self.site.now)
        feed = StatisticsFeed(self.source, rules, SENDING)
        intake = Intake(feed, self.ledger)
        self.poller = Poller(feed, self.ledger, intake, lambda: None)
        self.sweeper = Sweeper(feed, self.ledger, intake, LOOKBACK, lambda: None)

    async def go(self, step: tuple[Any, ...]) -> None:
        match step:
            case "call", late, shape:
                await self.new_call(late, shape, ends=True)
            case "running", late, shape:
                await self.new_call(late, shape, ends=False)
            case "row", late, which, kind:
                await self.new_row(late, which, kind)
            case "end", late, which:
                await self.set_end(late, which)
            case "pass", minutes:
                await self.site.pass_time(minutes=minutes)
            case ("poll",):
                await self.poll()
            case ("near",):
                await self.sweep(wide=False)
            case ("wide",):
                await self.sweep(wide=True)
            case ("restart",):
                self.restart()

    # What the ACD does.

    def number(self) -> int:
        return len(self.rows) + 1

    def calls(self) -> list[Call]:
        return [row for row in self.rows.values() if isinstance(row, Call)]

    def late(self, minutes: int) -> datetime:
        return self.site.now - timedelta(minutes=minutes)

    async def commit(self, *rows: Call | Visit | Leg | Code) -> None:
        await self.site.add(*(on_local_clocks(r, BERLIN) if self.local else r for r in rows))
        self.rows |= {row.id: row for row in rows}

    async def new_call(self, late: int, shape: int, *, ends: bool) -> None:
        moment, n = self.late(late), self.number()
        made: list[Any] = [
            call(n, dtcallstart=moment - timedelta(minutes=3), dtcallend=moment)
            if ends
            else call(n, dtcallstart=moment, dtcallend=None)
        ]
        if shape > 0:
            made += [visit(n + 1, n), leg(n + 2, n, n + 1), leg(n + 3, n, None)]
        if shape > 1:
            made += [code(n + 4, n, n + 1, n + 2, dtcreated=moment)]
            made += [code(n + 5, n, None, None, dtcreated=moment + timedelta(minutes=shape))]
        await self.commit(*made)

    async def new_row(self, late: int, which: int, kind: int) -> None:
        """A visit, leg or code of a call that may have been taken; codes come for old calls too."""
        known = self.calls()
        if kind < 2:
            known = [c for c in known if (c.dtcallend or c.dtcallstart) >= self.site.now - LATEST]
        if not known:
            return
        of, n = known[which % len(known)].id, self.number()
        visits = [
            r for r in self.rows.values() if isinstance(r, Visit) and r.statisticspartaid == of
        ]
        legs = [r for r in self.rows.values() if isinstance(r, Leg) and r.statisticspartaid == of]
        if kind == 0:
            await self.commit(visit(n, of))
        elif kind == 1:
            await self.commit(leg(n, of, visits[which % len(visits)].id if visits else None))
        else:
            on = legs[which % len(legs)] if legs and kind == 2 else None
            group = on.acdstatisticspartbid if on else None
            await self.commit(code(n, of, group, on.id if on else None, dtcreated=self.late(late)))

    async def set_end(self, late: int, which: int) -> None:
        running = [c for c in self.calls() if c.dtcallend is None]
        if not running:
            return
        found = running[which % len(running)]
        row = found._replace(dtcallend=max(self.late(late), found.dtcallstart))
        self.rows[row.id] = row
        moment = on_local_clocks(row, BERLIN).dtcallend if self.local else row.dtcallend
        await self.site.db.execute(
            "UPDATE StatisticsPartA SET dtCallEnd = $1 WHERE ID = $2", moment, row.id
        )

    # What the daemon does.

    async def poll(self) -> None:
        before = await self.site.watermark()
        self.taken += (await self.poller.poll()).lines
        after = await self.site.watermark()
        assert before <= after == self.site.now - SETTLE
        await self.look(before, after)

    async def sweep(self, *, wide: bool) -> None:
        self.taken += (await self.sweeper.sweep(wide=wide)).lines
        watermark = await self.site.watermark()
        await self.look(watermark - (LOOKBACK if wide else NEAR), watermark, stale=wide)

    # What must hold.

    def visible_until(self) -> Any:
        return sample(*self.rows.values())

    def seen(self, moment: datetime) -> datetime:
        """The instant as which the source reads a time back: of a repeated hour the second."""
        if not self.local:
            return moment
        clock = moment.astimezone(BERLIN).replace(tzinfo=None)
        return clock.replace(tzinfo=BERLIN, fold=1).astimezone(UTC)

    def ready(self, row: Call) -> bool:
        if row.dtcallend is not None:
            return self.seen(row.dtcallend) <= self.site.now - SETTLE
        return self.seen(row.dtcallstart) <= self.site.now - STALE

    async def look(self, since: datetime, until: datetime, *, stale: bool = True) -> None:
        """Nothing in (since, until] is missing; nothing was taken too early, or touched again."""
        now = {
            "-".join(map(str, tuple(row)[:4])): tuple(row)[4:]
            for row in await self.site.ledger_db.fetch(
                "SELECT call_id, group_id, leg_id, code_id, xmin, ctid FROM callstatsd.line"
            )
        }
        assert self.versions.items() <= now.items()
        new = now.keys() - self.versions.keys()
        self.versions = now
        rows = self.visible_until()
        ready = {
            c.id: [line.key for line in lines_of(rows, c)] for c in rows.calls if self.ready(c)
        }
        assert new <= {key for keys in ready.values() for key in keys}

        for row in rows.calls:
            moment = self.seen(row.dtcallend or row.dtcallstart)
            shift = timedelta(0) if row.dtcallend else STALE - SETTLE
            covered = since < moment + shift <= until
            if row.id in ready and (row.dtcallend or stale) and covered:
                assert now.keys() >= set(ready[row.id]), f"lines of {row}"
        for row in rows.codes:
            if row.statisticspartaid in ready and since < self.seen(row.dtcreated) <= until:
                keys = [k for k in ready[row.statisticspartaid] if k.endswith(f"-{row.id}")]
                assert now.keys() >= set(keys), f"the line of {row}"


SOON_OR_LATE = st.one_of(st.integers(0, 60), st.integers(0, LATEST // timedelta(minutes=1)))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("call"), SOON_OR_LATE, st.integers(0, 3)),
        st.tuples(st.just("running"), SOON_OR_LATE, st.integers(0, 2)),
        st.tuples(st.just("row"), SOON_OR_LATE, st.integers(0, 40), st.integers(0, 3)),
        st.tuples(st.just("end"), SOON_OR_LATE, st.integers(0, 9)),
        st.tuples(st.just("pass"), st.one_of(st.integers(0, 30), st.integers(0, 2000))),
        st.tuples(st.just("poll")),
        st.tuples(st.just("near")),
        st.tuples(st.just("wide")),
        st.tuples(st.just("restart")),
    ),
    min_size=5,
    max_size=50,
)


@pytest.mark.parametrize("local", [False, True], ids=["timestamptz", "timestamp"])
@pytest.mark.parametrize("begin", BEGINNINGS)
@settings(
    max_examples=12,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS, page=st.sampled_from([2, 2000]))
async def test_whatever_the_order_every_line_is_taken_once_and_the_watermark_passes_none(
    site: Site,
    begin: str,
    local: bool,
    steps: list[Any],
    page: int,
) -> None:
    await start_over(site, BEGINNINGS[begin], local=local)
    async with (
        open_source(site.source_dsn, SCHEMAS, BERLIN, None, page=page) as source,
        open_ledger(site.ledger_dsn, "callstatsd") as ledger,
    ):
        world = World(site, source, ledger, local)
        await world.poller.prepare(None, SCHEMAS)
        # Rows of the days before START_FROM would be nobody's.
        await site.pass_time(hours=26)
        for step in steps:
            await world.go(step)
        await site.pass_time(hours=14)
        await world.poll()
        await world.sweep(wide=True)

    found = await site.keys()
    expected = {line.key for line in data_lines(world.visible_until())}
    assert set(found) >= expected
    # A line without a leg or code may have been taken before its leg or code was there.
    assert all(key.endswith("-0") for key in set(found) - expected)
    assert world.taken == len(found)


async def start_over(site: Site, begin: datetime, *, local: bool) -> None:
    """Empty the source and forget the ledger's lines and start."""
    types = await site.db.fetchval(
        "SELECT format_type(atttypid, NULL) FROM pg_attribute"
        " WHERE attrelid = 'StatisticsPartA'::regclass AND attname = 'dtcallend'"
    )
    await site.db.execute(
        "TRUNCATE StatisticsPartA, AcdStatisticsPartB, StatisticsPartB,"
        " AcdStatisticsTransactionCodes"
    )
    if local and types != "timestamp without time zone":
        await local_times(site.db)
    await site.ledger_db.execute(
        "TRUNCATE callstatsd.line;"
        " UPDATE callstatsd.feed SET start_from = NULL, watermark = NULL, swept_at = NULL,"
        " never_ended_until = NULL"
    )
    await site.set_clock(begin)
