"""The real daemon in a process of its own, watched through its log as an operator would."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import orjson
import pytest

from daemon.demo import grants, standin
from tests.support import preloaded

PATIENCE = 120.0
"""Seconds to wait for something that must happen; only a failing test waits so long."""


def settings(dsn: str, url: str, **more: str) -> dict[str, str]:
    """The environment of a daemon that is quick to react, with further settings by name."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("CALLSTATSD_")}
    quick = {
        "SOURCE_DSN": dsn,
        "TOKEN_URL": f"{url}{standin.TOKEN_PATH}",
        "CLIENT_ID": grants.CLIENT_ID,
        "CLIENT_SECRET": grants.CLIENT_SECRET,
        "START_FROM": "2020-01-01",
        "POLL_INTERVAL": "0.05",
        "SETTLE_DELAY": "0",
        "RETRY_INITIAL": "0.05",
        "HTTP_LISTEN": "",
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "debug",
    }
    chosen = quick | {name.upper(): value for name, value in more.items()}
    return own | {f"CALLSTATSD_{name}": value for name, value in chosen.items()}


async def command(
    *arguments: str, environment: Mapping[str, str], folder: Path
) -> tuple[int, str, str]:
    """Run a command to its end: exit code, stdout, stderr."""
    process = await start(*arguments, environment=environment, folder=folder)
    output, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


async def start(
    *arguments: str, environment: Mapping[str, str], folder: Path, stdout: int = PIPE
) -> Process | preloaded.Process:
    """Start a command, at once where it need not have an interpreter of its own."""
    if needs_an_interpreter(environment, folder):
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "daemon", *arguments,
            env=environment, cwd=folder, stdout=stdout, stderr=PIPE,
        )  # fmt: skip
    return await preloaded.Process.start(
        *arguments,
        environment=environment,
        folder=folder,
        descriptors=(DEVNULL, stdout, PIPE),
    )


def needs_an_interpreter(environment: Mapping[str, str], folder: Path) -> bool:
    """Whether Python itself reads one of these variables, or finds another program there."""
    return (folder / "daemon").exists() or any(
        (name == "LANG" or name.startswith(("PYTHON", "LC_"))) and os.environ.get(name) != value
        for name, value in environment.items()
    )


class Daemon:
    """A running `callstatsd run`; `events` is its log so far."""

    def __init__(self, process: Process | preloaded.Process) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []
        self.text = ""
        self._changed = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, environment: Mapping[str, str], folder: Path) -> Self:
        return cls(await start("run", environment=environment, folder=folder, stdout=DEVNULL))

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for raw in self.process.stderr:
            self.text += raw.decode()
            async with self._changed:
                if raw.startswith(b"{"):
                    self.events.append(orjson.loads(raw))
                self._changed.notify_all()
        async with self._changed:
            self._changed.notify_all()

    def seen(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        return [
            entry
            for entry in self.events
            if entry["event"] == event and fields.items() <= entry.items()
        ]

    async def until(self, event: str, count: int = 1, **fields: Any) -> dict[str, Any]:
        """Wait until an event was logged so often; returns the last of them."""
        try:
            async with asyncio.timeout(PATIENCE), self._changed:
                await self._changed.wait_for(
                    lambda: len(self.seen(event, **fields)) >= count or self._reading.done()
                )
        except TimeoutError:
            pytest.fail(f"waited in vain for {event} {fields} in:\n{self.text}")
        found = self.seen(event, **fields)
        assert len(found) >= count, f"no {event} {fields} in:\n{self.text}"
        return found[-1]

    async def until_it_speaks(self) -> None:
        """Wait for its first event: from then on it hears signals."""
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: self.events or self._reading.done())

    async def until_text(self, text: str) -> None:
        """Wait until the log holds this text, whatever its format is."""
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: text in self.text or self._reading.done())
        assert text in self.text, self.text

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Wait for the process to end; returns its exit code."""
        async with asyncio.timeout(PATIENCE):
            code = await self.process.wait()
            await self._reading
        return code

    async def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return await self.ended()


@asynccontextmanager
async def running(environment: Mapping[str, str], folder: Path) -> AsyncIterator[Daemon]:
    """A daemon that is surely gone when the block ends."""
    daemon = await Daemon.start(environment, folder)
    try:
        yield daemon
    finally:
        if daemon.process.returncode is None:
            daemon.process.kill()
            await daemon.ended()
