"""One active instance to a ledger: a session-level advisory lock, tied to life by pings."""

import asyncio
import time
from types import TracebackType
from typing import Any, Self

from daemon import queries
from daemon.database import Database, faults
from daemon.errors import LeaseLostError, UnreachableError
from daemon.ledger import LOCK_CLASS

PING_EVERY = 2.0
"""Seconds between pings of the session that holds the lock."""
TRUSTED_FOR = 6.0
"""A request may start only if a ping that was sent less than this many seconds ago was answered."""
SERVER_GIVES_UP_AFTER = 10.0
"""Seconds of silence after which Postgres ends the session, and with it the lock."""

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
    two instances never send at once, whatever froze one of them.
    """

    def __init__(self, database: Database) -> None:
        """Take the ledger's database; no connection is opened yet."""
        self._database = database
        self._connection: Any = None
        self._pinged_at = float("-inf")

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
        return seconds_since_boot() - self._pinged_at < TRUSTED_FOR

    async def try_acquire(self) -> bool:
        """Try once; False while another instance has the lock. Raises `UnreachableError`."""
        try:
            with faults("ledger"):
                if self._connection is None or self._connection.is_closed():
                    self._connection = await self._database.connect(
                        application_name="callstatsd lock",
                        idle_session_timeout=f"{int(SERVER_GIVES_UP_AFTER)}s",
                    )
                asked_at = seconds_since_boot()
                acquired = await self._connection.fetchval(
                    _SQL["lock"], LOCK_CLASS, timeout=PING_EVERY
                )
        except UnreachableError:
            self._drop()
            raise
        if acquired:
            self._pinged_at = asked_at
        return bool(acquired)

    async def keep(self) -> None:
        """Ping until cancelled; raises `LeaseLostError` as soon as the lock cannot be trusted."""
        while True:
            await asyncio.sleep(PING_EVERY)
            asked_at = seconds_since_boot()
            try:
                with faults("ledger"):
                    await self._connection.execute(_SQL["ping"], timeout=TRUSTED_FOR - PING_EVERY)
            except UnreachableError as error:
                self._drop()
                raise LeaseLostError(f"the ledger's lock is lost: {error}") from error
            self._pinged_at = asked_at

    def _drop(self) -> None:
        self._pinged_at = float("-inf")
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
