"""asyncpg's pool for a Postgres that may be unreachable; logs each outage once."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from types import TracebackType
from typing import Any, Self, TypeVar

import asyncpg
import structlog

from daemon import logs
from daemon.database import statements
from daemon.database.errors import KEPT_SETTING, Place, faults, pooler_refused
from daemon.database.outages import CONNECT, Outages
from daemon.errors import ConfigurationError, DatabaseSetupError, UnusableError

T = TypeVar("T")
Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy
Initialise = Callable[[Any], Awaitable[None]]

CONNECT_TIMEOUT = 5.0
"""Seconds to wait for a connection."""
COMMAND_TIMEOUT = 60.0
"""Seconds to wait for one statement; a half-open connection is noticed by this."""
DEADLOCKS = 5
"""Times that a change is repeated after a deadlock before that is an error."""

LENDS = "it lends one session after another, as in transaction mode"
"""The fault of a pooler for which `Database.keeps_sessions` is false."""

_NAME = "application_name"
"""The one setting that a pooler may change: it adds the client's address."""

_SQL = statements.load("database/session.sql")
_log = structlog.get_logger()


class Database:
    """A pool that is opened without the server being there; `name` is `source` or `ledger`.

    Logs `database.lost` and `database.back` once for each outage.
    """

    def __init__(
        self,
        name: str,
        dsn: str,
        *,
        session: dict[str, str],
        size: int,
        initialise: Initialise | None = None,
    ) -> None:
        """`session` has server parameters, `size` is the most connections to open."""
        self.name = name
        self.place = Place(name, dsn)
        self._outages = Outages()
        self._dsn = dsn
        self._session = {_NAME: "callstatsd", **session}
        self._initialise = initialise
        self._size = size

    async def __aenter__(self) -> Self:
        """Open the pool without connecting."""
        self._pool = await self._open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the pool; connections still in use by a cancelled task are cut."""
        if self._outages.closed():
            _log.info(logs.DATABASE_BACK, database=self.name)
        self._pool.terminate()

    async def cut(self) -> None:
        """Drop all connections, also those in use: the server is silent, another may not be."""
        silent, self._pool = self._pool, await self._open()
        silent.terminate()

    async def _open(self) -> Any:
        with faults(self.place):
            return await asyncpg.create_pool(
                self._dsn,
                connect=self._connect,
                min_size=0,
                max_size=self._size,
                timeout=CONNECT_TIMEOUT,
                command_timeout=COMMAND_TIMEOUT,
                server_settings=self._session,
                init=self._initialise,
                # Every statement of ours leaves its session as it was: no round trip to reset it.
                reset=_leave_as_it_is,
            )

    async def _connect(self, *arguments: Any, **options: Any) -> Any:
        """Open a session; raises `DatabaseSetupError` unless it has our settings."""
        with self.watched(CONNECT):
            connection = await asyncpg.connect(*arguments, **options)
            try:
                await self._compare(connection, options["server_settings"])
            except BaseException:
                connection.terminate()
                raise
            return connection

    async def _compare(self, connection: Any, session: Mapping[str, str]) -> None:
        """Compare the settings of a new session: poolers drop those that they do not know."""
        wanted = {name: value for name, value in session.items() if name != _NAME}
        found = dict(await connection.fetch(_SQL["settings"], list(wanted)))
        if dropped := [name for name in wanted if _plain(found[name]) != _plain(wanted[name])]:
            raise pooler_refused(self.place, f"it drops {', '.join(dropped)}")

    @property
    def lost(self) -> bool:
        """Whether the server cannot be reached, or refuses a statement."""
        return self._outages.failing

    @contextmanager
    def watched(self, use: str = "read") -> Iterator[None]:
        """Convert driver errors to `CallstatsdError`, and log when the server is lost and back.

        `use` names the operation: a fault of one is not over when another one works.
        """
        try:
            with faults(self.place, connecting=use == CONNECT):
                yield
        except UnusableError as error:
            self._note(use, error)
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # The pool takes a broken connection back with an error of its own, which must
                # not make a cancelled task go on.
                raise asyncio.CancelledError from error
            raise
        if self._outages.worked(use, time.monotonic()):
            _log.info(logs.DATABASE_BACK, database=self.name)

    def _note(self, use: str, error: UnusableError) -> None:
        if error.noted:
            return  # by `_connect`, on its way out through the pool
        error.noted = True
        if self._outages.failed(use, time.monotonic(), answered=error.answered):
            _log.error(logs.DATABASE_LOST, database=self.name, error=str(error))

    @asynccontextmanager
    async def connection(self, use: str = "read") -> AsyncIterator[Any]:
        """Lend a connection; raises `UnreachableError` if the server cannot be used."""
        with self.watched(use):
            async with self._pool.acquire(timeout=CONNECT_TIMEOUT) as connection:
                try:
                    yield connection
                except KEPT_SETTING:
                    # The session would keep what the server, or the next one, no longer has.
                    connection.terminate()
                    raise
                except AttributeError as error:
                    # asyncpg's error for a connection that was cut between two of its steps.
                    if not connection.is_closed():
                        raise
                    raise asyncpg.InterfaceError("the connection was cut") from error

    async def change(self, work: Callable[[Any], Awaitable[T]], use: str = "change") -> T:
        """Run a statement or transaction, and repeat it when Postgres ended it for a deadlock."""
        async with self.connection(use) as connection:
            for _ in range(DEADLOCKS):
                with suppress(asyncpg.DeadlockDetectedError):
                    return await work(connection)
            return await work(connection)

    async def connect(
        self, *, command_timeout: float | None = COMMAND_TIMEOUT, **session: str
    ) -> Any:
        """Open a connection of its own, outside the pool, with further session settings.

        `command_timeout` is the seconds to wait for one statement; None sets no limit.
        Raises `ConfigurationError` where a pooler lends it one session after another.
        """
        try:
            connection = await self._connect(
                self._dsn,
                timeout=CONNECT_TIMEOUT,
                command_timeout=command_timeout,
                server_settings={**self._session, **session},
            )
            with self.watched():
                backend = await connection.fetchval(_SQL["backend"])
            if backend != connection.get_server_pid() and not await self.keeps_sessions():
                connection.terminate()
                raise pooler_refused(self.place, LENDS)
        except DatabaseSetupError as error:
            raise ConfigurationError(str(error)) from error
        return connection

    async def keeps_sessions(self) -> bool:
        """Whether each session has a backend of its own, from statement to statement.

        A pooler in transaction mode lends the backend that one session has just used to the next.
        """
        async with self.connection() as one, self.connection() as other:
            first = await one.fetchval(_SQL["backend"])
            async with other.transaction():
                if await other.fetchval(_SQL["backend"]) == first:
                    return False
                return bool(await one.fetchval(_SQL["backend"]) == first)


def quoted(identifier: str) -> str:
    """Quote a schema name for SQL text."""
    return '"' + identifier.replace('"', '""') + '"'


def _plain(setting: str | None) -> str:
    """Remove what Postgres or a DBA may write differently with the same meaning."""
    return re.sub(r'["\s]', "", setting or "").lower()


async def _leave_as_it_is(_connection: Any) -> None:
    """Nothing to reset on return to the pool."""
