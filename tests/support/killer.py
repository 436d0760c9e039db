"""`callstatsd run` in a process that kills itself at a named step: python -m tests.support.killer.

KILL_POINT is a key of POINTS or ALERT_POINTS, KILL_WHEN is before or after, KILL_NTH counts its
calls from 1. The product knows nothing of this.
"""

import os
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from inspect import isasyncgenfunction
from typing import Any

from asyncpg.transaction import Transaction

from daemon.cli import entry
from daemon.ingest.source import Source
from daemon.ledger.store import Ledger
from daemon.salesforce.client import Salesforce

POINTS: dict[str, tuple[type, str]] = {
    "read": (Source, "line_pages"),
    "take": (Ledger, "take"),
    "pending": (Ledger, "pending"),
    "post": (Salesforce, "post"),
    "settle": (Ledger, "settle"),
    "commit": (Transaction, "__aexit__"),
    "heartbeat": (Ledger, "write_heartbeat"),
}
ALERT_POINTS: dict[str, tuple[type, str]] = {
    "number": (Ledger, "number_alert"),
    "raised": (Ledger, "alert_raised"),
}


def deadly(
    method: Callable[..., Awaitable[Any]], when: str, nth: int
) -> Callable[..., Awaitable[Any]]:
    """Wrap a method so that its nth call is the process's last."""
    calls = 0

    async def wrapped(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        mine = calls
        if when == "before" and mine == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        result = await method(*arguments, **named)
        if when == "after" and mine == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return wrapped


def deadly_generator(
    method: Callable[..., AsyncGenerator[Any, None]], when: str, nth: int
) -> Callable[..., AsyncGenerator[Any, None]]:
    """Wrap a method that yields pages so that its nth use is the process's last."""
    calls = 0

    async def wrapped(*arguments: Any, **named: Any) -> AsyncGenerator[Any, None]:
        nonlocal calls
        calls += 1
        mine = calls
        if when == "before" and mine == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        async with aclosing(method(*arguments, **named)) as pages:
            async for page in pages:
                yield page
        if when == "after" and mine == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    return wrapped


def main() -> None:
    """Lay the trap, then be the daemon."""
    room, name = (POINTS | ALERT_POINTS)[os.environ["KILL_POINT"]]
    method = getattr(room, name)
    wrap: Callable[..., Any] = deadly_generator if isasyncgenfunction(method) else deadly
    setattr(room, name, wrap(method, os.environ["KILL_WHEN"], int(os.environ["KILL_NTH"])))
    sys.argv = ["callstatsd", "run"]
    entry.main()


if __name__ == "__main__":
    main()
