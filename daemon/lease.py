"""One active instance to a ledger: a session-level advisory lock, tied to life by pings."""

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from daemon import queries
from daemon.database import Database
from daemon.errors import LeaseLostError, UnreachableError
from daemon.ledger import LOCK_CLASS, WANT_CLASS

PING_EVERY = 2.0
"""Seconds between pings of the session that holds the lock."""
TRUSTED_FOR = 6.0
"""A request may start only if a ping that was sent less than this many seconds ago was answered."""
SERVER_GIVES_UP_AFTER = 10.0
"""Seconds of silence after which Postgres ends the session, and with it the lock."""
GRACE = 0.2
"""Seconds that a new holder waits: the one before may just be learning that its session ended."""

_SQL = queries.load("ledger.sql")


def seconds_since_boot() -> float:
    """Return a clock that goes on while the machine is suspended, where the system has one."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Lease:
    """The right to send for a ledger.

    Invariant: whoever sends has had a ping answered that was sent less than `TRUSTED_FOR` ago,
    and Postgres gives the lock to nobody else before `SERVER_GIVES_UP_AFTER` without pings; so
    two instances never send at once, whatever froze one of them. Where the server itself ends
    the session, the socket says so at once, and who comes next waits `GRACE` before sending; a
    holder that is frozen or cut off in that very moment may trust its last ping a little longer.
    """

    def __init__(self, database: Database, *, wanting: bool) -> None:
        """Take the ledger's database; no connection is opened yet.

        `wanting` tells a backfill that sends that a `run` is here, so that it hands over.
        """
        self._database = database
        self._wanting = wanting
        self._connection: Any = None
        self._pinged_at = float("-inf")
        self._ended = asyncio.Event()
        self.on_notice: Callable[[], None] = lambda: None

    async def __aenter__(self) -> Self:
        """Hold nothing yet."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go: the lock ends with its session."""
        self._drop()

    @property
    def held(self) -> bool:
        """Whether a request may start now."""
        return not self._ended.is_set() and seconds_since_boot() - self._pinged_at < TRUSTED_FOR

    async def try_acquire(self) -> bool:
        """Try once; False while another instance has the lock. Raises `UnreachableError`."""
        try:
            with self._database.watched():
                if self._connection is None or self._connection.is_closed():
                    await self._connect()
                asked_at = seconds_since_boot()
                acquired = await self._connection.fetchval(
                    _SQL["lock"], LOCK_CLASS, timeout=PING_EVERY
                )
        except UnreachableError:
            self._drop()
            raise
        if acquired:
            await asyncio.sleep(GRACE)
            self._pinged_at = asked_at
        return bool(acquired)

    async def keep(self) -> None:
        """Ping until cancelled; raises `LeaseLostError` as soon as the lock cannot be trusted."""
        while True:
            try:
                async with asyncio.timeout(PING_EVERY):
                    await self._ended.wait()
            except TimeoutError:
                asked_at = seconds_since_boot()
            else:
                self._drop()
                raise LeaseLostError("the server ended the session that held the ledger's lock")
            try:
                with self._database.watched():
                    await self._connection.execute(_SQL["ping"], timeout=TRUSTED_FOR - PING_EVERY)
            except UnreachableError as error:
                self._drop()
                # Statements under way would wait much longer for the same silent server.
                await self._database.cut()
                raise LeaseLostError(f"the ledger's lock is lost: {error}") from error
            self._pinged_at = asked_at

    async def _connect(self) -> None:
        self._connection = await self._database.connect(
            application_name="callstatsd lock",
            idle_session_timeout=f"{int(SERVER_GIVES_UP_AFTER)}s",
        )
        if self._wanting:
            await self._connection.fetchval(_SQL["want"], WANT_CLASS)
        channel = await self._connection.fetchval(_SQL["channel"])
        await self._connection.add_listener(channel, lambda *_: self.on_notice())
        self._ended = asyncio.Event()
        ended = self._ended
        self._connection.add_termination_listener(lambda _: ended.set())

    async def wanted(self) -> bool:
        """Whether a `run` is here. Raises `UnreachableError`."""
        async with self._database.connection() as connection:
            return bool(await connection.fetchval(_SQL["wanted"], WANT_CLASS))

    def release(self) -> None:
        """Let go of the lock; it ends with its session."""
        self._drop()

    def _drop(self) -> None:
        self._pinged_at = float("-inf")
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
