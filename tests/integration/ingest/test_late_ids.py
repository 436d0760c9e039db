"""A line that was skipped for want of an id is sent once its id appears."""

import pytest
from structlog.testing import capture_logs

from daemon import logs
from daemon.demo.record_ids import ids
from daemon.ingest.readiness import Window
from daemon.lines import NO_ID
from tests.support.rows import (
    call,
    code,
    ended,
    leg,
    retype,
)
from tests.support.site import EITHER_WAY, Site
from tests.support.taking import MILLISECOND, start, versions

DISCARDED = "discarded by operator"


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
