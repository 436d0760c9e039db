"""The org's daily calls belong to everybody: what `Sforce-Limit-Info` does to sending."""

from datetime import UTC, datetime, timedelta

import pytest

from daemon.delivery.backoff import Backoff
from daemon.delivery.flow_control import FlowControl
from daemon.delivery.gate import OrgGate
from daemon.lines import PauseReason
from daemon.salesforce.responses import api_usage
from tests.support.call_centre import CallCentre
from tests.support.calls import plain_call, record_id
from tests.support.daemon_process import running


@pytest.mark.parametrize(
    ("header", "share"),
    [
        ("api-usage=18/5000", 0.0036),
        ("api-usage=90/100; per-app-api-usage=1/2(appName=x)", 0.9),
        ("per-app-api-usage=17/250(appName=x), api-usage=5/10", 0.5),
        ("per-app-api-usage=17/250(appName=x)", None),
        ("api-usage=1/0", None),
        ("nonsense", None),
        ("", None),
        (None, None),
    ],
)
def test_the_share_of_used_calls_is_read_where_the_header_tells(
    header: str | None, share: float | None
) -> None:
    assert api_usage(header) == share


def flow(budget: float) -> FlowControl:
    return FlowControl(OrgGate(4, budget), 4, Backoff(1.0, 900.0), endpoint_proven=True)


def test_past_the_budget_the_sender_pauses_and_up_to_it_it_does_not() -> None:
    halted = flow(0.5).used(0.51, 0.0)
    assert halted is not None
    assert halted.reason is PauseReason.API_LIMIT
    assert flow(0.5).used(0.5, 0.0) is None
    assert flow(0.5).used(None, 0.0) is None


def test_a_budget_of_1_turns_it_off() -> None:
    off = flow(1.0)
    assert off.used(1.5, 0.0) is None
    assert not off.live_only(0.0)


def test_from_half_of_the_budget_on_backfill_waits_as_long_as_that_is_news() -> None:
    half = flow(0.8)
    assert not half.live_only(0.0)
    half.used(0.41, 100.0)
    assert half.live_only(100.0)
    assert not half.live_only(100.0 + 900.0)
    half.used(0.39, 100.0)
    assert not half.live_only(100.0)


async def test_a_daemon_past_the_budget_pauses_and_goes_on_when_calls_are_free(
    centre: CallCentre,
) -> None:
    for number in range(1, 21):
        await plain_call(centre.db, number, record=record_id(number))
    centre.salesforce.api_used, centre.salesforce.api_limit = 95, 100
    environment = centre.settings(concurrency="1", retry_initial="0.3")

    async with running(environment, centre.folder) as daemon:
        paused = await daemon.until("sender.paused")
        assert paused["reason"] == "api_limit"
        assert "% of the daily calls" in paused["error"]
        assert centre.salesforce.received == 1
        centre.salesforce.api_used, centre.salesforce.api_limit = 0, 5_000_000
        await centre.until(delivered=20)
        assert await daemon.stop() == 0

    assert len(daemon.seen("sender.paused")) == 1
    assert len(daemon.seen("sender.resumed")) == 1


async def test_from_half_of_the_budget_on_only_live_lines_are_sent(centre: CallCentre) -> None:
    ended = datetime(2026, 11, 3, 12, tzinfo=UTC)
    for number in range(1, 11):
        await plain_call(
            centre.db, number, record=record_id(number), ended=ended + timedelta(seconds=number)
        )
    await centre.run("backfill", "--from", "2026-11-03", "--to", "2026-11-04", "--no-wait")
    centre.salesforce.api_used, centre.salesforce.api_limit = 50, 100
    environment = centre.settings(concurrency="1", start_from="2026-11-20", retry_max="3")

    async with running(environment, centre.folder) as daemon:
        await plain_call(centre.db, 99, record=record_id(99))
        await daemon.until("line.delivered", key="99-0-0-0")
        backfilled = len(daemon.seen("line.delivered")) - 1
        await plain_call(centre.db, 100, record=record_id(100))
        await daemon.until("line.delivered", key="100-0-0-0")
        # Each look at the header is good for RETRY_MAX; then one line asks again.
        assert len(daemon.seen("line.delivered")) - 2 <= backfilled + 2 < 10
        centre.salesforce.api_used = 10
        await centre.until(delivered=12)
        assert await daemon.stop() == 0
