"""Callbacks on the page and in the metrics, over real HTTP and a real ledger."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import orjson
import pytest

from daemon.lines import FeedName, LineKey, NewLine, State
from daemon.reports import meanings
from tests.integration.web.test_health import samples
from tests.support.calls import record_id
from tests.support.look import NOW, Look, get, holder, looking

__all__ = ["holder"]

NUMBER = r'<dd class="number">(?:<a [^>]*>)?(\d+)<'
URL = "/services/apexrest/jtelACD/createCallback"
RECORD = {
    "Caller": "493012345678",
    "CallbackNumber": "493023125018",
    "ServiceNumbersNumber": "4930231250100",
    "ServiceNumbersName": "Service Hotline",
    "AcdGroupsID": 1234567,
    "AcdGroupsName": "Sales",
    "AcdGroupsForeignSystemID": None,
    "dtCallStart": "2026-11-20T09:00:00",
    "dtCallEnd": None,
    "ID": 10073001,
    "AcdEventsID": 10073001,
    "Subject": "Call me at 0171 5551234",
    "Body": "or at <b>+49 (0)30 998877</b>, erika@example.com",
    "CreatingUsersID": 8765432,
    "CreatingUsersUID": "agent.w",
    "CreatingUsersNickName": "Wilma",
    "TargetUsersID": 9,
    "TargetUsersUID": "agent.x",
    "TargetUsersNickName": "Xaver",
    "SalesforceId": record_id(3),
    "SalesforceQueryResult": 1,
}


@pytest.fixture
async def look(dsn: str, db: asyncpg.Connection, holder: None) -> AsyncIterator[Look]:
    async with looking(dsn, db, callback_url=URL) as look:
        await look.beat()
        await db.execute("UPDATE feed SET watermark = now() - interval '2 minutes'")
        yield look


async def callback(look: Look, number: int, state: State, **columns: Any) -> None:
    """A callback in that state, settled now unless told otherwise."""
    key = LineKey.of_callback(number)
    line = NewLine(key, 1, record_id(3), record_id(3), NOW, state, orjson.dumps(RECORD).decode())
    await look.ledger.take(FeedName.CALLBACKS, [line])
    for name, value in columns.items():
        await look.db.execute(
            f"UPDATE line SET {name} = $1 WHERE call_id = $2 AND feed = 'callbacks'", value, number
        )


async def test_while_callbacks_are_off_the_page_does_not_speak_of_them(
    dsn: str, db: asyncpg.Connection, holder: None
) -> None:
    async with looking(dsn, db) as look:
        await look.beat()
        await callback(look, 73001, State.PENDING)
        shown = await look.get()
    assert "allback" not in shown.text.partition("Search")[2]


async def test_callbacks_have_a_row_of_their_own(look: Look) -> None:
    await look.line(1, State.DELIVERED)
    await callback(look, 73001, State.PENDING, pending_since=NOW - timedelta(days=400))
    for number in (73002, 73003):
        await callback(look, number, State.DELIVERED)
    await callback(look, 73004, State.NOT_FOUND)
    await callback(look, 73008, State.REJECTED, last_status=400, last_error="no such group")
    shown = await look.get()
    row = re.search(r'<section id="callbacks".*?</section>', shown.html, re.DOTALL)
    assert row is not None
    said = re.sub(r"<[^>]+>|\s+", " ", row[0])
    assert "Callbacks: sending" in said
    assert "Requests that were created by" in said
    assert [int(number) for number in re.findall(NUMBER, row[0])] == [1, 2, 1, 1]
    calls = shown.html.partition('id="callbacks"')[0]
    assert [int(number) for number in re.findall(NUMBER, calls)] == [0, 1, 0, 0]

    assert '<a href="?q=callback-73001">callback-73001</a>' in shown.html
    assert "callback-73008" in shown.text
    assert "400: no such group" in shown.text
    assert "callstatsd requeue --state rejected --callback 73008" in shown.text


async def test_a_pause_of_the_callbacks_endpoint_is_told_in_their_row_only(look: Look) -> None:
    await look.db.execute(
        "UPDATE feed SET pause_reason = 'endpoint_missing' WHERE name = 'callbacks'"
    )
    shown = await look.get()
    remedy = meanings.CALLBACK_PAUSES["endpoint_missing"].remedy
    assert remedy is not None
    assert "CALLSTATSD_CALLBACK_URL" in remedy
    calls, _, callbacks = shown.html.partition('<section id="callbacks"')
    assert "Taking calls" in calls
    assert "All is sent" in calls
    assert remedy in callbacks
    assert remedy not in calls
    assert 'data-headline="Callbacks: sending pauses"' in shown.html


async def test_a_search_for_a_callback_shows_it_without_numbers_and_people(look: Look) -> None:
    await callback(
        look, 10073001, State.DELIVERED, last_status=200, attempts=1,
        answer='{"CaseNumber":"00001234","phone":"+49 171 5551234"}',
    )  # fmt: skip
    for query in ("callback-10073001", record_id(3)):
        shown = await look.get(f"/?q={query}")
        assert "Callback 10073001" in shown.text
        assert '"CaseNumber":"…34"' in shown.text
        for secret in (
            "12345678", "3125018", "1250100", "5551234", "998877", "erika", "agent.", "Wilma",
            "Xaver", "8765432",
        ):  # fmt: skip
            assert secret not in shown.html, secret
        assert "Caller …78" in shown.text
        assert "CallbackNumber …18" in shown.text
        assert "ServiceNumbersNumber …00" in shown.text
        assert "AcdEventsID 10073001" in shown.text
        assert "Call me at …34" in shown.text
        assert "TargetUsersID hidden" in shown.text
        assert f"SalesforceId {record_id(3)}" in shown.text
    assert "callstatsd show --salesforce-id" in shown.text
    assert "callstatsd show --callback 10073001" in (await look.get("/?q=callback-10073001")).text
    assert "is not in the source's AcdEvents" in (await look.get("/?q=callback-9")).text


async def test_people_are_shown_where_personal_data_may_be(
    dsn: str, db: asyncpg.Connection, holder: None
) -> None:
    async with looking(dsn, db, callback_url=URL, log_personal_data=True) as look:
        await callback(look, 73001, State.DELIVERED)
        text = (await get(look.port, "/?q=callback-73001")).text
    assert "TargetUsersUID agent.x" in text
    assert "CallbackNumber …18" in text


async def test_metrics_count_callbacks_apart(look: Look) -> None:
    await look.line(1, State.PENDING)
    await look.line(2, State.REJECTED)
    since = datetime.now(UTC) - timedelta(minutes=10)
    for number in (73001, 73002):
        await callback(look, number, State.PENDING, pending_since=since)
    await callback(look, 73003, State.EXPIRED)
    found = samples((await look.get("/metrics")).html)
    assert found["callstatsd_lines_pending"] == 1
    assert found["callstatsd_oldest_pending_seconds"] < 500
    assert found["callstatsd_lines_kept{state=rejected}"] == 1
    assert found["callstatsd_lines_kept{state=expired}"] == 0
    assert found["callstatsd_callbacks_pending"] == 2
    assert 600 <= found["callstatsd_callbacks_oldest_pending_seconds"] < 1200
    assert found["callstatsd_callbacks_kept{state=expired}"] == 1
    assert found["callstatsd_callbacks_kept{state=rejected}"] == 0
