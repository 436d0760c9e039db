"""Signals, and what systemd is told."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

import sdnotify
import structlog

from daemon import logs
from daemon.ledger.operator import Backlog, LedgerStatus
from daemon.lines import State
from daemon.service.watchdog import ProgressWatchdog
from daemon.tasks import sleep_or_stop

_log = structlog.get_logger()

TELL_EVERY = 5.0
"""Seconds between two words to systemd, fewer where its watchdog wants more."""
EXTENSION = 90.0
"""Seconds more that systemd is asked for while starting and draining: longer than any turn."""


@contextmanager
def stop_on_signals() -> Iterator[asyncio.Event]:
    """Yield an event that SIGTERM or SIGINT sets; a second one cancels the caller's task."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    stop = asyncio.Event()

    def received(number: signal.Signals) -> None:
        if not stop.is_set():
            _log.info(logs.DAEMON_STOPPING, signal=number.name)
            stop.set()
        elif task is not None:
            _log.warning(logs.DAEMON_STOPPING, signal=number.name, at_once=True)
            task.cancel()

    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, received, number)
    try:
        yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


class SystemdNotifier:
    """Tells systemd how the service does; does nothing where `NOTIFY_SOCKET` is not set."""

    def __init__(self) -> None:
        """Find systemd's socket, and whether it watches this process."""
        self._socket = sdnotify.SystemdNotifier() if "NOTIFY_SOCKET" in os.environ else None
        self._watchdog = watchdog_seconds(os.environ, os.getpid())
        self._ready = False
        self._stopping = False
        self._status = ""
        self.watch = ProgressWatchdog()

    @property
    def enabled(self) -> bool:
        """Whether there is a systemd to tell."""
        return self._socket is not None

    def ready(self, status: str) -> None:
        """Say that the service is up: settings and ledger are right, or it stands by."""
        if not self._ready:
            self._ready = True
            self._notify("READY=1")
        self.status(status)

    def status(self, text: str) -> None:
        """Say in a line for `systemctl status` what the service does."""
        if text != self._status and not self._stopping:
            self._status = text
            self._notify(f"STATUS={text}")

    async def run(self, stop: asyncio.Event, drain: float) -> None:
        """Say that the daemon gets around, as long as it does, until cancelled.

        After `stop` at most `drain` seconds more: what takes longer than that is not draining.
        """
        every = min(TELL_EVERY, (self._watchdog or TELL_EVERY) / 4)
        while not stop.is_set():
            if self.watch.all_progressed(time.monotonic()):
                self._alive(extend=not self._ready)
            await sleep_or_stop(stop, every)
        self._stopping = True
        self._notify("STOPPING=1\nSTATUS=stopping: finishing what is in flight")
        until = time.monotonic() + drain
        while time.monotonic() < until:
            self._alive(extend=True)
            await asyncio.sleep(every)

    def _alive(self, *, extend: bool) -> None:
        said = ["WATCHDOG=1"] if self._watchdog else []
        if extend:
            said.append(f"EXTEND_TIMEOUT_USEC={EXTENSION * 1e6:.0f}")
        if said:
            self._notify("\n".join(said))

    def _notify(self, message: str) -> None:
        if self._socket is not None:
            self._socket.notify(message)


def watchdog_seconds(environment: Mapping[str, str], pid: int) -> float | None:
    """Return within how many seconds systemd wants a sign of life of this process, if at all."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    if environment.get("WATCHDOG_PID", str(pid)) != str(pid) or not microseconds.isdecimal():
        return None
    return float(microseconds) / 1e6 or None


def status_line(
    waiting: Backlog,
    status: LedgerStatus,
    paused: tuple[str, float | None] | None,
    delivered: int,
    now: datetime,
) -> str:
    """Say in one line what the sender does and what waits; `now` is in the zone to tell times in.

    `paused` is the reason and the seconds until the next try, `delivered` counts since the start.
    """
    if paused is None:
        doing = "sending"
    else:
        reason, retry_in = paused
        if status.operator_pause is not None and status.operator_pause.reason:
            reason += f": {status.operator_pause.reason}"
        again = "" if retry_in is None else f", next try in {_duration(retry_in)}"
        doing = f"paused ({reason}){again}"
    said = [f"{waiting.lines[State.PENDING]:,} pending"]
    if waiting.oldest_pending_seconds is not None:
        said.append(f"oldest {_duration(waiting.oldest_pending_seconds)}")
    said.append(f"{delivered:,} delivered since start")
    if kept := sum(waiting.lines.values()) - waiting.lines[State.PENDING]:
        said.append(f"{kept:,} need action")
    if status.watermark is not None:
        local = status.watermark.astimezone(now.tzinfo)
        form = "%H:%M:%S" if local.date() == now.date() else "%Y-%m-%d %H:%M:%S"
        said.append(f"taken up to {local:{form}}")
    return f"{doing}: {', '.join(said)}"


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
