"""What was last read for the page: shared by all who look, and never waited for too long."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from daemon.errors import UnusableError

FRESH_FOR = 2.0
"""Seconds for which what was read is good enough for the next who looks."""
SHARE = 20
"""What took a second to read is good for so many: looking costs the ledger a twentieth at most."""

T = TypeVar("T")


class CachedQuery(Generic[T]):
    """Something that is read when somebody looks, by one task at a time, and kept for a while."""

    def __init__(self, read: Callable[[], Awaitable[T]], patience: float) -> None:
        """Take how to read it, and for how many seconds anybody waits for that."""
        self._read = read
        self._patience = patience
        self._task: asyncio.Task[None] | None = None
        self._began = 0.0
        self._due = float("-inf")
        self._value: T | None = None
        self._failed = False

    @property
    def failing(self) -> bool:
        """Whether the last try failed, or takes longer than anybody waits."""
        return self._failed or (self._task is not None and self._left <= 0)

    async def get(self) -> T | None:
        """Return what was read last; None if nothing ever could be."""
        if self._task is None and time.monotonic() >= self._due:
            self._began = time.monotonic()
            self._task = asyncio.create_task(self._try())
        task = self._task
        if task is not None:
            await asyncio.wait({task}, timeout=max(0.0, self._left))
            if task.done():
                task.result()
        return self._value

    def close(self) -> None:
        """Read no more."""
        if self._task is not None:
            self._task.cancel()

    @property
    def _left(self) -> float:
        return self._began + self._patience - time.monotonic()

    async def _try(self) -> None:
        self._failed, rest = True, FRESH_FOR
        try:
            self._value = await self._read()
            self._failed = False
            rest = max(rest, SHARE * (time.monotonic() - self._began))
        except UnusableError:
            pass
        finally:
            self._due = time.monotonic() + rest
            self._task = None
