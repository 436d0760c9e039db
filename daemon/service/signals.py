"""SIGTERM and SIGINT stop the command; a second one stops it at once."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

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
