"""Every command on a real terminal: no traceback, no torn word, at any width, in any encoding."""

import asyncio
import json
import os
import re
import sys
from asyncio.subprocess import PIPE
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from daemon.cli import acd_commands
from daemon.demo.acd_standin import TOKEN, AcdStandIn, serve_acd
from daemon.demo.standin import Reply
from daemon.terminal import wrap
from tests.support.call_centre import CallCentre
from tests.support.calls import insert, plain_call, record_id, seed_003
from tests.support.daemon_process import PATIENCE, command
from tests.support.terminals import CTRL_C, Terminal, colours, terminal, torn, vocabulary

ENDED = datetime(2026, 11, 3, 12, tzinfo=ZoneInfo("Europe/Berlin"))
WINDOW = ("--from", "2026-11-03", "--to", "2026-11-04")
WIDTHS = pytest.mark.parametrize("columns", [80, 50])
COLOURS = pytest.mark.parametrize("plain", [False, True], ids=["colours", "NO_COLOR"])

COMMANDS = [
    (0, ("backfill", *WINDOW, "--dry-run")),
    (0, ("backfill", *WINDOW, "--no-wait")),
    (1, ("backfill", *WINDOW)),
    (1, ("backfill", *WINDOW, "--resend")),
    (0, ("status",)),
    (0, ("show", "1201")),
    (0, ("show", "1201", "--verbose")),
    (0, ("show", "1")),
    (0, ("show", "77")),
    (0, ("show", "--salesforce-id", record_id(7))),
    (0, ("lines", "--state", "delivered", "--limit", "2")),
    (0, ("lines", "--state", "rejected")),
    (0, ("show", "--salesforce-id", record_id(9))),
    (0, ("requeue", "--state", "rejected", "--dry-run")),
    (0, ("requeue", "--state", "rejected", "--call-id", "1")),
    (0, ("discard", "--state", "pending", "--call-id", "1")),
    (0, ("pause", "--reason", "a release of Salesforce that takes the whole evening, ask Maria")),
    (0, ("status",)),
    (0, ("resume",)),
    (0, ("check",)),
    (0, ("migrate",)),
    (0, ("migrate", "--sql")),
]
# Those whose output has colours at all.
COLOURED = [(1, ("backfill", *WINDOW)), (0, ("show", "1201")), (0, ("status",)), (0, ("check",))]
WRONG = [
    ("shwo",),
    ("show",),
    ("show", "99999999999999999999"),
    ("show", "--sales", "1"),
    ("requeue", "--state", "all"),
    ("backfill", "--from", "the day before yesterday", "--to", "2026-11-04"),
]
NAMES = (
    "run", "migrate", "status", "lines", "show", "backfill", "requeue", "discard", "pause",
    "resume", "check", "demo", "systemd",
)  # fmt: skip


async def ended(
    centre: CallCentre, columns: int, *arguments: str, **more: str
) -> tuple[int, Terminal]:
    """Run a command on a terminal to its end."""
    environment = centre.settings(log_format="auto", log_level="info") | more
    async with terminal(
        *arguments, environment=environment, folder=centre.folder, columns=columns
    ) as shown:
        return await shown.ended(), shown


def assert_readable(shown: Terminal, *, plain: bool = False) -> None:
    """No traceback, no line that the terminal tears, and colours only where they are wanted."""
    assert "Traceback" not in shown.text, shown.text
    assert torn(shown) == [], shown.text
    if plain:
        assert colours(shown) == set()


