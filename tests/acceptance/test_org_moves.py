"""The whole daemon at an org that moves, and at one with numbers out of bounds (contract 5)."""

from collections.abc import Mapping

import pytest

from daemon.demo.standin import Reply, StandIn, serve
from tests.support.calls import plain_call, record_id
from tests.support.daemon_process import running
from tests.support.raw import free_port
from tests.support.whole import Site

LINES = 6


async def add_lines(site: Site) -> None:
    for number in range(1, LINES + 1):
        await plain_call(site.db, number, record=record_id(number))


def name_first(site: Site, address: str) -> None:
    """Name another address with the first token, and one's own from then on."""
    asked = 0

    def rule(_: Mapping[str, str]) -> Reply | None:
        nonlocal asked
        asked += 1
        return Reply(body={"instance_url": address}) if asked == 1 else None

    site.salesforce.token_rule = rule


@pytest.mark.parametrize("fault", ["unavailable", "unanswered", "endpoint_missing"])
async def test_an_org_that_moved_is_found_through_a_new_token(site: Site, fault: str) -> None:
    """Wherever nobody, nobody who answers, or somebody else is now."""
    await add_lines(site)
    old = StandIn(require_token=False)
    missing = [{"errorCode": "NOT_FOUND", "message": "Could not find a match for URL"}]
    old.rule = lambda _: Reply(504, b"") if fault == "unanswered" else Reply(404, missing)
    async with serve(old) as url:
        away = f"http://127.0.0.1:{free_port()}" if fault == "unavailable" else url
        name_first(site, away)
        async with running(site.settings(retry_max="1"), site.folder) as daemon:
            paused = await daemon.until("sender.paused")
            await site.until(delivered=LINES)
            assert await daemon.stop() == 0

    assert paused["reason"] == fault
    assert [event["instance_url"] for event in daemon.seen("token.refreshed")] == [away, site.url]
    assert len(daemon.seen("sender.still_paused")) == 2
    assert [event["reason"] for event in daemon.seen("sender.paused")] == [fault]


async def test_a_token_endpoint_that_refuses_meanwhile_does_not_change_the_pause(
    site: Site,
) -> None:
    await add_lines(site)
    asked = 0

    def rule(_: Mapping[str, str]) -> Reply | None:
        nonlocal asked
        asked += 1
        return None if asked == 1 else Reply(400, {"error": "invalid_grant"})

    site.salesforce.token_rule = rule
    site.salesforce.rule = lambda _: Reply(503, b"")
    async with running(site.settings(retry_max="1"), site.folder) as daemon:
        await daemon.until("sender.still_paused", 4)
        assert asked == 2
        site.salesforce.rule = None
        await site.until(delivered=LINES)
        assert await daemon.stop() == 0
    assert [event["reason"] for event in daemon.seen("sender.paused")] == ["unavailable"]
    assert {event["reason"] for event in daemon.seen("sender.still_paused")} == {"unavailable"}


NUMBERS = ["9" * 400, "9" * 5000, "0", "-1", "1e9"]


async def test_numbers_beyond_all_bounds_end_nothing(site: Site) -> None:
    await add_lines(site)

    def rule(incoming: object) -> Reply:
        number = NUMBERS[getattr(incoming, "number", 0) % len(NUMBERS)]
        usage = f"api-usage={number}/{number[:400]}"
        return Reply(None, None, {"Sforce-Limit-Info": usage, "Retry-After": number})

    site.salesforce.rule = rule
    async with running(site.settings(api_budget="0.9"), site.folder) as daemon:
        await site.until(delivered=LINES)
        assert await daemon.stop() == 0
    assert daemon.seen("request.defect") == []
