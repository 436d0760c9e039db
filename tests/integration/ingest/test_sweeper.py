"""What polls could not see is taken by sweeps: late rows, ends, codes and ids, once and no more."""

import asyncio
import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from daemon import logs
from daemon.errors import UnreachableError
from daemon.ingest.statistics import StatisticsFeed
from daemon.ledger.store import Ledger
from daemon.lines import Digest, LineKey
from tests.support.daemon_process import PATIENCE
from tests.support.rows import (
    add,
    call,
    code,
    ended,
    leg,
    running,
)
from tests.support.site import EITHER_WAY, LOOKBACK, Site
from tests.support.taking import MILLISECOND, start

# Late commits.


@EITHER_WAY
async def test_a_call_committed_after_the_watermark_passed_its_end_is_taken_by_the_near_sweep(
    site: Site,
) -> None:
    writer = await asyncpg.connect(site.source_dsn, server_settings={"search_path": "jtelstats"})
    async with site.sweeping(start_from=site.ago(days=2)) as (poller, sweeper):
        await start(poller, sweeper)
        transaction = writer.transaction()
        await transaction.start()
        await add(writer, ended(1, site.now), leg(31, 1, None), code(41, 1, None, 31))
        for _ in range(4):
            await site.pass_time(minutes=7)
            assert (await poller.poll()).lines == 0
            assert (await sweeper.sweep(wide=False)).lines == 0
        await transaction.commit()
        assert (await poller.poll()).lines == 0
        announced = site.announced
        with capture_logs() as events:
            taken = await sweeper.sweep(wide=False)
        assert (taken.lines, taken.call_ids) == (1, {1})
        assert site.announced == announced + 1
        assert [event.pop("seconds") >= 0 for event in events] == [True]
        assert events == [
            {
                "event": logs.POLL_TAKEN,
                "log_level": "info",
                "lines": 1,
                "calls": 1,
                "late": True,
            }
        ]
        for wide in (False, True):
            assert (await sweeper.sweep(wide=wide)).lines == 0
    await writer.close()
    assert await site.keys() == ["1-0-31-41"]


async def test_the_near_sweep_reaches_half_an_hour_behind_the_watermark_and_no_farther(
    site: Site,
) -> None:
    async with site.sweeping(start_from=site.ago(days=2)) as (poller, sweeper):
        await start(poller, sweeper)
        half_an_hour = await site.watermark() - timedelta(minutes=30)
        await site.add(ended(1, half_an_hour), ended(2, half_an_hour - MILLISECOND))
        assert (await sweeper.sweep(wide=False)).call_ids == {1}
        assert (await sweeper.sweep(wide=False)).lines == 0
        assert (await sweeper.sweep(wide=True)).call_ids == {2}
    assert await site.keys() == ["2-0-0-0", "1-0-0-0"]


@EITHER_WAY
async def test_the_wide_sweep_reaches_lookback_behind_the_last_completed_one_and_no_farther(
    site: Site,
) -> None:
    async with site.sweeping(start_from=site.ago(days=5)) as (poller, sweeper):
        await start(poller, sweeper)
        await start(poller, sweeper)
        since = await site.ledger_value("swept_at") - LOOKBACK
        await site.pass_time(minutes=15)
        await poller.poll()
        await site.add(
            ended(1, since),
            ended(2, since - MILLISECOND),
            running(3, since),
            running(4, since - MILLISECOND),
            ended(5, site.ago(hours=3)),
            running(6, site.ago(hours=13)),
            running(7, site.ago(hours=11)),
        )
        assert (await sweeper.sweep(wide=True)).call_ids == {1, 3, 5, 6}
        await site.pass_time(minutes=15)
        await poller.poll()
        assert (await sweeper.sweep(wide=True)).lines == 0
    assert {line["call_id"] for line in await site.lines()} == {1, 3, 5, 6}


async def test_a_shorter_lookback_reaches_less_far(site: Site) -> None:
    lookback = timedelta(hours=14)
    async with site.sweeping(start_from=site.ago(days=5), lookback=lookback) as (poller, sweeper):
        await start(poller, sweeper)
        await start(poller, sweeper)
        await site.add(ended(1, site.ago(hours=13)), ended(2, site.ago(hours=15)))
        assert (await sweeper.sweep(wide=True)).call_ids == {1}


async def test_a_sweep_takes_no_call_before_it_is_ready(site: Site) -> None:
    async with site.sweeping(start_from=site.ago(days=2)) as (poller, sweeper):
        await start(poller, sweeper)
        await site.add(
            ended(1, site.ago(seconds=119)),
            ended(2, site.now),
            running(3, site.ago(hours=12) + MILLISECOND),
            code(43, 3, None, None, dtcreated=site.ago(hours=1)),
        )
        for wide in (False, True):
            assert (await sweeper.sweep(wide=wide)).lines == 0


