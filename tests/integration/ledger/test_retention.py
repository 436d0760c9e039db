"""Retention: what goes, what stays, and what it must not disturb."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from daemon.cli import operations
from daemon.errors import UnreachableError
from daemon.ingest.source import open_source
from daemon.ingest.statistics import StatisticsFeed
from daemon.ledger.acts import Act, ActKind
from daemon.ledger.operator import OperatorStore
from daemon.ledger.overview import LineFilter, SelectedLine
from daemon.ledger.retention import BATCH, Pruned, Pruner
from daemon.ledger.store import Ledger, open_ledger
from daemon.lines import FeedName, LineKey, NewLine, State
from tests.support.call_centre import CallCentre
from tests.support.calls import plain_call, record_id
from tests.support.daemon_process import PATIENCE, running
from tests.support.expected import BERLIN
from tests.support.site import RULES, SENDING

DAY = 86_400.0
ENDED = datetime(2026, 1, 1, 12, tzinfo=UTC)

PRUNED_BEFORE = "SELECT pruned_before FROM feed WHERE name = 'statistics'"


@pytest.fixture
async def ledger(dsn: str) -> AsyncIterator[Ledger]:
    async with open_ledger(dsn, "callstatsd") as ledger:
        yield ledger


async def add(ledger: Ledger, db: asyncpg.Connection, call: int, state: State, days: float) -> None:
    """A line in that state, settled so many days ago."""
    key = LineKey(call, 0, 0, 0)
    ended = ENDED + timedelta(seconds=call)
    await ledger.take(
        FeedName.STATISTICS, [NewLine(key, 1, str(key), None, ended, state, '{"CallerID":"49"}')]
    )
    if state is not State.PENDING:
        await db.execute(
            "UPDATE line SET settled_at = now() - $1 * interval '1 day' WHERE call_id = $2",
            days, call,
        )  # fmt: skip


async def prune(ledger: Ledger) -> Pruned:
    return await Pruner(ledger, 90 * DAY, 30 * DAY).prune(asyncio.Event())


async def test_records_that_hold_nothing_back_any_more_go(
    ledger: Ledger, db: asyncpg.Connection
) -> None:
    """What waited for them was withdrawn while they were locked, so that no answer frees them."""
    await add(ledger, db, 1, State.PENDING, 0)
    await add(ledger, db, 2, State.SKIPPED, 0)
    await db.execute(
        "INSERT INTO lane SELECT lane, now() + make_interval(secs => until), 3 FROM (VALUES"
        " ('1-0-0-0', -60), ('2-0-0-0', -60), ('003000000000001', -60), ('003000000000002', 60)"
        ") AS held (lane, until)"
    )
    await prune(ledger)
    rows = await db.fetch("SELECT lane FROM lane ORDER BY lane")
    assert [row["lane"] for row in rows] == ["003000000000002", "1-0-0-0"]


async def test_lines_go_after_retention_and_records_before_them(
    ledger: Ledger, db: asyncpg.Connection
) -> None:
    for call, days in ((1, 100.0), (2, 91.0), (3, 89.0), (4, 31.0), (5, 29.0)):
        await add(ledger, db, call, State.DELIVERED, days)

    assert await prune(ledger) == Pruned(records=2, lines=2)
    assert await prune(ledger) == Pruned(records=0, lines=0)

    rows = await db.fetch("SELECT call_id, record IS NULL FROM line ORDER BY call_id")
    assert [tuple(row) for row in rows] == [(3, True), (4, True), (5, False)]
    assert await db.fetchval(
        "SELECT pruned_before FROM feed WHERE name = 'statistics'"
    ) == ENDED + timedelta(seconds=2)


async def test_what_was_said_of_a_line_goes_with_its_record(
    ledger: Ledger, db: asyncpg.Connection
) -> None:
    for call, state in enumerate(State, 1):
        await add(ledger, db, call, state, 31.0)
    await db.execute("UPDATE line SET last_error = 'of ' || state, answer = 'CaseNumber'")
    await prune(ledger)
    assert await db.fetchval("SELECT bool_and((record IS NULL) = (answer IS NULL)) FROM line")
    rows = await db.fetch("SELECT state FROM line WHERE last_error IS NOT NULL")
    # Why a line was skipped, or withdrawn, is in our own words.
    kept = {"pending", "rejected", "expired", "invalid", "skipped"}
    assert {row["state"] for row in rows} == kept


async def test_what_an_operator_needs_stays_with_its_record(
    ledger: Ledger, db: asyncpg.Connection
) -> None:
    for call, state in enumerate(State):
        await add(ledger, db, call, state, 1000.0)
    await prune(ledger)
    rows = await db.fetch("SELECT state FROM line WHERE record IS NOT NULL")
    assert {row["state"] for row in rows} == {"pending", "rejected", "expired", "invalid"}
    assert await db.fetchval("SELECT count(*) FROM line") == 4


async def test_it_works_in_small_batches_and_stops_between_them(
    ledger: Ledger, db: asyncpg.Connection
) -> None:
    await db.execute(
        """
        INSERT INTO line (call_id, group_id, leg_id, code_id, ordinal, lane, call_ended, backfill,
                          state, settled_at)
        SELECT n, 0, 0, 0, 1, n::text, now(), false, 'delivered', now() - interval '91 days'
        FROM generate_series(1, $1) AS n
        """,
        2 * BATCH + 1,
    )
    stop = asyncio.Event()
    stop.set()
    assert (await Pruner(ledger, 90 * DAY, 30 * DAY).prune(stop)).lines == 0
    assert (await prune(ledger)).lines == 2 * BATCH + 1


async def test_nothing_goes_while_a_backfill_compares(
    ledger: Ledger, db: asyncpg.Connection
) -> None:
    await add(ledger, db, 1, State.DELIVERED, 100.0)
    async with ledger.retention_locked(), ledger.retention_locked():
        assert await prune(ledger) == Pruned(0, 0)
    async with asyncio.timeout(PATIENCE):
        while not (await prune(ledger)).lines:
            await asyncio.sleep(0.01)


async def test_acts_go_with_the_last_line_that_refers_to_them(
    ledger: Ledger, db: asyncpg.Connection
) -> None:
    for call, state in ((1, State.DELIVERED), (2, State.DELIVERED), (3, State.REJECTED)):
        await add(ledger, db, call, state, 100.0 if call != 2 else 89.0)
    operator_store = OperatorStore(ledger.database)
    acts = [await operator_store.begin(Act(ActKind.REQUEUE, "alice@acd1")) for _ in range(5)]
    for call, act_id in zip((1, 2, 3), acts, strict=False):
        await db.execute("UPDATE line SET act_id = $1 WHERE call_id = $2", act_id, call)
    await db.execute("UPDATE act SET began_at = now() - interval '91 days' WHERE id < $1", acts[4])

    # The first line goes, and with it its act; the fourth was never referred to, the fifth is new.
    assert await prune(ledger) == Pruned(records=1, lines=1, acts=2)
    rows = await db.fetch("SELECT id FROM act ORDER BY id")
    assert [row["id"] for row in rows] == [acts[1], acts[2], acts[4]]


async def test_the_pause_that_holds_stays_however_old_it_is(
    ledger: Ledger, db: asyncpg.Connection
) -> None:
    operator_store = OperatorStore(ledger.database)
    pause, resume = Act(ActKind.PAUSE, "alice@acd1"), Act(ActKind.RESUME, "bob@acd1")
    await operator_store.pause(pause)
    await operator_store.resume(resume)
    await operator_store.pause(replace(pause, reason="since long"))
    await db.execute("UPDATE act SET began_at = began_at - interval '91 days'")
    await db.execute("UPDATE ledger SET held_since = held_since - interval '91 days'")
    assert (await prune(ledger)).acts == 2
    assert await db.fetchval("SELECT reason FROM act") == "since long"
    await operator_store.resume(resume)
    assert (await prune(ledger)).acts == 1


async def test_alerts_go_but_not_the_last_whose_number_the_next_one_follows(
    ledger: Ledger, db: asyncpg.Connection
) -> None:
    await db.executemany(
        """
        INSERT INTO alert (number, rejected, expired, invalid, requested_at, raised_at, given_up_at)
        VALUES ($1, 1, 0, 0, now(), now() - $2 * interval '1 day', now() - $3 * interval '1 day')
        """,
        [(1, 91, None), (2, None, 91), (3, 89, None), (4, None, None), (5, 91, None)],
    )
    await prune(ledger)
    assert [row[0] for row in await db.fetch("SELECT number FROM alert ORDER BY 1")] == [3, 4, 5]


async def test_first_a_sweep_must_have_covered_the_downtime(
    ledger: Ledger, db: asyncpg.Connection
) -> None:
    await add(ledger, db, 1, State.DELIVERED, 100.0)
    stop, swept = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(Pruner(ledger, 90 * DAY, 30 * DAY).run(stop, swept))
    await asyncio.sleep(0.05)
    assert await db.fetchval("SELECT count(*) FROM line") == 1
    swept.set()
    async with asyncio.timeout(PATIENCE):
        while await db.fetchval("SELECT count(*) FROM line"):
            await asyncio.sleep(0.01)
    stop.set()
    await running


async def test_a_ledger_that_is_away_ends_nothing() -> None:
    async with open_ledger("postgresql://postgres@127.0.0.1:1/x", "callstatsd") as away:
        with pytest.raises(UnreachableError):
            await prune(away)
        stop, swept = asyncio.Event(), asyncio.Event()
        swept.set()
        running = asyncio.create_task(Pruner(away, 90 * DAY, 30 * DAY).run(stop, swept))
        await asyncio.sleep(0.05)
        assert not running.done()
        stop.set()
        await running


async def test_nothing_that_is_still_to_be_polled_falls_below_what_was_pruned(
    ledger: Ledger, db: asyncpg.Connection
) -> None:
    """A backfill took a window ahead of the watermark, or a clock was wrong for a while."""
    await add(ledger, db, 1, State.DELIVERED, 100.0)
    await add(ledger, db, 3, State.DELIVERED, 100.0)
    await db.execute("UPDATE feed SET watermark = $1", ENDED + timedelta(seconds=2))
    assert (await prune(ledger)).lines == 1
    assert await db.fetchval(
        "SELECT pruned_before FROM feed WHERE name = 'statistics'"
    ) == ENDED + timedelta(seconds=1)
    await db.execute("UPDATE feed SET watermark = $1", ENDED + timedelta(seconds=3))
    assert (await prune(ledger)).lines == 1


async def test_a_record_that_goes_while_its_line_is_requeued_is_made_anew(
    centre: CallCentre,
) -> None:
    """Chosen with its record, put back without: nobody could send it."""
    for call in (1, 2):
        await plain_call(centre.db, call, record=record_id(call))
    async with running(centre.settings(), centre.folder) as daemon:
        await centre.until(delivered=2)
        assert await daemon.stop() == 0
    await centre.db.execute("UPDATE line SET settled_at = now() - interval '31 days'")
    await centre.db.execute("UPDATE feed SET dropped_before = NULL")
    await centre.db.execute("DELETE FROM StatisticsPartA WHERE ID = 2")
    async with (
        open_ledger(centre.dsn, "callstatsd") as ledger,
        open_source(centre.dsn, ("jtelstats",), BERLIN, None) as source,
    ):

        class Late(OperatorStore):
            async def requeue(self, lines: Sequence[SelectedLine], act_id: int) -> set[LineKey]:
                assert all(line.has_record for line in lines)
                assert (await prune(ledger)).records == 2
                return await super().requeue(lines, act_id)

        feed = StatisticsFeed(source, RULES, SENDING)
        choice, changed = LineFilter((State.DELIVERED,)), operations.Changed()
        await operations.requeue(
            Late(ledger.database),
            {FeedName.STATISTICS: feed},
            choice,
            "alice@acd1",
            changed,
            asyncio.Event(),
        )
    assert changed == operations.Changed(Counter(pending=1, gone=1), complete=True)
    assert await centre.states() == Counter(pending=1, delivered=1)
    assert await centre.db.fetchval("SELECT count(*) FROM line WHERE record IS NULL") == 1
    async with running(centre.settings(), centre.folder) as daemon:
        await centre.until(delivered=2)
        assert await daemon.stop() == 0
    assert [request.key for request in centre.salesforce.requests].count("1-0-0-0") == 2


async def test_a_backfill_over_pruned_lines_is_refused(centre: CallCentre) -> None:
    async with open_ledger(centre.dsn, "callstatsd") as ledger:
        await add(ledger, centre.db, 1, State.DELIVERED, 100.0)
        await prune(ledger)
    window = ("--from", "2026-01-01", "--to", "2026-01-02")
    code, _, errors = await centre.run("backfill", *window)
    assert code == 1
    assert "--resend" in errors


async def test_neither_polls_nor_sweeps_take_again_what_retention_removed(
    centre: CallCentre,
) -> None:
    await plain_call(centre.db, 1, record=record_id(1))
    async with running(centre.settings(), centre.folder) as daemon:
        await centre.until(delivered=1)
        assert await daemon.stop() == 0
    await centre.db.execute("UPDATE line SET settled_at = now() - interval '100 days'")
    async with open_ledger(centre.dsn, "callstatsd") as ledger:
        assert (await prune(ledger)).lines == 1
    # As on a standby that stood still: the watermark lies before what was pruned.
    await centre.db.execute("UPDATE feed SET watermark = start_from, swept_at = NULL")

    await plain_call(centre.db, 2, record=record_id(2))
    async with running(centre.settings(), centre.folder) as daemon:
        await daemon.until("line.delivered", key="2-0-0-0")
        assert await daemon.stop() == 0

    assert [request.key for request in centre.salesforce.requests] == ["1-0-0-0", "2-0-0-0"]
