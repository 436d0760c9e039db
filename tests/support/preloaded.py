"""Processes of the program that start at once: forks of one that has imported it.

The imports take a second of the processor, and the tests start a thousand processes. A test about
the start of the interpreter runs `python -m daemon` instead.
"""

import asyncio
import atexit
import fcntl
import functools
import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time
from asyncio import StreamReader
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, Self

import daemon

ROOT = Path(__file__).parents[2]
PROGRAM = "daemon.__main__"

_forks: dict[int, int] = {}
"""Those of the process that forks: where the end of each is to be reported."""
_exit_codes: list[int] = []
"""In a fork, what it ends with."""


class Process:
    """A fork that runs the program; it has what the tests use of `asyncio.subprocess.Process`."""

    def __init__(self, pid: int, status: StreamReader, *streams: StreamReader | None) -> None:
        self.pid = pid
        _, self.stdout, self.stderr = streams
        self.returncode: int | None = None
        self._waiting = asyncio.create_task(self._wait(status))

    @classmethod
    async def start(
        cls,
        *arguments: str,
        environment: Mapping[str, str],
        folder: Path,
        descriptors: Sequence[int] = (DEVNULL, PIPE, PIPE),
        module: str = PROGRAM,
        terminal_encoding: str = "",
    ) -> Self:
        """Run the module's `main()`.

        With an encoding the descriptors are a terminal, which becomes the process's own.
        """
        request = {
            "arguments": arguments, "environment": dict(environment), "folder": str(folder),
            "module": module, "terminal_encoding": terminal_encoding,
        }  # fmt: skip
        readers: list[StreamReader | None] = []
        status, theirs = await _pipe()
        given = [theirs]  # to be closed once they were sent
        with tempfile.TemporaryFile() as file:
            file.write(json.dumps(request).encode())
            file.seek(0)
            sent = [theirs, file.fileno()]
            for descriptor in descriptors:
                reader, number = None, descriptor
                if descriptor == PIPE:
                    reader, number = await _pipe()
                elif descriptor == DEVNULL:
                    number = os.open(os.devnull, os.O_RDWR)
                if number != descriptor:
                    given.append(number)
                readers.append(reader)
                sent.append(number)
            socket.send_fds(_server(), [b"s"], sent)
        for number in given:
            os.close(number)
        return cls(int(await status.readline()), status, *readers)

    async def _wait(self, status: StreamReader) -> int:
        self.returncode = os.waitstatus_to_exitcode(int(await status.read()))
        return self.returncode

    async def wait(self) -> int:
        """Wait for the end; returns the exit code, or the signal's number below zero."""
        return await asyncio.shield(self._waiting)

    async def communicate(self) -> tuple[bytes, bytes]:
        """Read all output, and wait for the end."""
        output = await asyncio.gather(
            *(reader.read() if reader else _nothing() for reader in (self.stdout, self.stderr))
        )
        await self.wait()
        return output[0], output[1]

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


async def _nothing() -> bytes:
    return b""


async def _pipe() -> tuple[StreamReader, int]:
    """Return a reader, and the descriptor to write to."""
    ours, theirs = os.pipe()
    reader = StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ours, "rb", 0)
    )
    return reader, theirs


@functools.cache
def _server() -> socket.socket:
    """Start the process that forks, which lasts as long as this one."""
    ours, theirs = socket.socketpair()
    serving = f"from tests.support.preloaded import serve; serve({theirs.fileno()})"
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", serving],
            stdin=subprocess.DEVNULL, cwd=ROOT, pass_fds=[theirs.fileno()],
        )  # fmt: skip

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def serve(descriptor: int) -> None:
    """Fork whenever asked; returns in a fork when its program has ended."""
    atexit.register(_leave)  # first, and so called last
    for module in pkgutil.walk_packages(daemon.__path__, "daemon."):
        importlib.import_module(module.name)
    gc.freeze()  # so that pages stay shared
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, _reap)
    with socket.socket(fileno=descriptor) as asked:
        while True:
            message, descriptors, _, _ = socket.recv_fds(asked, 1, 5)
            if not message:
                return
            status, *others = descriptors
            # Until the fork is noted nobody may reap it.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
            pid = os.fork()
            if not pid:
                break
            _forks[pid] = status
            for number in others:
                os.close(number)
            os.write(status, f"{pid}\n".encode())
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    for number in (status, *_forks.values()):
        os.close(number)
    _run(*others)


def _reap(_number: int, _frame: FrameType | None) -> None:
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            pid, code = ended
            status = _forks.pop(pid)
            with suppress(BrokenPipeError):  # whoever asked may be gone
                os.write(status, str(code).encode())
            os.close(status)


def _leave() -> None:
    """End a fork here: the interpreter would free its objects, and so copy the pages they share."""
    for code in _exit_codes:
        # Whatever the interpreter has to say about the output it says itself.
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def _run(request: int, *streams: int) -> None:
    """Become what `python -m` would have started."""
    with open(request, "rb") as file:
        asked: dict[str, Any] = json.load(file)
    if asked["terminal_encoding"]:
        os.setsid()
        fcntl.ioctl(streams[0], termios.TIOCSCTTY, 0)
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    os.closerange(3, 1024)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    time.tzset()
    tempfile.tempdir = None
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        before = getattr(sys, name)
        stream = open(  # noqa: SIM115 - a descriptor, as long as the process
            number,
            "w" if number else "r",
            encoding=asked["terminal_encoding"] or before.encoding,
            errors=before.errors,
            closefd=False,
        )
        if name == "stderr":
            stream.reconfigure(line_buffering=True)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["callstatsd", *asked["arguments"]]
    try:
        importlib.import_module(asked["module"]).main()
    except SystemExit as end:
        if isinstance(end.code, int):
            _exit_codes.append(end.code)
        raise
