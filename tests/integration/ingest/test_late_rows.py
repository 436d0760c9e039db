"""Rows, codes and ends that appear late give the missing lines, and no others."""

from collections.abc import Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from daemon.errors import DatabaseSetupError
from daemon.ingest.statistics import StatisticsFeed
from daemon.ledger.store import Ledger
from daemon.lines import Digest, FeedName, LineKey
from tests.support.rows import (
    code,
    ended,
    leg,
    retype,
    running,
    visit,
)
from tests.support.site import EITHER_WAY, Site
from tests.support.taking import start, versions

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