@pytest.mark.parametrize(
    ("columns", "plain", "commands"),
    [(80, False, COMMANDS), (50, True, COMMANDS), (80, True, COLOURED), (50, False, COLOURED)],
    ids=["80", "50, NO_COLOR", "80, NO_COLOR", "50"],
)
async def test_every_command_prints_whole_words_on_a_terminal(
    centre: CallCentre, columns: int, plain: bool, commands: list[tuple[int, tuple[str, ...]]]
) -> None:
    """What a terminal shows are the words that a pipe gets: none is cut to fit."""
    await seed_003(centre.db, start=ENDED, record=record_id(7))
    await plain_call(centre.db, 1, record=record_id(1), ended=ENDED)
    await plain_call(centre.db, 2, record=None, ended=ENDED)
    centre.salesforce.rule = lambda incoming: (
        Reply(400, "the field Description of the object Task has no place for so long a text")
        if incoming.key == "1-0-0-0"
        else None
    )
    more = {"NO_COLOR": "1"} if plain else {}
    for code, arguments in commands:
        got, shown = await ended(centre, columns, *arguments, **more)
        assert got == code, f"{arguments}\n{shown.text}"
        if arguments != ("migrate", "--sql"):  # a script is printed as it is, not for reading
            assert_readable(shown, plain=plain)
        if arguments[0] in {"status", "lines", "show", "check"} and commands is COMMANDS:
            _, output, errors = await centre.run(*arguments, log_format="auto", log_level="info")
            assert vocabulary(shown.text) <= vocabulary(output + errors), arguments


@WIDTHS
async def test_help_and_wrong_usage_are_readable(centre: CallCentre, columns: int) -> None:
    of_acd = [("acd",), *(("acd", name) for name, _ in acd_commands.COMMANDS)]
    for name in ((), *((name,) for name in NAMES), *of_acd):
        code, shown = await ended(centre, columns, *name, "--help")
        assert code == 0
        assert_readable(shown)
        if columns == 80:
            assert "…" not in shown.text
            assert "..." not in shown.text.replace("[ARGS]...", "")
    for arguments in ((), *WRONG):
        code, shown = await ended(centre, columns, *arguments)
        assert code == 2, arguments
        assert_readable(shown)


async def test_events_of_the_acd_are_lines_where_a_table_does_not_fit(centre: CallCentre) -> None:
    acd = AcdStandIn(now=lambda: ENDED.replace(tzinfo=None))
    acd.add_samples()
    async with serve_acd(acd) as url:
        for columns, first in (
            (50, "102039  2026-11-03 12:00:00  Email  Done"),
            (120, "ID  created              type               status  group  sender  subject"),
        ):
            more = {"CALLSTATSD_ACD_URL": url, "CALLSTATSD_ACD_TOKEN": TOKEN}
            code, shown = await ended(centre, columns, "acd", "events", **more)
            assert code == 0
            assert_readable(shown)
            assert first in shown.text
            assert "…" not in shown.text.replace("…17", "")
            assert "3 of 3 events shown" in shown.text


@WIDTHS
@COLOURS
async def test_a_daemon_on_a_terminal_is_readable_and_ctrl_c_ends_it(
    centre: CallCentre, columns: int, plain: bool
) -> None:
    await plain_call(centre.db, 1, record=record_id(1))
    environment = centre.settings(log_format="auto", log_level="info")
    async with terminal(
        "run",
        environment=environment | ({"NO_COLOR": "1"} if plain else {}),
        folder=centre.folder,
        columns=columns,
    ) as shown:
        await shown.shows("line.delivered")
        shown.press(CTRL_C)
        assert await shown.ended() == 0
    assert "daemon.stopped" in shown.text
    assert_readable(shown, plain=plain)


@WIDTHS
async def test_ctrl_c_on_a_backfill_with_a_bar_says_how_to_go_on(
    centre: CallCentre, columns: int
) -> None:
    for number in range(1, 31):
        await plain_call(centre.db, number, record=record_id(number), ended=ENDED)
    held = asyncio.Event()
    centre.salesforce.rule = lambda incoming: None if held.is_set() else Reply(hold=held)
    environment = centre.settings(log_format="auto", log_level="info")
    async with terminal(
        "backfill", *WINDOW, environment=environment, folder=centre.folder, columns=columns
    ) as shown:
        await shown.shows("0 of 30 lines")
        async with asyncio.timeout(PATIENCE):
            await centre.salesforce.until(lambda salesforce: salesforce.in_flight > 0)
        shown.press(CTRL_C)
        held.set()
        assert await shown.ended() == 1
    assert "the same command goes on where it was" in " ".join(shown.text.split())
    assert_readable(shown)


@WIDTHS
async def test_faults_of_settings_are_readable(centre: CallCentre, columns: int) -> None:
    code, shown = await ended(centre, columns, "run", CALLSTATSD_CONCURENCY="3")
    assert code == 78
    assert "CALLSTATSD_CONCURENCY" in shown.text
    assert_readable(shown)


