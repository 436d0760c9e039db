"""What polls could not see is taken by sweeps: late rows, ends, codes and ids, once and no more."""

import asyncio
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
import time_machine
from structlog.testing import capture_logs

from daemon import logs
from daemon.demo.record_ids import ids
from daemon.errors import DatabaseSetupError, UnreachableError
from daemon.ingest.poller import Poller
from daemon.ingest.readiness import Window
from daemon.ingest.statistics import StatisticsFeed
from daemon.ingest.sweeper import Sweeper
from daemon.ledger.store import Ledger
from daemon.lines import NO_ID, Digest, FeedName, LineKey
from tests.support.daemon_process import PATIENCE
from tests.support.expected import BERLIN
from tests.support.rows import (
    NIGHTS,
    add,
    call,
    code,
    ended,
    leg,
    local_times,
    on_local_clocks,
    retype,
    running,
    visit,
)
from tests.support.site import EITHER_WAY, LOOKBACK, Site

MILLISECOND = timedelta(milliseconds=1)
DISCARDED = "discarded by operator"


async def start(poller: Poller, sweeper: Sweeper) -> None:
    """What a daemon does first: both sweeps, and a poll."""
    await sweeper.sweep(wide=True)
    await poller.poll()


async def versions(site: Site) -> list[Any]:
    """Which transaction wrote each line last."""
    return list(
        await site.ledger_db.fetch("SELECT ctid, xmin, call_id FROM callstatsd.line ORDER BY ctid")
    )


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


# Rows of a call that was taken before.


@EITHER_WAY
@pytest.mark.parametrize("wide", [False, True])
async def test_rows_of_a_taken_call_that_appear_late_give_the_missing_lines_only(
    site: Site, wide: bool
) -> None:
    async with site.sweeping(start_from=site.ago(days=2)) as (poller, sweeper):
        await start(poller, sweeper)
        at = site.now
        await site.add(
            ended(1, at, anumber="0049 30 1"),
            visit(21, 1),
            leg(31, 1, 21),
            code(41, 1, 21, 31, dtcreated=at),
            ended(2, at),
        )
        await site.pass_time(minutes=5)
        await poller.poll()
        assert await site.keys() == ["1-21-31-41", "2-0-0-0"]
        before = await versions(site)
        await site.db.execute("UPDATE StatisticsPartA SET ANumber = '0049 40 2' WHERE ID = 1")
        late: list[tuple[Any, str]] = [
            (visit(22, 1), "1-22-0-0"),
            (leg(32, 1, 21), "1-21-32-0"),
            (leg(33, 1, None), "1-0-33-0"),
            (code(42, 1, 21, 31, dtcreated=at), "1-21-31-42"),
            (code(43, 1, 21, 32, dtcreated=at), "1-21-32-43"),
            (code(44, 1, None, None, dtcreated=at), "1-0-0-44"),
            (leg(34, 2, None), "2-0-34-0"),
        ]
        for row, key in late:
            await site.add(row)
            known = set(await site.keys())
            assert (await poller.poll()).lines == 0
            assert (await sweeper.sweep(wide=wide)).lines == 1
            assert set(await site.keys()) - known == {key}
            assert (await sweeper.sweep(wide=wide)).lines == 0
    assert (await versions(site))[: len(before)] == before
    bodies = {
        key: line["record"] for key, line in zip(await site.keys(), await site.lines(), strict=True)
    }
    assert '"CallerID":"49301"' in bodies["1-21-31-41"]
    assert '"CallerID":"49402"' in bodies["1-22-0-0"]


@EITHER_WAY
async def test_rows_that_hang_on_others_by_now_are_not_sent_again(site: Site) -> None:
    """A code or leg keeps its one line; changed rows are for `backfill --resend`."""
    at = site.ago(minutes=3)
    await site.add(
        ended(1, at),
        leg(11, 1, None),
        leg(12, 1, None),
        code(100, 1, None, None, dtcreated=at),
    )
    async with site.sweeping(start_from=site.ago(days=1)) as (poller, sweeper):
        await start(poller, sweeper)
        taken = await site.keys()
        assert taken == ["1-0-11-0", "1-0-12-0", "1-0-0-100"]
        await site.add(visit(5, 1))
        await site.db.execute("UPDATE StatisticsPartB SET AcdStatisticsPartBID = 5 WHERE ID = 12")
        await site.db.execute(
            "UPDATE AcdStatisticsTransactionCodes"
            " SET StatisticsPartBID = 11, AcdStatisticsPartBID = 5"
        )
        for _ in range(2):
            assert (await sweeper.sweep(wide=True)).lines == 0
        await site.add(leg(13, 1, 5))
        assert (await sweeper.sweep(wide=True)).lines == 1
    assert await site.keys() == [*taken[:2], "1-5-13-0", taken[2]]


