"""Every call is taken when it is ready, once, by the source's clock and whatever fails."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from daemon import logs
from daemon.errors import ConfigurationError, UnreachableError
from tests.support.daemon_process import PATIENCE
from tests.support.rows import (
    call,
    code,
    ended,
    running,
)
from tests.support.site import EITHER_WAY, LONG_AGO, Site
from tests.support.taking import MILLISECOND, of

TICK = timedelta(microseconds=1)


# The first start.


async def test_the_first_start_keeps_start_from_and_later_settings_do_not_change_it(
    site: Site,
) -> None:
    first = site.ago(hours=3)
    async with site.poller(start_from=first):
        assert await site.start_from() == first
        assert await site.watermark() == first - TICK
    await site.pass_time(hours=1)
    for other in (site.ago(days=3), site.now, None):
        async with site.poller(start_from=other):
            assert await site.start_from() == first
            assert await site.watermark() == first - TICK


async def test_without_a_setting_start_from_is_the_sources_time_of_the_first_start(
    site: Site,
) -> None:
    await site.set_clock(datetime(2031, 5, 1, 12, tzinfo=UTC))
    async with site.poller() as poller:
        assert await site.start_from() == site.now
        await site.add(
            ended(1, site.now - MILLISECOND),
            ended(2, site.now),
            ended(3, site.now + timedelta(minutes=1)),
        )
        await site.pass_time(minutes=10)
        await poller.poll()
        assert await site.keys() == ["2-0-0-0", "3-0-0-0"]


@EITHER_WAY
async def test_nothing_before_start_from_is_taken_and_a_call_that_ended_just_then_is(
    site: Site,
) -> None:
    start = site.ago(hours=2)
    await site.add(
        ended(1, start - MILLISECOND),
        ended(2, start),
        ended(3, start + MILLISECOND),
        # It started before, but it ended after.
        call(4, dtcallstart=start - timedelta(hours=3), dtcallend=start + timedelta(minutes=1)),
        ended(5, start - timedelta(days=30)),
    )
    async with site.poller(start_from=start) as poller:
        await poller.poll()
    assert await site.keys() == ["2-0-0-0", "3-0-0-0", "4-0-0-0"]


async def test_a_start_from_in_the_future_is_waited_for(site: Site) -> None:
    start = site.now + timedelta(hours=1)
    await site.add(ended(1, start - MILLISECOND), ended(2, start))
    async with site.poller(start_from=start) as poller:
        for _ in range(8):
            await poller.poll()
            await site.pass_time(minutes=10)
        await poller.poll()
    assert await site.keys() == ["2-0-0-0"]


async def test_never_ended_calls_that_started_before_start_from_are_not_taken(site: Site) -> None:
    start = site.ago(hours=20)
    await site.add(
        running(1, start - MILLISECOND), running(2, start), running(3, start + MILLISECOND)
    )
    async with site.poller(start_from=start) as poller:
        await poller.poll()
    assert await site.keys() == ["2-0-0-0", "3-0-0-0"]


async def test_a_late_code_of_a_call_from_before_start_from_is_not_taken(site: Site) -> None:
    start = site.ago(hours=14)
    await site.add(
        ended(1, start - MILLISECOND),
        ended(2, start),
        running(3, start - MILLISECOND),
        running(4, start),
    )
    async with site.poller(start_from=start) as poller:
        await poller.poll()
        assert await site.keys() == ["2-0-0-0", "4-0-0-0"]
        await site.add(*(code(40 + n, n, None, None, dtcreated=site.now) for n in range(1, 5)))
        await site.pass_time(minutes=5)
        await poller.poll()
    assert await site.keys() == ["2-0-0-0", "2-0-0-42", "4-0-0-0", "4-0-0-44"]


async def test_a_ledger_without_a_start_is_refused(site: Site) -> None:
    async with site.poller(prepared=False) as poller:
        with pytest.raises(ConfigurationError, match="no START_FROM"):
            await poller.poll()


async def test_another_source_than_the_ledgers_is_refused_naming_both(site: Site) -> None:
    database = await site.db.fetchval("SELECT current_database()")
    ours = f"all clients of database {database}, schemas jtelstats,pg_catalog"
    async with site.poller(prepared=False) as poller:
        with pytest.raises(ConfigurationError) as caught:
            await poller.prepare(7, ("jtelstats",))
    assert ours in str(caught.value)
    assert f"client 7 of database {database}, schemas jtelstats:" in str(caught.value)
    assert await site.ledger_value("start_from") is None


async def test_a_source_without_its_tables_starts_nothing(site: Site) -> None:
    await site.db.execute("DROP TABLE TransactionCodes")
    async with site.poller(prepared=False) as poller:
        with pytest.raises(ConfigurationError, match="table TransactionCodes"):
            await poller.prepare(None, ("jtelstats", "pg_catalog"))
    assert await site.ledger_value("start_from") is None


# Without gaps.


@EITHER_WAY
async def test_a_poll_with_nothing_new_takes_nothing_and_says_nothing(site: Site) -> None:
    await site.add(ended(1, site.ago(minutes=5)))
    async with site.poller(start_from=LONG_AGO) as poller:
        with capture_logs() as events:
            await poller.poll()
        (event,) = events
        assert event.pop("seconds") >= 0
        assert event == {
            "event": logs.POLL_TAKEN,
            "log_level": "info",
            "lines": 1,
            "calls": 1,
        }
        assert site.announced == 1
        for seconds in (0, 1, 60, 3600):
            await site.pass_time(seconds=seconds)
            with capture_logs() as events:
                taken = await poller.poll()
            assert (taken.lines, taken.call_ids, events) == (0, set(), [])
            assert await site.watermark() == site.ago(seconds=120)
        assert site.announced == 1


async def test_each_call_is_taken_once_however_often_is_polled(site: Site) -> None:
    begin = site.now
    calls = [ended(n, begin + n * timedelta(seconds=7)) for n in range(1, 100)]
    total = 0
    async with site.poller(start_from=begin) as poller:
        for step in range(100):
            await site.add(*(row for row in calls if row.id == step))
            total += (await poller.poll()).lines
            await site.pass_time(seconds=7)
        await site.pass_time(minutes=5)
        total += (await poller.poll()).lines
    assert total == 99
    assert await site.keys() == [f"{n}-0-0-0" for n in range(1, 100)]


async def test_after_downtime_a_poll_covers_all_of_it_in_pages(site: Site) -> None:
    async with site.poller(start_from=site.ago(days=3)) as poller:
        await poller.poll()
    begin = site.now
    await site.pass_time(days=2)
    # Many of them end in the same second.
    calls = [ended(n, begin + n // 20 * timedelta(hours=1)) for n in range(1, 301)]
    stale = [running(1000 + n, begin + n // 20 * timedelta(hours=1)) for n in range(1, 301)]
    await site.add(*calls, *stale)
    async with site.poller(page=7) as poller:
        taken = await poller.poll()
    assert taken.lines == 600
    assert {line["call_id"] for line in await site.lines()} == {r.id for r in calls + stale}
    assert await site.watermark() == site.ago(seconds=120)


async def test_a_poll_that_catches_up_says_meanwhile_what_it_has_taken(site: Site) -> None:
    await site.add(*(ended(n, site.ago(hours=2, seconds=-n)) for n in range(1, 26)))
    async with site.poller(start_from=LONG_AGO, page=5, reported=10) as poller:
        with capture_logs() as events:
            taken = await poller.poll()
    assert [(event["lines"], event["calls"]) for event in events] == [(10, 10), (10, 10), (5, 5)]
    assert taken.lines == 5
    assert len(await site.lines()) == 25


@EITHER_WAY
async def test_the_watermark_never_passes_a_line_that_is_not_in_the_ledger(site: Site) -> None:
    begin = site.ago(hours=1)
    await site.add(*(ended(n, begin + (n // 2) * timedelta(minutes=1)) for n in range(1, 21)))
    async with site.poller(start_from=LONG_AGO, page=3) as poller:
        for number in (2, 8, 11, 15, 20):
            await site.refuse(f"NEW.call_id = {number}")
            with pytest.raises(UnreachableError, match="P0001"):
                await poller.poll()
            await site.accept()
            watermark = await site.watermark()
            assert watermark < begin + (number // 2) * timedelta(minutes=1)
            have = {line["call_id"] for line in await site.lines()}
            assert have >= {
                n for n in range(1, 21) if begin + (n // 2) * timedelta(minutes=1) <= watermark
            }
            assert number not in have
        assert watermark > begin
        first_lines = [line for line in await site.lines() if line["call_id"] < 15]
        missing = 20 - len(await site.keys())
        assert (await poller.poll()).lines == missing > 0
    assert await site.keys() == [f"{n}-0-0-0" for n in range(1, 21)]
    assert (await site.lines())[: len(first_lines)] == first_lines


async def test_the_watermark_stays_before_a_moment_whose_calls_are_not_all_taken(
    site: Site,
) -> None:
    moment = site.ago(hours=1)
    await site.add(*(ended(n, moment) for n in range(1, 11)))
    await site.refuse("NEW.call_id = 8")
    async with site.poller(start_from=LONG_AGO, page=3) as poller:
        with pytest.raises(UnreachableError):
            await poller.poll()
        assert len(await site.keys()) == 6
        assert await site.watermark() == moment - TICK
        await site.accept()
        assert (await poller.poll()).lines == 4
    assert await site.keys() == [f"{n}-0-0-0" for n in range(1, 11)]


@pytest.mark.parametrize("refused", ["NEW.code_id = 41", "NEW.call_id = 2"])
async def test_the_watermark_waits_for_late_codes_and_stale_calls_too(
    site: Site, refused: str
) -> None:
    await site.add(ended(1, site.ago(minutes=5)))
    async with site.poller(start_from=LONG_AGO) as poller:
        await poller.poll()
        before = await site.watermark()
        await site.add(
            code(41, 1, None, None, dtcreated=site.now),
            running(2, site.ago(hours=12)),
            ended(3, site.now),
        )
        await site.pass_time(minutes=3)
        await site.refuse(refused)
        with pytest.raises(UnreachableError):
            await poller.poll()
        assert await site.watermark() == before
        await site.accept()
        await site.pass_time(hours=20)
        await poller.poll()
    assert sorted(await site.keys()) == ["1-0-0-0", "1-0-0-41", "2-0-0-0", "3-0-0-0"]


async def test_lines_taken_before_a_failure_are_announced(site: Site) -> None:
    """The sender is woken, and the log has the lines, though the poll did not finish."""
    await site.add(*(ended(n, site.ago(minutes=60 - n)) for n in range(1, 11)))
    await site.refuse("NEW.call_id = 8")
    async with site.poller(start_from=LONG_AGO, page=3) as poller:
        with capture_logs() as events, pytest.raises(UnreachableError):
            await poller.poll()
    assert len(await site.keys()) == 6
    assert site.announced > 0
    assert sum(event["lines"] for event in of(events, logs.POLL_TAKEN)) == 6


@pytest.mark.parametrize("kind", ["the clock is set back", "the delay is made longer"])
async def test_a_watermark_ahead_of_the_clock_is_pulled_back_and_logged(
    site: Site, kind: str
) -> None:
    async with site.poller(start_from=site.ago(days=1)) as poller:
        await poller.poll()
    ahead = await site.watermark()
    settle_delay = 120.0
    if kind == "the clock is set back":
        await site.pass_time(hours=-2)
    else:
        settle_delay += 7200
    until = site.ago(seconds=settle_delay)
    await site.add(ended(1, until + timedelta(minutes=10)))
    async with site.poller(settle_delay=settle_delay) as poller:
        with capture_logs() as events:
            assert (await poller.poll()).lines == 0
        assert await site.watermark() == until
        assert events == [
            {
                "event": logs.POLL_PULLED_BACK,
                "log_level": "warning",
                "watermark": ahead,
                "until": until,
            }
        ]
        with capture_logs() as events:
            await poller.poll()
        assert events == []
        await site.pass_time(minutes=10)
        assert (await poller.poll()).call_ids == {1}


async def test_a_change_of_the_clock_repeats_no_line(site: Site) -> None:
    await site.add(*(ended(n, site.ago(minutes=n)) for n in range(3, 60)))
    async with site.poller(start_from=site.ago(days=1)) as poller:
        assert (await poller.poll()).lines == 57
        before = await site.lines()
        await site.pass_time(minutes=-30)
        await poller.poll()
        await site.pass_time(minutes=30)
        assert (await poller.poll()).lines == 0
    assert await site.lines() == before


# The loop.


async def test_the_loop_polls_until_it_is_told_to_stop(site: Site) -> None:
    stop = asyncio.Event()
    await site.add(ended(1, site.ago(minutes=5)))
    async with site.poller(start_from=LONG_AGO) as poller, asyncio.TaskGroup() as tasks:
        tasks.create_task(poller.run(0.01, stop))
        async with asyncio.timeout(PATIENCE):
            while not site.announced:
                await asyncio.sleep(0.01)
        stop.set()
    assert await site.keys() == ["1-0-0-0"]


async def test_a_loop_that_is_stopped_before_it_began_does_not_poll(site: Site) -> None:
    stop = asyncio.Event()
    stop.set()
    await site.add(ended(1, site.ago(minutes=5)))
    async with site.poller(start_from=LONG_AGO) as poller:
        await poller.run(3600, stop)
    assert await site.keys() == []
