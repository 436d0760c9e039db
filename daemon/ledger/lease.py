"""One active instance to a ledger: a session-level advisory lock, tied to life by pings.

Invariant: two instances never start requests at once, whatever froze or cut off one of them.

1. A holder starts no request `TRUSTED_FOR` after it *sent* the last ping that was answered with
   the oid of the ledger it has locked. When that ping was answered, its session held the lock and
   the tables were the same.
2. Postgres gives the lock to somebody else only after that session has ended, and a lock of another
   oid only after the tables were created anew: either way after that ping.
3. Whoever gets the lock starts no request for `GRACE`, counted from the answer and longer than
   `TRUSTED_FOR`; what is left of it is the margin for a request that is just being written. No
   wait where nobody else can still trust the lock: the last holder stopped in order, or was this
   process. The ledger's `instance` row says who it was. A row that another ledger oid wrote says
   nothing: it came from a copy.
4. A holder owns that row before its first request (`Heartbeat.begin`). It takes the row over only
   from the holder that it has read there, and later writes change it only while it is still its
   own: a statement that was long under way changes nothing.

Safety does not depend on how long the server waits for pings (`SERVER_ENDS_AFTER`): that says how
soon somebody else may take over from an instance that is frozen or cut off. Stalls shorter than
`LOST_AFTER` cost nothing but the time in which no request may start. All seconds are by a clock
that counts suspends; nothing is compared with another machine's clock.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NoReturn, Self

from daemon.database import statements
from daemon.database.pool import CONNECT_TIMEOUT, Database
from daemon.errors import LeaseLostError, UnreachableError, UnusableError
from daemon.ledger.instance import Tenure
from daemon.ledger.locks import ACTIVE_LOCK, DAEMON_LOCK

PING_EVERY = 0.5
"""Seconds from one ping of the lock's session to the next; one that takes longer is waited for."""
TRUSTED_FOR = 2.5
"""No request starts so many seconds after the last answered ping was sent."""
LOST_AFTER = 6.0
"""The lease is given up, and requests in flight aborted, so many seconds after the same moment."""
SERVER_ENDS_AFTER = 8
"""Seconds of silence after which the session is ended, and with it the lock.

By Postgres if it is idle; by whoever waits for the lock if it fell silent within a request.
"""
GRACE = 2.75
"""Seconds for which a new holder starts no request: the last one may not know of its end."""
TRY_EVERY = 0.5
"""Seconds between two tries to get the lock."""
CONNECT_WITHIN = CONNECT_TIMEOUT
"""Seconds for a connection of one try, with all that prepares it."""

_SQL = statements.load("ledger/lease.sql")