LACKING = "Größe … Łódź → 漢"


@pytest.mark.parametrize(
    ("encoding", "replaced"),
    [("ascii", "Grosse ... Lodz -> ?"), ("latin-1", "Größe ... Lódz -> ?")],
)
async def test_what_an_encoding_lacks_is_replaced_readably(
    centre: CallCentre, encoding: str, replaced: str
) -> None:
    """A reason, a name and an answer may hold any character."""
    await plain_call(centre.db, 1, record=record_id(1), ended=ENDED)
    await centre.db.execute("UPDATE ServiceNumbers SET Name2 = $1", LACKING)
    centre.salesforce.rule = lambda _: Reply(400, LACKING)
    environment = centre.settings(log_format="auto") | {
        "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "LC_ALL": "C.UTF-8",
    }  # fmt: skip
    for code, arguments in (
        (1, ("backfill", *WINDOW)),
        (0, ("show", "1", "--verbose")),
        (2, ("show", LACKING)),
    ):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "daemon", *arguments,
            env=environment, cwd=centre.folder, stdout=PIPE, stderr=PIPE,
        )  # fmt: skip
        printed, logged = await process.communicate()
        output, errors = printed.decode(encoding), logged.decode()  # JSON is UTF-8 anywhere
        assert process.returncode == code, errors
        assert "Traceback" not in errors
        if code == 0:
            assert replaced in output


@pytest.mark.parametrize("columns", [80, 50])
async def test_bars_and_tables_are_drawn_with_what_a_terminal_has(
    centre: CallCentre, columns: int
) -> None:
    await plain_call(centre.db, 1, record=record_id(1), ended=ENDED)
    centre.salesforce.rule = lambda _: Reply(400, LACKING)
    for code, arguments in ((1, ("backfill", *WINDOW)), (0, ("show", "1")), (2, ("show", "…"))):
        environment = centre.settings(log_format="auto")
        async with terminal(
            *arguments, environment=environment, folder=centre.folder, columns=columns,
            encoding="ascii",
        ) as shown:  # fmt: skip
            assert await shown.ended() == code
        assert_readable(shown)
        assert shown.raw.isascii()


async def test_json_and_scripts_are_utf_8_whatever_the_terminal_is(centre: CallCentre) -> None:
    await plain_call(centre.db, 1, record=record_id(1), ended=ENDED)
    await centre.db.execute("UPDATE ServiceNumbers SET Name2 = 'Zürich'")
    await centre.run("backfill", *WINDOW)
    ascii_only = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    environment = centre.settings() | ascii_only
    code, output, _ = await command(
        "show", "1", "--json", environment=environment, folder=centre.folder
    )
    assert code == 0
    assert json.loads(output)["lines"][0]["record"]["ServiceName"] == "Zürich"