@EITHER_WAY
async def test_a_leg_whose_codes_were_deleted_is_not_sent_again(site: Site) -> None:
    at = site.ago(minutes=3)
    await site.add(
        ended(1, at),
        visit(5, 1),
        leg(11, 1, 5),
        leg(12, 1, 5),
        code(100, 1, 5, 11, dtcreated=at),
        code(101, 1, 5, 12, dtcreated=at),
        code(102, 1, 5, 12, dtcreated=at),
    )
    async with site.sweeping(start_from=site.ago(days=1)) as (poller, sweeper):
        await start(poller, sweeper)
        taken = await site.keys()
        assert len(taken) == 3
        await site.db.execute("DELETE FROM AcdStatisticsTransactionCodes WHERE ID <> 101")
        assert (await sweeper.sweep(wide=True)).lines == 0
        await site.db.execute("DELETE FROM AcdStatisticsTransactionCodes")
        assert (await sweeper.sweep(wide=True)).lines == 0
        await site.add(leg(13, 1, 5))
        assert (await sweeper.sweep(wide=True)).lines == 1
    assert sorted(await site.keys()) == sorted([*taken, "1-5-13-0"])


@EITHER_WAY
@pytest.mark.parametrize("wide", [False, True])
async def test_an_attempt_that_appears_after_its_code_is_taken(site: Site, wide: bool) -> None:
    """The code names it, so its line has another group by then: nothing was moved."""
    at = site.ago(minutes=3)
    await site.add(ended(1, at), visit(21, 1), code(41, 1, None, 31, dtcreated=at))
    async with site.sweeping(start_from=site.ago(days=1)) as (poller, sweeper):
        await start(poller, sweeper)
        assert await site.keys() == ["1-21-0-0", "1-0-31-41"]
        await site.add(leg(31, 1, 21))
        assert (await sweeper.sweep(wide=wide)).lines == 1
        assert (await sweeper.sweep(wide=wide)).lines == 0
    assert "1-21-31-41" in await site.keys()


@EITHER_WAY
async def test_rows_that_exchange_their_places_change_the_digest(site: Site) -> None:
    """A sum of sums would be the same for A-0-11-100 and A-0-12-0, A-0-11-0 and A-0-12-100."""
    at = site.ago(minutes=3)
    for n in range(1, 41):
        await site.add(
            ended(n, at),
            leg(1000 + n, n, None),
            leg(2000 + n, n, None),
            code(n, n, None, 1000 + n, dtcreated=at),
        )
    async with site.sweeping(start_from=site.ago(days=1)) as (poller, sweeper):
        await start(poller, sweeper)
        feed, ledger = sweeper._feed, sweeper._ledger
        assert all(
            [
                await feed.digest([n]) == await ledger.digest(FeedName.STATISTICS, [n])
                for n in range(1, 41)
            ]
        )
        await site.db.execute(
            "UPDATE AcdStatisticsTransactionCodes SET StatisticsPartBID = StatisticsPartBID + 1000"
        )
        assert not any(
            [
                await feed.digest([n]) == await ledger.digest(FeedName.STATISTICS, [n])
                for n in range(1, 41)
            ]
        )


