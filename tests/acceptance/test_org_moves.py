"""The whole daemon at an org that moves, and at one with numbers out of bounds."""

from collections.abc import Mapping

import pytest

from daemon.demo.standin import Reply, StandIn, serve
from tests.support.call_centre import CallCentre
from tests.support.calls import plain_call, record_id
from tests.support.daemon_process import running
from tests.support.raw import free_port

LINES = 6


async def add_lines(centre: CallCentre) -> None:
    for number in range(1, LINES + 1):
        await plain_call(centre.db, number, record=record_id(number))


def name_first(centre: CallCentre, address: str) -> None:
    """Name another address with the first token, and one's own from then on."""
    asked = 0

    def rule(_: Mapping[str, str]) -> Reply | None:
        nonlocal asked
        asked += 1
        return Reply(body={"instance_url": address}) if asked == 1 else None

    centre.salesforce.token_rule = rule


@pytest.mark.parametrize("fault", ["unavailable", "unanswered", "endpoint_missing"])
async def test_an_org_that_moved_is_found_through_a_new_token(
    centre: CallCentre, fault: str
) -> None:
    """Wherever nobody, nobody who answers, or somebody else is now."""
    await add_lines(centre)
    old = StandIn(require_token=False)
    missing = [{"errorCode": "NOT_FOUND", "message": "Could not find a match for URL"}]
    old.rule = lambda _: Reply(504, b"") if fault == "unanswered" else Reply(404, missing)
    async with serve(old) as url:
        away = f"http://127.0.0.1:{free_port()}" if fault == "unavailable" else url
        name_first(centre, away)
        async with running(centre.settings(retry_max="1"), centre.folder) as daemon:
            paused = await daemon.until("sender.paused")
            await centre.until(delivered=LINES)
            assert await daemon.stop() == 0

    assert paused["reason"] == fault
    assert [event["instance_url"] for event in daemon.seen("token.refreshed")] == [away, centre.url]
    assert len(daemon.seen("sender.still_paused")) == 2
    assert [event["reason"] for event in daemon.seen("sender.paused")] == [fault]


async def test_a_token_endpoint_that_refuses_meanwhile_does_not_change_the_pause(
    centre: CallCentre,
) -> None:
    await add_lines(centre)
    asked = 0

    def rule(_: Mapping[str, str]) -> Reply | None:
        nonlocal asked
        asked += 1
        return None if asked == 1 else Reply(400, {"error": "invalid_grant"})

    centre.salesforce.token_rule = rule
    centre.salesforce.rule = lambda _: Reply(503, b"")
    async with running(centre.settings(retry_max="1"), centre.folder) as daemon:
        await daemon.until("sender.still_paused", 4)
        assert asked == 2
        centre.salesforce.rule = None
        await centre.until(delivered=LINES)
        assert await daemon.stop() == 0
    assert [event["reason"] for event in daemon.seen("sender.paused")] == ["unavailable"]
    assert {event["reason"] for event in daemon.seen("sender.still_paused")} == {"unavailable"}


NUMBERS = ["9" * 400, "9" * 5000, "0", "-1", "1e9"]


async def test_numbers_beyond_all_bounds_end_nothing(centre: CallCentre) -> None:
    await add_lines(centre)

    def rule(incoming: object) -> Reply:
        number = NUMBERS[getattr(incoming, "number", 0) % len(NUMBERS)]
        usage = f"api-usage={number}/{number[:400]}"
        return Reply(None, None, {"Sforce-Limit-Info": usage, "Retry-After": number})

    centre.salesforce.rule = rule
    async with running(centre.settings(api_budget="0.9"), centre.folder) as daemon:
        await centre.until(delivered=LINES)
        assert await daemon.stop() == 0
    assert daemon.seen("request.defect") == []
