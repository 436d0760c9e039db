"""A command on a real terminal: what it prints there, and keys that a person presses."""

import asyncio
import fcntl
import io
import multiprocessing
import os
import pty
import re
import struct
import sys
import termios
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from rich.cells import cell_len

from daemon import __main__

WITHIN = 120.0
"""Seconds to wait for something that must happen; only a failing test waits so long."""
CTRL_C = b"\x03"
# Commands start from a process that has imported them: a hundred would take minutes otherwise.
_forking = multiprocessing.get_context("forkserver")
_forking.set_forkserver_preload(["daemon.cli.entry", "daemon.ledger.migrate", "daemon.demo.run"])
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07|\x1b[=>]")
_DRAWN = re.compile(r"[│┃┏┓┗┛┡┩└┘┴┬┳╇┼─━═╺╸╿╽|+]+")


class Terminal:
    """A running command and all that its terminal was sent so far."""

    def __init__(self, process: ForkServerProcess, descriptor: int, columns: int) -> None:
        self.process = process
        self.columns = columns
        self.raw = ""
        self._descriptor = descriptor
        self._changed = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                part = await loop.run_in_executor(None, os.read, self._descriptor, 65536)
            except OSError:  # so Linux says that nobody has the other end any more
                part = b""
            async with self._changed:
                self.raw += part.decode(errors="replace")
                self._changed.notify_all()
            if not part:
                return

    @property
    def text(self) -> str:
        """What was printed, without colours and movements, with the line ends of a file."""
        return _ESCAPES.sub("", self.raw).replace("\r\n", "\n")

    @property
    def rows(self) -> list[str]:
        """The lines that it was told to show, also those that others have replaced since."""
        return re.split(r"[\r\n]+", self.text)

    def press(self, keys: bytes) -> None:
        os.write(self._descriptor, keys)

    async def until(self, condition: Callable[["Terminal"], bool]) -> None:
        """Wait until the condition holds; fails when the command ends before."""
        async with asyncio.timeout(WITHIN), self._changed:
            await self._changed.wait_for(lambda: condition(self) or self._reading.done())
        assert condition(self), self.text

    async def shows(self, text: str) -> None:
        await self.until(lambda terminal: text in terminal.text)

    async def ended(self, within: float = WITHIN) -> int:
        """Wait for the command's end; returns its exit code."""
        async with asyncio.timeout(within):
            await self._reading
            await asyncio.to_thread(self.process.join, within)
        assert self.process.exitcode is not None
        return self.process.exitcode


@asynccontextmanager
async def terminal(
    *arguments: str,
    environment: Mapping[str, str],
    folder: Path,
    columns: int,
    encoding: str = "utf-8",
) -> AsyncIterator[Terminal]:
    """Run a command on a terminal so wide; it is surely gone when the block ends."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    with Connection(theirs) as given:
        process = _forking.Process(
            target=_run, args=(given, arguments, dict(environment), str(folder), encoding)
        )
        await asyncio.to_thread(process.start)
    shown = Terminal(process, ours, columns)
    try:
        yield shown
    finally:
        if process.is_alive():
            process.kill()
        await shown.ended()
        os.close(ours)


def _run(
    given: Connection,
    arguments: Sequence[str],
    environment: dict[str, str],
    folder: str,
    encoding: str,
) -> None:
    """Run a command with that terminal as its own, as a shell would start it."""
    os.setsid()
    fcntl.ioctl(given.fileno(), termios.TIOCSCTTY, 0)
    for number in range(3):
        os.dup2(given.fileno(), number)
    given.close()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update({"TERM": "xterm-256color"} | environment)
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)
    # As long as the process, so without `with`.
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(io.FileIO(0), encoding)  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = _line_buffered(1, encoding)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _line_buffered(2, encoding)  # type: ignore[misc]
    sys.argv = ["callstatsd", *arguments]
    __main__.main()


def _line_buffered(number: int, encoding: str) -> io.TextIOWrapper:
    raw = io.BufferedWriter(io.FileIO(number, "w"))
    return io.TextIOWrapper(raw, encoding, line_buffering=True)


def torn(shown: Terminal) -> list[str]:
    """Return the lines that do not fit: the terminal breaks them wherever they meet its edge.

    One word alone, such as an address, has to be broken where it is longer than a line.
    """
    return [row for row in shown.rows if cell_len(row) > shown.columns and " " in row.strip()]


def vocabulary(text: str) -> set[str]:
    """Return the words of a text: digits are all alike, as times and ports differ."""
    plain = _DRAWN.sub(" ", re.sub(r',(?=")', ", ", text)).replace(" \\\n", " ")
    return set(re.sub(r"\d+", "0", plain).split())


def colours(shown: Terminal) -> set[str]:
    """Return the parameters of its colours, without those that only make bold, dim or italic."""
    numbers = ";".join(_COLOURS.findall(shown.raw)).replace("\x1b[", "").replace("m", "")
    return {number for number in numbers.split(";") if number and int(number) >= 30}
