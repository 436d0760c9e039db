"""One time limit for many requests with one timer; `asyncio.timeout` would set one for each."""

import asyncio
from types import TracebackType
from typing import Any, NamedTuple, cast


class _Running(NamedTuple):
    """When a block must have ended, and how often its task had been cancelled before it."""

    until: float
    cancelled: int


class Deadline:
    """A context manager that raises `TimeoutError` in a block that takes so many seconds.

    Any number of tasks may be in a block of their own at once; one task has one at a time. All have
    the same limit, so that the block that began first ends first.
    """

    def __init__(self, seconds: float) -> None:
        """Raise `RuntimeError` where no event loop runs."""
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._running: dict[asyncio.Task[Any], _Running] = {}
        self._expired: dict[asyncio.Task[Any], _Running] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        """Begin a block of the current task."""
        task = cast("asyncio.Task[Any]", asyncio.current_task(self._loop))
        running = _Running(self._loop.time() + self._seconds, task.cancelling())
        self._running[task] = running
        if self._timer is None:
            self._timer = self._loop.call_at(running.until, self._expire)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it; a cancellation by the deadline alone becomes `TimeoutError`."""
        task = cast("asyncio.Task[Any]", asyncio.current_task(self._loop))
        if self._running.pop(task, None) is not None:
            return
        expired = self._expired.pop(task)
        if task.uncancel() <= expired.cancelled and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _expire(self) -> None:
        """Cancel the tasks whose time is over, and wait for the next."""
        self._timer = None
        now = self._loop.time()
        for task, running in list(self._running.items()):
            if running.until > now:
                self._timer = self._loop.call_at(running.until, self._expire)
                return
            self._expired[task] = self._running.pop(task)
            task.cancel()
