"""An alert that the ACD may have, refused or never answered: raised at most once per number.

The invariant: of each number the ACD has at most one event, whatever is cut, killed or refused;
and a line that stays rejected, expired or invalid is counted by exactly one raised alert.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from daemon import metrics
from daemon.acd.events import AcdEvents
from daemon.demo.acd_standin import BASE_PATH, TOKEN
from daemon.demo.standin import Reply
from daemon.salesforce.client import open_session
from daemon.salesforce.transport import Always
from daemon.service.alerts import MOST_TRIES, UNHEARD, AlertOptions, Alerts
from tests.support.alerts import AT_ONCE, HOUR, Watch, watching
from tests.support.daemon_process import PATIENCE
from tests.support.raw import free_port


@pytest.fixture
async def watch(dsn: str, db: asyncpg.Connection) -> AsyncIterator[Watch]:
    async with watching(dsn, db) as watch:
        yield watch


CALLER = "+49 30 123456"
UNUSABLE = {
    "created, then cut": (Reply(cut="after"), UNHEARD),
    "cut": (Reply(cut="before"), UNHEARD),
    "a proxy without an answer": (Reply(504), UNHEARD),
    "503": (Reply(503), 0.0),
    "500": (Reply(500, {"status": 500, "error": "x"}), 0.0),
    "403": (Reply(403, {"status": 403, "error": "x"}), 0.0),
    "created, but no JSON": (Reply(200, "<html>"), 0.0),
    "created, but no records": (Reply(200, {"status": 200}), 0.0),
    "created, but none of them": (Reply(200, {"records": [], "status": 200}), 0.0),
}
"""Answers to a request, and for how long nothing is asked after them."""


async def test_without_a_usable_answer_the_events_are_listed_before_anything_is_repeated(
    watch: Watch,
) -> None:
    for number, (said, (reply, quiet)) in enumerate(UNUSABLE.items(), 1):
        there = "created" in said
        await watch.db.execute("DELETE FROM line")
        await watch.passes(HOUR)
        await watch.fail(1)
        watch.acd.rule = lambda _, reply=reply: reply
        await watch.turn()
        assert watch.asked() == ["POST"], said
        watch.acd.rule = None
        await watch.fail(2)  # it is not in an event that is there already
        if quiet:
            await watch.passes(quiet - 1)
            await watch.turn()
            assert watch.asked() == [], said
            await watch.passes(1)
        await watch.turn()
        assert watch.asked() == (["GET"] if there else ["GET", "POST"]), said
        assert watch.numbers.count(number) == 1, said
        row = await watch.db.fetchrow("SELECT * FROM alert WHERE number = $1", number)
        assert row["acd_events_id"] == watch.acd.events[-1]["ID"], said
        assert row["rejected"] == (1 if there else 2), said


async def test_an_acd_that_is_away_is_tried_again_with_back_off_alone(watch: Watch) -> None:
    await watch.fail(2)
    async with open_session("1", 2.0) as session:
        nowhere = AcdEvents(session, f"http://127.0.0.1:{free_port()}{BASE_PATH}", TOKEN)
        away = Alerts(watch.ledger, nowhere, AlertOptions(235, HOUR), AT_ONCE)
        await away.turn(gather=0.0)
        await away.turn(gather=0.0)
    assert await watch.db.fetchval("SELECT tries FROM alert") == 2


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
    assert watch.asked() == ["POST"]  # the ACD may still be at work
    await watch.passes(UNHEARD)
    await watch.turn()
    assert watch.asked() == ["GET"]
    assert watch.numbers == [1]
    assert await watch.db.fetchval("SELECT acd_events_id FROM alert WHERE raised_at < now()")


async def test_after_ten_requests_without_an_answer_its_lines_are_in_the_next(watch: Watch) -> None:
    await watch.fail(2)
    watch.acd.rule = lambda _: Reply(503)
    before = metrics.counted("callstatsd_alerts_total", result="given_up")
    with capture_logs() as logged:
        for _ in range(MOST_TRIES + 3):
            await watch.turn()
    assert watch.asked() == ["POST", *["GET"] * (MOST_TRIES - 1)]
    assert metrics.counted("callstatsd_alerts_total", result="given_up") == before + 1
    [given_up] = [entry for entry in logged if entry["event"].startswith("alert.")]
    assert (given_up["event"], given_up["log_level"]) == ("alert.given_up", "error")
    assert (await watch.ledger.alert_status()).waiting == 1
    watch.acd.rule = None
    await watch.fail(3)
    await watch.passes(HOUR)
    await watch.turn()
    assert watch.subjects == ["2 lines are not in Salesforce (2 rejected)"]
    assert watch.numbers == [2]


async def test_a_refusal_is_tried_again_after_the_interval_with_the_same_number(
    watch: Watch,
) -> None:
    for number, status in enumerate((400, 401, 404, 302), 1):
        await watch.db.execute("DELETE FROM line")
        await watch.passes(HOUR)
        await watch.fail(1)
        said = {"status": status, "error": "of Max Mustermann"}
        watch.acd.rule = lambda _, status=status, said=said: Reply(status, said)
        with capture_logs() as logged:
            await watch.turn()
            await watch.passes(HOUR - 1)
            await watch.turn()
        [failed] = [entry for entry in logged if entry["event"].startswith("alert.")]
        assert (failed["event"], failed["log_level"], failed["status"], failed["number"]) == (
            "alert.failed", "warning", status, number,
        )  # fmt: skip
        assert "Mustermann" not in str(failed)
        assert watch.asked() == ["POST"]
        watch.acd.rule = None
        await watch.fail(2)
        await watch.passes(1)
        await watch.turn()
        assert watch.asked() == ["GET", "POST"]
        assert watch.subjects[-1] == "2 lines are not in Salesforce (2 rejected)"
        assert watch.numbers[-1] == number


async def test_a_conflict_is_an_alert_that_is_there(watch: Watch) -> None:
    await watch.fail(2)
    watch.acd.rule = lambda _: Reply(409, {"status": 409, "error": "exists"})
    await watch.turn()
    await watch.turn()
    assert watch.asked() == ["POST"]
    assert await watch.db.fetchval("SELECT raised_at IS NOT NULL FROM alert")


@pytest.mark.parametrize(
    "taken_away", ["UPDATE line SET state = 'skipped'", "DELETE FROM line"], ids=["", "and pruned"]
)
async def test_an_alert_whose_lines_were_all_taken_away_is_withdrawn(
    watch: Watch, taken_away: str
) -> None:
    await watch.fail(2)
    watch.acd.rule = lambda _: Reply(503)
    await watch.turn()
    await watch.db.execute(taken_away)
    watch.acd.rule = None
    await watch.turn()
    assert watch.acd.events == []
    assert await watch.db.fetchval("SELECT count(*) FROM alert") == 0


@pytest.mark.parametrize("number", [2**64 - 1, "7", None])
async def test_an_id_that_no_column_holds_is_left_out(watch: Watch, number: Any) -> None:
    await watch.fail(2)
    watch.acd.rule = lambda _: Reply(200, {"records": [{"ID": number}], "status": 200})
    await watch.turn()
    row = await watch.db.fetchrow("SELECT acd_events_id, raised_at IS NOT NULL FROM alert")
    assert tuple(row) == (None, True)


async def test_a_defect_ends_neither_alerts_nor_the_daemon(watch: Watch) -> None:
    tried = asyncio.Event()

    class Defect:
        async def find(self, _: str) -> None:
            raise AssertionError

        async def create(self, _: object) -> Any:
            tried.set()
            raise RuntimeError(CALLER)

    await watch.fail(2)
    await watch.db.execute("UPDATE ledger SET alerts_since = '-infinity'")
    await watch.db.execute("UPDATE line SET settled_at = settled_at - interval '10 s'")
    with capture_logs() as logged:
        alerts = Alerts(watch.ledger, Defect(), AlertOptions(235, HOUR), AT_ONCE)
        task = asyncio.create_task(alerts.run(Always()))
        async with asyncio.timeout(PATIENCE):
            await tried.wait()
            while not any(entry["event"] == "request.defect" for entry in logged):
                await asyncio.sleep(0.02)
        assert not task.done()
        task.cancel()
        await asyncio.wait({task})
    assert CALLER not in str(logged)
