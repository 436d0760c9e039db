"""A streak of refusals is remembered, and named once it is over."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from daemon.delivery.flow_control import FAILING_AFTER
from daemon.ledger.operator import OperatorStore
from daemon.ledger.overview import LineFilter
from daemon.ledger.retention import Pruner
from daemon.ledger.store import Ledger
from daemon.lines import FeedName, State, Streak
from daemon.reports.explain import streak_command
from daemon.settings.values import parse_local_time
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

BERLIN = ZoneInfo("Europe/Berlin")
ACT = 1
"""The id of an act, of whatever kind."""


@pytest.mark.parametrize(
    ("statuses", "refused"),
    [
        ([400, 400, 400], [1, 2, 3]),
        ([400, 200, 400, 400], [3, 4]),
        ([400, 409, 400], [3]),
        ([400, 422, 400], [3]),
        ([400, 404, 400], [3]),
        ([400, 400, 500], [1, 2]),
        ([400, 200], []),
    ],
)
async def test_of_refusals_the_ledger_knows_those_since_any_other_answer(
    ledger: Ledger, statuses: list[int], refused: list[int]
) -> None:
    # One at a time, so that each has a moment of its own.
    for number, status in enumerate(statuses, start=1):
        await ledger.take(FeedName.STATISTICS, [pending(number)])
        endpoint = EndpointUrl(lambda _, status=status: status)  # type: ignore[misc]
        async with sending(ledger, endpoint, proven=False):
            await endpoint.until(1)
    found = await ledger.failing_answers(FeedName.STATISTICS)
    expected = refused if 404 not in statuses else [1, 2, 3]
    assert sorted(one.call_id for one in found.refused.values()) == expected
    await ledger.proven(FeedName.STATISTICS)
    found = await ledger.failing_answers(FeedName.STATISTICS)
    assert sorted(one.call_id for one in found.refused.values()) == refused


async def test_a_streak_is_remembered_until_nothing_of_it_is_refused(
    ledger: Ledger, db: asyncpg.Connection
) -> None:
    operator_store = OperatorStore(ledger.database)
    pruner = Pruner(ledger, 90 * 86400.0, 30 * 86400.0)
    await ledger.take(FeedName.STATISTICS, pendings(30))
    await fail(ledger)
    [streak] = await operator_store.streaks()
    times = await db.fetchrow(
        "SELECT min(settled_at), max(settled_at) FROM line WHERE state = 'rejected'"
    )
    assert (streak.since, streak.until) == tuple(times)
    assert (streak.rejected, streak.not_found) == (FAILING_AFTER, 0)

    async for chosen in operator_store.choose(LineFilter((State.REJECTED,))):
        await operator_store.discard(chosen[:5], ACT)
        await operator_store.requeue(chosen[5:12], ACT)
    await pruner.prune(asyncio.Event())
    [streak] = await operator_store.streaks()
    assert streak.rejected == FAILING_AFTER - 12
    assert (await ledger.failing_answers(FeedName.STATISTICS)).paused

    async for chosen in operator_store.choose(LineFilter((State.REJECTED,))):
        await operator_store.requeue(chosen, ACT)
    assert await operator_store.streaks() == []
    await pruner.prune(asyncio.Event())
    assert (await ledger.failing_answers(FeedName.STATISTICS)).paused
    assert await db.fetchval("SELECT count(*) FROM streak") == 1

    endpoint = EndpointUrl(lambda _: 200)
    async with sending(ledger, endpoint):
        await endpoint.until(25)
    await pruner.prune(asyncio.Event())
    assert await db.fetchval("SELECT count(*) FROM streak") == 0
    assert await states(db) == Counter(skipped=5, delivered=25)


async def test_several_streaks_are_named_one_by_one_where_others_were_refused_between(
    ledger: Ledger,
) -> None:
    operator_store = OperatorStore(ledger.database)

    async def another(first: int, between: int) -> None:
        await ledger.take(FeedName.STATISTICS, pendings(30, first))
        await fail(ledger)
        endpoint = EndpointUrl(lambda number: between if number == first + 29 else 200)
        async with sending(ledger, endpoint):
            await endpoint.until(10)

    await another(1, 200)
    await another(101, 200)
    [both] = await operator_store.streaks()
    assert both.rejected == 2 * FAILING_AFTER
    await another(201, 422)
    await another(301, 200)
    first, second = await operator_store.streaks()
    assert (first.rejected, second.rejected) == (3 * FAILING_AFTER, FAILING_AFTER)
    assert first.until < second.since


async def test_streaks_of_500_name_nothing_and_are_forgotten(
    ledger: Ledger, db: asyncpg.Connection
) -> None:
    await ledger.take(FeedName.STATISTICS, pendings(25))
    endpoint = EndpointUrl(lambda _: 500 if len(endpoint.posted) < 25 else 200)
    with capture_logs() as logs:
        async with sending(ledger, endpoint):
            await until(lambda: events(logs, "sender.resumed"))
            await until(lambda: len(events(logs, "line.delivered")) == 25)
    [resumed] = events(logs, "sender.resumed")
    assert (resumed["rejected"], resumed["not_found"]) == (0, 0)
    assert datetime.fromisoformat(resumed["since"]).tzinfo is not None
    assert await OperatorStore(ledger.database).streaks() == []
    await ledger.prune_streaks()
    assert await db.fetchval("SELECT count(*) FROM streak") == 0


def window(command: str) -> tuple[datetime, datetime]:
    """What `requeue` makes of the times in a command that was printed."""
    words = command.split()
    since, until = (words[words.index(f"--settled-{end}") + 1] for end in ("from", "to"))
    return parse_local_time(since, BERLIN), parse_local_time(until, BERLIN)


def test_the_command_names_whole_seconds_of_the_acds_clocks() -> None:
    since = datetime(2026, 11, 20, 9, 0, 0, 999_999, tzinfo=UTC)
    until = datetime(2026, 11, 20, 9, 0, 4, 1, tzinfo=UTC)
    assert streak_command(Streak(since, until, 20, 0), BERLIN) == (
        "callstatsd requeue --state rejected --state not_found"
        " --settled-from 2026-11-20T10:00:00 --settled-to 2026-11-20T10:00:05"
        " --feed statistics"
    )


def moments(since: str, until: str) -> st.SearchStrategy[datetime]:
    first, last = (datetime.fromisoformat(text).timestamp() for text in (since, until))
    return st.floats(first, last).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


MOMENTS = st.one_of(
    moments("2026-01-01T00:00Z", "2027-01-01T00:00Z"),
    moments("2026-10-24T23:00Z", "2026-10-25T03:00Z"),
    moments("2026-03-29T00:00Z", "2026-03-29T03:00Z"),
)


@given(since=MOMENTS, seconds=st.floats(0, 7200))
def test_the_command_covers_the_streak_on_each_day_of_the_year(
    since: datetime, seconds: float
) -> None:
    ends = since + timedelta(seconds=seconds)
    found = window(streak_command(Streak(since, ends, 1, 0), BERLIN))
    assert found[0] <= since <= ends < found[1]
    if since.month != 10:
        assert since - found[0] < timedelta(seconds=1)
        assert found[1] - ends <= timedelta(seconds=1)
