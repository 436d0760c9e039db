"""Every callback request is taken when it is ready, once, by the source's clock."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from daemon.demo.rows import Event
from daemon.errors import UnusableError
from daemon.ledger.store import open_ledger
from daemon.lines import FeedName
from tests.support.expected import BERLIN
from tests.support.rows import RECORD, call, event, local_times, on_local_clocks, running
from tests.support.site import EITHER_WAY, LONG_AGO, Site

TICK = timedelta(microseconds=1)
MILLISECOND = timedelta(milliseconds=1)
HALF_AN_HOUR = timedelta(minutes=30)


@pytest.fixture
def feed() -> FeedName:
    return FeedName.CALLBACKS


def created(number: int, at: datetime, **changed: Any) -> Event:
    return event(number, dtcreated=at, **changed)


async def record_of(site: Site, number: int) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(
        await site.ledger_db.fetchval(
            "SELECT record FROM callstatsd.line WHERE call_id = $1 AND feed = 'callbacks'", number
        )
    )
    return record


# Ready.


@EITHER_WAY
async def test_a_request_is_ready_when_the_delay_has_passed_since_it_was_created(
    site: Site,
) -> None:
    await site.add(created(1, site.ago(seconds=30)), created(2, site.ago(seconds=29.999)))
    async with site.callbacks(start_from=LONG_AGO) as (poller, _):
        taken = await poller.poll()
        assert (taken.lines, await site.keys()) == (1, ["callback-1"])
        assert await site.watermark() == site.ago(seconds=30)
        await site.pass_time(milliseconds=1)
        await poller.poll()
    assert await site.keys() == ["callback-1", "callback-2"]
    assert site.announced == 2


async def test_without_a_delay_a_request_is_ready_when_it_is_created(site: Site) -> None:
    await site.add(created(1, site.now), created(2, site.now + MILLISECOND))
    async with site.callbacks(start_from=LONG_AGO, delay=0) as (poller, _):
        await poller.poll()
        assert await site.keys() == ["callback-1"]
        # One that was committed a moment after the time that it carries.
        await site.add(created(3, site.ago(seconds=2)))
        await poller.poll()
    assert await site.keys() == ["callback-3", "callback-1"]


async def test_a_request_waits_for_the_end_of_its_call_and_is_taken_within_a_minute(
    site: Site,
) -> None:
    began = site.now
    await site.add(
        running(1, site.ago(minutes=1)),
        created(11, began, statisticspartaid=1),
        created(12, began, statisticspartaid=999),
        created(13, began),
    )
    async with site.callbacks(start_from=LONG_AGO) as (poller, sweeper):
        await site.pass_time(minutes=20)
        await poller.poll()
        await sweeper.sweep(wide=False)
        await sweeper.sweep(wide=True)
        # A call that is not there is waited for by nobody.
        assert await site.keys() == ["callback-12", "callback-13"]
        await site.db.execute("UPDATE StatisticsPartA SET dtCallEnd = $1", site.now)
        assert (await poller.poll()).lines == 0
        assert (await sweeper.sweep(wide=False)).lines == 1
    assert await site.keys() == ["callback-11", "callback-12", "callback-13"]
    record = await record_of(site, 11)
    assert record["dtCallEnd"] == f"{site.now.astimezone(BERLIN):%Y-%m-%dT%H:%M:%S}"


@pytest.mark.parametrize("delay", [30, 3600])
async def test_a_request_waits_half_an_hour_at_most_and_its_delay_always(
    site: Site, delay: float
) -> None:
    began = site.now
    await site.add(running(1, site.ago(minutes=1)), created(11, began, statisticspartaid=1))
    async with site.callbacks(start_from=LONG_AGO, delay=delay) as (poller, sweeper):
        await site.set_clock(began + max(HALF_AN_HOUR, timedelta(seconds=delay)) - MILLISECOND)
        await poller.poll()
        await sweeper.sweep(wide=True)
        assert await site.keys() == []
        await site.pass_time(milliseconds=1)
        taken = (await poller.poll()).lines + (await sweeper.sweep(wide=False)).lines
        assert taken == 1
    assert (await record_of(site, 11))["dtCallEnd"] is None
    assert (await record_of(site, 11))["dtCallStart"] is not None


@pytest.mark.parametrize("minutes", [1, 29, 31, 59, 61, 24 * 60])
async def test_a_request_that_appears_late_is_taken_by_the_next_sweep(
    site: Site, minutes: int
) -> None:
    async with site.callbacks(start_from=site.ago(days=2)) as (poller, sweeper):
        await sweeper.sweep(wide=True)
        await poller.poll()
        await site.add(created(1, site.ago(minutes=minutes)))
        assert (await poller.poll()).lines == 0
        taken = await sweeper.sweep(wide=False)
        assert (taken.lines, taken.call_ids) == (1, {1})
        for wide in (False, True):
            assert (await sweeper.sweep(wide=wide)).lines == 0


async def test_only_requests_for_a_callback_are_taken_and_none_of_our_own_alerts(
    site: Site,
) -> None:
    at = site.ago(minutes=1)
    await site.add(
        *(created(10 + kind, at, acdeventtypesid=kind) for kind in range(1, 8)),
        created(21, at, userdata="callstatsd-alert-sender_paused"),
        created(22, at, userdata="callstatsd-alert-"),
        created(23, at, userdata="callstatsd-alert"),
        created(24, at, userdata=" callstatsd-alert-x"),
        created(25, at, userdata=None),
    )
    async with site.callbacks(start_from=LONG_AGO) as (poller, sweeper):
        await poller.poll()
        await sweeper.sweep(wide=True)
    assert await site.keys() == [f"callback-{number}" for number in (13, 23, 24, 25)]


async def test_a_request_is_taken_once_and_not_again_when_it_changes(site: Site) -> None:
    await site.add(*(created(number, site.ago(minutes=number)) for number in range(1, 40)))
    async with site.callbacks(start_from=LONG_AGO, page=4) as (poller, sweeper):
        assert (await poller.poll()).lines == 39
        before = await site.lines()
        await site.db.execute("UPDATE AcdEvents SET Subject = 'other', UserData = NULL")
        for wide in (False, True):
            assert (await sweeper.sweep(wide=wide)).lines == 0
        assert (await poller.poll()).lines == 0
    assert await site.lines() == before


async def test_a_request_without_a_record_id_is_pending_in_a_lane_of_its_own(site: Site) -> None:
    at = site.ago(minutes=1)
    await site.add(created(1, at, userdata=None), created(2, at), created(3, at, userdata="x"))
    async with site.callbacks(start_from=LONG_AGO) as (poller, _):
        await poller.poll()
    assert [(row["state"], row["lane"], row["salesforce_id"]) for row in await site.lines()] == [
        ("pending", "callback-1", None),
        ("pending", RECORD[:15], RECORD),
        ("pending", "callback-3", None),
    ]


# The floor.


@EITHER_WAY
async def test_the_first_start_with_callbacks_is_their_floor_and_stays_it(site: Site) -> None:
    await site.add(created(1, site.ago(milliseconds=1)), created(2, site.now))
    first = site.now
    async with site.callbacks() as (poller, sweeper):
        assert await site.start_from() == first
        await site.pass_time(minutes=5)
        await poller.poll()
        await sweeper.sweep(wide=True)
        assert await site.keys() == ["callback-2"]
    async with site.callbacks(start_from=LONG_AGO) as (poller, sweeper):
        assert await site.start_from() == first
        await poller.poll()
        await sweeper.sweep(wide=True)
    assert await site.keys() == ["callback-2"]


async def test_start_from_is_the_floor_where_it_is_set(site: Site) -> None:
    start = site.ago(hours=2)
    await site.add(
        running(9, start - timedelta(hours=1)),
        created(1, start - MILLISECOND),
        created(2, start),
        created(3, start - MILLISECOND, statisticspartaid=9),
        created(4, start, statisticspartaid=9),
    )
    async with site.callbacks(start_from=start) as (poller, sweeper):
        await poller.poll()
        await sweeper.sweep(wide=False)
        await sweeper.sweep(wide=True)
    assert await site.keys() == ["callback-2", "callback-4"]


async def test_each_feed_has_a_progress_of_its_own(site: Site) -> None:
    async with site.poller(start_from=site.ago(hours=9)) as calls:
        await calls.poll()
    async with open_ledger(site.ledger_dsn, "callstatsd") as ledger:
        assert (await ledger.progress(FeedName.CALLBACKS)).floor is None
        of_calls = await ledger.progress(FeedName.STATISTICS)
        await site.pass_time(hours=1)
        # The same number as a call's: another line.
        await site.add(created(1, site.now), call(1, dtcallend=site.now))
        async with site.callbacks() as (poller, _):
            await site.pass_time(minutes=1)
            await poller.poll()
        assert await ledger.progress(FeedName.STATISTICS) == of_calls
        assert await site.keys() == ["callback-1"]
        assert await ledger.pending(FeedName.STATISTICS, 10, []) == []
        assert await ledger.newest(FeedName.STATISTICS, backfill=False) is None
        (line,) = await ledger.pending(FeedName.CALLBACKS, 10, [])
        assert str(line.key) == "callback-1"
    async with site.poller() as calls:
        await site.pass_time(minutes=5)
        assert (await calls.poll()).lines == 1
    assert sorted(await site.keys()) == ["1-0-0-0", "callback-1"]


# Whose.


async def test_with_a_client_only_its_requests_are_taken_by_their_own_id_or_their_calls(
    site: Site,
) -> None:
    at = site.ago(minutes=1)
    await site.add(
        call(1, clientsid=7),
        call(2, clientsid=8),
        created(11, at, clientsid=7),
        created(12, at, clientsid=8),
        created(13, at, clientsid=7, statisticspartaid=2),
        created(14, at, clientsid=8, statisticspartaid=1),
        created(15, at, clientsid=None, statisticspartaid=1),
        created(16, at, clientsid=None, statisticspartaid=2),
        created(17, at, clientsid=None, statisticspartaid=999),
        created(18, at, clientsid=None),
    )
    await site.ledger_db.execute("UPDATE callstatsd.ledger SET clients_id = 7")
    async with site.callbacks(start_from=LONG_AGO, clients_id=7, prepared=False) as (poller, sweep):
        await poller.prepare(7, ("jtelstats", "pg_catalog"))
        await poller.poll()
        await sweep.sweep(wide=True)
        assert await site.keys() == [f"callback-{number}" for number in (11, 13, 15)]
        # The call that says whose it is may come later.
        await site.add(call(999, clientsid=7))
        assert (await sweep.sweep(wide=False)).call_ids == {17}


async def test_where_the_column_is_missing_the_call_says_whose_a_request_is(site: Site) -> None:
    at = site.ago(minutes=1)
    await site.add(call(1, clientsid=7), created(11, at, statisticspartaid=1), created(12, at))
    await site.db.execute("ALTER TABLE AcdEvents DROP COLUMN ClientsID")
    await site.ledger_db.execute("UPDATE callstatsd.ledger SET clients_id = 7")
    async with site.callbacks(start_from=LONG_AGO, clients_id=7, prepared=False) as (poller, _):
        await poller.prepare(7, ("jtelstats", "pg_catalog"))
        await poller.poll()
    assert await site.keys() == ["callback-11"]


# Time.


async def test_on_a_standby_the_watermark_waits_for_the_replay(site: Site) -> None:
    await site.add(*(created(n, site.ago(minutes=n)) for n in (5, 15, 25)))
    await site.become_standby(site.ago(minutes=10))
    async with site.callbacks(start_from=site.ago(hours=1)) as (poller, sweeper):
        assert (await poller.poll()).call_ids == {5, 15, 25}
        assert await site.watermark() == site.ago(minutes=10, seconds=30)
        await site.add(created(11, site.ago(minutes=11)), created(3, site.ago(minutes=3)))
        await site.become_standby(site.now)
        assert (await poller.poll()).call_ids == {3}
        assert (await sweeper.sweep(wide=False)).call_ids == {11}
        assert await site.watermark() == site.ago(seconds=30)


async def test_a_watermark_ahead_of_the_clock_is_pulled_back(site: Site) -> None:
    async with site.callbacks(start_from=site.ago(days=1)) as (poller, sweeper):
        await poller.poll()
        await site.pass_time(hours=-2)
        await site.add(created(1, site.ago(seconds=10)))
        assert (await poller.poll()).lines == 0
        assert (await sweeper.sweep(wide=True)).lines == 0
        assert await site.watermark() == site.ago(seconds=30)
        await site.pass_time(seconds=20)
        assert (await poller.poll()).lines == 1


async def test_the_watermark_never_passes_a_request_that_is_not_in_the_ledger(site: Site) -> None:
    await site.add(*(created(n, site.ago(minutes=30 - n)) for n in range(1, 21)))
    await site.refuse("NEW.call_id = 13")
    async with site.callbacks(start_from=site.ago(hours=1), page=3) as (poller, _):
        with pytest.raises(UnusableError):
            await poller.poll()
        assert await site.watermark() < site.ago(minutes=17)
        await site.accept()
        await poller.poll()
    assert await site.keys() == [f"callback-{n}" for n in range(1, 21)]


@pytest.mark.parametrize("moment", ["-infinity", "infinity", "4713-01-01 BC", "294276-01-01"])
@pytest.mark.parametrize("kind", ["timestamptz", "timestamp"])
async def test_requests_of_impossible_times_are_in_no_window_and_hide_no_other(
    site: Site, kind: str, moment: str
) -> None:
    rows = [created(n, site.ago(minutes=n)) for n in range(1, 8)]
    if kind == "timestamp":
        await local_times(site.db)
        rows = [on_local_clocks(row, BERLIN) for row in rows]
    await site.add(*rows)
    await site.db.execute(f"UPDATE AcdEvents SET dtCreated = '{moment}' WHERE ID = 4")
    async with site.callbacks(start_from=LONG_AGO, page=2) as (poller, sweeper):
        assert (await poller.poll()).lines == 6
        for wide in (False, True):
            assert (await sweeper.sweep(wide=wide)).lines == 0


@pytest.mark.parametrize("kind", ["timestamptz", "timestamp"])
async def test_many_requests_of_one_moment_are_taken_across_pages(site: Site, kind: str) -> None:
    at = site.ago(minutes=1)
    rows = [created(n, at) for n in range(1, 60)]
    if kind == "timestamp":
        await local_times(site.db)
        rows = [on_local_clocks(row, BERLIN) for row in rows]
    await site.add(*rows[:40])
    async with site.callbacks(start_from=LONG_AGO, page=7) as (poller, sweeper):
        assert (await poller.poll()).lines == 40
        await site.add(*rows[40:])
        assert (await sweeper.sweep(wide=False)).lines == 19


async def test_a_clock_near_the_first_of_all_times_is_no_fault(site: Site) -> None:
    await site.set_clock(datetime(1, 1, 1, 6, tzinfo=UTC))
    await site.add(created(1, site.ago(hours=1)))
    async with site.callbacks(start_from=site.ago(hours=2)) as (poller, sweeper):
        for wide in (False, True):
            await sweeper.sweep(wide=wide)
        await poller.poll()
        await sweeper.sweep(wide=False)
    assert await site.keys() == ["callback-1"]
