"""Every call is taken when it is ready, once, by the source's clock and whatever fails."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from daemon import logs
from daemon.demo.calls import day
from daemon.demo.rows import load
from daemon.errors import ConfigurationError, UnreachableError
from daemon.ingest.intake import Intake
from daemon.ingest.poller import Poller
from daemon.ingest.source import open_source
from daemon.ingest.statistics import StatisticsFeed
from daemon.ledger.binding import Binding
from daemon.ledger.store import Ledger, open_ledger
from daemon.lines import NO_ID, FeedName, LineKey
from tests.support.daemon_process import PATIENCE
from tests.support.expected import BERLIN, data_lines
from tests.support.rows import (
    NIGHTS,
    call,
    code,
    ended,
    leg,
    local_times,
    on_local_clocks,
    retype,
    running,
    sample,
    visit,
)
from tests.support.site import EITHER_WAY, LONG_AGO, RULES, SENDING, Site

TICK = timedelta(microseconds=1)
MILLISECOND = timedelta(milliseconds=1)


def of(events: list[Any], name: str) -> list[dict[str, Any]]:
    return [dict(event) for event in events if event["event"] == name]


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


# Late codes.


@EITHER_WAY
async def test_a_code_that_arrives_after_its_call_was_taken_gives_one_line_of_its_own(
    site: Site,
) -> None:
    await site.add(
        ended(1, site.ago(minutes=3)),
        visit(21, 1),
        leg(31, 1, 21),
        leg(32, 1, 21),
        code(41, 1, 21, 32, dtcreated=site.ago(minutes=3)),
        ended(2, site.ago(minutes=3)),
    )
    async with site.poller(start_from=LONG_AGO) as poller:
        await poller.poll()
        assert await site.keys() == ["1-21-31-0", "1-21-32-41", "2-0-0-0"]
        before = await site.lines()
        await site.add(
            code(42, 1, 21, 31, dtcreated=site.ago(seconds=1)),
            code(43, 1, 21, 32, dtcreated=site.now),
            code(44, 1, None, None, dtcreated=site.now),
        )
        await site.pass_time(minutes=1)
        assert (await poller.poll()).lines == 0
        await site.pass_time(minutes=1)
        with capture_logs() as events:
            taken = await poller.poll()
        assert (taken.lines, taken.call_ids) == (3, {1})
        await site.pass_time(minutes=1)
        assert (await poller.poll()).lines == 0
    assert sorted(await site.keys()) == [
        *("1-0-0-44", "1-21-31-0", "1-21-31-42", "1-21-32-41", "1-21-32-43", "2-0-0-0")
    ]
    after = await site.lines()
    assert all(line in after for line in before)
    (late,) = [line for line in after if line["code_id"] == 42]
    assert '"TransactionCodeExportKey":"AAA"' in late["record"]
    (event,) = of(events, logs.POLL_TAKEN)
    assert (event["lines"], event["calls"]) == (3, 1)


async def test_a_code_of_days_ago_is_not_late_but_one_of_now_for_a_call_of_days_ago_is(
    site: Site,
) -> None:
    await site.add(ended(1, site.ago(days=5)))
    async with site.poller(start_from=LONG_AGO) as poller:
        await poller.poll()
        await site.add(code(41, 1, None, None, dtcreated=site.now))
        await site.pass_time(minutes=2)
        await poller.poll()
    assert await site.keys() == ["1-0-0-0", "1-0-0-41"]


async def test_a_late_code_of_a_call_whose_lines_were_pruned_sends_none_of_them_again(
    site: Site,
) -> None:
    await site.add(ended(1, site.ago(days=100)), leg(31, 1, None), leg(32, 1, None))
    async with site.poller(start_from=LONG_AGO) as poller:
        await poller.poll()
        await site.ledger_db.execute("DELETE FROM callstatsd.line")
        await site.add(code(41, 1, None, 32, dtcreated=site.now))
        await site.pass_time(minutes=2)
        await poller.poll()
    assert await site.keys() == ["1-0-32-41"]


async def test_a_late_code_of_a_stale_call_is_taken(site: Site) -> None:
    await site.add(running(1, site.ago(hours=13)), running(2, site.ago(hours=2)))
    async with site.poller(start_from=LONG_AGO) as poller:
        await poller.poll()
        await site.add(
            code(41, 1, None, None, dtcreated=site.now), code(42, 2, None, None, dtcreated=site.now)
        )
        await site.pass_time(minutes=2)
        await poller.poll()
    assert await site.keys() == ["1-0-0-0", "1-0-0-41"]


@EITHER_WAY
@pytest.mark.parametrize("ends", [True, False])
async def test_a_code_does_not_go_before_the_other_lines_of_its_call(
    site: Site, ends: bool
) -> None:
    """A call that became ready during downtime, or was committed late, has a code by then."""
    commits = []

    class Watched(Ledger):
        async def take(self, *arguments: Any, **how: Any) -> set[LineKey]:
            new = await super().take(*arguments, **how)
            commits.extend([sorted(map(str, new))] if new else [])
            return new

    async with site.poller(start_from=site.ago(days=1), ledger_type=Watched) as poller:
        await poller.poll()
        at = site.ago(minutes=2)  # what a poll covers next begins 5 s before
        changed = {"dtcallend": at if ends else None}
        if ends:
            await site.add(call(1, dtcallstart=at - timedelta(minutes=1), **changed))
        else:
            at = site.ago(hours=11)
            await site.add(call(1, dtcallstart=at, **changed))
        await site.add(leg(11, 1, None, dtcallstart=at), leg(12, 1, None, dtcallstart=at))
        await site.pass_time(hours=1)
        await site.add(code(100, 1, None, 12, dtcreated=site.ago(minutes=50)))
        await site.pass_time(hours=2)
        commits.clear()
        await poller.poll()
    assert commits == [["1-0-11-0", "1-0-12-100"]]


@EITHER_WAY
async def test_a_code_recorded_between_end_and_taking_comes_with_its_call(site: Site) -> None:
    async with site.poller(start_from=LONG_AGO) as poller:
        await poller.poll()
        await site.add(ended(1, site.now), leg(31, 1, None))
        await site.pass_time(seconds=100)
        await site.add(code(41, 1, None, 31, dtcreated=site.now))
        await site.pass_time(seconds=20)
        await poller.poll()
        assert await site.keys() == ["1-0-31-41"]
        await site.pass_time(seconds=100)
        assert (await poller.poll()).lines == 0


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


# What is taken.


@EITHER_WAY
async def test_a_day_is_taken_as_the_contract_has_it(site: Site) -> None:
    rows = day(400, 21, site.now)
    await site.db.execute("TRUNCATE ServiceNumbers, Users, AcdGroups, TransactionCodes")
    await load(site.db, rows)
    async with site.poller(start_from=site.ago(days=2), page=50) as poller:
        taken = await poller.poll()
    expected = data_lines(rows)
    assert await site.keys() == [line.key for line in expected]
    assert [line["record"] for line in await site.lines()] == [line.body for line in expected]
    assert (taken.lines, len(taken.call_ids)) == (len(expected), 400)


async def test_a_day_taken_as_it_happens_has_the_same_lines(site: Site) -> None:
    """Rows appear at their time; what differs is only who recorded codes after the taking."""
    rows = day(150, 22, site.now)
    await site.db.execute("TRUNCATE ServiceNumbers, Users, AcdGroups, TransactionCodes")
    await load(site.db, rows)
    for table in ("StatisticsPartA", "AcdStatisticsTransactionCodes"):
        await site.db.execute(f"ALTER TABLE {table} RENAME TO all_{table}")
    await site.db.execute(
        """
        CREATE VIEW StatisticsPartA AS
        SELECT ID, ClientsID, ServiceNumbersID, bOutbound, ANumber, BNumber, dtCallStart,
               CASE WHEN dtCallEnd <= jtelstats.now() THEN dtCallEnd END AS dtCallEnd,
               CauseCodesID, UserData
        FROM all_StatisticsPartA WHERE dtCallStart <= jtelstats.now();
        CREATE VIEW AcdStatisticsTransactionCodes AS
        SELECT * FROM all_AcdStatisticsTransactionCodes WHERE dtCreated <= jtelstats.now()
        """
    )
    end = site.now
    await site.pass_time(hours=-24)
    async with site.poller(start_from=site.now) as poller:
        while site.now < end + timedelta(minutes=10):
            await poller.poll()
            await site.pass_time(minutes=5)
    found = {
        key: line["record"] for key, line in zip(await site.keys(), await site.lines(), strict=True)
    }
    expected = {line.key: line.body for line in data_lines(rows)}
    assert {key: found.get(key) for key in expected} == expected
    # An attempt whose first code came late was sent without a code before.
    assert all(key.endswith("-0") for key in found.keys() - expected.keys())


async def test_skipped_and_invalid_lines_are_taken_with_their_reasons(site: Site) -> None:
    await site.add(
        ended(1, site.ago(minutes=9), userdata=None),
        ended(2, site.ago(minutes=8)),
        leg(31, 2, None),
        ended(3, site.ago(minutes=7)),
    )
    await retype(site.db, "StatisticsPartB", "text", "CONNRES")
    await site.db.execute("UPDATE StatisticsPartB SET CONNRES = 'busy'")
    async with site.poller(start_from=LONG_AGO) as poller:
        with capture_logs() as events:
            taken = await poller.poll()
    assert taken.lines == 3
    assert [(line["state"], line["last_error"]) for line in await site.lines()] == [
        ("skipped", NO_ID),
        ("invalid", "StatisticsPartB.CONNRES holds text where a whole number belongs"),
        ("pending", None),
    ]
    assert [(event["event"], event["log_level"]) for event in events] == [
        (logs.LINE_SKIPPED, "debug"),
        (logs.LINE_INVALID, "warning"),
        (logs.POLL_TAKEN, "info"),
    ]


async def test_one_impossible_id_does_not_stop_the_polling_of_others(site: Site) -> None:
    await retype(site.db, "StatisticsPartA", "numeric(20)", "ID")
    await site.add(ended(1, site.ago(minutes=9)), ended(2, site.ago(minutes=8)))
    await site.db.execute("UPDATE StatisticsPartA SET ID = 18446744073709551615 WHERE ID = 1")
    async with site.poller(start_from=LONG_AGO) as poller:
        await poller.poll()
    assert sorted(line["state"] for line in await site.lines()) == ["invalid", "pending"]


# The nights when the clocks change.


@pytest.mark.parametrize(
    ("night", "kind"),
    [
        ("the clock is put back", "timestamp"),
        ("the clock is put forward", "timestamptz"),
        pytest.param("the clock is put back", "timestamptz", marks=pytest.mark.long),
        pytest.param("the clock is put forward", "timestamp", marks=pytest.mark.long),
    ],
)
async def test_when_the_clocks_change_no_call_or_code_is_lost(
    site: Site, night: str, kind: str
) -> None:
    """Calls every 97 s, each with a code 200 s later; every tenth never ends."""
    begin = NIGHTS[night]
    if kind == "timestamp":
        await local_times(site.db)
    await site.set_clock(begin)
    arriving: list[tuple[datetime, Any]] = []
    expected = set()
    for number in range(1, 221):
        moment = begin + number * timedelta(seconds=97)
        later = moment + timedelta(seconds=200)
        row = running(number, moment) if number % 10 == 0 else ended(number, moment)
        arriving += [(moment, row), (later, code(number, number, None, None, dtcreated=later))]
        expected |= {f"{number}-0-0-0", f"{number}-0-0-{number}"}
    async with site.poller(start_from=begin, stale_call_after=3600, page=2) as poller:
        while site.now < begin + timedelta(hours=9):
            due = [row for moment, row in arriving if moment <= site.now]
            arriving = [pair for pair in arriving if pair[0] > site.now]
            if kind == "timestamp":
                due = [on_local_clocks(row, BERLIN) for row in due]
            await site.add(*due)
            await poller.poll()
            await site.pass_time(minutes=5)
    assert set(await site.keys()) == expected


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
