"""A code that is recorded after its call was taken gives a line of its own."""

from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from daemon import logs
from daemon.ledger.store import Ledger
from daemon.lines import LineKey
from tests.support.rows import (
    call,
    code,
    ended,
    leg,
    running,
    visit,
)
from tests.support.site import EITHER_WAY, LONG_AGO, Site
from tests.support.taking import of

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
