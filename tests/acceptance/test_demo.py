"""`callstatsd demo` as a newcomer runs it."""

import asyncio
import json
import os
import re
import signal
import socket
import stat
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import aiohttp
import pytest

from daemon.demo import calls as sample_calls
from daemon.demo.acd_standin import settings as acd_settings
from daemon.demo.record_check import FIELDS
from daemon.demo.standin import CALLBACK_PATH, DIAL_PATH, TOKEN_PATH
from tests.support.daemon_process import PATIENCE, command, settings
from tests.support.terminals import CTRL_C, Terminal, terminal, torn

NOWHERE = "http://127.0.0.1:1"


async def test_the_demo_settles_every_line_and_counts_right(tmp_path: Path) -> None:
    environment = settings("postgresql://nobody@127.0.0.1:1/not-used", NOWHERE)
    environment["NO_COLOR"] = "1"
    environment["COLUMNS"] = "120"

    code, output, errors = await command(
        "demo", "--calls", "60", "--seed", "3", environment=environment, folder=tmp_path
    )

    assert (code, errors) == (0, "")
    counts = {state: int(lines) for state, lines in re.findall(r"│ (\w+) +│ +(\d+) │", output)}
    *_, last = re.findall(r"┏.*?└[─┴]+┘", output, re.DOTALL)
    assert re.search(r"│ callbacks +│ +8 │ 7 delivered, 1 rejected +│", last)
    assert re.search(r"│ alerts +│ +1 │ ACD events: 1 alert raised +│", last)
    assert counts.pop("callbacks") == 8
    assert counts.pop("alerts") == 1
    assert re.search(r"│ Telegra +│ +11 │ of 6 calls told by HTTP: 11 delivered +│", last)
    assert counts.pop("Telegra") == 11
    output = " ".join(output.split())
    settled = re.search(r"(\d+) lines settled", output)
    written = re.search(r"(\d+) written", output)
    assert settled
    assert written
    assert sum(counts.values()) == int(settled[1])
    assert counts["delivered"] + 7 + 11 == int(written[1]) > 18
    assert "line.rejected key=callback-73008 callback_id=73008" in output
    assert re.search(r"line.rejected +key=callback-73008", output)
    assert "pending" not in counts
    assert ", 0 malformed" in output
    assert "1 allowed, 1 not found, 1 forbidden, 1 Salesforce away" in output
    assert len(re.findall(rf"{sample_calls.EXAMPLE_CALL}(?:-\d+){{3}} agent", output)) == 5
    assert "Try next:" in output


