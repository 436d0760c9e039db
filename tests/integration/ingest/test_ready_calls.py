"""When a call is ready: by its end, the delay, and the databases' own clocks."""

from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest
from structlog.testing import capture_logs

from daemon.demo.rows import load
from daemon.ingest.intake import Intake
from daemon.ingest.poller import Poller
from daemon.ingest.source import open_source
from daemon.ingest.statistics import StatisticsFeed
from daemon.ledger.binding import Binding
from daemon.ledger.store import open_ledger
from daemon.lines import FeedName
from tests.support.expected import BERLIN
from tests.support.rows import (
    code,
    ended,
    leg,
    running,
    sample,
)
from tests.support.site import LONG_AGO, RULES, SENDING, Site
from tests.support.taking import MILLISECOND

# Ready.


async def test_a_call_is_ready_when_the_settle_delay_has_passed_since_its_end(site: Site) -> None:
    await site.add(ended(1, site.ago(seconds=120)), ended(2, site.ago(seconds=119.999)))
    async with site.poller(start_from=LONG_AGO) as poller:
        taken = await poller.poll()
        assert await site.keys() == ["1-0-0-0"]
        assert (taken.lines, taken.call_ids) == (1, {1})
        await site.pass_time(milliseconds=1)
        await poller.poll()
        assert await site.keys() == ["1-0-0-0", "2-0-0-0"]


async def test_the_databases_own_clock_decides(dsn: str, db: asyncpg.Connection) -> None:
    """Nothing stands between us and Postgres' now() here."""
    now = await db.fetchval("SELECT now()")
    rows = sample(
        ended(1, now - timedelta(seconds=130)),
        ended(2, now - timedelta(seconds=60)),
        running(3, now - timedelta(hours=12, seconds=10)),
        running(4, now - timedelta(hours=12) + timedelta(seconds=60)),
        ended(5, now + timedelta(days=1)),
    )
    await load(db, rows)
    rules = replace(RULES, start_from=now - timedelta(hours=20))
    async with (
        open_source(dsn, ("jtelstats",), BERLIN, None) as source,
        open_ledger(dsn, "callstatsd") as ledger,
    ):
        clock = await source.clock()
        await ledger.bind(Binding(None, clock.database, ("jtelstats",)))
        feed = StatisticsFeed(source, rules, SENDING)
        poller = Poller(feed, ledger, Intake(feed, ledger), lambda: None)
        await poller.prepare(None, ("jtelstats",))
        assert (await poller.poll()).call_ids == {1, 3}
        assert (await poller.poll()).call_ids == set()
        watermark = (await ledger.progress(FeedName.STATISTICS)).watermark
    assert watermark is not None
    assert (
        now - timedelta(seconds=120)
        <= watermark
        <= await db.fetchval("SELECT clock_timestamp() - interval '120 seconds'")
    )


async def test_without_a_delay_a_call_is_ready_when_it_ends(site: Site) -> None:
    await site.add(ended(1, site.now), ended(2, site.now + MILLISECOND))
    async with site.poller(start_from=LONG_AGO, settle_delay=0) as poller:
        await poller.poll()
        assert await site.keys() == ["1-0-0-0"]
        assert await site.watermark() == site.now


async def test_a_row_committed_a_moment_after_the_time_it_carries_is_taken(site: Site) -> None:
    async with site.poller(start_from=LONG_AGO, settle_delay=0) as poller:
        await poller.poll()
        await site.add(ended(1, site.ago(seconds=2)), running(2, site.ago(hours=12, seconds=2)))
        await site.pass_time(seconds=1)
        await poller.poll()
        assert await site.keys() == ["2-0-0-0", "1-0-0-0"]
        await site.add(code(41, 1, None, None, dtcreated=site.ago(seconds=2)))
        await site.pass_time(seconds=1)
        await poller.poll()
    assert await site.keys() == ["2-0-0-0", "1-0-0-0", "1-0-0-41"]


async def test_a_running_call_waits_for_its_end(site: Site) -> None:
    await site.add(
        running(1, site.ago(hours=11)),
        leg(31, 1, None),
        code(41, 1, None, 31, dtcreated=site.ago(hours=1)),
    )
    async with site.poller(start_from=LONG_AGO) as poller:
        assert (await poller.poll()).lines == 0
        await site.db.execute("UPDATE StatisticsPartA SET dtCallEnd = $1", site.now)
        await site.pass_time(seconds=119)
        assert (await poller.poll()).lines == 0
        await site.pass_time(seconds=1)
        assert (await poller.poll()).lines == 1
    assert await site.keys() == ["1-0-31-41"]


async def test_a_call_that_never_ends_is_taken_when_it_is_stale(site: Site) -> None:
    await site.add(running(1, site.ago(hours=12)), running(2, site.ago(hours=12) + MILLISECOND))
    async with site.poller(start_from=LONG_AGO) as poller:
        await poller.poll()
        assert await site.keys() == ["1-0-0-0"]
        await site.pass_time(milliseconds=1)
        await poller.poll()
        assert await site.keys() == ["1-0-0-0", "2-0-0-0"]
        assert '"dtCallEnd":null' in (await site.lines())[0]["record"]


