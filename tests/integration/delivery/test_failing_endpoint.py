"""An endpoint that fails costs the streak that shows it, and good lines get past bad ones.

The sender here works over a real ledger; the endpoint answers as a test says.
"""

import asyncio
from collections import Counter
from itertools import pairwise
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from daemon.delivery.flow_control import FAILING_AFTER
from daemon.ledger.operator import OperatorStore
from daemon.ledger.store import Ledger
from daemon.lines import FailingAnswers, FeedName
from tests.support.failing import (
    EndpointUrl,
    events,
    fail,
    pending,
    pendings,
    sending,
    states,
    until,
)

# What it costs


@pytest.mark.parametrize(
    ("status", "proven", "state"),
    [(400, True, "rejected"), (400, False, "rejected"), (404, False, "not_found"),
     (500, True, "pending")],
)  # fmt: skip
async def test_a_broken_deployment_costs_the_streak_and_no_line_more(
    ledger: Ledger, db: asyncpg.Connection, status: int, state: str, *, proven: bool
) -> None:
    await ledger.take(FeedName.STATISTICS, pendings(60))
    endpoint = EndpointUrl(lambda _: status)
    with capture_logs() as logs:
        async with sending(ledger, endpoint, concurrency=4, proven=proven) as sender:
            await endpoint.until(FAILING_AFTER + 14)
            assert sender.status().paused is not None
    found = await states(db)
    refused = 0 if state == "pending" else FAILING_AFTER
    assert found == Counter({state: refused}) + Counter(pending=60 - refused)
    [paused] = events(logs, "sender.paused")
    assert (paused["reason"], paused["status"]) == ("endpoint_failing", status)


async def test_a_probes_404_leaves_its_line_pending_also_where_the_endpoint_has_worked(
    ledger: Ledger, db: asyncpg.Connection
) -> None:
    await ledger.take(FeedName.STATISTICS, pendings(40))
    endpoint = EndpointUrl(lambda number: 400 if number <= FAILING_AFTER else 404)
    async with sending(ledger, endpoint):
        await endpoint.until(FAILING_AFTER + 8)
    assert await states(db) == Counter(rejected=FAILING_AFTER, pending=40 - FAILING_AFTER)


async def test_what_was_in_flight_when_the_pause_began_stays_pending_too(
    ledger: Ledger, db: asyncpg.Connection
) -> None:
    await ledger.take(FeedName.STATISTICS, pendings(60))
    endpoint = EndpointUrl(lambda _: 400)
    endpoint.held = {number: asyncio.Event() for number in (2, 5, 9)}
    async with sending(ledger, endpoint, concurrency=4) as sender:
        await until(lambda: sender.status().paused)
        for number in (2, 5, 9):
            endpoint.held[number].set()
        await endpoint.until(FAILING_AFTER + 3 + 4)
    assert await states(db) == Counter(rejected=FAILING_AFTER, pending=40)


async def test_a_probe_that_is_answered_while_the_daemon_stops_leaves_its_line_pending(
    ledger: Ledger, db: asyncpg.Connection
) -> None:
    await ledger.take(FeedName.STATISTICS, pendings(30))
    endpoint = EndpointUrl(lambda _: 400)
    endpoint.held = {30: asyncio.Event()}
    async with sending(ledger, endpoint):
        await until(lambda: 30 in endpoint.posted)
        asyncio.get_running_loop().call_later(0.1, endpoint.held[30].set)
    assert await states(db) == Counter(rejected=FAILING_AFTER, pending=10)


async def test_no_time_counts_against_a_line_that_was_a_probe(
    ledger: Ledger, db: asyncpg.Connection
) -> None:
    """Its attempts are counted; it does not fail by them, and cannot expire."""
    await ledger.take(FeedName.STATISTICS, pendings(21))
    endpoint = EndpointUrl(lambda _: 500 if len(endpoint.posted) > FAILING_AFTER else 400)
    async with sending(ledger, endpoint):
        await endpoint.until(FAILING_AFTER + 10)
    row = await db.fetchrow("SELECT * FROM line WHERE call_id = 21")
    assert row["attempts"] >= 9
    assert (row["state"], row["tries"], row["next_try_at"]) == ("pending", 0, None)
    assert row["last_status"] == 500
    clock = await db.fetchval(
        "SELECT extract(epoch FROM paused_since)::float8 - paused_seconds FROM feed"
        " WHERE name = 'statistics'"
    )
    assert abs(clock - row["first_try"]) < 5


# Which lines are probes


