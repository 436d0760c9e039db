"""`check` says of click to dial what is missing, and asks Salesforce for no call."""

import pytest

from daemon.cli.check import check
from daemon.demo.standin import DIAL_PATH
from daemon.settings.loading import load_settings
from tests.support.call_centre import CallCentre
from tests.support.raw import free_port

LISTENING = {"api_listen": "127.0.0.1:9465", "api_token": "a-Token-of-ours-0123"}


async def findings(centre: CallCentre, **more: str) -> list[tuple[str, str]]:
    """Check in this process: the findings about click to dial."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in centre.settings(**more).items():
            patch.setenv(name, value)
        settings = load_settings()
    found = [one async for one in check(settings) if one.name == "click_to_dial"]
    return [(str(one.verdict), one.text) for one in found]


async def test_nothing_is_said_while_it_is_off(centre: CallCentre) -> None:
    assert await findings(centre) == []


@pytest.mark.parametrize(
    ("settings", "verdicts", "words"),
    [
        ({}, ["ok"], ["on, by command only, CALLSTATSD_API_LISTEN is off"]),
        (LISTENING, ["ok"], ["at http://127.0.0.1:9465/onClickToDial", "calls are refused"]),
        (
            LISTENING | {"api_listen": "0.0.0.0:9465", "click_to_dial_fallback": "4930231250100"},
            ["warn"],
            ["behind a TLS proxy", "calls go on with 4930231250100"],
        ),
        (
            {"click_to_dial_fallback": "4999"},
            ["warn"],
            ["4999 is none of the ACD"],
        ),
    ],
)
async def test_listener_and_fallback_are_checked(
    centre: CallCentre, settings: dict[str, str], verdicts: list[str], words: list[str]
) -> None:
    await centre.db.execute("TRUNCATE ServiceNumbers")
    await centre.db.execute("INSERT INTO ServiceNumbers VALUES (1, '+49 30231250100', 'Hotline')")
    found = await findings(centre, click_to_dial_url=DIAL_PATH, **settings)
    assert [verdict for verdict, _ in found] == verdicts
    text = " ".join(text for _, text in found)
    assert all(part in text for part in words)
    assert centre.salesforce.dials == []


async def test_nothing_is_said_of_it_where_its_settings_do_not_go_together(
    centre: CallCentre,
) -> None:
    """Another line names the fault; this one must not say that it is on."""
    listening = {"api_listen": "127.0.0.1:9465"}
    assert await findings(centre, click_to_dial_url=DIAL_PATH, **listening) == []


async def test_it_is_on_while_the_source_is_away(centre: CallCentre) -> None:
    away = f"postgresql://x@127.0.0.1:{free_port()}/x"
    found = await findings(centre, click_to_dial_url=DIAL_PATH, source_dsn=away)
    assert [verdict for verdict, _ in found] == ["warn"]
    assert "ServiceNumbers cannot be read" in found[0][1]
