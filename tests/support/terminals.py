"""A command on a real terminal: what it prints there, and keys that a person presses."""

import asyncio
import fcntl
import os
import pty
import re
import struct
import termios
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from rich.cells import cell_len

from tests.support.preloaded import Process

WITHIN = 120.0
"""Seconds to wait for something that must happen; only a failing test waits so long."""
CTRL_C = b"\x03"
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07|\x1b[=>]")
_DRAWN = re.compile(r"[│┃┏┓┗┛┡┩└┘┴┬┳╇┼─━═╺╸╿╽|+]+")


class Terminal:
    """A running command and all that its terminal was sent so far."""

    def __init__(self, process: Process, descriptor: int, columns: int) -> None:
        self.process = process
        self.columns = columns
        self.raw = ""
        self._descriptor = descriptor
        self._changed = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            readable = loop.create_future()
            loop.add_reader(self._descriptor, readable.set_result, None)
            try:
                await readable
            finally:
                loop.remove_reader(self._descriptor)
            try:
                part = os.read(self._descriptor, 65536)
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

    async def close(self) -> None:
        """Kill the command, and read no more: what it started may have the terminal still."""
        self.process.kill()
        await self.process.wait()
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def ended(self, within: float = WITHIN) -> int:
        """Wait for the command's end; returns its exit code."""
        async with asyncio.timeout(within):
            await self._reading
            return await self.process.wait()


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
    own = {"TERM": "xterm-256color", **environment}
    process = await Process.start(
        *arguments,
        environment={name: own[name] for name in own.keys() - {"COLUMNS", "LINES"}},
        folder=folder,
        descriptors=(theirs,) * 3,
        terminal_encoding=encoding,
    )
    os.close(theirs)
    shown = Terminal(process, ours, columns)
    try:
        yield shown
    finally:
        await shown.close()
        os.close(ours)


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
