"""Keeps what the door lets in: waits are bounded, commits come in batches, refusals are a gap."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple, Protocol

import structlog

from daemon import logs
from daemon.errors import UnusableError
from daemon.tasks import run_within
from daemon.telegra.notifications import Received
from daemon.telegra.store import MAX_BATCH, Kept

_log = structlog.get_logger()

MAX_WAITING = 200
"""Notifications without an answer at once."""
ANSWERS_WITHIN = 5.0
"""Seconds that a notification waits for the database."""
COMMITS_WITHIN = 10.0
"""Seconds after which a database that is silent is given up, for another connection."""
RETRY_EVERY = 0.2
"""Seconds between two tries to commit."""


class Outcome(StrEnum):
    """What became of a notification that was let in."""

    KEPT = "kept"
    REPEATED = "repeated"
    UNAVAILABLE = "unavailable"
    BAD = "bad"


class Gap(NamedTuple):
    """Notifications that were refused, from the first to the last."""

    since: datetime
    until: datetime
    refused: int


class Store(Protocol):
    """What the receiver needs of the store."""

    async def keep(self, batch: Sequence[Received]) -> Kept:
        """Commit notifications; raises `UnusableError`."""

    async def cut(self) -> None:
        """Drop connections to a server that is silent."""


class Waiting(NamedTuple):
    """A notification and who waits for its outcome."""

    received: Received
    outcome: "asyncio.Future[Outcome]"


class Receiver:
    """Collects notifications that come at once into batches.

    Invariant: `KEPT` and `REPEATED` are returned only after the commit. What is refused may have
    been committed nevertheless; it is recognised when it is repeated. `BAD` is what the database
    cannot hold.
    """

    def __init__(
        self,
        store: Store,
        *,
        answers_within: float = ANSWERS_WITHIN,
        commits_within: float = COMMITS_WITHIN,
    ) -> None:
        """Take both times in seconds."""
        self._store = store
        self._answers_within = answers_within
        self._commits_within = commits_within
        self._queue: deque[Waiting] = deque()
        self._came = asyncio.Event()
        self._unanswered = 0
        self._one_by_one = 0
        self._gap: Gap | None = None
        self._refused_since = self._refused_at = -math.inf

    async def keep(self, received: Received) -> Outcome:
        """Return what became of a notification, within `answers_within`."""
        if self._unanswered >= MAX_WAITING:
            return self._refuse()
        self._unanswered += 1
        waiting = Waiting(received, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._came.set()
        try:
            async with asyncio.timeout(self._answers_within):
                return await waiting.outcome
        except TimeoutError:
            return self._refuse()
        finally:
            self._unanswered -= 1

    async def run(self) -> None:
        """Commit what waits, until cancelled."""
        while True:
            await self._came.wait()
            self._came.clear()
            while batch := self._next_batch():
                if not await self._commit(batch):
                    await asyncio.sleep(RETRY_EVERY)

    def refused(self, quiet: float, at_most: float = math.inf) -> Gap | None:
        """Return what was refused, to be forgotten here, once nothing was for `quiet` seconds.

        Refusals that go on for longer than `at_most` seconds are returned nevertheless.
        """
        now = time.monotonic()
        if self._gap is None:
            return None
        if now - self._refused_at < quiet and now - self._refused_since < at_most:
            return None
        gap, self._gap = self._gap, None
        return gap

    def _refuse(self) -> Outcome:
        now = datetime.now(UTC)
        self._refused_at = time.monotonic()
        if self._gap is None:
            self._refused_since = self._refused_at
        before = self._gap or Gap(now, now, 0)
        self._gap = Gap(before.since, now, before.refused + 1)
        return Outcome.UNAVAILABLE

    def restore(self, gap: Gap) -> None:
        """Take back a gap that could not be written."""
        later = self._gap
        if later is None:
            self._gap = gap
        else:
            self._gap = Gap(gap.since, later.until, gap.refused + later.refused)

    def _next_batch(self) -> list[Waiting]:
        """Return the next ones that are still waited for."""
        batch: list[Waiting] = []
        limit = 1 if self._one_by_one else MAX_BATCH
        while self._queue and len(batch) < limit:
            waiting = self._queue.popleft()
            if not waiting.outcome.done():
                batch.append(waiting)
        return batch

    async def _commit(self, batch: Sequence[Waiting]) -> bool:
        """Commit a batch and answer it; False if the database is to be left alone for a moment."""
        try:
            work = self._store.keep([waiting.received for waiting in batch])
            kept = await run_within(self._commits_within, work)
        except UnusableError as error:
            return self._put_back(batch, error)
        if kept is None:
            await self._store.cut()
            self._queue.extendleft(reversed(batch))
            return False
        self._one_by_one = max(0, self._one_by_one - 1)
        self._answer(batch, kept)
        return True

    def _put_back(self, batch: Sequence[Waiting], error: UnusableError) -> bool:
        """Queue again what was not committed; False if that should wait for a moment."""
        if not error.answered:
            self._queue.extendleft(reversed(batch))
            return False
        if len(batch) > 1:
            self._one_by_one = len(batch)
            self._queue.extendleft(reversed(batch))
            return True
        self._one_by_one = max(0, self._one_by_one - 1)
        (waiting,) = batch
        if error.unfit:
            if not waiting.outcome.done():
                waiting.outcome.set_result(Outcome.BAD)
            return True
        others = bool(self._queue)
        self._queue.append(waiting)  # the others first: it may be this one's own fault
        return others and self._one_by_one > 0

    def _answer(self, batch: Sequence[Waiting], kept: Kept) -> None:
        new = set(kept.new)
        for received, outcome in batch:
            is_new = received.fingerprint in new
            new.discard(received.fingerprint)
            if not outcome.done():
                outcome.set_result(Outcome.KEPT if is_new else Outcome.REPEATED)
        for late in kept.late:
            _log.info(logs.TELEGRA_LATE, call_id=late.call_id, cmd=late.command)
