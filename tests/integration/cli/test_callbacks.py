"""What people ask of callbacks: status and show, also while a daemon sends them."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from daemon.demo.rows import Event
from daemon.demo.standin import CALLBACK_PATH, Reply, platform_error
from daemon.ledger.locks import ACTIVE_LOCK
from tests.integration.web.test_health import free_port, samples
from tests.support import rows
from tests.support.call_centre import CallCentre
from tests.support.calls import plain_call, record_id
from tests.support.daemon_process import PATIENCE, running
from tests.support.look import get

CREATED = datetime(2026, 11, 20, 9, tzinfo=UTC)
ON = {"callback_url": "/services/apexrest/jtelACD/createCallback"}
DAY = ("--from", "2026-11-20", "--to", "2026-11-21")
STATES = (
    "pending", "delivered", "conflict", "not_found", "rejected", "expired", "invalid", "skipped",
)  # fmt: skip
NONE = dict.fromkeys(STATES, 0)


def request(number: int, **columns: Any) -> Event:
    """A callback request of that morning, for a record of its own."""
    usual = {"dtcreated": CREATED, "userdata": record_id(number), "acdgroupsid": None}
    return rows.event(number, **usual | columns)


async def take(centre: CallCentre, *events: Event) -> None:
    """Let the ledger have these requests, pending."""
    await rows.add(centre.db, *events)
    code, _, errors = await centre.run("backfill", *DAY, "--feed", "callbacks", "--no-wait", **ON)
    assert code == 0, errors


async def settle(centre: CallCentre, number: int, state: str, **columns: Any) -> None:
    """Let a callback be in that state since now."""
    changed = {"state": state, "settled_at": datetime.now(UTC), "attempts": 1, **columns}
    for name, value in changed.items():
        await centre.db.execute(
            f"UPDATE line SET {name} = $1 WHERE call_id = $2 AND feed = 'callbacks'", value, number
        )


async def states(centre: CallCentre) -> dict[str, str]:
    """The state of each line, by feed and call or event."""
    found = await centre.db.fetch("SELECT feed, call_id, state FROM line")
    return {f"{row['feed']} {row['call_id']}": row["state"] for row in found}


# status


async def test_status_has_no_callbacks_while_they_are_off_and_none_was_taken(
    centre: CallCentre,
) -> None:
    status = await centre.run_json("status")
    assert status["callbacks"] is None
    _, text, _ = await centre.run("status")
    assert "callbacks" not in text


async def test_status_counts_callbacks_apart_from_call_statistics(centre: CallCentre) -> None:
    await plain_call(centre.db, 1, record=record_id(1), ended=CREATED)
    await centre.run("backfill", *DAY, "--no-wait")
    await take(centre, request(73001), request(73002), request(73003))
    await settle(centre, 73003, "rejected")
    await centre.db.execute(
        "UPDATE feed SET watermark = $1, delivered_at = $1 WHERE name = 'callbacks'", CREATED
    )

    status = await centre.run_json("status", **ON)
    assert list(status) == [
        "lines", "oldest_pending_seconds", "watermark", "last_delivered_at", "sender", "callbacks",
        "alert", "telegra",
    ]  # fmt: skip
    assert status["lines"] == NONE | {"pending": 1}
    assert status["last_delivered_at"] is None
    callbacks = status["callbacks"]
    assert 0 <= callbacks.pop("oldest_pending_seconds") < 600
    assert callbacks == {
        "lines": NONE | {"pending": 2, "rejected": 1},
        "watermark": CREATED.isoformat(),
        "last_delivered_at": CREATED.isoformat(),
        "sender": {"state": "stopped", "reason": None, "retry_at": None},
    }
    _, text, _ = await centre.run("status", **ON)
    calls, _, requests = text.partition("\ncallbacks\n")
    assert "requeue" not in calls
    assert "requeue --state rejected --feed callbacks" in requests
    assert "taken up to     2026-11-20 10:00:00" in requests


async def test_status_of_callbacks_that_are_on_and_never_came_is_all_zero(
    centre: CallCentre,
) -> None:
    assert (await centre.run_json("status", **ON))["callbacks"] == {
        "lines": NONE,
        "oldest_pending_seconds": None,
        "watermark": None,
        "last_delivered_at": None,
        "sender": {"state": "stopped", "reason": None, "retry_at": None},
    }


async def test_status_shows_callbacks_that_were_switched_off_again(centre: CallCentre) -> None:
    await take(centre, request(73001))
    callbacks = (await centre.run_json("status"))["callbacks"]
    assert callbacks["lines"]["pending"] == 1
    assert callbacks["sender"] == {"state": "stopped", "reason": "off", "retry_at": None}
    _, text, _ = await centre.run("status")
    assert "Set CALLSTATSD_CALLBACK_URL" in text


LATER = datetime(2026, 11, 20, 10, tzinfo=UTC)
PAUSED = {"state": "paused", "reason": "endpoint_missing", "retry_at": LATER.isoformat()}
SENDING = {"state": "sending", "reason": None, "retry_at": None}
UNAVAILABLE = {"state": "paused", "reason": "unavailable", "retry_at": None}
HELD = {"state": "paused", "reason": "operator", "retry_at": None}


@pytest.mark.parametrize(
    ("change", "statistics", "callbacks"),
    [
        (
            (
                "UPDATE feed SET pause_reason = 'endpoint_missing', retry_at = '2026-11-20 10:00Z'"
                " WHERE name = 'callbacks'"
            ),
            SENDING,
            PAUSED,
        ),
        (
            (
                "UPDATE feed SET pause_reason = 'endpoint_missing', retry_at = '2026-11-20 10:00Z'"
                " WHERE name = 'statistics'"
            ),
            PAUSED,
            SENDING,
        ),
        (
            (
                "UPDATE instance SET state = 'paused', reason = 'endpoint_missing',"
                " retry_at = '2026-11-20 10:00Z'"
            ),
            PAUSED,
            SENDING,
        ),
        (
            (
                "WITH i AS (UPDATE instance SET state = 'paused', reason = 'unavailable')"
                " UPDATE feed SET pause_reason = 'endpoint_failing'"
            ),
            UNAVAILABLE,
            UNAVAILABLE,
        ),
        (
            (
                "WITH l AS (UPDATE ledger SET held_since = now())"
                " UPDATE feed SET pause_reason = 'endpoint_failing'"
            ),
            HELD,
            HELD,
        ),
        ("SELECT 1", SENDING, SENDING),
    ],
)
async def test_each_feed_has_the_pauses_of_its_endpoint_and_those_of_the_org(
    centre: CallCentre, change: str, statistics: dict[str, Any], callbacks: dict[str, Any]
) -> None:
    await centre.db.execute("UPDATE instance SET state = 'sending', stopped_at = NULL")
    await centre.db.execute(change)
    # As an instance does that holds the ledger.
    await centre.db.execute(
        "SELECT pg_advisory_lock($1::integer, 'ledger'::regclass::oid::bigint::bit(32)::integer)",
        ACTIVE_LOCK,
    )
    status = await centre.run_json("status", **ON)
    assert status["sender"] == statistics
    assert status["callbacks"]["sender"] == callbacks


async def test_a_failing_endpoint_names_the_requeue_of_its_own_feed(centre: CallCentre) -> None:
    await take(centre, request(73001))
    await settle(centre, 73001, "rejected", settled_at=CREATED)
    await centre.db.execute(
        "INSERT INTO streak (since, until, ended_at, feed) VALUES ($1, $1, $1, 'callbacks')",
        CREATED,
    )
    status = await centre.run_json("status", **ON)
    assert "streaks" not in status
    (streak,) = status["callbacks"]["streaks"]
    assert (streak["rejected"], streak["not_found"]) == (1, 0)
    code, _, errors = await centre.run(*streak["requeue"].split()[1:], **ON)
    assert code == 0, errors
    assert await states(centre) == {"callbacks 73001": "pending"}
    _, text, _ = await centre.run("status", **ON)
    assert "--feed callbacks, 1 line" in text


# show


async def test_show_tells_what_became_of_a_callback_and_what_was_answered(
    centre: CallCentre,
) -> None:
    await take(centre, request(73001))
    await settle(centre, 73001, "delivered", last_status=200, answer='{"CaseNumber":"00001234"}')
    told = await centre.run_json("show", "--callback", "73001", **ON)
    assert list(told) == ["callback_id", "lines", "note"]
    assert told["callback_id"] == 73001
    (line,) = told["lines"]
    assert list(line) == [
        "key", "state", "attempts", "unanswered", "last_status", "last_error", "taken_at",
        "next_try_at", "settled_at", "record", "answer",
    ]  # fmt: skip
    assert (line["key"], line["state"]) == ("callback-73001", "delivered")
    assert line["answer"] == '{"CaseNumber":"00001234"}'
    assert len(line["record"]) == 21
    assert "Event 73001 was created 2026-11-20 10:00:00." in told["note"]
    _, text, _ = await centre.run("show", "--callback", "73001", **ON)
    assert 'Answer: {"CaseNumber":"00001234"}' in text


async def test_show_of_a_call_shows_the_lines_of_its_statistics_only(centre: CallCentre) -> None:
    await plain_call(centre.db, 73001, record=record_id(1), ended=CREATED)
    await centre.run("backfill", *DAY, "--no-wait")
    await take(centre, request(73001))
    told = await centre.run_json("show", "73001", **ON)
    assert [line["key"] for line in told["lines"]] == ["73001-0-0-0"]
    assert "answer" not in told["lines"][0]


async def test_show_of_a_record_lists_its_calls_and_callbacks_newest_first(
    centre: CallCentre,
) -> None:
    record = record_id(5)
    for number, minutes in ((1, 0), (2, 20)):
        ended = CREATED + timedelta(minutes=minutes)
        await plain_call(centre.db, number, record=record, ended=ended)
    await centre.run("backfill", *DAY, "--no-wait")
    await take(centre, request(73001, userdata=record, dtcreated=CREATED + timedelta(minutes=10)))
    told = await centre.run_json("show", "--salesforce-id", record, **ON)
    assert [(one.get("call_id"), one.get("callback_id")) for one in told] == [
        (2, None), (None, 73001), (1, None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "change", "more", "says"),
    [
        ({}, "DELETE FROM AcdEvents", {}, "Event 73001 is not in the source's AcdEvents."),
        ({"acdeventtypesid": 1}, "SELECT 1", {}, "its AcdEventTypesID is 1"),
        ({"userdata": "callstatsd-alert-1"}, "SELECT 1", {}, "an alert of callstatsd's own"),
        ({}, "UPDATE ledger SET clients_id = 7", {"clients_id": "7"}, "belongs to client 1"),
        (
            {"clientsid": None},
            "UPDATE ledger SET clients_id = 7",
            {"clients_id": "7"},
            "Nobody knows whose it is",
        ),
        (
            {},
            "UPDATE AcdEvents SET dtCreated = now()",
            {"callback_delay": "600"},
            "It is taken after CALLSTATSD_CALLBACK_DELAY",
        ),
        (
            {"statisticspartaid": 1},
            (
                "WITH a AS (UPDATE StatisticsPartA SET dtCallEnd = NULL)"
                " UPDATE AcdEvents SET dtCreated = now() - interval '1 min'"
            ),
            {},
            "It waits for the end of its call",
        ),
        ({}, "SELECT 1", {}, "No callback request has been looked for yet"),
        (
            {},
            "UPDATE feed SET start_from = '2026-11-20 10:00Z' WHERE name = 'callbacks'",
            {},
            "only `callstatsd backfill --feed callbacks` takes it",
        ),
        (
            {},
            "UPDATE feed SET start_from = '2020-01-01' WHERE name = 'callbacks'",
            {},
            "no daemon is running",
        ),
        ({}, "SELECT 1", {"callback_url": ""}, "CALLSTATSD_CALLBACK_URL is not set"),
        ({}, "DROP TABLE AcdEvents", {}, "AcdEvents cannot be read"),
    ],
)
async def test_show_says_why_a_callback_has_no_line(
    centre: CallCentre, columns: dict[str, Any], change: str, more: dict[str, str], says: str
) -> None:
    await plain_call(centre.db, 1, record=record_id(1), ended=CREATED)
    await rows.add(centre.db, request(73001, **columns))
    await centre.db.execute(change)
    told = await centre.run_json("show", "--callback", "73001", **ON | more)
    assert told["lines"] == []
    assert says in told["note"]


async def test_show_wants_one_thing(centre: CallCentre) -> None:
    for arguments in (["1", "--callback", "2"], ["--callback", "2", "--salesforce-id", "x"]):
        code, _, errors = await centre.run("show", *arguments)
        assert code == 2
        expected = "give a CALL_ID, --callback, --salesforce-id or --telegra"
        assert expected in " ".join(errors.split())


# With a daemon


async def test_what_salesforce_answered_is_shown_and_counted(centre: CallCentre) -> None:
    created = datetime.now(UTC) - timedelta(minutes=2)
    await rows.add(centre.db, request(73001, dtcreated=created), request(73002, dtcreated=created))
    centre.salesforce.rule = lambda one: Reply(400) if one.key == "callback-73002" else None
    port = free_port()
    settings = centre.settings(http_listen=f"127.0.0.1:{port}", **ON)
    async with running(settings, centre.folder) as daemon:
        await centre.until(delivered=1, rejected=1)
        found = samples((await get(port, "/metrics")).html)
        assert await daemon.stop() == 0
    assert found["callstatsd_callbacks_total{state=delivered}"] == 1
    assert found["callstatsd_callbacks_kept{state=rejected}"] == 1
    assert found["callstatsd_callbacks_pending"] == 0
    assert found["callstatsd_lines_total{state=delivered}"] == 0
    assert found["callstatsd_lines_kept{state=rejected}"] == 0
    told = await centre.run_json("show", "--callback", "73001", **ON)
    assert json.loads(told["lines"][0]["answer"]) == {"CaseNumber": "00073001"}
    told = await centre.run_json("show", "--callback", "73002", **ON)
    assert told["lines"][0]["answer"] is None
    status = await centre.run_json("status", **ON)
    assert status["lines"] == NONE
    assert status["callbacks"]["lines"] == NONE | {"delivered": 1, "rejected": 1}
    assert status["callbacks"]["last_delivered_at"] is not None


async def test_an_endpoint_that_is_missing_pauses_its_feed_and_every_report_says_so(
    centre: CallCentre,
) -> None:
    await rows.add(centre.db, request(73001, dtcreated=datetime.now(UTC) - timedelta(minutes=2)))
    missing = Reply(404, platform_error("NOT_FOUND", "Could not find a match for URL"))
    centre.salesforce.rule = lambda one: missing if one.path == CALLBACK_PATH else None
    port = free_port()
    settings = centre.settings(http_listen=f"127.0.0.1:{port}", **ON)
    async with running(settings, centre.folder) as daemon:
        await daemon.until("sender.paused", reason="endpoint_missing", feed="callbacks")
        await plain_call(centre.db, 1, record=record_id(1))
        await daemon.until("line.delivered", key="1-0-0-0")
        async with asyncio.timeout(PATIENCE):
            while (status := await centre.run_json("status", **ON))["callbacks"]["sender"][
                "reason"
            ] != "endpoint_missing":
                await asyncio.sleep(0.1)
        assert status["sender"] == {"state": "sending", "reason": None, "retry_at": None}
        assert status["callbacks"]["sender"]["state"] == "paused"
        assert status["callbacks"]["sender"]["retry_at"] is not None
        assert (await get(port, "/readyz")).status == 200
        text = (await get(port)).text
        assert "Callbacks: sending pauses" in text
        assert "Deploy createCallback" in text
        _, said, _ = await centre.run("resume", **ON)
        assert "Callbacks are still paused (endpoint_missing)" in said
        assert "CALLSTATSD_CALLBACK_URL" in said
        told = await centre.run_json("show", "--callback", "73001", **ON)
        assert "The sender is paused (endpoint_missing)." in told["note"]
        assert await daemon.stop() == 0
