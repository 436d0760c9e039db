"""An alert is raised at most once for each number, and never holds up anything else."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import asyncpg
import pytest
from structlog.testing import capture_logs

from daemon import metrics
from daemon.acd.events import AcdEvents
from daemon.delivery.backoff import Backoff
from daemon.demo.acd_standin import TOKEN, AcdStandIn, serve_acd
from daemon.demo.standin import Reply
from daemon.ledger.store import Ledger, open_ledger
from daemon.salesforce.client import open_session
from daemon.salesforce.transport import Always
from daemon.service.alerts import MOST_TRIES, AlertOptions, Alerts
from tests.support.calls import plain_call, record_id
from tests.support.daemon_process import PATIENCE, running
from tests.support.whole import CallCentre

HOUR = 3600.0
LINK = "https://status.example.com/"
AT_ONCE = Backoff(0.0, 0.0, jitter=lambda _: 0.0)


class Watch(NamedTuple):
    ledger: Ledger
    acd: AcdStandIn
    client: AcdEvents
    db: asyncpg.Connection

    def alerts(self, link: str = LINK) -> Alerts:
        """Alerts of a process that has just begun."""
        return Alerts(self.ledger, self.client, AlertOptions(235, HOUR, link), AT_ONCE)

    async def turn(self) -> None:
        await self.alerts().turn(gather=0.0)

    async def fail(self, *numbers: int, state: str = "rejected") -> None:
        await self.db.executemany(
            """
            INSERT INTO line (call_id, group_id, leg_id, code_id, ordinal, lane, call_ended,
                              backfill, state, settled_at)
            VALUES ($1, 0, 0, 0, 1, 'lane', now(), false, $2, now())
            """,
            [(number, state) for number in numbers],
        )

    async def an_hour_passes(self) -> None:
        await self.db.execute(
            "UPDATE alert SET raised_at = raised_at - interval '1 hour',"
            " given_up_at = given_up_at - interval '1 hour',"
            " retry_at = retry_at - interval '1 hour'"
        )

    @property
    def created(self) -> list[dict[str, Any]]:
        return [json.loads(each.body) for each in self.acd.requests if each.method == "POST"]

    @property
    def subjects(self) -> list[str]:
        return [event["Subject"].removeprefix("callstatsd: ") for event in self.acd.events]

    @property
    def numbers(self) -> list[int]:
        return [int(event["UserData"].rpartition("-")[2]) for event in self.acd.events]


@pytest.fixture
async def watch(dsn: str, db: asyncpg.Connection) -> AsyncIterator[Watch]:
    standin = AcdStandIn()
    async with (
        serve_acd(standin) as url,
        open_session("1", 2.0) as session,
        open_ledger(dsn, "callstatsd") as ledger,
    ):
        watch = Watch(ledger, standin, AcdEvents(session, url, TOKEN), db)
        await watch.fail(1)  # before alerts were on
        await watch.turn()
        yield watch
    assert standin.violations == []


async def test_lines_that_fail_after_alerts_were_first_on_are_in_one_event(watch: Watch) -> None:
    assert watch.acd.requests == []
    await watch.fail(2, 3)
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


async def test_what_comes_within_the_interval_is_in_the_next(watch: Watch) -> None:
    await watch.fail(2)
    await watch.turn()
    await watch.fail(3, state="invalid")
    await watch.turn()
    assert watch.subjects == ["1 line is not in Salesforce (1 rejected)"]
    await watch.an_hour_passes()
    await watch.turn()
    assert watch.subjects[1:] == ["1 line is not in Salesforce (1 invalid)"]
    assert watch.numbers == [1, 2]


async def test_an_alert_waits_until_its_first_line_is_some_seconds_old(watch: Watch) -> None:
    await watch.fail(2)
    await watch.alerts().turn(gather=5.0)
    assert watch.acd.requests == []


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
    await watch.an_hour_passes()
    await watch.turn()
    assert watch.subjects[1:] == ["2 lines are not in Salesforce (2 rejected)"]


@pytest.mark.parametrize(
    "reply", [Reply(cut="after"), Reply(503), Reply(500, {"error": "x"}), Reply(200, "<html>")]
)
async def test_without_a_usable_answer_the_events_are_listed_before_anything_is_repeated(
    watch: Watch, reply: Reply
) -> None:
    await watch.fail(2)
    watch.acd.rule = lambda request: reply if request.method == "POST" else None
    await watch.turn()
    there = len(watch.acd.events)
    watch.acd.rule = None
    await watch.fail(3)  # it is not in an event that is there already
    await watch.turn()
    methods = [request.method for request in watch.acd.requests]
    assert methods == (["POST", "GET"] if there else ["POST", "GET", "POST"])
    assert watch.numbers == [1]
    row = await watch.db.fetchrow("SELECT number, acd_events_id, rejected FROM alert")
    assert tuple(row) == (1, 102039, 1 if there else 2)


async def test_a_kill_within_the_request_raises_no_second_event(watch: Watch) -> None:
    """The number is in the ledger before the request; the next process finds the event."""
    await watch.fail(2)
    arrived, never = asyncio.Event(), asyncio.Event()

    def hold(request: Any) -> Reply | None:
        arrived.set()
        return Reply(hold=never) if request.method == "POST" else None

    watch.acd.rule = hold
    killed = asyncio.create_task(watch.turn())
    async with asyncio.timeout(PATIENCE):
        await arrived.wait()
    assert tuple(await watch.db.fetchrow("SELECT number, rejected, raised_at FROM alert")) == (
        1, 1, None,
    )  # fmt: skip
    killed.cancel()
    await asyncio.wait({killed})
    await watch.turn()
    await watch.turn()
    assert watch.numbers == [1]
    assert await watch.db.fetchval("SELECT acd_events_id FROM alert WHERE raised_at < now()")


async def test_after_ten_requests_without_an_answer_its_lines_are_in_the_next(watch: Watch) -> None:
    await watch.fail(2)
    watch.acd.rule = lambda _: Reply(503)
    before = metrics.counted("callstatsd_alerts_total", result="given_up")
    with capture_logs() as logged:
        for _ in range(MOST_TRIES + 3):
            await watch.turn()
    assert len(watch.acd.requests) == MOST_TRIES
    assert metrics.counted("callstatsd_alerts_total", result="given_up") == before + 1
    [given_up] = [entry for entry in logged if entry["event"].startswith("alert.")]
    assert (given_up["event"], given_up["log_level"]) == ("alert.given_up", "error")
    watch.acd.rule = None
    await watch.fail(3)
    await watch.an_hour_passes()
    await watch.turn()
    assert watch.subjects == ["2 lines are not in Salesforce (2 rejected)"]
    assert watch.numbers == [2]


@pytest.mark.parametrize("status", [400, 401, 404, 302])
async def test_a_refusal_is_tried_again_after_the_interval_with_the_same_number(
    watch: Watch, status: int
) -> None:
    await watch.fail(2)
    watch.acd.rule = lambda _: Reply(status, {"status": status, "error": "of Max Mustermann"})
    with capture_logs() as logged:
        await watch.turn()
        await watch.turn()
    [failed] = [entry for entry in logged if entry["event"].startswith("alert.")]
    assert (failed["event"], failed["log_level"], failed["status"]) == (
        "alert.failed", "warning", status,
    )  # fmt: skip
    assert "Mustermann" not in str(failed)
    assert len(watch.acd.requests) == 1
    watch.acd.rule = None
    await watch.fail(3)
    await watch.an_hour_passes()
    await watch.turn()
    assert watch.subjects == ["2 lines are not in Salesforce (2 rejected)"]
    assert watch.numbers == [1]


async def test_a_conflict_is_an_alert_that_is_there(watch: Watch) -> None:
    await watch.fail(2)
    watch.acd.rule = lambda _: Reply(409, {"status": 409, "error": "exists"})
    await watch.turn()
    await watch.turn()
    assert len(watch.acd.requests) == 1
    assert await watch.db.fetchval("SELECT raised_at IS NOT NULL FROM alert")


async def test_an_alert_whose_lines_were_all_taken_away_is_withdrawn(watch: Watch) -> None:
    await watch.fail(2)
    watch.acd.rule = lambda _: Reply(503)
    await watch.turn()
    await watch.db.execute("UPDATE line SET state = 'skipped' WHERE call_id = 2")
    watch.acd.rule = None
    await watch.turn()
    assert watch.acd.events == []
    assert await watch.db.fetchval("SELECT count(*) FROM alert") == 0


async def test_nothing_is_sent_without_the_lease_and_cancelling_is_prompt(watch: Watch) -> None:
    class Lost:
        held = False

        async def until_held(self) -> None:
            raise AssertionError

    await watch.fail(2)
    await watch.db.execute("UPDATE line SET settled_at = settled_at - interval '10 s'")
    await watch.db.execute("UPDATE ledger SET alerts_since = '-infinity'")
    task = asyncio.create_task(watch.alerts().run(Lost()))
    async with asyncio.timeout(PATIENCE):
        while not await watch.db.fetchval("SELECT count(*) FROM alert WHERE error IS NOT NULL"):
            await asyncio.sleep(0.02)
    assert watch.acd.requests == []
    task.cancel()
    async with asyncio.timeout(5):
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


async def test_a_daemon_raises_one_alert_for_a_refused_call(centre: CallCentre) -> None:
    acd = AcdStandIn()
    centre.salesforce.rule = lambda _: Reply(400, "no")
    await plain_call(centre.db, 1, record=record_id(1))
    async with serve_acd(acd) as url:
        settings = centre.settings(acd_url=url, acd_token=TOKEN, alert_group_id="235")
        async with running(settings, centre.folder) as daemon:
            raised = await daemon.until("alert.raised")
            assert (raised["number"], raised["rejected"]) == (1, 1)
            assert await daemon.stop() == 0
    assert [event["Subject"] for event in acd.events] == [
        "callstatsd: 1 line is not in Salesforce (1 rejected)"
    ]
    assert acd.violations == []
    assert TOKEN not in daemon.text
