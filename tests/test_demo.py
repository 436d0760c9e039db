"""`callstatsd demo` as a newcomer runs it."""

import asyncio
import re
import signal
import socket
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import aiohttp

from daemon.demo import calls as sample_calls
from daemon.demo.standin import TOKEN_PATH
from tests.daemon_process import PATIENCE, command, settings

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
    output = " ".join(output.split())
    settled = re.search(r"(\d+) lines settled", output)
    written = re.search(r"(\d+) lines written", output)
    assert settled
    assert written
    assert sum(counts.values()) == int(settled[1])
    assert counts["delivered"] == int(written[1]) > 0
    assert "pending" not in counts
    assert ", 0 malformed" in output
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
            told = (await process.stdout.readline()).decode()
        url = first.split()[6]
        assert told == f"CALLSTATSD_TOKEN_URL={url}{TOKEN_PATH}\n"
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
    assert errors == f"callstatsd: port {port} of 127.0.0.1 cannot be had: choose another\n"
