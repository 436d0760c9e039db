"""A Postgres that may go away: asyncpg's pool, with its faults told in our words and once."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from types import TracebackType
from typing import Any, Self, TypeVar

import asyncpg
import structlog

from daemon import logs
from daemon.errors import ConfigurationError, RefusedError, UnreachableError

T = TypeVar("T")
Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy
Initialise = Callable[[Any], Awaitable[None]]

CONNECT_TIMEOUT = 5.0
"""Seconds to wait for a connection."""
COMMAND_TIMEOUT = 60.0
"""Seconds to wait for one statement; a half-open connection is noticed by this."""
DEADLOCKS = 5
"""Times that a change may be the victim of a deadlock before that is a fault."""

_AWAY = (
    OSError,  # refused, reset, no route, name not found; TimeoutError is one too
    ssl.SSLError,
    asyncpg.PostgresError,  # shutting down, out of space, read only, a trigger that raises …
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
_CUT = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
)
_REFUSING = (
    asyncpg.InsufficientPrivilegeError,
    asyncpg.InvalidParameterValueError,  # a time zone that the server does not know
    asyncpg.InvalidSchemaNameError,
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedObjectError,
    asyncpg.UndefinedTableError,
)

_NAMING_VALUES = ("22", "23", "38", "39", "44", "P0")
"""Classes of SQLSTATE whose messages may name the values of a row, and with them a caller."""

_log = structlog.get_logger()


@contextmanager
def faults(name: str) -> Iterator[None]:
    """Tell a database's faults in our words: `UnreachableError`, or `RefusedError` (exit 78)."""
    try:
        yield
    except asyncpg.ClientConfigurationError:
        # The parser's own message may repeat the DSN, and with it the password.
        raise ConfigurationError(
            f"CALLSTATSD_{name.upper()}_DSN cannot be used: check its options, "
            "such as sslmode and certificate files"
        ) from None
    except _REFUSING as error:
        message = f"the {name} database refuses: {error}"
        raise RefusedError(message, answered=True) from error
    except _AWAY as error:
        message = f"the {name} database cannot be used now: {_reason(error)}"
        answered = isinstance(error, asyncpg.PostgresError) and not isinstance(error, _CUT)
        raise UnreachableError(message, answered=answered) from error


def _reason(error: BaseException) -> str:
    """Say in one line why, without what stands in the tables."""
    kind = type(error).__name__
    if isinstance(error, asyncpg.PostgresError) and error.sqlstate.startswith(_NAMING_VALUES):
        return f"{kind} (SQLSTATE {error.sqlstate}); the server's own log says more"
    return str(error).split("\n", maxsplit=1)[0] or kind


class Database:
    """A pool that is opened without the server being there; `name` is `source` or `ledger`.

    Logs `database.lost` and `database.back` once for each outage, whoever notices first.
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
        """Take the session's settings (server parameters) and the most connections to open."""
        self.name = name
        self._failing: set[str] = set()
        self._dsn = dsn
        self._session = {"application_name": "callstatsd", **session}
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
        self._pool.terminate()

    async def cut(self) -> None:
        """Give up all connections, also those in use: their server is silent, others may not be."""
        silent, self._pool = self._pool, await self._open()
        silent.terminate()

    async def _open(self) -> Any:
        with faults(self.name):
            return await asyncpg.create_pool(
                self._dsn,
                min_size=0,
                max_size=self._size,
                timeout=CONNECT_TIMEOUT,
                command_timeout=COMMAND_TIMEOUT,
                server_settings=self._session,
                init=self._initialise,
                # Every statement of ours leaves its session as it was: no round trip to reset it.
                reset=_leave_as_it_is,
            )

    @property
    def lost(self) -> bool:
        """Whether the server is away, or refuses a statement of ours."""
        return bool(self._failing)

    @contextmanager
    def watched(self, use: str = "") -> Iterator[None]:
        """Tell faults in our words, and the log when the server goes away and comes back.

        What the server itself answers to one `use` is over only when that use works again; what
        cut the connection is over with the next statement.
        """
        try:
            with faults(self.name):
                yield
        except UnreachableError as error:
            if not self._failing:
                _log.error(logs.DATABASE_LOST, database=self.name, error=str(error))
            self._failing.add(use if error.answered else "")
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # The pool takes a broken connection back with an error of its own, which must
                # not make a cancelled task go on.
                raise asyncio.CancelledError from error
            raise
        if self._failing:
            self._failing -= {use, ""}
            if not self._failing:
                _log.info(logs.DATABASE_BACK, database=self.name)

    @asynccontextmanager
    async def connection(self, use: str = "") -> AsyncIterator[Any]:
        """Lend a connection for some use; raise `UnreachableError` when the server is away."""
        with self.watched(use):
            async with self._pool.acquire(timeout=CONNECT_TIMEOUT) as connection:
                try:
                    yield connection
                except asyncpg.ReadOnlySQLTransactionError:
                    # The session would stay read only when the server, or the next, is no more.
                    connection.terminate()
                    raise
                except AttributeError as error:
                    # What asyncpg says of a connection that was cut between two of its steps.
                    if not connection.is_closed():
                        raise
                    raise asyncpg.InterfaceError("the connection was cut") from error

    async def change(self, work: Callable[[Any], Awaitable[T]], use: str = "") -> T:
        """Do one statement or transaction, and again when Postgres ended it for a deadlock."""
        async with self.connection(use) as connection:
            for _ in range(DEADLOCKS):
                with suppress(asyncpg.DeadlockDetectedError):
                    return await work(connection)
            return await work(connection)

    async def connect(self, **session: str) -> Any:
        """Open a connection of its own, outside the pool, with further session settings."""
        with self.watched():
            return await asyncpg.connect(
                self._dsn,
                timeout=CONNECT_TIMEOUT,
                command_timeout=COMMAND_TIMEOUT,
                server_settings={**self._session, **session},
            )


def quoted(identifier: str) -> str:
    """Quote a schema name for SQL text."""
    return '"' + identifier.replace('"', '""') + '"'


async def _leave_as_it_is(_connection: Any) -> None:
    """Do nothing on return to the pool."""
