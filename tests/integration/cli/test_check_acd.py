"""`check` says whether the ACD's REST server takes the token, and whom alerts go to."""

import pytest

from daemon.demo.acd_standin import TOKEN, AcdStandIn, serve_acd
from daemon.demo.standin import Reply
from tests.integration.cli.test_check import findings
from tests.support.call_centre import CallCentre
from tests.support.raw import free_port


async def test_nothing_is_said_of_an_acd_that_is_off(centre: CallCentre) -> None:
    _, found = await findings(centre)
    assert not {"acd", "alert"} & found.keys()


async def test_a_token_that_is_granted_and_the_group_to_alert_are_ok(centre: CallCentre) -> None:
    acd = AcdStandIn()
    async with serve_acd(acd) as url:
        code, found = await findings(centre, acd_url=url, acd_token=TOKEN)
        assert code == 0
        assert found["acd"] == {"verdict": "ok", "text": f"granted, for {url}"}
        assert found["alert"]["text"].startswith("off: ")
        more = {"acd_url": url, "acd_token": TOKEN, "alert_group_id": "235"}
        _, found = await findings(centre, **more)
        assert found["alert"] == {
            "verdict": "ok",
            "text": "group 235 gets an event when lines end rejected, expired or invalid, at most "
            "one in 60 min",
        }
    assert acd.events == []


@pytest.mark.parametrize(
    ("reply", "code", "verdict"), [(401, 78, "fail"), (503, 69, "fail"), (404, 0, "warn")]
)
async def test_each_answer_of_the_acd_has_its_verdict(
    centre: CallCentre, reply: int, code: int, verdict: str
) -> None:
    acd = AcdStandIn(rule=lambda _: Reply(reply))
    async with serve_acd(acd) as url:
        exit_code, found = await findings(centre, acd_url=url, acd_token=TOKEN)
    assert (exit_code, found["acd"]["verdict"]) == (code, verdict)
    assert TOKEN not in str(found)


async def test_an_acd_that_is_away_is_69(centre: CallCentre) -> None:
    url = f"http://127.0.0.1:{free_port()}/rest/v1.0/1"
    code, found = await findings(centre, acd_url=url, acd_token=TOKEN)
    assert (code, found["acd"]["verdict"]) == (69, "fail")
    assert "connection refused" in found["acd"]["text"]