@pytest.mark.parametrize("kind", ["the clock is set back", "the delay is made longer"])
@pytest.mark.parametrize("wide", [False, True])
async def test_a_watermark_ahead_of_the_clock_lets_no_sweep_take_a_call_too_early(
    site: Site, kind: str, wide: bool
) -> None:
    """At a start both sweeps may be faster than the poll that pulls the watermark back."""
    settle_delay = 120.0
    async with site.sweeping(start_from=site.ago(days=2)) as (poller, sweeper):
        await start(poller, sweeper)
    if kind == "the clock is set back":
        await site.pass_time(minutes=-20)
    else:
        settle_delay += 1200
    await site.add(
        ended(1, site.ago(seconds=settle_delay)),
        ended(2, site.ago(seconds=settle_delay) + MILLISECOND),
        leg(32, 2, None),
    )
    async with site.sweeping(settle_delay=settle_delay) as (poller, sweeper):
        assert (await sweeper.sweep(wide=wide)).call_ids == {1}
        await poller.poll()
        await site.add(code(42, 2, None, 32, dtcreated=site.now))
        await site.pass_time(seconds=1)
        assert (await poller.poll()).call_ids == {2}
    assert await site.keys() == ["1-0-0-0", "2-0-32-42"]


async def test_before_the_first_start_there_is_nothing_to_sweep(site: Site) -> None:
    await site.add(ended(1, site.ago(hours=1)))
    async with site.sweeping(prepared=False) as (_, sweeper):
        for wide in (False, True):
            assert (await sweeper.sweep(wide=wide)).lines == 0
    assert await site.ledger_value("swept_at") is None


async def test_until_a_wide_sweep_has_been_completed_it_reaches_back_to_the_first_start(
    site: Site,
) -> None:
    first = site.now
    async with site.sweeping(start_from=first) as (poller, sweeper):
        for _ in range(40):
            await site.pass_time(hours=1)
            await poller.poll()
        await site.add(ended(1, first + timedelta(hours=1)))
        assert (await sweeper.sweep(wide=True)).call_ids == {1}


# START_FROM.


async def test_nothing_from_before_start_from_is_taken_by_any_sweep(site: Site) -> None:
    start_from = site.ago(hours=20)
    before, after = start_from - MILLISECOND, start_from + MILLISECOND
    early = start_from - timedelta(hours=1)
    async with site.sweeping(start_from=start_from) as (poller, sweeper):
        await start(poller, sweeper)
        await start(poller, sweeper)
        assert await site.keys() == []
        # Commits, never-ended calls, ends and codes that are late, each on both sides.
        await site.add(
            *(ended(1, before), ended(2, start_from), ended(3, after)),
            *(running(4, before), running(5, start_from), running(6, after)),
            *(call(7, dtcallstart=early, dtcallend=None), call(8, dtcallstart=early)),
            *(code(40 + n, n, None, None, dtcreated=site.ago(hours=1)) for n in range(1, 9)),
        )
        await site.db.execute("UPDATE StatisticsPartA SET dtCallEnd = $1 WHERE ID = 7", before)
        await site.db.execute("UPDATE StatisticsPartA SET dtCallEnd = $1 WHERE ID = 8", start_from)
        for wide in (False, True, True):
            await sweeper.sweep(wide=wide)
            await poller.poll()
    expected = {f"{n}-0-0-{c}" for n in (2, 3, 5, 6, 8) for c in (0, 40 + n)}
    assert set(await site.keys()) == expected


async def test_a_start_from_in_the_future_is_a_floor_too(site: Site) -> None:
    start_from = site.now + timedelta(hours=1)
    async with site.sweeping(start_from=start_from) as (poller, sweeper):
        await start(poller, sweeper)
        await site.add(ended(1, site.ago(minutes=9)), running(2, site.ago(hours=13)))
        for _ in range(8):
            await site.pass_time(minutes=10)
            await start(poller, sweeper)
    assert await site.keys() == []


async def test_a_near_sweep_is_no_wide_one(site: Site) -> None:
    async with site.sweeping(start_from=site.ago(days=5)) as (poller, sweeper):
        await start(poller, sweeper)
        swept_at = await site.ledger_value("swept_at")
        await site.pass_time(hours=1)
        await poller.poll()
        await sweeper.sweep(wide=False)
        assert await site.ledger_value("swept_at") == swept_at


# Beside polls.


@EITHER_WAY
async def test_sweeps_beside_polls_take_nothing_twice(site: Site) -> None:
    chance = random.Random(1)
    begin = site.now
    total = 0
    expected: set[str] = set()
    async with (
        site.sweeping(start_from=begin, page=7) as (poller, sweeper),
        site.sweeping(page=7) as (_, other),
    ):
        for step in range(12):
            for number in range(step * 20 + 1, step * 20 + 21):
                late = timedelta(seconds=chance.randrange(900))
                moment = max(begin, site.now - late)
                await site.add(
                    ended(number, moment),
                    leg(number, number, None),
                    code(number, number, None, number, dtcreated=moment),
                )
                expected.add(f"{number}-0-{number}-{number}")
            taken = await asyncio.gather(
                poller.poll(),
                sweeper.sweep(wide=False),
                sweeper.sweep(wide=True),
                other.sweep(wide=True),
                poller.poll(),
            )
            total += sum(each.lines for each in taken)
            await site.pass_time(minutes=3)
        total += (await poller.poll()).lines + (await sweeper.sweep(wide=True)).lines
    assert set(await site.keys()) == expected
    assert total == len(expected)


