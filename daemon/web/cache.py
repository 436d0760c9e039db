"""Query results of the ledger: shared by all who ask, never waited for too long."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, Self, TypeVar

from daemon.errors import UnreachableError, UnusableError
from daemon.ledger.operator import OperatorStore
from daemon.ledger.overview import AlertStatus, Backlog, LedgerStatus
from daemon.lines import FeedName
from daemon.tasks import run_within

FRESH_FOR = 2.0
"""Seconds for which a result is used again."""
COST_FACTOR = 20
"""A slow query is repeated after this many times its duration: it costs at most 5 % of the time."""

T = TypeVar("T")


class SharedQuery(Generic[T]):
    """A query that runs once for all who wait for it, and whose last result is kept."""

    def __init__(self, read: Callable[[], Awaitable[T]]) -> None:
        self._read = read
        self._task: asyncio.Task[T] | None = None
        self._result: tuple[T, float] | None = None

    async def get(self, max_age: float) -> T:
        """Return a result of at most `max_age` seconds; raises `UnreachableError`."""
        if self._result is not None and time.monotonic() - self._result[1] < max_age:
            return self._result[0]
        if self._task is None:
            self._task = asyncio.create_task(self._run())
            self._task.add_done_callback(self._done)
        return await asyncio.shield(self._task)

    def close(self) -> None:
        """Cancel a query that is running."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> T:
        value = await self._read()
        self._result = value, time.monotonic()
        return value

    def _done(self, task: asyncio.Task[T]) -> None:
        self._task = None
        if not task.cancelled():
            # Those who waited may be gone: then nobody else retrieves it.
            task.exception()


class StatusReader:
    """The ledger's backlog, status and alerts, for `/metrics`, the page and systemd's status line.

    Each caller says how old a result may be; whoever reads anew reads for the others, too.
    """

    def __init__(self, operator_store: OperatorStore) -> None:
        stores = {feed: operator_store.of(feed) for feed in FeedName}
        self._backlog = {feed: SharedQuery(store.waiting) for feed, store in stores.items()}
        self._status = {feed: SharedQuery(store.status) for feed, store in stores.items()}
        self._alert = SharedQuery(operator_store.alert)

    async def backlog(self, max_age: float = 0.0, feed: FeedName = FeedName.STATISTICS) -> Backlog:
        """Return how many lines of a feed wait; raises `UnreachableError`."""
        return await self._backlog[feed].get(max_age)

    async def status(
        self, max_age: float = 0.0, feed: FeedName = FeedName.STATISTICS
    ) -> LedgerStatus:
        """Return what the ledger and its instance report of a feed; raises `UnreachableError`."""
        return await self._status[feed].get(max_age)

    async def alert(self, max_age: float = 0.0) -> AlertStatus:
        """Return the last alert, and what waits for the next; raises `UnreachableError`."""
        return await self._alert.get(max_age)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._alert.close()
        for feed in FeedName:
            self._backlog[feed].close()
            self._status[feed].close()


class BoundedReads:
    """Reads that one visitor asks for: one at a time, and none waited for longer than `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = asyncio.Lock()

    async def read(self, work: Callable[[], Awaitable[T]]) -> T:
        """Return what the work returns; raises `UnusableError`, also after too long a wait."""
        found = await run_within(self._seconds, self._in_turn(work))
        if found is None:
            raise UnreachableError(f"no answer within {self._seconds:g} s")
        return found[0]

    async def _in_turn(self, work: Callable[[], Awaitable[T]]) -> tuple[T]:
        async with self._lock:
            return (await work(),)


class CachedQuery(Generic[T]):
    """A query that runs when somebody asks, in one task at a time; its result is kept for a while.

    Nobody waits for it longer than `timeout` seconds.
    """

    def __init__(self, read: Callable[[], Awaitable[T]], timeout: float) -> None:
        self._read = read
        self._timeout = timeout
        self._task: asyncio.Task[None] | None = None
        self._began = 0.0
        self._due = float("-inf")
        self._value: T | None = None
        self._failed = False

    @property
    def failing(self) -> bool:
        """Whether the last query failed, or takes longer than the timeout."""
        return self._failed or (self._task is not None and self._left <= 0)

    async def get(self) -> T | None:
        """Return the last result; None if there is none yet."""
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
        """Cancel a query that is running."""
        if self._task is not None:
            self._task.cancel()

    @property
    def _left(self) -> float:
        return self._began + self._timeout - time.monotonic()

    async def _try(self) -> None:
        self._failed, pause = True, FRESH_FOR
        try:
            self._value = await self._read()
            self._failed = False
            pause = max(pause, COST_FACTOR * (time.monotonic() - self._began))
        except UnusableError:
            pass
        finally:
            self._due = time.monotonic() + pause
            self._task = None
