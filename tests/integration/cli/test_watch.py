"""`callstatsd status --watch`: on a terminal, piped and as JSON, until Ctrl-C."""

import asyncio
import json
import re
import signal
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.call_centre import CallCentre
from tests.support.calls import plain_call, record_id
from tests.support.daemon_process import PATIENCE
from tests.support.preloaded import Process
from tests.support.terminals import CTRL_C, Terminal, terminal, torn

ENDED = datetime(2026, 11, 20, 9, tzinfo=UTC)
DAY = ("--from", "2026-11-20", "--to", "2026-11-21")
SETTLE = "UPDATE line SET state = 'delivered', settled_at = now() WHERE call_id = $1"
LOOK = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d, again every 1 s until Ctrl-C")


async def take(centre: CallCentre, count: int) -> None:
    """Let so many lines wait."""
    for number in range(1, count + 1):
        await plain_call(centre.db, number, record=record_id(number), ended=ENDED)
    code, _, errors = await centre.run("backfill", *DAY, "--no-wait")
    assert code == 0, errors


@pytest.mark.parametrize("columns", [80, 50])
async def test_on_a_terminal_each_look_replaces_the_last_one(
    centre: CallCentre, columns: int
) -> None:
    await take(centre, 2)
    async with terminal(
        *("status", "--watch", "1"),
        environment=centre.settings(log_format="auto"),
        folder=centre.folder,
        columns=columns,
    ) as shown:

        def says(pattern: str) -> Any:
            return shown.until(lambda now: re.search(pattern, words(now)) is not None)

        await says("known with the next look")
        await says("0 settled and 0 taken per minute; the backlog does not")
        await centre.db.execute(SETTLE, 1)
        await says(r"[1-9]\d* settled and 0 taken per minute; nothing waits in")
        await centre.db.execute(SETTLE, 2)
        await says(r"[1-9]\d* settled and 0 taken per minute; nothing waits\s+state")
        shown.press(CTRL_C)
        assert await shown.ended() == 0
    assert len(LOOK.findall(words(shown))) >= 4
    assert "\x1b[2K" in shown.raw
    assert torn(shown) == []
    assert "Traceback" not in shown.text


async def test_a_terminal_that_cannot_go_back_shows_one_look_below_the_other(
    centre: CallCentre,
) -> None:
    async with terminal(
        *("status", "--watch", "1"),
        environment=centre.settings(log_format="auto") | {"TERM": "dumb"},
        folder=centre.folder,
        columns=80,
    ) as shown:
        await shown.until(lambda now: len(LOOK.findall(now.text)) == 2)
        shown.press(CTRL_C)
        assert await shown.ended() == 0
    assert "\x1b[2K" not in shown.raw


def words(shown: Terminal) -> str:
    """What it was shown, whatever its width."""
    return " ".join(shown.text.split())


async def read(
    process: Process, wanted: re.Pattern[str], stream: asyncio.StreamReader | None = None
) -> str:
    """Read what the command prints up to a line that has this; on stdout, if not elsewhere."""
    stream = stream or process.stdout
    assert stream is not None
    text = ""
    async with asyncio.timeout(PATIENCE):
        while not wanted.search(text):
            line = await stream.readline()
            assert line, text
            text += line.decode()
    return text


async def test_piped_it_prints_one_status_after_the_other(centre: CallCentre) -> None:
    await take(centre, 1)
    process = await centre.start("status", "--watch", "1")
    text = await read(process, LOOK)
    text += await read(process, LOOK)
    process.send_signal(signal.SIGTERM)
    rest, errors = await process.communicate()
    text += rest.decode()
    assert (process.returncode, errors) == (0, b"")
    assert "\x1b" not in text
    assert text.count("known with the next look") == 1
    assert text.count("0 settled and 0 taken per minute") == len(LOOK.findall(text)) - 1
    assert text.count("oldest pending") == len(LOOK.findall(text))


async def test_as_json_each_look_is_a_line(centre: CallCentre) -> None:
    await take(centre, 2)
    once = await centre.run_json("status")
    process = await centre.start("status", "--watch", "1", "--json")
    first = json.loads(await read(process, re.compile("\n")))
    await centre.db.execute(SETTLE, 1)
    second = json.loads(await read(process, re.compile("\n")))
    process.send_signal(signal.SIGINT)
    await process.communicate()
    assert process.returncode == 0
    assert list(first) == ["at", *once, "pace"]
    assert (first["pace"], first["lines"]) == (None, once["lines"])
    assert datetime.fromisoformat(first["at"]) < datetime.fromisoformat(second["at"])
    pace = second["pace"]
    assert list(pace) == ["settled_per_minute", "taken_per_minute", "empty_in_seconds"]
    assert 0 < pace["settled_per_minute"] < 100
    assert pace["taken_per_minute"] == 0
    wanted = 60 / pace["settled_per_minute"]
    assert pace["empty_in_seconds"] == pytest.approx(wanted, abs=0.06)  # it has one decimal


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("5",), "SECONDS needs --watch"),
        (("--watch", "0.5"), "Invalid value"),
        (("--watch", "soon"), "Invalid value"),
    ],
)
async def test_wrong_use_is_named(
    centre: CallCentre, arguments: tuple[str, ...], says: str
) -> None:
    code, output, errors = await centre.run("status", *arguments)
    assert (code, output) == (2, "")
    assert says in errors


async def test_a_ledger_that_is_away_from_the_first_look_on_ends_it(centre: CallCentre) -> None:
    nowhere = "postgresql://postgres@127.0.0.1:1/nothing"
    code, output, errors = await centre.run("status", "--watch", source_dsn=nowhere)
    assert (code, output) == (69, "")
    assert errors.startswith("callstatsd: the ledger database cannot be used now: ")


async def test_a_ledger_that_goes_away_is_said_and_looked_for_again(centre: CallCentre) -> None:
    process = await centre.start("status", "--watch", "1")
    as_json = await centre.start("status", "--watch", "1", "--json")
    await read(process, LOOK)
    await read(as_json, re.compile("\n"))
    await centre.db.execute("ALTER TABLE callstatsd.feed RENAME TO elsewhere")
    await read(process, re.compile("Not read since then: "))
    await read(as_json, re.compile("Not read: the ledger "), as_json.stderr)
    await centre.db.execute("ALTER TABLE callstatsd.elsewhere RENAME TO feed")
    await read(process, re.compile("per minute"))
    await read(as_json, re.compile("\n"))
    for one in (process, as_json):
        one.send_signal(signal.SIGINT)
        await one.communicate()
        assert one.returncode == 0
