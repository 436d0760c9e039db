"""A log that is slow, full or gone, in real processes: nothing of it may end or stop the daemon."""

import asyncio
import json
import os
import pty
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

import pytest

from daemon import log_writer
from daemon.log_writer import LineWriter
from tests.integration.web.test_health import free_port, get, samples
from tests.support.call_centre import CallCentre
from tests.support.calls import plain_call, record_id
from tests.support.daemon_process import PATIENCE

WRITE = """
import sys
import structlog
from daemon import logs
from daemon.cli import descriptors
descriptors.prepare()
logs.configure("json", "info", False, patience=float(sys.argv[2]))
for number in range(int(sys.argv[1])):
    structlog.get_logger().info("poll.taken", lines=number, padding="x" * 200)
print(logs.dropped_lines(), flush=True)
"""
"""A process that writes so many events, says how many it dropped, and ends."""


def writing(
    lines: int, stderr: Any, patience: float = log_writer.PATIENCE
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITE, str(lines), str(patience)],
        stderr=stderr,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def pipe() -> Iterator[tuple[int, BufferedReader]]:
    """A pipe: the descriptor to write to, and what reads it."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader:
        yield writing, reader


def numbers(data: bytes) -> list[int]:
    """The events of a log, each on a line of its own."""
    return [json.loads(line)["lines"] for line in data.splitlines()]


def test_a_reader_that_is_slow_but_reads_gets_everything(pipe: tuple[int, BufferedReader]) -> None:
    """Also what was still waiting when the process had nothing more to do."""
    descriptor, reader = pipe
    process = writing(2000, descriptor, PATIENCE)
    os.close(descriptor)
    read = b""
    began = time.monotonic()
    time.sleep(0.7)  # the reader's own time
    while piece := reader.read1(1 << 17):
        read += piece
        time.sleep(0.7)
    assert time.monotonic() - began > log_writer.PATIENCE
    assert process.communicate(timeout=PATIENCE)[0] == "0\n"
    assert process.returncode == 0
    assert numbers(read) == list(range(2000))


def test_a_reader_that_never_reads_ends_nothing(pipe: tuple[int, BufferedReader]) -> None:
    descriptor, reader = pipe
    began = time.monotonic()
    process = writing(2000, descriptor)
    os.close(descriptor)
    assert process.communicate(timeout=PATIENCE)[0] == "0\n"
    assert process.returncode == 0
    assert time.monotonic() - began > log_writer.PATIENCE
    read = reader.read()
    assert numbers(read[: read.rindex(b"\n")]) == list(range(read.count(b"\n")))


def test_events_of_a_terminal_that_is_stopped_wait(tmp_path: Path) -> None:
    """Ctrl-S, or a window that nobody draws: its buffer is small, and a write would block."""
    master, slave = pty.openpty()
    process = writing(500, slave, PATIENCE)
    os.close(slave)
    assert process.stdout is not None
    assert process.stdout.readline() == "0\n"  # it got to its end without a byte read
    read = b""
    while read.count(b"\n") < 500:
        read += os.read(master, 1 << 16)
    assert process.wait(timeout=PATIENCE) == 0
    os.close(master)
    process.stdout.close()
    assert read.count(b'"lines":499') == 1


def test_a_full_disk_ends_nothing_and_is_counted() -> None:
    with Path("/dev/full").open("wb") as full:
        process = writing(10, full)
        assert process.communicate(timeout=PATIENCE)[0] == "10\n"
    assert process.returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip("only root may mount a file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_is_full_for_a_while_leaves_a_gap_that_is_reported(small_disk: Path) -> None:
    path = small_disk / "log"
    with path.open("w+", encoding="utf-8", buffering=1) as stream:
        writer = LineWriter(stream, "utf-8", "{} are missing".format)
        lines = [f"line {number} {'x' * 300}" for number in range(400)]
        for line in lines:
            writer.write(line)
        full = path.read_text().splitlines()
        path.write_text("")
        os.lseek(stream.fileno(), 0, os.SEEK_SET)
        writer.write("works again")
        assert 100 < len(full) < 300
        # The last line that was begun has no end; what follows begins on a line of its own.
        assert full[:-1] == lines[: len(full) - 1]
        assert path.read_text().splitlines()[-2:] == [
            f"{400 - len(full) + 1} are missing",
            "works again",
        ]


def test_where_a_reader_reads_again_it_hears_at_once_how_many_are_missing(
    pipe: tuple[int, BufferedReader],
) -> None:
    descriptor, reader = pipe
    before = LineWriter.dropped
    with os.fdopen(descriptor, "w") as stream:
        writer = LineWriter(stream, "utf-8", "missing: {}".format, patience=0.2)
        deadline = time.monotonic() + PATIENCE
        written = 0
        while LineWriter.dropped < before + 7:
            writer.write(f"line {written} {'x' * 1000}")
            written += 1
            assert time.monotonic() < deadline
            if written > 100:
                time.sleep(0.01)
        read: list[bytes] = []
        while not read or not read[-1].startswith(b"missing"):
            read.append(reader.readline())
        writer.write("after")
        assert reader.readline() == b"after\n"
    assert read[-1] == b"missing: 7\n"
    assert [line.split()[1] for line in read[:-1]] == [b"%d" % n for n in range(written - 7)]


def test_no_more_waits_than_memory_shall_hold(pipe: tuple[int, BufferedReader]) -> None:
    descriptor, reader = pipe
    before = LineWriter.dropped
    with os.fdopen(descriptor, "w") as stream:
        writer = LineWriter(stream, "utf-8", "missing: {}".format, most_waiting=50_000)
        for number in range(500):
            writer.write(f"line {number} {'x' * 990}")
        assert LineWriter.dropped > before
        drained = threading.Thread(target=writer.flush)
        drained.start()
        read = b""
        while b"missing" not in read:
            read += reader.read1(1 << 16)
        drained.join()
    assert read.count(b"line") + LineWriter.dropped - before == 500


def read_while(draining: threading.Thread, reader: BufferedReader) -> bytes:
    """Read all that comes while a thread drains a log, and what it left."""
    draining.start()
    read, left = b"", True
    while left or draining.is_alive():
        left = bool(select.select([reader], [], [], 0.05)[0])
        if left:
            read += os.read(reader.fileno(), 1 << 16)
    return read


@pytest.mark.parametrize("nowait", [log_writer.NOWAIT, 0], ids=["nowait", "poll"])
def test_of_lines_written_together_each_comes_whole_or_is_counted_as_missing(
    pipe: tuple[int, BufferedReader], nowait: int
) -> None:
    """The pipe is full after some of them, at any byte, also at the end of one."""
    descriptor, reader = pipe
    before = LineWriter.dropped
    batches = 60
    with os.fdopen(descriptor, "w") as stream:
        writer = LineWriter(
            stream, "utf-8", "missing: {}".format, patience=0.3, most_waiting=20_000, nowait=nowait
        )
        for batch in range(batches):
            writer.write_all([f"line {batch} {number} {'x' * 1015}" for number in range(4)])
        assert LineWriter.dropped > before
        read = read_while(threading.Thread(target=writer.flush), reader)
    # On a busy machine patience may end for some of them only here.
    dropped = LineWriter.dropped - before
    assert dropped < 4 * batches
    lines = read.splitlines()
    assert b"" not in lines
    whole = [line for line in lines if line.startswith(b"line") and line.endswith(b"x" * 1015)]
    reported = [int(line.split()[1]) for line in lines if line.startswith(b"missing: ")]
    assert len(whole) + len(reported) == len(lines)
    assert len(whole) + dropped == 4 * batches
    assert sum(reported) == dropped


def test_a_line_longer_than_a_pipe_comes_whole(pipe: tuple[int, BufferedReader]) -> None:
    descriptor, reader = pipe
    with os.fdopen(descriptor, "w") as stream:
        writer = LineWriter(stream, "utf-8", str)
        writer.write("x" * 200_000)
        writer.write("next")
        assert reader.readline() == b"x" * 200_000 + b"\n"
        assert reader.readline() == b"next\n"


def test_without_a_write_that_does_not_block_a_pipe_is_asked_for_room(
    pipe: tuple[int, BufferedReader],
) -> None:
    """As on older systems."""
    descriptor, reader = pipe
    with os.fdopen(descriptor, "w") as stream:
        writer = LineWriter(stream, "utf-8", str, nowait=0)
        lines = [f"{number} {'x' * (number * 37 % 6000)}" for number in range(200)]
        for line in lines:
            writer.write(line)
        assert [reader.readline().decode() for _ in lines] == [f"{line}\n" for line in lines]


# The daemon


async def run(centre: CallCentre, stderr: Any, **more: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "daemon", "run",
        env=centre.settings(**more), cwd=centre.folder, stderr=stderr, start_new_session=True,
    )  # fmt: skip


async def stop(process: asyncio.subprocess.Process) -> int:
    process.terminate()
    async with asyncio.timeout(PATIENCE):
        return await process.wait()


def opened(pid: int) -> list[str]:
    """What a process has as stdin, stdout and stderr."""
    return [Path(f"/proc/{pid}/fd/{number}").readlink().name for number in range(3)]


@pytest.fixture(params=["/dev/full", "no terminal"])
def lost(request: pytest.FixtureRequest) -> Iterator[int]:
    """Descriptors that fail at every write."""
    if request.param == "no terminal":
        master, slave = pty.openpty()
        os.close(master)
    else:
        slave = os.open(request.param, os.O_WRONLY)
    yield slave
    os.close(slave)


@pytest.mark.parametrize("log_format", ["json", "console"])
async def test_a_log_that_cannot_be_written_ends_nothing(
    centre: CallCentre, lost: int, log_format: str
) -> None:
    port = free_port()
    await plain_call(centre.db, 1, record=record_id(1))
    process = await run(
        centre, lost, http_listen=f"127.0.0.1:{port}", log_format=log_format
    )  # fmt: skip
    await centre.until(delivered=1)
    found = samples((await get(port, "/metrics"))[1])
    assert found["callstatsd_log_lines_dropped_total"] > 1
    assert await stop(process) == 0


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
async def test_it_goes_on_without_the_descriptors_that_were_closed(
    centre: CallCentre, closed: str
) -> None:
    """Else a database's connection would be its stderr."""
    await plain_call(centre.db, 1, record=record_id(1))
    process = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", f'exec "{sys.executable}" -m daemon run {closed}',
        env=centre.settings(), cwd=centre.folder, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    await centre.until(delivered=1)
    assert not [name for name in opened(process.pid) if "socket" in name or "event" in name]
    assert await stop(process) == 0