def seconds_since_boot() -> float:
    """Return a clock that goes on while the machine is suspended, where the system has one."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Lease:
    """The right to send for a ledger; see this module's invariants."""

    def __init__(
        self, database: Database, *, is_daemon: bool, connect_within: float = CONNECT_WITHIN
    ) -> None:
        """No connection is opened yet.

        With `is_daemon` a backfill that sends sees that a `run` is here, and hands over.
        """
        self._database = database
        self._is_daemon = is_daemon
        self._connect_within = connect_within
        self._connection: Any = None
        self._ledger_oid = 0
        self._process = secrets.token_hex(8)
        self._tenures = 0
        self._may_start_at = float("inf")
        self._pinged_at = float("-inf")
        self._answered = asyncio.Event()
        self._ended = asyncio.Event()
        self.tenure = Tenure()
        self._on_notice: Callable[[], None] | None = None

    async def __aenter__(self) -> Self:
        """Hold nothing yet."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release the lock; it ends with its session."""
        self.release()

    @property
    def held(self) -> bool:
        """Whether a request may start now."""
        now = seconds_since_boot()
        return (
            now - self._pinged_at < TRUSTED_FOR
            and now >= self._may_start_at
            and not self._ended.is_set()
        )

    async def until_held(self) -> None:
        """Wait until a request may start; `keep` must run, and raises if the lock is lost."""
        while not self.held:
            left = self._may_start_at - seconds_since_boot()
            if left > 0:
                await asyncio.sleep(left)
            else:
                await self._answered.wait()

    async def try_acquire(self) -> bool:
        """Try once; False while another instance has the lock. Raises `UnreachableError`.

        Run `keep` at once when it is there, and own the instance's row before the first request.
        """
        try:
            with self._database.watched("lock"):
                return await self._try()
        except UnusableError:
            self.release()
            raise

    async def _try(self) -> bool:
        if self._connection is None or self._connection.is_closed():
            await self._connect()
        asked_at = seconds_since_boot()
        row = await self._connection.fetchrow(_SQL["lock"], ACTIVE_LOCK, timeout=TRUSTED_FOR)
        if row is None:
            raise UnreachableError(
                "the ledger is incomplete: it is just being restored or migrated", answered=True
            )
        if row["ledger_oid"] != self._ledger_oid:
            self.release()  # created anew since we connected; what we want and hear is the old one
            return False
        if not row["acquired"]:
            # Postgres itself ends an idle session only.
            await self._connection.fetch(
                _SQL["end_silent_holder"], ACTIVE_LOCK, SERVER_ENDS_AFTER, timeout=TRUSTED_FOR
            )
            return False
        acquired_at = seconds_since_boot()
        # Asked for when the lock is there: in the statement before, the row might be an older one.
        last = await self._connection.fetchrow(_SQL["last_holder"], timeout=TRUSTED_FOR)
        self._begin(acquired_at, last)
        self._pinged_at = asked_at
        return True

    def _begin(self, acquired_at: float, last: Any) -> None:
        previous: str | None = last and last["lease"]
        same_ledger = last is not None and last["ledger_oid"] == self._ledger_oid
        if same_ledger and last["stopped"]:
            self._may_start_at = acquired_at
        elif not (same_ledger and str(previous).startswith(self._process)):
            self._may_start_at = acquired_at + GRACE
        # Else it was this process: it waits for what is left of its own wait, if anything.
        self._tenures += 1
        self.tenure = Tenure(f"{self._process}-{self._tenures}", self._ledger_oid, previous)

    async def keep(self) -> None:
        """Ping until cancelled; raises `LeaseLostError` when the lock is, or must be, given up."""
        while True:
            try:
                async with asyncio.timeout(self._pinged_at + PING_EVERY - seconds_since_boot()):
                    await self._ended.wait()
            except TimeoutError:
                asked_at = seconds_since_boot()
            else:
                self._lose("the server ended the session that held the ledger's lock")
            left = self._pinged_at + LOST_AFTER - asked_at
            if left <= 0:
                self._lose(f"the holder of the ledger's lock was frozen for over {LOST_AFTER:g} s")
            try:
                with self._database.watched("lock"):
                    ledger_oid = await self._connection.fetchval(_SQL["ping"], timeout=left)
            except UnusableError as error:
                self.release()
                # Statements under way would wait much longer for the same silent server.
                await self._database.cut()
                raise LeaseLostError(f"the ledger's lock is lost: {error}") from error
            if ledger_oid != self._ledger_oid:
                self._lose("the ledger's tables were removed or created anew")
            self._pinged_at = asked_at
            self._answered.set()
            self._answered = asyncio.Event()

    def _lose(self, reason: str) -> NoReturn:
        self.release()
        raise LeaseLostError(reason)

    async def _connect(self) -> None:
        async with asyncio.timeout(self._connect_within):
            self._connection = await self._database.connect(
                application_name="callstatsd lock",
                idle_session_timeout=f"{SERVER_ENDS_AFTER}s",
            )
            row = await self._connection.fetchrow(_SQL["channel"])
            await self._connection.add_listener(row["channel"], self._noticed)
            if self._is_daemon:
                await self._connection.fetchval(_SQL["announce_daemon"], DAEMON_LOCK)
        self._ledger_oid = row["ledger_oid"]
        self._ended = ended = asyncio.Event()
        self._connection.add_termination_listener(lambda _: ended.set())

    @contextmanager
    def noticing(self, on_notice: Callable[[], None]) -> Iterator[None]:
        """Call this during the block whenever an operator has changed something in the ledger."""
        self._on_notice = on_notice
        try:
            yield
        finally:
            self._on_notice = None

    def _noticed(self, *_: Any) -> None:
        if self._on_notice is not None:
            self._on_notice()

    async def daemon_waiting(self) -> bool:
        """Whether a `run` is here. Raises `UnreachableError`."""
        async with self._database.connection() as connection:
            return bool(await connection.fetchval(_SQL["daemon_waiting"], DAEMON_LOCK))

    def release(self) -> None:
        """Release the lock by ending its session."""
        self._pinged_at = float("-inf")
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