@pytest.mark.parametrize("kind", ["ended", "never ended"])
async def test_codes_that_appear_late_are_found_though_their_call_ended_before_the_window(
    site: Site, kind: str
) -> None:
    old = ended(1, site.ago(days=4)) if kind == "ended" else running(1, site.ago(days=4))
    await site.add(old, leg(31, 1, None), leg(32, 1, None))
    async with site.sweeping(start_from=site.ago(days=5)) as (poller, sweeper):
        await start(poller, sweeper)
        await start(poller, sweeper)
        # Long settled lines may be pruned; they are not missing.
        await site.ledger_db.execute("DELETE FROM callstatsd.line WHERE leg_id = 32")
        await site.add(
            code(41, 1, None, 31, dtcreated=site.ago(minutes=20)),
            code(42, 1, None, 32, dtcreated=site.ago(hours=20)),
            code(43, 1, None, None, dtcreated=site.ago(hours=27)),
            code(44, 99, None, None, dtcreated=site.ago(minutes=20)),
        )
        assert (await poller.poll()).lines == 0
        assert (await sweeper.sweep(wide=False)).lines == 1
        assert await site.keys() == ["1-0-31-0", "1-0-31-41"]
        assert (await sweeper.sweep(wide=True)).lines == 1
        assert (await sweeper.sweep(wide=True)).lines == 0
    assert sorted(await site.keys()) == ["1-0-31-0", "1-0-31-41", "1-0-32-42"]


async def test_an_end_that_is_set_late_to_a_past_time_is_found(site: Site) -> None:
    since = site.ago(hours=6)
    await site.add(*(running(n, since) for n in range(1, 5)), leg(31, 1, None))
    async with site.sweeping(start_from=site.ago(days=2)) as (poller, sweeper):
        await start(poller, sweeper)
        for number, end in (
            (1, site.ago(minutes=20)),
            (2, site.ago(hours=5)),
            (3, site.ago(seconds=60)),
        ):
            await site.db.execute(
                "UPDATE StatisticsPartA SET dtCallEnd = $1 WHERE ID = $2", end, number
            )
        assert (await poller.poll()).lines == 0
        assert (await sweeper.sweep(wide=False)).call_ids == {1}
        assert (await sweeper.sweep(wide=True)).call_ids == {2}
        await site.pass_time(minutes=1)
        assert (await poller.poll()).call_ids == {3}
        await site.pass_time(hours=6)
        assert (await poller.poll()).call_ids == {4}
        assert (await sweeper.sweep(wide=True)).lines == 0
    assert sorted(await site.keys()) == ["1-0-31-0", "2-0-0-0", "3-0-0-0", "4-0-0-0"]


async def test_the_late_end_of_a_call_taken_as_stale_repeats_nothing(site: Site) -> None:
    await site.add(running(1, site.ago(hours=13)), leg(31, 1, None))
    async with site.sweeping(start_from=site.ago(days=2)) as (poller, sweeper):
        await start(poller, sweeper)
        assert await site.keys() == ["1-0-31-0"]
        before = await versions(site)
        await site.db.execute("UPDATE StatisticsPartA SET dtCallEnd = $1", site.ago(hours=10))
        for wide in (False, True):
            assert (await sweeper.sweep(wide=wide)).lines == 0
    assert await versions(site) == before


async def test_a_never_ended_call_that_appears_late_is_found(site: Site) -> None:
    async with site.sweeping(start_from=site.ago(days=2)) as (poller, sweeper):
        await start(poller, sweeper)
        await site.add(
            running(1, site.ago(hours=12, minutes=30)),
            running(2, site.ago(hours=12, minutes=31)),
            code(42, 2, None, None, dtcreated=site.ago(hours=12)),
        )
        assert (await poller.poll()).lines == 0
        assert (await sweeper.sweep(wide=False)).call_ids == {1}
        assert (await sweeper.sweep(wide=True)).call_ids == {2}
    assert sorted(await site.keys()) == ["1-0-0-0", "2-0-0-0", "2-0-0-42"]


async def test_a_call_that_appears_late_with_an_id_that_is_no_number_is_one_invalid_line(
    site: Site,
) -> None:
    await retype(site.db, "StatisticsPartA", "numeric(20)", "ID")
    async with site.sweeping(start_from=site.ago(days=2)) as (poller, sweeper):
        await start(poller, sweeper)
        await site.add(ended(1, site.ago(minutes=9)), ended(2, site.ago(minutes=8)))
        await site.db.execute("UPDATE StatisticsPartA SET ID = 18446744073709551615 WHERE ID = 1")
        assert (await sweeper.sweep(wide=False)).lines == 2
        assert (await sweeper.sweep(wide=True)).lines == 0
    assert sorted(line["state"] for line in await site.lines()) == ["invalid", "pending"]


# Ids that came late.