async def test_probes_are_the_first_line_and_the_newest_in_turn_each_of_them_once(
    ledger: Ledger,
) -> None:
    await ledger.take(FeedName.STATISTICS, pendings(60))
    endpoint = EndpointUrl(lambda _: 400)
    async with sending(ledger, endpoint) as sender:
        await endpoint.until(FAILING_AFTER + 6)
        await ledger.take(FeedName.STATISTICS, pendings(2, first=61))
        sender.wake()
        newer = len(endpoint.posted)
        await endpoint.until(newer + 6)
    assert endpoint.posted[:20] == list(range(1, 21))
    assert endpoint.posted[20:26] == [21, 60, 22, 59, 23, 58]
    later = endpoint.posted[26:32]
    assert {61, 62} <= set(later)
    assert len(set(endpoint.posted)) == len(endpoint.posted)


async def test_where_all_have_failed_the_one_that_failed_first_is_next(ledger: Ledger) -> None:
    await ledger.take(FeedName.STATISTICS, pendings(23))
    endpoint = EndpointUrl(lambda _: 400)
    async with sending(ledger, endpoint):
        await endpoint.until(FAILING_AFTER + 9)
    probes = endpoint.posted[20:29]
    assert probes[:3] == [21, 23, 22]
    assert all(before != after for before, after in pairwise(probes))
    assert set(probes[3:6]) == {21, 22, 23}


async def test_a_good_line_behind_a_run_of_bad_ones_ends_the_pause(
    ledger: Ledger, db: asyncpg.Connection
) -> None:
    """More bad lines than memory holds; each good one that comes costs them another streak."""
    await ledger.take(FeedName.STATISTICS, pendings(12_000))
    endpoint = EndpointUrl(lambda number: 200 if number > 12_000 else 400)
    with capture_logs() as logs:
        async with sending(ledger, endpoint, concurrency=4) as sender:
            await until(lambda: sender.status().paused)
            await ledger.take(FeedName.STATISTICS, [pending(12_001)])
            taken_after = len(endpoint.posted)
            await until(lambda: len(events(logs, "sender.resumed")) == 1)
            await until(lambda: sender.status().paused)
            await ledger.take(FeedName.STATISTICS, [pending(12_002)])
            await until(lambda: len(events(logs, "sender.resumed")) == 2)
            await until(lambda: sender.status().paused)
    # Where the good line came while a probe was read, the one after next.
    assert endpoint.posted.index(12_001) < taken_after + 5
    assert await states(db) == Counter(
        rejected=3 * FAILING_AFTER, delivered=2, pending=12_000 - 3 * FAILING_AFTER
    )


WAITING_FIRST = """
UPDATE line SET lane = 'record 1',
    next_try_at = CASE call_id WHEN 1 THEN now() + interval '1 min' END
WHERE call_id IN (1, 9)
"""
PLACES: list[tuple[str, int | None]] = [
    ("SELECT", 9),
    ("UPDATE line SET next_try_at = now() + interval '1 min' WHERE call_id = 9", 8),
    ("INSERT INTO lane VALUES ('record 9', now() + interval '1 min', 1)", 8),
    ("INSERT INTO lane VALUES ('record 9', now() - interval '1 min', 1)", 9),
    ("UPDATE line SET lane = 'record 3' WHERE call_id IN (7, 9)", 8),
    ("UPDATE line SET lane = 'record 3' WHERE call_id IN (7, 8, 9)", 6),
    # The first of the record waits: the later ones do not pass it.
    (WAITING_FIRST, 8),
    ("UPDATE line SET state = 'delivered', settled_at = now() WHERE call_id IN (8, 9)", 7),
    ("UPDATE line SET probe_failed_at = now() WHERE call_id IN (7, 9)", 8),
    ("UPDATE line SET probe_failed_at = now() - interval '1 day' WHERE call_id = 9", 9),
    ("UPDATE line SET probe_failed_at = now()", None),
    ("UPDATE line SET backfill = true WHERE call_id > 4", 4),
    ("UPDATE line SET backfill = true, lane = 'record 4' WHERE call_id > 4", 4),
    ("UPDATE line SET state = 'skipped'", None),
]  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), PLACES)
async def test_the_newest_line_is_ready_first_of_its_record_and_has_not_failed(
    ledger: Ledger, db: asyncpg.Connection, change: str, expected: int | None
) -> None:
    await ledger.take(FeedName.STATISTICS, pendings(9))
    await ledger.streak_began(FeedName.STATISTICS, [])
    await db.execute(change)
    found = await ledger.newest(FeedName.STATISTICS, backfill=False)
    assert (found.key.call_id if found else None) == expected


