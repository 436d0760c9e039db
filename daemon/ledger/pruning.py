"""Removes old lines, records and commands; a lock stops this while a backfill compares."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from daemon.database import statements
from daemon.errors import UnreachableError
from daemon.ledger.locks import RETENTION_LOCK
from daemon.ledger.tables import LedgerTables
from daemon.lines import FeedName

_SQL = statements.load("ledger/pruning.sql")


class PruningStore(LedgerTables):
    """Removes lines, records and what belongs to them, a few at a time."""

    async def prune(self, feed: FeedName, age: float, limit: int) -> int:
        """Remove lines of a feed that were settled so many seconds ago; 0 when none is left."""
        return await self._remove("prune", age, limit, feed)

    async def prune_acts(self, age: float, limit: int) -> int:
        """Remove acts so many seconds old that no line refers to; 0 when none is left."""
        return await self._remove("prune_acts", age, limit)

    async def drop_records(self, feed: FeedName, age: float, limit: int) -> int:
        """Drop records of a feed's lines settled so many seconds ago; 0 when none is left."""
        return await self._remove("drop_records", age, limit, feed)

    async def prune_lanes(self, limit: int) -> int:
        """Remove back-offs of lanes for which no line waits any more; 0 when none is left."""
        async with self.database.connection() as connection:
            return int(await connection.fetchval(_SQL["prune_lanes"], limit))

    async def prune_streaks(self) -> None:
        """Forget streaks of which no line is refused any more."""
        async with self.database.connection("prune_streaks") as connection:
            await connection.execute(_SQL["prune_streaks"])

    async def prune_alerts(self, age: float, limit: int) -> int:
        """Remove alerts that ended so many seconds ago, but the last; 0 when none is left."""
        return await self._remove("prune_alerts", age, limit)

    async def _remove(self, statement: str, *arguments: Any) -> int:
        async def remove(connection: Any) -> int:
            async with connection.transaction():
                if not await connection.fetchval(_SQL["may_prune"], RETENTION_LOCK):
                    return 0
                return int(await connection.fetchval(_SQL[statement], *arguments))

        return await self.database.change(remove, statement)

    @asynccontextmanager
    async def retention_locked(self) -> AsyncIterator[Callable[[], None]]:
        """Stop pruning during the block, because a backfill compares with the ledger.

        Yields a function that raises `UnreachableError` once the lock is lost.
        """
        connection = await self.database.connect()

        def still() -> None:
            if connection.is_closed():
                raise UnreachableError(
                    "the session that stops retention has ended: start the backfill again"
                )

        try:
            with self.database.watched():
                await connection.fetchval(_SQL["lock_retention"], RETENTION_LOCK)
            yield still
        finally:
            connection.terminate()
