"""Callbacks beside statistics, as an operator has them: a process, a Postgres, a Salesforce."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from daemon.demo.standin import CALLBACK_PATH, WRITE_PATH, Reply
from daemon.errors import ConfigurationError
from daemon.lines import FeedName
from daemon.service.backfill import BackfillProgress, Period, backfill
from daemon.settings.model import Settings
from tests.support.call_centre import CallCentre
from tests.support.calls import insert, plain_call, record_id
from tests.support.daemon_process import PATIENCE, running

ON = {"callback_url": "/services/apexrest/jtelACD/createCallback", "callback_delay": "0"}
DAY = datetime(2026, 11, 3, tzinfo=UTC)


async def request(db: asyncpg.Connection, number: int, created: datetime | None = None) -> None:
    await insert(
        db, "AcdEvents", ID=number, AcdEventTypesID=3, Sender="0049711123", UserData=record_id(9),
        dtCreated=created or datetime.now(UTC),
    )  # fmt: skip


async def taken(centre: CallCentre, count: int) -> list[tuple[int, str]]:
    """Wait until the ledger has so many callbacks; returns their ids and states."""
    async with asyncio.timeout(PATIENCE):
        while True:
            rows = await centre.db.fetch(
                "SELECT call_id, state FROM line WHERE feed = 'callbacks' ORDER BY call_id"
            )
            if len(rows) >= count:
                return [tuple(row) for row in rows]
            await asyncio.sleep(0.02)


async def test_run_takes_both_feeds_and_sends_each_to_its_endpoint(
    centre: CallCentre,
) -> None:
    before = datetime.now(UTC)
    await request(centre.db, 73000, before - timedelta(minutes=1))
    async with running(centre.settings(start_from="", **ON), centre.folder) as daemon:
        await daemon.until("daemon.started")
        async with asyncio.timeout(PATIENCE):
            while not await centre.db.fetchval(
                "SELECT start_from FROM feed WHERE name = 'callbacks'"
            ):
                await asyncio.sleep(0.02)
        await request(centre.db, 73001)
        await plain_call(centre.db, 1, record=record_id(1))
        # A call has not the id of a request for nothing: they are two lines.
        await plain_call(centre.db, 73001, record=record_id(2))
        assert [number for number, _ in await taken(centre, 1)] == [73001]
        await centre.until(delivered=3)
        event = await daemon.until("poll.taken", feed="callbacks")
        assert (event["lines"], "calls" in event) == (1, False)
        assert await daemon.stop() == 0
    assert {(one.path, one.key) for one in centre.salesforce.requests} == {
        (WRITE_PATH, "1-0-0-0"),
        (WRITE_PATH, "73001-0-0-0"),
        (CALLBACK_PATH, "callback-73001"),
    }
    floor = await centre.db.fetchval("SELECT start_from FROM feed WHERE name = 'callbacks'")
    assert before <= floor <= datetime.now(UTC)


async def test_without_the_setting_no_request_is_taken_and_the_table_may_be_missing(
    centre: CallCentre,
) -> None:
    await centre.db.execute("DROP TABLE AcdEvents")
    await plain_call(centre.db, 1, record=record_id(1))
    async with running(centre.settings(), centre.folder) as daemon:
        await centre.until(delivered=1)
        assert await daemon.stop() == 0
    row = await centre.db.fetchrow(
        "SELECT start_from, watermark FROM feed WHERE name <> 'statistics'"
    )
    assert tuple(row) == (None, None)


async def test_callbacks_that_were_switched_off_stay_as_they_are_until_they_are_on_again(
    centre: CallCentre,
) -> None:
    centre.salesforce.rule = lambda incoming: Reply(500) if incoming.path == CALLBACK_PATH else None
    await request(centre.db, 73001)
    async with running(centre.settings(**ON), centre.folder) as daemon:
        await daemon.until("line.retried", key="callback-73001")
        assert await daemon.stop() == 0
    received = centre.salesforce.received
    centre.salesforce.rule = None
    await plain_call(centre.db, 1, record=record_id(1))
    async with running(centre.settings(), centre.folder) as daemon:
        off = await daemon.until("feed.off")
        assert (off["feed"], off["lines"], off["level"]) == ("callbacks", 1, "warning")
        await daemon.until("line.delivered", key="1-0-0-0")
        assert await daemon.stop() == 0
        assert len(daemon.seen("feed.off")) == 1
    assert centre.salesforce.received == received + 1
    async with running(centre.settings(**ON), centre.folder) as daemon:
        await daemon.until("line.delivered", key="callback-73001")
        assert await daemon.stop() == 0
        assert not daemon.seen("feed.off")


@pytest.mark.parametrize(
    "command", [("run",), ("backfill", "--from", "2026-11-03", "--to", "2026-11-04")]
)
async def test_a_missing_column_ends_run_and_backfill_only_where_callbacks_are_on(
    centre: CallCentre, command: tuple[str, ...]
) -> None:
    await centre.db.execute("ALTER TABLE AcdEvents DROP COLUMN Sender")
    code, _, errors = await centre.run(*command, **ON)
    assert code == 78, errors
    assert "column AcdEvents.Sender is missing: add it, or make a view with it" in errors
    if command[0] == "backfill":
        assert (await centre.run(*command))[0] == 0


async def test_a_backfill_takes_the_requests_created_in_its_window(centre: CallCentre) -> None:
    for number, moment in enumerate(
        (DAY - timedelta(milliseconds=1), DAY, DAY + timedelta(hours=23), DAY + timedelta(days=1)),
        1,
    ):
        await request(centre.db, number, moment)
    period = Period(DAY, DAY + timedelta(days=1))

    async def take(settings: Settings, *, dry_run: bool = False) -> BackfillProgress:
        return await backfill(
            settings, period, asyncio.Event(), lambda _: None,
            dry_run=dry_run, resend=False, wait=False, name=FeedName.CALLBACKS,
        )  # fmt: skip

    off = Settings(source_dsn=centre.dsn, token_url="https://x", source_schemas="jtelstats")
    with pytest.raises(ConfigurationError, match="callbacks are off: set CALLSTATSD_CALLBACK_URL"):
        await take(off)
    on = off.model_copy(update={"callback_url": ON["callback_url"]})
    dry = await take(on, dry_run=True)
    assert (dry.calls, dry.lines, dry.new) == (2, 2, 2)
    assert (await take(on)).states["pending"] == 2
    assert await taken(centre, 2) == [(2, "pending"), (3, "pending")]
    again = await take(on)
    assert (again.calls, again.new) == (2, 0)
    rows = await centre.db.fetch("SELECT backfill, call_ended FROM line ORDER BY call_id")
    assert [tuple(row) for row in rows] == [(True, DAY), (True, DAY + timedelta(hours=23))]


async def test_requeue_of_calls_touches_no_callback_of_the_same_id(centre: CallCentre) -> None:
    await request(centre.db, 1, DAY)
    await plain_call(centre.db, 1, record=record_id(1), ended=DAY)
    for feed, state in (("callbacks", "invalid"), ("statistics", "rejected")):
        await centre.db.execute(
            "INSERT INTO line (call_id, group_id, leg_id, code_id, feed, ordinal, lane, call_ended,"
            " backfill, state, settled_at)"
            " VALUES (1, 0, 0, 0, $1, 1, 'x', $2, false, $3, now())",
            feed, DAY, state,
        )  # fmt: skip
    for options in (("--feed", "statistics"), ("--call-id", "1")):
        code, output, errors = await centre.run("requeue", "--state", "invalid", *options)
        assert code == 0, (output, errors)
    rows = await centre.db.fetch("SELECT feed, state FROM line ORDER BY feed")
    assert [tuple(row) for row in rows] == [("callbacks", "invalid"), ("statistics", "rejected")]
