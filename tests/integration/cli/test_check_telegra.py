"""`check` says of receiving notifications what is missing, and what does not go together."""

import pytest

from daemon.cli.check import check
from daemon.settings.loading import load_settings
from tests.support.telegra_centre import TelegraCentre

ALL_RIGHT = {"settle_delay": "120", "telegra_grace": "10"}
TABLES, LOOPBACK, SENT = "12 tables that may be written", "on loopback", "are sent"


async def findings(centre: TelegraCentre, **more: str) -> list[tuple[str, str]]:
    """Check in this process: the findings about notifications."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in centre.settings(**(ALL_RIGHT | more)).items():
            patch.setenv(name, value)
        settings = load_settings()
    found = [one async for one in check(settings) if one.name == "telegra"]
    return [(str(one.verdict), one.text) for one in found]


async def test_what_is_right_and_what_is_not(telegra_centre: TelegraCentre) -> None:
    cases: list[tuple[dict[str, str], list[tuple[str, str]]]] = [
        ({"telegra_token": "", "api_listen": ""}, []),
        ({}, [("ok", TABLES), ("ok", LOOPBACK), ("ok", SENT)]),
        (
            {"telegra_allow": "192.0.2.7"},
            [("ok", TABLES), ("ok", LOOPBACK), ("warn", "all comes from the proxy"), ("ok", SENT)],
        ),
        (
            {"api_listen": "0.0.0.0:9466", "telegra_allow": "192.0.2.7"},
            [("ok", TABLES), ("ok", "only 192.0.2.7/32 may come in"), ("warn", "plain HTTP"),
             ("ok", SENT)],
        ),
        (
            {"send_without_salesforce_id": "false"},
            [("ok", TABLES), ("ok", LOOPBACK), ("warn", "SEND_WITHOUT_SALESFORCE_ID=true")],
        ),
        (
            {"settle_delay": "14"},
            [("ok", TABLES), ("ok", LOOPBACK), ("ok", SENT), ("warn", "behind the watermark")],
        ),
        ({"settle_delay": "15"}, [("ok", TABLES), ("ok", LOOPBACK), ("ok", SENT)]),
    ]  # fmt: skip
    for settings, expected in cases:
        found = await findings(telegra_centre, **settings)
        assert [verdict for verdict, _ in found] == [verdict for verdict, _ in expected], settings
        assert all(part in text for (_, part), (_, text) in zip(expected, found, strict=True))