@pytest.mark.parametrize("closed", ["2>&-", "2>/dev/full"])
async def test_a_refusal_that_cannot_be_said_keeps_its_exit_code(
    centre: CallCentre, closed: str
) -> None:
    for command in ("run", "status"):
        process = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", f'exec "{sys.executable}" -m daemon {command} {closed}',
            env=centre.settings(clients_id="7"), cwd=centre.folder,
        )  # fmt: skip
        async with asyncio.timeout(PATIENCE):
            assert await process.wait() == 78


async def test_a_pipe_that_nobody_reads_stops_nothing_and_what_is_missing_is_reported(
    centre: CallCentre, pipe: tuple[int, BufferedReader]
) -> None:
    descriptor, reader = pipe
    port = free_port()
    process = await run(centre, descriptor, http_listen=f"127.0.0.1:{port}")
    os.close(descriptor)
    for call in range(1, 701):
        await plain_call(centre.db, call, record=record_id(call % 50 + 1))
    await centre.until(delivered=700)
    dropped = 0.0
    async with asyncio.timeout(PATIENCE):
        call = 701
        while not dropped:
            await plain_call(centre.db, call, record=record_id(1))
            await centre.until(delivered=call)
            call += 1
            text = (await get(port, "/metrics"))[1]
            dropped = samples(text)["callstatsd_log_lines_dropped_total"]
    events: list[dict[str, Any]] = []

    def read() -> None:
        while not events or events[-1]["event"] != "log.dropped":
            events.append(json.loads(reader.readline()))

    async with asyncio.timeout(PATIENCE):
        await asyncio.to_thread(read)
    assert events[-1]["level"] == "warning"
    assert events[-1]["lines"] >= dropped
    reading = asyncio.create_task(asyncio.to_thread(reader.read))
    assert await stop(process) == 0
    assert b"daemon.stopped" in await reading