async def settle(site: Site, call_id: int, state: str, error: str | None) -> None:
    await site.ledger_db.execute(
        "UPDATE callstatsd.line SET state = $2, last_error = $3, settled_at = now(),"
        " skip_reason = CASE WHEN $4 THEN 'discarded' ELSE skip_reason END WHERE call_id = $1",
        *(call_id, state, error, error == DISCARDED),
    )


@EITHER_WAY
async def test_a_skipped_line_whose_id_came_late_becomes_pending_with_its_record_and_lane(
    site: Site,
) -> None:
    short, long = ids(7)
    other = ids(8)[1]
    async with site.sweeping(start_from=site.ago(days=2)) as (poller, sweeper):
        await start(poller, sweeper)
        nameless = [ended(n, site.ago(minutes=10), userdata=None) for n in range(1, 5)]
        await site.add(
            *nameless,
            leg(31, 1, None),
            leg(32, 1, None),
            code(42, 1, None, 32, dtcreated=site.ago(minutes=10)),
            ended(5, site.ago(minutes=10)),
        )
        assert (await sweeper.sweep(wide=False)).lines == 6
        for wide in (False, True):
            assert (await sweeper.sweep(wide=wide)).lines == 0
        await site.db.execute("UPDATE StatisticsPartA SET UserData = $1 WHERE ID = 1", f" {long} ")
        await site.db.execute("UPDATE AcdStatisticsTransactionCodes SET UserData = $1", other)
        await site.db.execute("UPDATE StatisticsPartA SET UserData = '4711' WHERE ID = 2")
        announced = site.announced
        taken = await sweeper.sweep(wide=False)
        assert (taken.lines, taken.call_ids) == (2, {1})
        assert site.announced == announced + 1
        assert (await sweeper.sweep(wide=False)).lines == 0
    found = {
        key: (line["state"], line["lane"], line["salesforce_id"], line["last_error"])
        for key, line in zip(await site.keys(), await site.lines(), strict=True)
    }
    assert found == {
        "1-0-31-0": ("pending", short, long, None),
        "1-0-32-42": ("pending", other[:15], other, None),
        **{f"{n}-0-0-0": ("skipped", f"{n}-0-0-0", None, NO_ID) for n in (2, 3, 4)},
        "5-0-0-0": ("pending", call(1).userdata[:15], call(1).userdata, None),  # type: ignore[index]
    }
    for line in await site.lines():
        assert (line["settled_at"] is None) == (line["state"] == "pending")
        wanted = line["salesforce_id"]
        assert (f'"SalesForceID":"{wanted}"' if wanted else '"SalesForceID":null') in line["record"]


async def test_lines_that_were_skipped_stay_so_when_others_would_be_sent_by_now(
    site: Site,
) -> None:
    await site.add(ended(1, site.ago(minutes=3), userdata=None))
    async with site.sweeping(start_from=site.ago(days=1)) as (poller, sweeper):
        await start(poller, sweeper)
    all_wanted = site.sweeping(start_from=site.ago(days=1), send_without_id=True)
    async with all_wanted as (_, sweeper):
        await site.add(ended(2, site.ago(minutes=3), userdata=None))
        assert (await sweeper.sweep(wide=True)).call_ids == {2}
    assert [line["state"] for line in await site.lines()] == ["skipped", "pending"]


async def test_ids_are_looked_for_as_far_back_as_the_sweep_reaches(site: Site) -> None:
    ages = {1: {"minutes": 31}, 2: {"minutes": 33}, 3: {"hours": 26}, 4: {"hours": 27}}
    await site.add(*(ended(n, site.ago(**age), userdata=None) for n, age in ages.items()))
    async with site.sweeping(start_from=site.ago(days=2)) as (poller, sweeper):
        await start(poller, sweeper)
        await start(poller, sweeper)
        await site.ledger_db.execute("UPDATE callstatsd.line SET settled_at = call_ended")
        await site.db.execute("UPDATE StatisticsPartA SET UserData = $1", ids(7)[1])
        assert (await sweeper.sweep(wide=False)).call_ids == {1}
        assert (await sweeper.sweep(wide=True)).call_ids == {2, 3}
        assert (await sweeper.sweep(wide=True)).lines == 0


