"""What people read on a terminal is in its language; what programs read is English."""

import json
from collections.abc import Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from tests.support.call_centre import CallCentre
from tests.support.calls import plain_call, record_id
from tests.support.daemon_process import command
from tests.support.terminals import terminal, torn

ENDED = datetime(2026, 11, 3, 12, tzinfo=ZoneInfo("Europe/Berlin"))
WINDOW = ("--from", "2026-11-03", "--to", "2026-11-04")
GERMAN = {"LANGUAGE": "de"}
NO_CALL = ("show", "--salesforce-id", record_id(9))


async def fill(centre: CallCentre) -> None:
    """A line that waits, one that needs action, and one without a Salesforce id."""
    for number, record in ((1, record_id(1)), (2, record_id(2)), (3, None)):
        await plain_call(centre.db, number, record=record, ended=ENDED)
    code, _, errors = await centre.run("backfill", *WINDOW, "--no-wait")
    assert code == 0, errors
    await centre.db.execute(
        "UPDATE line SET state = 'rejected', settled_at = now(), last_error = 'REQUIRED_FIELD'"
        " WHERE call_id = 1"
    )


@pytest.fixture
async def filled(centre: CallCentre) -> CallCentre:
    await fill(centre)
    return centre


async def said(centre: CallCentre, environment: Mapping[str, str], *arguments: str) -> str:
    """What a command that must succeed prints."""
    code, output, errors = await command(
        *arguments, environment=centre.settings() | dict(environment), folder=centre.folder
    )
    assert code == 0, errors
    return output


async def test_people_read_german_and_programs_english(filled: CallCentre) -> None:
    for arguments, german in (
        (("status",), "Kein Daemon läuft"),
        (("show", "1"), "rejected seit 20"),
        (("show", "3"), "keine Salesforce-ID in UserData"),
        (("lines", "--state", "pending"), "Zeilen im Zustand pending"),
        (NO_CALL, f"Das Ledger hat keine Zeile für den Salesforce-Datensatz {record_id(9)}."),
    ):
        assert german in await said(filled, GERMAN, *arguments), arguments
        assert german not in await said(filled, {}, *arguments), arguments
        if arguments != ("status",):
            english = await said(filled, {}, *arguments, "--json")
            assert await said(filled, GERMAN, *arguments, "--json") == english
    told = json.loads(await said(filled, GERMAN, "status", "--json"))
    assert told["sender"]["state"] == "stopped"
    # What changes lines, what ends a command and help are English.
    _, _, errors = await command(
        "show", "x", environment=filled.settings() | GERMAN, folder=filled.folder
    )
    assert "valid integer" in errors
    assert "Show the lines per state" in await said(filled, GERMAN, "status", "--help")
    dry = await said(filled, GERMAN, "requeue", "--state", "rejected", "--dry-run")
    assert "would be sent again" in dry


async def test_the_locale_chooses_even_where_it_is_not_installed(centre: CallCentre) -> None:
    for environment, text in (
        ({"LANG": "de_DE.UTF-8"}, "Kein Daemon läuft"),
        ({"LANG": "de_DE.UTF-8", "LC_ALL": "C"}, "No daemon is running"),
        ({"LANG": "de", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}, "Kein Daemon lauft"),
    ):
        assert text in await said(centre, environment, "status"), environment


async def test_german_fits_a_terminal_also_while_it_watches(filled: CallCentre) -> None:
    for columns in (60, 100):
        for arguments in (("status",), ("show", "1", "--verbose"), ("lines", "--state", "skipped")):
            async with terminal(
                *arguments,
                environment=filled.settings() | GERMAN,
                folder=filled.folder,
                columns=columns,
            ) as shown:
                assert await shown.ended() == 0
                assert torn(shown) == [], shown.text
    async with terminal(
        "status", "--watch", "1",
        environment=filled.settings() | GERMAN, folder=filled.folder, columns=80,
    ) as shown:  # fmt: skip
        await shown.shows("erneut alle 1 s bis Strg-C")
        await shown.shows("je Minute 0 abgeschlossen")
        assert torn(shown) == [], shown.text
