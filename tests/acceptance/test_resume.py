"""`resume`: what it says is the case, and the try at once that it asks for."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from daemon.cli import operations, output
from daemon.demo.standin import Reply
from daemon.ledger.instance import OperatorPause
from daemon.ledger.overview import LedgerStatus
from daemon.lines import PauseReason
from tests.support.call_centre import CallCentre
from tests.support.calls import plain_call, record_id
from tests.support.daemon_process import PATIENCE, running
from tests.support.expected import BERLIN

NOON = datetime(2026, 11, 20, 11, tzinfo=UTC)
ACT = 7
ACTIVE = LedgerStatus(
    watermark=None,
    start_from=None,
    last_delivered_at=None,
    operator_pause=None,
    active=True,
    host="acd1",
    pid=11,
    version="1",
    started_at=NOON,
    stopped_at=None,
    unclean_at=None,
    state="sending",
    reason=None,
    retry_at=None,
    probe_answered=ACT,
)
DOWN = replace(ACTIVE, state="paused", reason="unavailable", retry_at=NOON)
BY_OPERATOR = replace(ACTIVE, state="paused", reason="operator", probe_answered=3)


@pytest.mark.parametrize(
    ("status", "daemon_runs", "pending", "soon", "late"),
    [
        (ACTIVE, True, True, operations.Sends(), operations.Sends()),
        (
            replace(ACTIVE, probe_answered=ACT + 1),
            True,
            True,
            operations.Sends(),
            operations.Sends(),
        ),
        (
            DOWN,
            True,
            True,
            operations.Pauses("unavailable", NOON, tried=True),
            operations.Pauses("unavailable", NOON, tried=True),
        ),
        (
            replace(DOWN, probe_answered=None),
            True,
            True,
            None,
            operations.Pauses("unavailable", NOON, tried=False),
        ),
        (
            replace(DOWN, probe_answered=None),
            True,
            False,
            operations.Pauses("unavailable", NOON, tried=False, idle=True),
            operations.Pauses("unavailable", NOON, tried=False, idle=True),
        ),
        # What the instance said before it heard of the act counts for nothing.
        (
            replace(ACTIVE, probe_answered=ACT - 1),
            True,
            True,
            None,
            operations.NotHeard("acd1", 11),
        ),
        (BY_OPERATOR, True, True, None, operations.NotHeard("acd1", 11)),
        (
            replace(BY_OPERATOR, operator_pause=OperatorPause(NOON, None)),
            True,
            True,
            operations.Pauses("operator", None, tried=False),
            operations.Pauses("operator", None, tried=False),
        ),
        (replace(ACTIVE, active=False), True, True, None, operations.StandsBy()),
        (
            replace(ACTIVE, active=False),
            False,
            True,
            operations.NobodyRuns(),
            operations.NobodyRuns(),
        ),
    ],
)
def test_what_is_the_case_is_said_when_it_is_known_or_when_time_is_up(
    status: LedgerStatus,
    daemon_runs: bool,
    pending: bool,
    soon: operations.AfterResume | None,
    late: operations.AfterResume,
) -> None:
    for at_last, expected in ((False, soon), (True, late)):
        said = operations.after_resume(
            ACT, status, daemon_runs=daemon_runs, pending=pending, late=at_last
        )
        assert said == expected


@pytest.mark.parametrize("reason", PauseReason)
@pytest.mark.parametrize(("tried", "idle"), [(True, False), (False, False), (False, True)])
def test_while_a_pause_holds_nobody_is_told_that_sending_goes_on(
    reason: PauseReason, tried: bool, idle: bool
) -> None:
    said = output.resume_sentence(operations.Pauses(reason, NOON, tried=tried, idle=idle), BERLIN)
    assert "goes on" not in said
    assert "paused" in said
    if reason is not PauseReason.OPERATOR:
        assert f"({reason})" in said
        assert ("2026-11-20 12:00:00" in said) == tried


async def test_resume_tries_at_once_and_says_what_came_of_it(centre: CallCentre) -> None:
    """An automatic pause shows through the operator's, and ends as soon as somebody asks for it."""
    code, text, _ = await centre.run("resume")
    assert (code, "no daemon is running" in text) == (0, True)

    await plain_call(centre.db, 1, record=record_id(1))
    centre.salesforce.rule = lambda _: Reply(503)
    slow = centre.settings(retry_initial="600", retry_max="600")
    async with running(slow, centre.folder) as daemon:
        await daemon.until("sender.paused", reason="unavailable")
        await centre.run("pause", "--reason", "release tonight")
        await daemon.until("sender.paused", reason="operator")
        tried = centre.salesforce.received

        code, text, _ = await centre.run("resume")
        assert code == 0
        assert "Sending is still paused (unavailable)" in text
        assert "just tried again without success; next try at" in text
        assert centre.salesforce.received == tried + 1
        again = await daemon.until("sender.paused", 2, reason="unavailable")
        names = [event["event"] for event in daemon.events]
        resumed = names.index("sender.resumed")
        assert daemon.events[resumed]["reason"] == "operator"
        assert daemon.events.index(again) > resumed
        status = await centre.run_json("status")
        assert status["sender"]["reason"] == "unavailable"

        centre.salesforce.rule = None
        code, text, _ = await centre.run("resume")
        assert (code, text) == (0, "Sending continues.\n")
        await centre.until(delivered=1)
        assert await daemon.stop() == 0


async def test_resume_asks_for_a_try_also_where_every_line_waits_for_a_later_one(
    centre: CallCentre,
) -> None:
    """Two records without an answer: they back off, and nothing else is there to try with."""
    for number in (1, 2):
        await plain_call(centre.db, number, record=record_id(number))
    centre.salesforce.rule = lambda _: Reply(cut="after")
    slow = centre.settings(retry_initial="600", retry_max="600")
    async with running(slow, centre.folder) as daemon:
        await daemon.until("sender.paused", reason="unanswered")
        async with asyncio.timeout(PATIENCE):
            while await centre.db.fetchval("SELECT count(*) FROM lane") < 2:
                await asyncio.sleep(0.02)
        centre.salesforce.rule = None
        _, text, _ = await centre.run("resume")
        assert text == "Sending continues.\n"
        await centre.until(delivered=1, pending=1)
        assert await daemon.stop() == 0