@pytest.mark.parametrize("wide", [False, True])
async def test_ids_are_looked_for_as_long_after_a_late_code_was_taken(
    site: Site, wide: bool
) -> None:
    await site.add(ended(1, site.ago(days=40), userdata=None))
    async with site.sweeping(start_from=site.ago(days=50)) as (poller, sweeper):
        await start(poller, sweeper)
        await site.ledger_db.execute("UPDATE callstatsd.line SET settled_at = call_ended")
        await site.add(code(41, 1, None, None, dtcreated=site.now))
        await site.pass_time(minutes=3)
        await poller.poll()
        assert [line["state"] for line in await site.lines()] == ["skipped", "skipped"]
        await site.db.execute("UPDATE AcdStatisticsTransactionCodes SET UserData = $1", ids(7)[1])
        assert (await sweeper.sweep(wide=wide)).lines == 1
    assert [line["state"] for line in await site.lines()] == ["skipped", "pending"]


async def test_what_is_not_skipped_for_want_of_an_id_stays_as_it_is(site: Site) -> None:
    states = [
        ("skipped", DISCARDED),
        ("delivered", None),
        ("rejected", NO_ID),
        ("invalid", "StatisticsPartB.CONNRES holds text where a whole number belongs"),
        ("expired", None),
        ("not_found", None),
    ]
    await site.add(
        *(ended(n, site.ago(minutes=10), userdata=None) for n in range(1, len(states) + 1))
    )
    async with site.sweeping(start_from=site.ago(days=2)) as (poller, sweeper):
        await start(poller, sweeper)
        for number, (state, error) in enumerate(states, 1):
            await settle(site, number, state, error)
        await site.db.execute("UPDATE StatisticsPartA SET UserData = $1", ids(7)[1])
        before = await versions(site)
        for wide in (False, True):
            assert (await sweeper.sweep(wide=wide)).lines == 0
    assert await versions(site) == before


async def test_thousands_of_skipped_lines_are_looked_at_in_pages(site: Site) -> None:
    calls = [ended(n, site.ago(minutes=10), userdata=None) for n in range(1, 4502)]
    await site.add(*calls)
    async with site.sweeping(start_from=site.ago(days=2)) as (poller, sweeper):
        await start(poller, sweeper)
        await site.db.execute(
            "UPDATE StatisticsPartA SET UserData = $1 WHERE ID % 1500 = 1", ids(7)[1]
        )
        assert (await sweeper.sweep(wide=False)).call_ids == {1, 1501, 3001, 4501}


async def test_a_line_that_is_spoilt_by_the_time_its_id_comes_is_invalid_with_the_reason(
    site: Site,
) -> None:
    await site.add(ended(1, site.ago(minutes=10), userdata=None), leg(31, 1, None))
    await retype(site.db, "StatisticsPartB", "text", "CONNRES")
    async with site.sweeping(start_from=site.ago(days=2)) as (poller, sweeper):
        await start(poller, sweeper)
        await site.db.execute("UPDATE StatisticsPartA SET UserData = $1", ids(7)[1])
        await site.db.execute("UPDATE StatisticsPartB SET CONNRES = 'busy'")
        with capture_logs() as events:
            await sweeper.sweep(wide=False)
        assert (await sweeper.sweep(wide=False)).lines == 0
    (line,) = await site.lines()
    reason = "StatisticsPartB.CONNRES holds text where a whole number belongs"
    assert (line["state"], line["last_error"], line["record"]) == ("invalid", reason, None)
    assert [e["error"] for e in events if e["event"] == logs.LINE_INVALID] == [reason]


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


async def test_ids_are_not_looked_for_in_calls_from_before_start_from(site: Site) -> None:
    """A backfill has taken them; it is not for `run` to send them."""
    start_from = site.ago(hours=20)
    await site.add(
        ended(1, start_from - MILLISECOND, userdata=None), ended(2, start_from, userdata=None)
    )
    async with site.taking() as (feed, _, intake):
        async for page in feed.ready_in(Window(site.ago(days=2), site.now)):
            await intake.take(page.found, backfill=True)
    async with site.sweeping(start_from=start_from) as (poller, sweeper):
        await start(poller, sweeper)
        await site.db.execute("UPDATE StatisticsPartA SET UserData = $1", ids(7)[1])
        assert (await sweeper.sweep(wide=True)).call_ids == {2}
        assert (await sweeper.sweep(wide=True)).lines == 0
    assert [line["state"] for line in await site.lines()] == ["skipped", "pending"]