async def test_only_the_calls_of_our_client_are_swept(site: Site) -> None:
    await site.ledger_db.execute("UPDATE callstatsd.ledger SET clients_id = 7")
    old = [ended(20 + n, site.ago(days=3), clientsid=n) for n in (7, 8)]
    await site.add(*old, *(ended(30 + n, site.ago(minutes=9), clientsid=n) for n in (7, 8)))
    async with site.sweeping(start_from=site.ago(days=4), clients_id=7) as (poller, sweeper):
        await start(poller, sweeper)
        assert await site.keys() == ["27-0-0-0", "37-0-0-0"]
        for n in (7, 8):
            await site.add(
                ended(n, site.ago(minutes=9), clientsid=n),
                running(10 + n, site.ago(hours=13), clientsid=n),
                code(40 + n, 20 + n, None, None, dtcreated=site.ago(minutes=9)),
                leg(50 + n, 30 + n, None),
            )
        await sweeper.sweep(wide=True)
    assert sorted(await site.keys()) == [
        *("17-0-0-0", "27-0-0-0", "27-0-0-47", "37-0-0-0", "37-0-57-0", "7-0-0-0")
    ]


@pytest.mark.parametrize("kind", ["ended", "never ended", "codes"])
async def test_many_rows_of_one_moment_are_swept_across_pages(site: Site, kind: str) -> None:
    await site.add(ended(99, site.ago(days=3)))
    async with site.sweeping(start_from=site.ago(days=4), page=3) as (poller, sweeper):
        await start(poller, sweeper)
        moment = site.ago(hours=13)
        expected = {f"{n}-0-0-0" for n in range(1, 32)}
        if kind == "ended":
            await site.add(*(ended(n, moment) for n in range(1, 32)))
        elif kind == "never ended":
            await site.add(*(running(n, moment) for n in range(1, 32)))
        else:
            await site.add(*(code(n, 99, None, None, dtcreated=moment) for n in range(1, 32)))
            expected = {f"99-0-0-{n}" for n in range(1, 32)}
        assert (await sweeper.sweep(wide=True)).lines == 31
        assert (await sweeper.sweep(wide=True)).lines == 0
    assert set(await site.keys()) == expected | {"99-0-0-0"}


# The loop.


async def test_the_loop_sweeps_wide_at_the_start_and_says_so(site: Site) -> None:
    stop = asyncio.Event()
    async with site.sweeping(start_from=site.ago(days=2)) as (poller, sweeper):
        await poller.poll()
        await site.add(ended(1, site.ago(hours=20)))
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
            tasks.create_task(sweeper.run(stop))
            await sweeper.swept.wait()
            stop.set()
    assert await site.keys() == ["1-0-0-0"]
    assert await site.ledger_value("swept_at") is not None


async def test_a_loop_that_is_stopped_before_it_began_does_not_sweep(site: Site) -> None:
    stop = asyncio.Event()
    stop.set()
    async with site.sweeping(start_from=site.ago(days=2)) as (_, sweeper):
        await sweeper.run(stop)
    assert not sweeper.swept.is_set()
    assert await site.ledger_value("swept_at") is None


async def test_a_sweep_that_fails_leaves_no_query_behind(site: Site) -> None:
    """What is read from the source meanwhile ends with it, so that its connection is free again."""
    reading = asyncio.Event()
    failing = ""

    class Silent(StatisticsFeed):
        async def digest(self, call_ids: Sequence[int]) -> Digest:
            await endless("digest")
            return await super().digest(call_ids)

        async def keys(self, call_ids: Sequence[int]) -> list[LineKey]:
            await endless("keys")
            return await super().keys(call_ids)

    class Away(Ledger):
        async def digest(self, *arguments: Any) -> Digest:
            await away("digest")
            return await super().digest(*arguments)

        async def known(self, *arguments: Any) -> set[LineKey]:
            await away("keys")
            return await super().known(*arguments)

    async def endless(asked: str) -> None:
        if asked == failing:
            reading.set()
            await asyncio.sleep(3600)

    async def away(asked: str) -> None:
        if asked == failing:
            await reading.wait()
            raise UnreachableError("the ledger is away")

    async with site.sweeping(
        start_from=site.ago(days=2), page=2, feed_type=Silent, ledger_type=Away
    ) as (poller, sweeper):
        await start(poller, sweeper)
        await add(site.db, *(ended(n, site.ago(minutes=n)) for n in range(10, 20)))
        for asked in ("digest", "keys"):
            reading.clear()
            failing = asked
            before = asyncio.all_tasks()
            with pytest.raises(UnreachableError):
                await sweeper.sweep(wide=True)
            assert asyncio.all_tasks() == before
            failing = ""
        assert (await sweeper.sweep(wide=True)).lines == 10
