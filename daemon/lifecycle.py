"""Signals, and what systemd is told."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import sdnotify
import structlog

from daemon import logs

_log = structlog.get_logger()


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


class Notifier:
    """Tells systemd how the service does; does nothing where `NOTIFY_SOCKET` is not set."""

    def __init__(self) -> None:
        """Find systemd's socket."""
        self._socket = sdnotify.SystemdNotifier() if "NOTIFY_SOCKET" in os.environ else None
        self._ready = False

    def ready(self, status: str) -> None:
        """Say that the service is up: settings and ledger are right, or it stands by."""
        self._notify(f"STATUS={status}" if self._ready else f"READY=1\nSTATUS={status}")
        self._ready = True

    def stopping(self) -> None:
        """Say that the service drains."""
        self._notify("STOPPING=1\nSTATUS=draining")

    def _notify(self, message: str) -> None:
        if self._socket is not None:
            self._socket.notify(message)