async def test_the_end_of_a_stale_call_that_is_found_later_repeats_nothing(site: Site) -> None:
    await site.add(running(1, site.ago(hours=13)), leg(31, 1, None))
    async with site.poller(start_from=LONG_AGO) as poller:
        await poller.poll()
        await site.db.execute("UPDATE StatisticsPartA SET dtCallEnd = $1", site.now)
        await site.add(code(41, 1, None, None, dtcreated=site.now))
        await site.pass_time(minutes=10)
        taken = await poller.poll()
    assert taken.lines == 1
    assert sorted(await site.keys()) == ["1-0-0-41", "1-0-31-0"]


@pytest.mark.parametrize(
    ("settle_delay", "stale_call_after"),
    [(10, 12 * 3600), (700, 12 * 3600), (120, 13 * 3600), (120, 11 * 3600)],
)
async def test_durations_changed_at_a_restart_leave_no_gap(
    site: Site, settle_delay: float, stale_call_after: float
) -> None:
    calls = [running(n, site.ago(hours=13) + n * timedelta(minutes=1)) for n in range(180)]
    calls += [ended(200 + n, site.ago(hours=1) + n * timedelta(minutes=1)) for n in range(60)]
    await site.add(*calls)
    async with site.poller(start_from=site.ago(days=1)) as poller:
        await poller.poll()
    await site.pass_time(minutes=10)
    async with site.sweeping(settle_delay=settle_delay, stale_call_after=stale_call_after) as (
        poller,
        sweeper,
    ):
        await sweeper.sweep(wide=True)
        for _ in range(14):
            await poller.poll()
            await site.pass_time(minutes=10)
    stale_before = site.now - timedelta(minutes=10, seconds=stale_call_after)
    expected = {row.id for row in calls if row.dtcallend or row.dtcallstart <= stale_before}
    assert {line["call_id"] for line in await site.lines()} >= expected


async def test_a_much_shorter_stale_call_after_leaves_no_call_without_an_end_to_nobody(
    site: Site,
) -> None:
    """Those that the longer one waited for started before any sweep's LOOKBACK by now."""
    await site.add(*(running(n, site.ago(hours=n)) for n in range(1, 121)))
    async with site.sweeping(
        start_from=site.ago(days=9), stale_call_after=100 * 3600, lookback=timedelta(hours=101)
    ) as (poller, sweeper):
        await poller.poll()
        await sweeper.sweep(wide=True)
        assert {line["call_id"] for line in await site.lines()} == set(range(100, 121))
    await site.add(code(41, 50, None, None, dtcreated=site.now))
    await site.pass_time(minutes=10)
    async with site.poller(stale_call_after=3600) as poller:
        await poller.poll()
        assert (await poller.poll()).lines == 0
    keys = await site.keys()
    assert sorted(keys) == sorted([*(f"{n}-0-0-0" for n in range(1, 121)), "50-0-0-41"])


async def test_a_longer_stale_call_after_repeats_nothing_and_takes_late_codes(site: Site) -> None:
    await site.add(running(1, site.ago(hours=3)), running(2, site.ago(minutes=30)))
    async with site.poller(start_from=site.ago(days=1), stale_call_after=3600) as poller:
        await poller.poll()
    await site.add(code(41, 1, None, None, dtcreated=site.now))
    await site.pass_time(hours=1)
    async with site.poller(stale_call_after=4 * 3600) as poller:
        await poller.poll()
        assert await site.keys() == ["1-0-0-0", "1-0-0-41"]
        await site.pass_time(hours=4)
        await poller.poll()
    assert sorted(await site.keys()) == ["1-0-0-0", "1-0-0-41", "2-0-0-0"]


async def test_a_clock_that_was_ahead_hides_no_call_without_an_end(site: Site) -> None:
    async with site.poller(start_from=site.ago(days=1)) as poller:
        await site.pass_time(days=2)
        await poller.poll()
        await site.pass_time(days=-2)
        await poller.poll()
        await site.add(running(1, site.ago(hours=11)))
        await site.pass_time(hours=2)
        await poller.poll()
    assert await site.keys() == ["1-0-0-0"]


# A hot standby.


async def test_on_a_standby_the_watermark_waits_for_the_replay(site: Site) -> None:
    await site.add(*(ended(n, site.ago(minutes=n)) for n in (5, 15, 25)))
    await site.become_standby(site.ago(minutes=10))
    async with site.poller(start_from=site.ago(hours=1)) as poller:
        assert (await poller.poll()).call_ids == {5, 15, 25}
        assert await site.watermark() == site.ago(minutes=12)
        # What the primary committed meanwhile is replayed now.
        await site.add(ended(11, site.ago(minutes=11)))
        await site.become_standby(site.now)
        assert (await poller.poll()).call_ids == {11}
        assert await site.watermark() == site.ago(minutes=2)


async def test_on_a_standby_a_replay_that_lags_never_moves_the_watermark_back(site: Site) -> None:
    async with site.poller(start_from=site.ago(hours=1)) as poller:
        await poller.poll()
        before = await site.watermark()
        await site.become_standby(site.ago(days=1))
        await site.pass_time(minutes=1)
        with capture_logs() as events:
            await poller.poll()
        assert (await site.watermark(), events) == (before, [])


async def test_a_standby_that_has_replayed_nothing_yet_is_read_and_the_watermark_stays(
    site: Site,
) -> None:
    await site.add(ended(1, site.ago(minutes=5)))
    await site.become_standby(None)
    async with site.poller(start_from=site.ago(hours=1)) as poller:
        before = await site.watermark()
        assert (await poller.poll()).call_ids == {1}
        assert await site.watermark() == before
        assert (await poller.poll()).call_ids == set()