async def test_the_newest_of_backfills_is_asked_for_apart(
    ledger: Ledger, db: asyncpg.Connection
) -> None:
    await ledger.take(FeedName.STATISTICS, pendings(4))
    await ledger.take(FeedName.STATISTICS, pendings(4, first=5), backfill=True)
    assert (found := await ledger.newest(FeedName.STATISTICS, backfill=True)) is not None
    assert found.key.call_id == 8
    await db.execute("UPDATE line SET lane = 'record 1' WHERE call_id IN (1, 8)")
    assert (found := await ledger.newest(FeedName.STATISTICS, backfill=True)) is not None
    assert found.key.call_id == 7


async def test_probes_of_backfill_lines_come_where_no_live_line_is_left(ledger: Ledger) -> None:
    await ledger.take(FeedName.STATISTICS, pendings(22))
    await ledger.take(FeedName.STATISTICS, pendings(3, first=30), backfill=True)
    endpoint = EndpointUrl(lambda _: 400)
    async with sending(ledger, endpoint):
        await endpoint.until(FAILING_AFTER + 5)
    assert endpoint.posted[20:25] == [21, 22, 30, 32, 31]


# Across restarts


async def test_a_restart_in_the_pause_begins_paused_and_probes_at_once(
    ledger: Ledger, db: asyncpg.Connection
) -> None:
    await ledger.take(FeedName.STATISTICS, pendings(60))
    first = await fail(ledger, probes=4)
    endpoint = EndpointUrl(lambda _: 400)
    with capture_logs() as logs:
        async with sending(ledger, endpoint, concurrency=4) as sender:
            assert sender.status().paused == ("endpoint_failing", 0.0)
            await endpoint.until(6)
    assert await states(db) == Counter(rejected=FAILING_AFTER, pending=40)
    newest = {number for number in first.posted[20:] if number > 50}
    assert endpoint.posted[0] == min(newest) - 1
    assert not newest & set(endpoint.posted)
    assert events(logs, "sender.paused")[0]["reason"] == "endpoint_failing"
    assert not events(logs, "line.rejected")

    endpoint = EndpointUrl(lambda _: 200)
    with capture_logs() as logs:
        async with sending(ledger, endpoint):
            await endpoint.until(40)
    assert await states(db) == Counter(rejected=FAILING_AFTER, delivered=40)
    [resumed] = events(logs, "sender.resumed")
    assert (resumed["rejected"], resumed["not_found"]) == (FAILING_AFTER, 0)
    assert await ledger.failing_answers(FeedName.STATISTICS) == FailingAnswers(
        paused=False, refused={}
    )


async def test_a_row_of_refusals_goes_on_after_a_restart(
    ledger: Ledger, db: asyncpg.Connection
) -> None:
    """Restarts do not multiply what a broken deployment costs; 15 before, so 5 more pause."""
    await ledger.take(FeedName.STATISTICS, pendings(15))
    endpoint = EndpointUrl(lambda _: 400)
    async with sending(ledger, endpoint):
        await endpoint.until(15)
    await ledger.take(FeedName.STATISTICS, pendings(30, first=16))
    endpoint = EndpointUrl(lambda _: 400)
    with capture_logs() as logs:
        async with sending(ledger, endpoint):
            await endpoint.until(5 + 4)
    assert await states(db) == Counter(rejected=FAILING_AFTER, pending=25)
    assert len(events(logs, "sender.paused")) == 1
    [streak] = await OperatorStore(ledger.database).streaks()
    assert streak.rejected == FAILING_AFTER


async def test_no_statement_is_asked_for_where_nothing_fails(ledger: Ledger) -> None:
    await ledger.take(FeedName.STATISTICS, pendings(30))
    endpoint = EndpointUrl(lambda _: 200)
    asked: list[str] = []
    for name in ("newest", "streak_began", "streak_ended", "probe_failed"):

        async def noted(*_: Any, name: str = name) -> None:
            asked.append(name)

        setattr(ledger, name, noted)
    async with sending(ledger, endpoint, concurrency=4):
        await endpoint.until(30)
    assert asked == []


async def test_the_newest_line_is_found_behind_thousands_that_may_not_be_sent(
    ledger: Ledger, db: asyncpg.Connection
) -> None:
    """They are of one record, whose first line is older than all."""
    crowd = [pending(1, "crowded"), *(pending(number, "crowded") for number in range(10, 3000))]
    await ledger.take(FeedName.STATISTICS, [*crowd, pending(2), pending(3)])
    await ledger.streak_began(FeedName.STATISTICS, [])
    found = await ledger.newest(FeedName.STATISTICS, backfill=False)
    assert found is not None
    assert found.key.call_id == 3
    await db.execute("UPDATE line SET probe_failed_at = now() WHERE call_id IN (2, 3)")
    found = await ledger.newest(FeedName.STATISTICS, backfill=False)
    assert found is not None
    assert found.key.call_id == 1