async def test_the_locale_c_ends_no_command(centre: CallCentre) -> None:
    await plain_call(centre.db, 1, record=record_id(1), ended=ENDED)
    for plain in ({"LANG": "C", "LC_ALL": "C"}, {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0"}):
        environment = centre.settings() | plain
        for arguments in (("pause", "--reason", LACKING), ("status",)):
            code, _, errors = await command(
                *arguments, environment=environment, folder=centre.folder
            )
            assert code == 0, errors


async def test_piped_output_is_never_wrapped(centre: CallCentre) -> None:
    """Whatever COLUMNS says: a line is a line for grep."""
    reason = "word " * 60
    await centre.run("pause", "--reason", reason)
    for columns in ("40", "80"):
        environment = centre.settings() | {"COLUMNS": columns}
        _, output, _ = await command("status", environment=environment, folder=centre.folder)
        assert reason.strip() in output


async def test_times_name_their_zone_once(centre: CallCentre) -> None:
    await seed_003(centre.db, start=ENDED, record=record_id(7))
    await centre.run("backfill", *WINDOW)
    for arguments in (("status",), ("show", "1201")):
        code, output, _ = await centre.run(*arguments)
        assert code == 0
        assert output.count("Europe/Berlin") == 1, output
    assert (await centre.run_json("show", "1201"))["note"].count("Europe/Berlin") == 1


async def test_show_lists_a_record_when_asked_and_gives_its_json_otherwise(
    centre: CallCentre,
) -> None:
    await plain_call(centre.db, 1, record=record_id(1), ended=ENDED)
    await insert(
        centre.db, "StatisticsPartB", ID=11, StatisticsPartAID=1, UsersID=11, CONNRES=1,
        dtCallStart=ENDED, dtCallEnd=ENDED,
    )  # fmt: skip
    await centre.run("backfill", *WINDOW)
    (record,) = [line["record"] for line in (await centre.run_json("show", "1"))["lines"]]

    _, output, _ = await centre.run("show", "1")
    (line,) = [line for line in output.splitlines() if line.startswith("  {")]
    assert json.loads(line) == record
    _, output, _ = await centre.run("show", "1", "--verbose")
    listed = dict(
        re.findall(r"^  (\w+)  +(.*)$", output.split("Salesforce record")[1], re.MULTILINE)
    )
    assert list(listed) == list(record)
    assert listed["CONNRES"] == "1"
    assert listed["dtCallConnect"] == "(empty)"


async def test_each_state_that_needs_somebody_says_what_to_do(centre: CallCentre) -> None:
    """`show` for the line, `status` for all of them, in the page's words."""
    from daemon.reports.meanings import NEED_ACTION, REMEDIES

    await plain_call(centre.db, 1, record=record_id(1), ended=ENDED)
    await centre.run("backfill", *WINDOW)
    for state, remedy in REMEDIES.items():
        await centre.db.execute(
            "UPDATE line SET state = $1, last_error = $2, skip_reason = $3, settled_at = now()",
            state.value,
            "no Salesforce id in the code's or the call's UserData" if state == "skipped" else "x",
            "no_id" if state == "skipped" else None,
        )
        _, told, _ = await centre.run("show", "1")
        assert f"Next: {remedy}\n" in told
        commands = re.findall(r"^    (callstatsd .*)$", told, re.MULTILINE)
        assert commands == (
            [f"callstatsd requeue --state {state} --call-id 1"] if remedy.endswith(":") else []
        )
        _, told, _ = await centre.run("status")
        assert (f"  {state:10} {remedy}\n" in told) is (state in NEED_ACTION)


async def test_check_json_is_json_whatever_is_wrong(centre: CallCentre) -> None:
    for more, name in (
        ({"concurrency": "0", "pol": "1"}, "settings"),
        ({"source_dsn": ""}, "settings"),
        ({"source_dsn": "postgresql://127.0.0.1:1/x"}, "source"),
    ):
        code, output, errors = await centre.run("check", "--json", **more)
        findings = json.loads(output)
        assert errors == ""
        assert name in {one["check"] for one in findings if one["verdict"] == "fail"}
        assert all(set(one) == {"check", "verdict", "text"} for one in findings)
        assert code == (78 if name == "settings" else 69)


@pytest.mark.parametrize(
    ("text", "width", "wrapped"),
    [
        ("one two three", None, "one two three"),
        ("one two three", 7, "one two\n  three"),
        ("key   value of it", 12, "key   value\n  of it"),
        ("  a/very/long/word and", 10, "  a/very/long/word\n  and"),
        ("a eightchr", 8, "a\neightchr"),
        ("\x1b[1mbold\x1b[0m word", 9, "\x1b[1mbold\x1b[0m word"),
        ("漢字 漢字", 5, "漢字\n 漢字"),
    ],
)
def test_lines_break_between_words(text: str, width: int | None, wrapped: str) -> None:
    assert wrap(text, width, hanging=2) == wrapped


def test_a_command_that_takes_two_lines_can_be_copied() -> None:
    broken = wrap("  callstatsd show 1201 --env-file /tmp/a", 26, 6, ending=" \\")
    assert broken == "  callstatsd show 1201 \\\n      --env-file /tmp/a"


async def test_a_full_disk_below_stdout_is_one_line_and_no_traceback(centre: CallCentre) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "daemon", "status",
            env=centre.settings(), cwd=centre.folder, stdout=full, stderr=PIPE,
        )  # fmt: skip
        _, errors = await process.communicate()
    finally:
        os.close(full)
    assert process.returncode == 1
    assert errors.decode() == "callstatsd: the output cannot be written: No space left on device\n"