async def test_a_start_from_in_the_future_is_a_floor_too(site: Site) -> None:
    start_from = site.now + timedelta(hours=1)
    async with site.sweeping(start_from=start_from) as (poller, sweeper):
        await start(poller, sweeper)
        await site.add(ended(1, site.ago(minutes=9)), running(2, site.ago(hours=13)))
        for _ in range(8):
            await site.pass_time(minutes=10)
            await start(poller, sweeper)
    assert await site.keys() == []


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


async def test_a_near_sweep_is_no_wide_one(site: Site) -> None:
    async with site.sweeping(start_from=site.ago(days=5)) as (poller, sweeper):
        await start(poller, sweeper)
        swept_at = await site.ledger_value("swept_at")
        await site.pass_time(hours=1)
        await poller.poll()
        await sweeper.sweep(wide=False)
        assert await site.ledger_value("swept_at") == swept_at


# Nothing missing.


@EITHER_WAY
async def test_where_nothing_is_missing_nothing_is_taken_said_or_written_and_no_full_row_read(
    site: Site,
) -> None:
    await site.add(
        *(ended(n, site.ago(minutes=n)) for n in range(3, 60)),
        *(running(100 + n, site.ago(hours=12, minutes=n)) for n in range(60)),
        *(code(n, n, None, None, dtcreated=site.ago(minutes=2 * n)) for n in range(3, 60)),
        *(leg(n, 1 + n % 60, None) for n in range(60)),
    )
    allowed = True

    class Watched(StatisticsFeed):
        async def keys(self, call_ids: Sequence[int]) -> list[LineKey]:
            assert allowed, "the keys were read, though their digest is known"
            return await super().keys(call_ids)

    async with site.sweeping(start_from=site.ago(days=2), feed_type=Watched) as (poller, sweeper):
        await start(poller, sweeper)
        before = await versions(site)
        announced = site.announced
        # Only records need a user's name.
        await site.db.execute("ALTER TABLE Users RENAME TO hidden")
        allowed = False
        with capture_logs() as events:
            for wide in (False, True):
                taken = await sweeper.sweep(wide=wide)
                assert (taken.lines, taken.call_ids) == (0, set())
        assert events == []
        assert site.announced == announced
        assert await versions(site) == before
        allowed = True
        await site.db.execute("UPDATE StatisticsPartB SET ID = ID + 1000 WHERE ID = 7")
        with pytest.raises(DatabaseSetupError):
            await sweeper.sweep(wide=False)


@pytest.mark.parametrize("type_name", ["integer", "numeric", "double precision", "text"])
async def test_ids_of_other_types_are_compared_all_the_same(site: Site, type_name: str) -> None:
    """Where such an id hashes to something else than in the ledger, the keys decide."""
    await site.add(
        *(ended(n, site.ago(minutes=n)) for n in range(3, 30)),
        *(leg(n, n, None) for n in range(3, 30, 2)),
    )
    await retype(site.db, "StatisticsPartA", type_name, "ID")
    await retype(site.db, "StatisticsPartB", type_name, "ID", "StatisticsPartAID")
    async with site.sweeping(start_from=site.ago(days=2)) as (poller, sweeper):
        await start(poller, sweeper)
        before = await versions(site)
        assert len(before) == 27
        assert (await sweeper.sweep(wide=True)).lines == 0
        assert await versions(site) == before
        await site.db.execute("UPDATE StatisticsPartB SET ID = '1000' WHERE ID = '7'")
        assert (await sweeper.sweep(wide=True)).lines == 1
        assert "7-0-1000-0" in await site.keys()


@EITHER_WAY
async def test_two_servers_that_hash_differently_are_compared_by_their_keys(site: Site) -> None:
    class Another(Ledger):
        async def digest(self, *arguments: Any) -> Digest:
            lines, hashes = await super().digest(*arguments)
            return Digest(lines, None if hashes is None else hashes + 1)

    await site.add(*(ended(n, site.ago(minutes=n)) for n in range(3, 30)))
    async with site.sweeping(start_from=site.ago(days=2), ledger_type=Another) as (poller, sweeper):
        await start(poller, sweeper)
        assert (await sweeper.sweep(wide=True)).lines == 0
        await site.add(leg(31, 7, None))
        assert (await sweeper.sweep(wide=True)).lines == 1
    assert "7-0-31-0" in await site.keys()


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
