"""Neither downtime, nor a standby's lag, nor any clock makes a sweep lose or repeat a line."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from structlog.testing import capture_logs

from daemon import logs
from daemon.errors import DatabaseSetupError, UnreachableError
from tests.support.expected import BERLIN
from tests.support.rows import (
    NIGHTS,
    code,
    ended,
    local_times,
    on_local_clocks,
    running,
)
from tests.support.site import LOOKBACK, Site
from tests.support.taking import start, versions

# Downtime.


@pytest.mark.parametrize(
    "downtime", [timedelta(minutes=5), timedelta(minutes=40), timedelta(days=3), 3 * LOOKBACK]
)
@pytest.mark.parametrize("first", ["poll", "sweep"])
async def test_downtime_loses_nothing_and_repeats_nothing(
    site: Site, downtime: timedelta, first: str
) -> None:
    async with site.sweeping(start_from=site.ago(days=5)) as (poller, sweeper):
        await start(poller, sweeper)
        await start(poller, sweeper)
    last = site.now
    await site.add(
        # Became visible just before the downtime, late by minutes and by a day.
        ended(1, last - timedelta(minutes=25)),
        ended(2, last - timedelta(hours=25)),
        running(3, last - timedelta(hours=25)),
        # Of the downtime itself.
        ended(4, last),
        ended(5, last + downtime / 2),
        ended(6, last + downtime - timedelta(minutes=2)),
        running(7, last - timedelta(hours=12) + downtime / 2),
        code(41, 1, None, None, dtcreated=last - timedelta(minutes=4)),
        code(45, 5, None, None, dtcreated=last + downtime / 2),
        # Not yet ready at the end of it.
        ended(8, last + downtime),
    )
    await site.set_clock(last + downtime)
    async with site.sweeping() as (poller, sweeper):
        if first == "poll":
            await poller.poll()
        await sweeper.sweep(wide=True)
        await poller.poll()
        found = sorted(await site.keys())
        before = await versions(site)
        for wide in (False, True):
            assert (await sweeper.sweep(wide=wide)).lines == 0
        assert (await poller.poll()).lines == 0
    assert found == [
        *("1-0-0-0", "1-0-0-41", "2-0-0-0", "3-0-0-0", "4-0-0-0"),
        *("5-0-0-0", "5-0-0-45", "6-0-0-0", "7-0-0-0"),
    ]
    assert await versions(site) == before


async def test_what_was_pruned_after_a_long_downtime_is_not_taken_again(site: Site) -> None:
    """The first sweep covers the downtime; from then on nobody looks so far back again."""
    await site.add(*(ended(n, site.ago(hours=n)) for n in range(1, 10)))
    async with site.sweeping(start_from=site.ago(days=5)) as (poller, sweeper):
        await start(poller, sweeper)
        await start(poller, sweeper)
        assert len(await site.keys()) == 9
    await site.pass_time(days=100)
    async with site.sweeping() as (poller, sweeper):
        assert (await sweeper.sweep(wide=True)).lines == 0
        await site.ledger_db.execute("DELETE FROM callstatsd.line")
        await poller.poll()
        await site.pass_time(minutes=15)
        for wide in (False, True):
            assert (await sweeper.sweep(wide=wide)).lines == 0
    assert await site.keys() == []


@pytest.mark.parametrize("failing", ["ledger", "source", "the ids"])
async def test_a_wide_sweep_counts_only_when_it_was_completed(site: Site, failing: str) -> None:
    async with site.sweeping(start_from=site.ago(days=5), page=3) as (poller, sweeper):
        await start(poller, sweeper)
        swept_at = await site.ledger_value("swept_at")
        assert swept_at is not None
        await site.pass_time(days=3)
        await poller.poll()
        late = [ended(n, swept_at - timedelta(hours=20) + n * timedelta(hours=1)) for n in range(9)]
        await site.add(*late)
        table = {"ledger": "", "source": "AcdStatisticsTransactionCodes", "the ids": "Users"}
        if failing == "ledger":
            await site.refuse("NEW.call_id = 5")
        elif failing == "the ids":
            await site.add(ended(20, site.ago(minutes=20), userdata=None))
            assert (await sweeper.sweep(wide=False)).lines == 1
            await sweeper.sweep(wide=False)
            await site.db.execute("DELETE FROM StatisticsPartA WHERE ID < 9")
        if table[failing]:
            await site.db.execute(f"ALTER TABLE {table[failing]} RENAME TO hidden")
        announced = site.announced
        expected = DatabaseSetupError if table[failing] else UnreachableError
        with capture_logs() as events, pytest.raises(expected):
            await sweeper.sweep(wide=True)
        assert await site.ledger_value("swept_at") == swept_at
        if failing == "ledger":
            assert {line["call_id"] for line in await site.lines()} == {0, 1, 2}
            assert site.announced == announced + 1
            assert [e["lines"] for e in events if e["event"] == logs.POLL_TAKEN] == [3]
            await site.accept()
        else:
            await site.db.execute(f"ALTER TABLE hidden RENAME TO {table[failing]}")
        if failing == "the ids":
            await site.add(*late)
        await sweeper.sweep(wide=True)
        assert await site.ledger_value("swept_at") > swept_at
        assert (await sweeper.sweep(wide=True)).lines == 0
    assert {line["call_id"] for line in await site.lines()} >= set(range(9))


async def test_on_a_standby_a_sweep_counts_up_to_what_was_replayed(site: Site) -> None:
    """What the primary has committed since may be as late as ever when it is replayed."""
    await site.become_standby(site.now)
    async with site.sweeping(start_from=site.ago(days=5)) as (poller, sweeper):
        await start(poller, sweeper)
        swept_at = await site.ledger_value("swept_at")
        assert swept_at == site.ago(seconds=120)
        await site.pass_time(hours=9)
        for replayed in (site.ago(hours=9), None):
            await site.become_standby(replayed)
            await start(poller, sweeper)
            assert await site.ledger_value("swept_at") == swept_at
        await site.add(ended(1, swept_at - LOOKBACK))
        assert (await sweeper.sweep(wide=True)).lines == 1
        await site.become_standby(site.ago(hours=1))
        await sweeper.sweep(wide=True)
        assert await site.ledger_value("swept_at") == site.ago(hours=1, seconds=120)


async def test_a_standby_that_has_replayed_nothing_yet_is_swept_too(site: Site) -> None:
    await site.become_standby(None)
    async with site.sweeping(start_from=site.ago(days=5)) as (poller, sweeper):
        await start(poller, sweeper)
        await site.add(running(1, site.ago(hours=20)))
        assert (await sweeper.sweep(wide=True)).lines == 1
        assert (await sweeper.sweep(wide=True)).lines == 0


# Clocks.


@pytest.mark.parametrize("off", [timedelta(hours=1), timedelta(hours=-1)])
async def test_the_daemons_own_clock_makes_no_difference(site: Site, off: timedelta) -> None:
    with time_machine.travel(datetime.now(UTC) + off, tick=True):
        async with site.sweeping() as (poller, sweeper):
            assert await site.start_from() == site.now
            await start(poller, sweeper)
            await site.add(ended(1, site.now))
            await site.pass_time(seconds=119)
            assert (await poller.poll()).lines == 0
            await site.pass_time(seconds=1)
            assert (await poller.poll()).lines == 1
            await site.add(ended(2, site.ago(seconds=120)), ended(3, site.ago(seconds=119)))
            assert (await sweeper.sweep(wide=False)).call_ids == {2}
            assert (await sweeper.sweep(wide=True)).lines == 0
            assert await site.watermark() == site.ago(seconds=120)
            assert await site.ledger_value("swept_at") == site.ago(seconds=120)


@pytest.mark.parametrize("wide", [False, True])
async def test_a_source_clock_that_jumps_forth_and_back_loses_nothing(
    site: Site, wide: bool
) -> None:
    jump = timedelta(days=4) if wide else timedelta(minutes=20)
    async with site.sweeping(start_from=site.ago(days=2)) as (poller, sweeper):
        await start(poller, sweeper)
        for number in range(1, 40):
            # The ACD's rows carry the right time all along.
            await site.add(ended(number, site.now), running(100 + number, site.ago(hours=12)))
            if number in (10, 25):
                await site.set_clock(site.now + jump)
                await poller.poll()
                await sweeper.sweep(wide=True)
                await site.set_clock(site.now - jump)
            if number in (12, 20):
                await site.pass_time(minutes=-15)
            await site.pass_time(minutes=1)
            await poller.poll()
            await sweeper.sweep(wide=wide)
        await site.pass_time(minutes=5)
        await poller.poll()
        await sweeper.sweep(wide=wide)
        assert {line["call_id"] for line in await site.lines()} == {
            *range(1, 40),
            *range(101, 140),
        }
        assert len(await site.keys()) == 78


@pytest.mark.parametrize("away", [timedelta(hours=-3), timedelta(hours=3)])
async def test_a_source_clock_that_was_wrong_during_downtime_loses_nothing(
    site: Site, away: timedelta
) -> None:
    async with site.sweeping(start_from=site.ago(days=2)) as (poller, sweeper):
        await start(poller, sweeper)
    real = site.now
    await site.set_clock(real + away)
    await site.add(*(ended(n, site.now + n * timedelta(minutes=1)) for n in range(1, 60)))
    await site.set_clock(real + timedelta(hours=2))
    await site.add(*(ended(100 + n, real + n * timedelta(minutes=1)) for n in range(1, 60)))
    async with site.sweeping() as (poller, sweeper):
        await start(poller, sweeper)
        await site.pass_time(hours=3)
        await poller.poll()
        assert (await sweeper.sweep(wide=True)).lines == 0
    assert len(await site.keys()) == 118


@pytest.mark.parametrize("seed", [1, *(pytest.param(n, marks=pytest.mark.long) for n in (2, 3))])
@pytest.mark.parametrize("kind", ["timestamptz", "timestamp"])
@pytest.mark.parametrize("night", NIGHTS)
async def test_when_the_clocks_change_polls_and_sweeps_take_each_line_once(
    site: Site, night: str, kind: str, seed: int
) -> None:
    """Calls every two minutes, each with a code soon after; many rows are committed late."""
    chance = random.Random(seed)
    begin = NIGHTS[night]
    if kind == "timestamp":
        await local_times(site.db)
    await site.set_clock(begin)
    arriving: list[tuple[datetime, Any]] = []
    expected = set()
    for number in range(1, 181):
        moment = begin + number * timedelta(minutes=2)
        later = moment + timedelta(seconds=chance.randrange(300))
        row = running(number, moment) if number % 10 == 0 else ended(number, moment)
        late = [timedelta(minutes=chance.choice((0, 0, 3, 20, 100))) for _ in range(2)]
        arriving += [
            (moment + late[0], row),
            (later + late[1], code(number, number, None, None, dtcreated=later)),
        ]
        expected |= {f"{number}-0-0-0", f"{number}-0-0-{number}"}
    total = 0
    async with site.sweeping(start_from=begin, stale_call_after=3600, page=5) as (poller, sweeper):
        while site.now < begin + timedelta(hours=11):
            due = [row for moment, row in arriving if moment <= site.now]
            arriving = [pair for pair in arriving if pair[0] > site.now]
            if kind == "timestamp":
                due = [on_local_clocks(row, BERLIN) for row in due]
            await site.add(*due)
            action = chance.choice(("poll", "poll", "near", "wide", "nothing"))
            if action == "poll":
                total += (await poller.poll()).lines
            elif action != "nothing":
                total += (await sweeper.sweep(wide=action == "wide")).lines
            await site.pass_time(minutes=chance.choice((1, 4, 9)))
        total += (await poller.poll()).lines
        total += (await sweeper.sweep(wide=True)).lines
    assert set(await site.keys()) == expected
    assert total == len(expected)
