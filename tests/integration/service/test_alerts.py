"""Which lines an alert counts, what it says, and when it is raised."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from daemon.demo.standin import Reply
from daemon.ledger.overview import AlertStatus
from daemon.salesforce.transport import Always
from daemon.service.alerts import LAST_CHANCE
from tests.support.alerts import GROUP, HOUR, LINK, Watch, watching
from tests.support.daemon_process import PATIENCE


@pytest.fixture
async def watch(dsn: str, db: asyncpg.Connection) -> AsyncIterator[Watch]:
    async with watching(dsn, db) as watch:
        yield watch


async def test_lines_that_fail_after_alerts_were_first_on_are_in_one_event(watch: Watch) -> None:
    assert watch.asked() == []
    await watch.fail(2)
    await watch.fail(3, feed="callbacks")
    await watch.fail(4, state="expired")
    await watch.fail(5, state="conflict")
    with capture_logs() as logged:
        await watch.turn()
        await watch.turn()
    [body] = watch.created
    user_data = body.pop("UserData")
    assert re.fullmatch(r"callstatsd-alert-[0-9a-f]{8}-1", user_data)
    assert body == {
        "AcdEventTypesID": 6,
        "AcdGroupsID": 235,
        "Sender": "callstatsd",
        "Subject": "callstatsd: 3 lines are not in Salesforce (2 rejected, 1 expired)",
        "CrmURL": LINK,
    }
    assert [entry for entry in logged if entry["event"] == "alert.raised"] == [
        {
            "event": "alert.raised",
            "log_level": "info",
            "number": 1,
            "acd_events_id": 102039,
            "lines": 3,
            "rejected": 2,
            "expired": 1,
            "invalid": 0,
            "updated": False,
        }
    ]


async def test_without_a_link_the_event_has_none(watch: Watch) -> None:
    await watch.fail(2)
    await watch.alerts(link="").turn(gather=0.0)
    assert "CrmURL" not in watch.created[0]


async def test_what_comes_within_the_interval_is_in_the_next(watch: Watch) -> None:
    await watch.fail(2)
    await watch.turn()
    await watch.fail(3, state="invalid")
    await watch.passes(HOUR - 1)
    await watch.turn()
    assert watch.subjects == ["1 line is not in Salesforce (1 rejected)"]
    await watch.passes(1)
    await watch.turn()
    assert watch.subjects[1:] == ["1 line is not in Salesforce (1 invalid)"]
    assert watch.numbers == [1, 2]


async def test_an_alert_waits_until_its_first_line_is_some_seconds_old(watch: Watch) -> None:
    await watch.fail(2)
    await watch.alerts().turn(gather=5.0)
    assert watch.asked() == []
    await watch.db.execute(
        "UPDATE line SET settled_at = settled_at - interval '5 s';"
        "UPDATE ledger SET alerts_since = alerts_since - interval '5 s'"
    )
    await watch.fail(3)
    await watch.alerts().turn(gather=5.0)
    assert watch.subjects == ["2 lines are not in Salesforce (2 rejected)"]


async def test_lines_that_people_took_away_before_do_not_count_and_failing_again_does(
    watch: Watch,
) -> None:
    await watch.fail(2, 3, 4)
    await watch.db.execute(
        "UPDATE line SET state = 'skipped', generation = 1 WHERE call_id = 3;"
        "UPDATE line SET state = 'pending', generation = 1, settled_at = NULL WHERE call_id = 4"
    )
    await watch.turn()
    assert watch.subjects == ["1 line is not in Salesforce (1 rejected)"]
    await watch.db.execute(
        "UPDATE line SET generation = 1, settled_at = now() WHERE call_id = 2;"
        "UPDATE line SET state = 'rejected', settled_at = now() WHERE call_id = 4"
    )
    await watch.passes(HOUR)
    await watch.turn()
    assert watch.subjects[1:] == ["2 lines are not in Salesforce (2 rejected)"]


async def test_lines_that_failed_while_alerts_were_off_count_when_they_are_on_again(
    watch: Watch,
) -> None:
    await watch.fail(2)
    await watch.turn()
    await watch.fail(3, 4)
    await watch.passes(HOUR)
    watch.acd.groups.add(GROUP + 1)
    await watch.alerts(group=GROUP + 1).turn(gather=0.0)
    assert watch.subjects[1:] == ["2 lines are not in Salesforce (2 rejected)"]
    assert [event["AcdGroupsID"] for event in watch.acd.events] == [GROUP, GROUP + 1]


async def test_a_ledger_that_was_restored_from_a_copy_is_another_one(watch: Watch) -> None:
    """Its numbers go on from the copy, and the ACD may have events with these already."""
    await watch.fail(2)
    await watch.turn()
    await watch.db.execute("UPDATE ledger SET code_of = 0; DELETE FROM alert")
    await watch.fail(3)
    await watch.turn()
    await watch.passes(HOUR)
    await watch.fail(4)
    await watch.turn()
    earlier, first, second = (event["UserData"].split("-")[2:] for event in watch.acd.events)
    assert (earlier[1], first[1], second[1]) == ("1", "1", "2")
    assert earlier[0] != first[0] == second[0]


async def test_a_clock_that_is_set_back_delays_alerts_by_no_more_than_they_ever_wait(
    watch: Watch,
) -> None:
    await watch.fail(2)
    await watch.turn()
    await watch.passes(-24 * HOUR)
    await watch.turn()
    await watch.fail(3)
    await watch.passes(HOUR - 1)
    await watch.turn()
    assert watch.numbers == [1]
    await watch.passes(1)
    watch.acd.rule = lambda _: Reply(401)
    await watch.turn()
    watch.acd.rule = None
    await watch.passes(-24 * HOUR)
    await watch.turn()
    await watch.passes(HOUR)
    await watch.turn()
    assert watch.numbers == [1, 2]
    await watch.passes(HOUR)
    await watch.db.execute("UPDATE ledger SET alerts_since = now() + interval '1 day'")
    await watch.turn()
    await watch.fail(4)
    await watch.turn()
    assert watch.numbers == [1, 2, 3]
    await watch.passes(HOUR)
    await watch.fail(5)
    await watch.db.execute("UPDATE line SET settled_at = now() + interval '1 day'")
    await watch.alerts().turn(gather=5.0)
    assert watch.numbers == [1, 2, 3, 4]


async def test_an_event_that_the_acd_added_a_comment_to_is_an_alert_too(watch: Watch) -> None:
    watch.acd.unique_groups = {GROUP}
    await watch.fail(2)
    with capture_logs() as logged:
        await watch.turn()
        await watch.db.execute("DELETE FROM alert")  # so that the next has the same number
        await watch.fail(3)
        await watch.turn()
    assert [entry["updated"] for entry in logged if entry["event"] == "alert.raised"] == [
        False,
        True,
    ]


async def test_what_is_said_of_alerts(watch: Watch) -> None:
    assert await watch.ledger.alert_status() == AlertStatus(waiting=0)
    await watch.fail(2, 3)
    assert await watch.ledger.alert_status() == AlertStatus(waiting=2)
    watch.acd.rule = lambda _: Reply(401)
    await watch.turn()
    refused = "the ACD refuses the token or the ClientsID"
    assert await watch.ledger.alert_status() == AlertStatus(waiting=2, error=refused)
    await watch.db.execute("UPDATE line SET state = 'skipped' WHERE call_id = 2")
    await watch.fail(4)
    assert await watch.ledger.alert_status() == AlertStatus(waiting=2, error=refused)
    watch.acd.rule = None
    await watch.passes(HOUR)
    await watch.turn()
    raised_at = await watch.db.fetchval("SELECT raised_at FROM alert")
    assert await watch.ledger.alert_status() == AlertStatus(0, raised_at, 102039, 2)
    await watch.fail(5)
    assert await watch.ledger.alert_status() == AlertStatus(1, raised_at, 102039, 2)


async def test_nothing_is_sent_without_the_lease_and_cancelling_is_prompt(watch: Watch) -> None:
    """The lease is lost just when the request begins."""

    class Lost:
        held = False
        asked = asyncio.Event()

        async def until_held(self) -> None:
            self.asked.set()

    await watch.fail(2)
    await watch.db.execute("UPDATE line SET settled_at = settled_at - interval '10 s'")
    await watch.db.execute("UPDATE ledger SET alerts_since = '-infinity'")
    lost = Lost()
    task = asyncio.create_task(watch.alerts().run(lost))
    async with asyncio.timeout(PATIENCE):
        while not await watch.db.fetchval("SELECT count(*) FROM alert"):
            await asyncio.sleep(0.02)
        lost.asked.clear()
        await lost.asked.wait()
    assert watch.asked() == []
    assert tuple(await watch.db.fetchrow("SELECT tries, error, retry_at FROM alert")) == (
        0, None, None,
    )  # fmt: skip
    task.cancel()
    async with asyncio.timeout(2 * LAST_CHANCE):
        await asyncio.wait({task})


async def test_an_alert_under_way_at_shutdown_gets_two_seconds(watch: Watch) -> None:
    await watch.fail(2)
    await watch.db.execute("UPDATE ledger SET alerts_since = '-infinity'")
    await watch.db.execute("UPDATE line SET settled_at = settled_at - interval '10 s'")
    arrived = asyncio.Event()

    def slow(_: Any) -> Reply:
        arrived.set()
        return Reply(delay=0.5)

    watch.acd.rule = slow
    task = asyncio.create_task(watch.alerts().run(Always()))
    async with asyncio.timeout(PATIENCE):
        await arrived.wait()
    task.cancel()
    await asyncio.wait({task})
    assert await watch.db.fetchval("SELECT raised_at IS NOT NULL FROM alert")
