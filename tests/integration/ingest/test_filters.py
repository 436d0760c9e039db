"""Lines that a filter keeps out are in the ledger, with nothing of their records."""

from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from daemon.demo.record_ids import ids
from daemon.demo.rows import Visit
from daemon.ingest.filters import Filters
from tests.support.rows import call, code, leg, visit
from tests.support.site import EITHER_WAY, Site, opened

SALES, SUPPORT = 3, 4
"""Ids of the groups Vertrieb and Technik."""
ONLY_SALES = Filters((), ["Vertrieb"], outbound=None)


@pytest.fixture
async def site(
    request: pytest.FixtureRequest, dsn: str, server: str, template: str
) -> AsyncIterator[Site]:
    async with opened(dsn, server, template, request) as site:
        yield site


async def found(site: Site) -> dict[str, tuple[str, str | None]]:
    """State and reason of each line."""
    return {
        key: (line["state"], line["skip_reason"])
        for key, line in zip(await site.keys(), await site.lines(), strict=True)
    }


def in_group(number: int, of: int, group: int) -> Visit:
    return visit(number, of, acdgroupsid=group, acdagentgroupsid=None,
                 acdconfigurationgroupsid=None)  # fmt: skip


@EITHER_WAY
async def test_of_a_call_only_the_lines_of_the_wanted_group_have_a_record(site: Site) -> None:
    ended = site.ago(minutes=10)
    await site.add(
        call(1, dtcallend=ended),
        in_group(21, 1, SALES),
        in_group(22, 1, SUPPORT),
        leg(31, 1, 21),
        leg(32, 1, 22),
        leg(33, 1, None),
        code(41, 1, 22, 32, userdata=ids(9)[1]),
        # Neither its column of numbers nor its id matters while it is kept out.
        leg(34, 1, 22, connres=None),
    )
    async with site.sweeping(start_from=site.ago(days=1), filters=ONLY_SALES) as (poller, _):
        with capture_logs() as events:
            assert (await poller.poll()).lines == 4
    assert await found(site) == {
        "1-21-31-0": ("pending", None),
        "1-22-32-41": ("skipped", "filtered"),
        "1-22-34-0": ("skipped", "filtered"),
        "1-0-33-0": ("pending", None),
    }
    for key, line in zip(await site.keys(), await site.lines(), strict=True):
        if line["state"] == "skipped":
            assert (line["record"], line["salesforce_id"], line["lane"]) == (None, None, key)
            assert line["last_error"] == "kept out by CALLSTATSD_GROUPS"
            assert line["settled_at"] is not None
    (logged, _) = [event for event in events if event["event"] == "line.skipped"]
    assert (logged["salesforce_id"], logged["log_level"]) == (None, "debug")
    assert ids(9)[0] not in str(events)


async def test_late_codes_and_sweeps_leave_alone_what_was_kept_out(site: Site) -> None:
    """Also after the setting has changed; what comes then is judged by the new one."""
    ended = site.ago(minutes=10)
    await site.add(
        *(call(number, dtcallend=ended, userdata=None) for number in (1, 2)),
        in_group(21, 1, SUPPORT),
        in_group(22, 2, SALES),
        leg(31, 1, 21),
        leg(32, 2, 22),
    )
    start_from = site.ago(days=1)
    async with site.sweeping(start_from=start_from, filters=ONLY_SALES) as (poller, sweeper):
        await poller.poll()
        await site.add(code(41, 1, 21, 31, dtcreated=site.ago(seconds=130)))
        await site.db.execute("UPDATE StatisticsPartA SET UserData = $1", ids(7)[1])
        assert (await poller.poll()).lines + (await sweeper.sweep(wide=True)).lines == 2
        before = {
            "1-21-31-0": ("skipped", "filtered"),
            "1-21-31-41": ("skipped", "filtered"),
            "2-22-32-0": ("pending", None),
        }
        assert await found(site) == before
    async with site.sweeping(start_from=start_from) as (_, sweeper):
        await site.add(code(42, 1, 21, 31, dtcreated=site.ago(seconds=130)))
        assert (await sweeper.sweep(wide=True)).lines == 1
        assert (await sweeper.sweep(wide=False)).lines == 0
    assert await found(site) == before | {"1-21-31-42": ("pending", None)}


async def test_an_id_that_comes_late_does_not_bring_back_a_line_that_is_kept_out_by_now(
    site: Site,
) -> None:
    await site.add(
        call(1, dtcallend=site.ago(minutes=10), userdata=None),
        in_group(21, 1, SUPPORT),
        leg(31, 1, 21),
    )
    start_from = site.ago(days=1)
    async with site.sweeping(start_from=start_from) as (poller, _):
        await poller.poll()
    await site.db.execute("UPDATE StatisticsPartA SET UserData = $1", ids(7)[1])
    async with site.sweeping(start_from=start_from, filters=ONLY_SALES) as (_, sweeper):
        assert (await sweeper.sweep(wide=True)).lines == 0
    assert await found(site) == {"1-21-31-0": ("skipped", "no_id")}