async def test_the_stand_in_alone_tells_the_settings_for_it(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "daemon", "demo", "--serve-only", "--port", "0",
        cwd=tmp_path, stdout=PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            first = (await process.stdout.readline()).decode()
            told = [(await process.stdout.readline()).decode() for _ in range(8)]
        url = first.split()[6]
        assert told[0] == f"CALLSTATSD_TOKEN_URL={url}{TOKEN_PATH}\n"
        assert told[3] == f"CALLSTATSD_CALLBACK_URL={CALLBACK_PATH}\n"
        assert told[4] == f"CALLSTATSD_CLICK_TO_DIAL_URL={DIAL_PATH}\n"
        assert told[5:] == [f"{name}={value}\n" for name, value in acd_settings(url).items()]
        given = dict(line.rstrip().split("=", 1) for line in told)
        environment = settings("postgresql://nobody@127.0.0.1:1/not-used", NOWHERE) | given
        code, output, _ = await command("acd", "events", environment=environment, folder=tmp_path)
        assert (code, output.splitlines()[-1]) == (0, "3 of 3 events shown; the ACD has 3.")
        async with aiohttp.ClientSession() as session, session.get(f"{url}/") as response:
            assert (await response.json())["requests"] == 0
    finally:
        process.send_signal(signal.SIGINT)
        await process.wait()
    assert process.returncode == 0


async def test_a_port_that_cannot_be_had_is_told_in_one_line(tmp_path: Path) -> None:
    environment = settings("postgresql://nobody@127.0.0.1:1/not-used", NOWHERE)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, output, errors = await command(
            "demo", "--serve-only", "--port", port, environment=environment, folder=tmp_path
        )
    assert (code, output) == (1, "")
    assert errors == f"callstatsd: port {port} of 127.0.0.1 cannot be used: choose another\n"


def demo_environment(folder: Path, **more: str) -> dict[str, str]:
    """What the demo sees: no database of anybody's, and a folder for temporary files."""
    environment = settings("postgresql://nobody@127.0.0.1:1/not-used", NOWHERE)
    return environment | {"NO_COLOR": "1", "TMPDIR": str(folder)} | more


def left_behind(folder: Path) -> list[str]:
    """Return the demo's folders and the processes that still use one."""
    left = [path.name for path in folder.glob("callstatsd-demo-*")]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_bytes()
            where = str((process / "cwd").readlink())
        except OSError:
            continue
        if str(folder).encode() in arguments or where.startswith(f"{folder}/callstatsd-demo-"):
            left.append(f"{process.name} {arguments!r}")
    return left


def words(shown: Terminal) -> str:
    """Return what the terminal shows, whatever its width."""
    return " ".join(shown.text.replace(" \\\n", " ").split())


@pytest.mark.parametrize("columns", [pytest.param(80, marks=pytest.mark.long), 50])
async def test_on_a_terminal_no_word_is_torn_and_one_record_is_shown_whole(
    tmp_path: Path, columns: int
) -> None:
    async with terminal(
        "demo", "--calls", "30", environment=demo_environment(tmp_path), folder=tmp_path,
        columns=columns,
    ) as shown:  # fmt: skip
        assert await shown.ended() == 0
    assert torn(shown) == []
    assert "Traceback" not in shown.text
    (text,) = re.findall(r"^\{$.*?^\}$", shown.text, re.MULTILINE | re.DOTALL)
    assert list(json.loads(text)) == list(FIELDS)
    assert "These refusals are intended" in words(shown)
    # Nothing is cut to fit: an ellipsis stands only where the demo itself has one.
    cut = [row for row in shown.rows if "…" in row and not re.search(r"Postgres …|more of", row)]
    assert [row for row in cut if not row.rstrip().endswith("…")] == []
    assert left_behind(tmp_path) == []


async def test_to_stay_keeps_all_running_until_ctrl_c_and_prints_what_to_try(
    tmp_path: Path,
) -> None:
    async with terminal(
        "demo", "--stay", "--calls", "30", environment=demo_environment(tmp_path),
        folder=tmp_path, columns=80,
    ) as shown:  # fmt: skip
        await shown.until(lambda shown: "see the log here and the page" in words(shown))
        url = re.findall(r"status page: (http://127\.0\.0\.1:\d+/)", words(shown))[0]
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            assert response.status == 200
            assert "Call results on their way to Salesforce" in await response.text()

        said = words(shown).split("Try in another terminal:")[1]
        printed = re.findall(r"callstatsd ([^/]*?) --env-file (\S+)", said)
        assert len(printed) == 5
        (file,) = {Path(path) for _, path in printed}
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert tmp_path in file.parents
        own = {name: value for name, value in os.environ.items() if "CALLSTATSD" not in name}
        lines = file.read_text(encoding="utf-8").splitlines()
        exported = own | dict(line.split("=", 1) for line in lines)
        for arguments, _ in printed:
            code, output, errors = await command(
                *arguments.split(), environment=exported, folder=tmp_path
            )
            assert code == 0, errors
            if arguments == f"show {sample_calls.EXAMPLE_CALL}":
                assert output.count("Salesforce has it") == 5
            if arguments == "acd events":
                assert "1 line is not in Salesforce (1 rejected)" in output
            if "--callback" in arguments:
                assert "answered 400" in output or "rejected at" in output
        # What was sent again is seen here.
        key = f"key={sample_calls.EXAMPLE_CALL}-"
        before = words(shown).count("line.delivered")
        assert before > 0
        await shown.until(lambda shown: key in words(shown))

        shown.press(CTRL_C)
        assert await shown.ended() == 0
    assert words(shown).endswith(
        "Stopped: the daemon, the stand-in for Salesforce, Postgres. Nothing is left behind."
    )
    assert "Traceback" not in shown.text
    # A test's folder has a longer name than a terminal has columns.
    assert [row for row in torn(shown) if str(tmp_path) not in row] == []
    assert left_behind(tmp_path) == []


async def test_ctrl_c_while_postgres_starts_says_what_it_stopped(tmp_path: Path) -> None:
    async with terminal(
        "demo", environment=demo_environment(tmp_path), folder=tmp_path, columns=80
    ) as shown:
        await shown.shows("Starting an embedded Postgres")
        shown.press(CTRL_C)
        assert await shown.ended() == 1
    assert "Traceback" not in shown.text
    assert re.search(r"Stopped: .*Nothing is left behind\.$", words(shown))
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGTERM, marks=pytest.mark.long), signal.SIGHUP]
)
async def test_a_kill_or_a_closed_terminal_leaves_nothing_behind(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with terminal(
        "demo", "--calls", "30", environment=demo_environment(tmp_path), folder=tmp_path,
        columns=80,
    ) as shown:  # fmt: skip
        await shown.shows("daemon.started")
        assert shown.process.pid is not None
        os.kill(shown.process.pid, number)
        assert await shown.ended() == 1
    assert "the daemon, the stand-in for Salesforce, Postgres" in words(shown)
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize(
    "module", ["daemon.cli.commands", "typer", "pydantic", "aiohttp", "daemon.delivery.sender"]
)
async def test_ctrl_c_while_the_program_is_loaded_ends_without_a_traceback(
    tmp_path: Path, module: str
) -> None:
    """Python says which module it has just imported, so the moment is not left to chance."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-v", "-m", "daemon", "demo",
        env=demo_environment(tmp_path), cwd=tmp_path, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    said = b""
    try:
        async with asyncio.timeout(PATIENCE):
            async for line in process.stderr:
                said += line
                if re.match(rf"# .*/{module.replace('.', '/')}(/__init__)?\.".encode(), line):
                    process.send_signal(signal.SIGINT)
                    break
            _, rest = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 1
    assert b"Interrupted." in rest
    assert b"Traceback" not in said + rest
    assert left_behind(tmp_path) == []
