"""Notifies systemd: ready, status, stopping, and the watchdog as long as the loops progress."""

import asyncio
import os
import time
from collections.abc import Collection, Mapping
from enum import Enum, auto
from math import inf

import sdnotify

from daemon.tasks import sleep_or_stop

NOTIFY_EVERY = 5.0
"""Seconds between two messages to systemd, fewer where its watchdog asks for more."""
EXTENSION = 90.0
"""Seconds by which the start or stop timeout is extended: longer than any round of a loop."""


class Loop(Enum):
    """The loops that must all make progress; one of callbacks where they are on."""

    TAKING = auto()
    SENDING = auto()
    TAKING_CALLBACKS = auto()


TWO_LOOPS = frozenset({Loop.TAKING, Loop.SENDING})
"""Those without callbacks."""


class ProgressWatchdog:
    """Feeds the systemd watchdog only when polling and sending have all made progress.

    Progress is a poll or one page of it, or one read of the sender from the ledger. A failed one
    counts, because a restart brings no database back. Waiting for a database, or for the ledger's
    lock, counts for all loops. The clock is an argument.
    """

    def __init__(self, loops: Collection[Loop] = TWO_LOOPS) -> None:
        self._loops = loops
        self._progressed: set[Loop] = set()
        self._rest: dict[Loop, float] = {}

    def progressed(self, *loops: Loop, rest_until: float = -inf) -> None:
        """Record progress of these loops, which need not make any more before that time."""
        self._progressed.update(loops)
        self._rest.update(dict.fromkeys(loops, rest_until))

    def all_progressed(self, now: float) -> bool:
        """Whether each loop rests or made progress since this was last true."""
        if any(
            loop not in self._progressed and now >= self._rest.get(loop, -inf)
            for loop in self._loops
        ):
            return False
        self._progressed.clear()
        return True


class SystemdNotifier:
    """Sends the service's state to systemd; does nothing where `NOTIFY_SOCKET` is not set."""

    def __init__(self, loops: Collection[Loop] = TWO_LOOPS) -> None:
        """Take the loops that must make progress."""
        self._socket = sdnotify.SystemdNotifier() if "NOTIFY_SOCKET" in os.environ else None
        self._watchdog = watchdog_seconds(os.environ, os.getpid())
        self._ready = False
        self._stopping = False
        self._status = ""
        self.watch = ProgressWatchdog(loops)

    @property
    def enabled(self) -> bool:
        """Whether systemd started this process and listens."""
        return self._socket is not None

    def ready(self, status: str) -> None:
        """Report that the service is up: settings and ledger are right, or it stands by."""
        if not self._ready:
            self._ready = True
            self._notify("READY=1")
        self.status(status)

    def status(self, text: str) -> None:
        """Set the line that `systemctl status` shows."""
        if text != self._status and not self._stopping:
            self._status = text
            self._notify(f"STATUS={text}")

    async def run(self, stop: asyncio.Event, drain: float) -> None:
        """Feed the watchdog as long as the loops make progress, until cancelled.

        After `stop` for at most `drain` seconds more: what takes longer is not draining.
        """
        every = min(NOTIFY_EVERY, (self._watchdog or NOTIFY_EVERY) / 4)
        while not stop.is_set():
            if self.watch.all_progressed(time.monotonic()):
                self._notify_alive(extend=not self._ready)
            await sleep_or_stop(stop, every)
        self._stopping = True
        self._notify("STOPPING=1\nSTATUS=stopping: finishing what is in flight")
        until = time.monotonic() + drain
        while time.monotonic() < until:
            self._notify_alive(extend=True)
            await asyncio.sleep(every)

    def _notify_alive(self, *, extend: bool) -> None:
        message = ["WATCHDOG=1"] if self._watchdog else []
        if extend:
            message.append(f"EXTEND_TIMEOUT_USEC={EXTENSION * 1e6:.0f}")
        if message:
            self._notify("\n".join(message))

    def _notify(self, message: str) -> None:
        if self._socket is not None:
            self._socket.notify(message)


def watchdog_seconds(environment: Mapping[str, str], pid: int) -> float | None:
    """Return within how many seconds systemd expects a sign of life of this process, if at all."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    if environment.get("WATCHDOG_PID", str(pid)) != str(pid) or not microseconds.isdecimal():
        return None
    return float(microseconds) / 1e6 or None
