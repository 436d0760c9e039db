"""What status, page and `show` read of the receiver's tables."""

from datetime import datetime, timedelta
from typing import NamedTuple

from daemon.database import statements
from daemon.database.pool import Database

_SQL = statements.load("telegra/store.sql")


class Overview(NamedTuple):
    """How the receiver is doing."""

    last_notification_at: datetime | None
    open_calls: int
    waiting_codes: int


class TelegraReader:
    """Reads over the sessions of the source, or the receiver's own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def overview(self, stale_after: timedelta, lookback: timedelta) -> Overview:
        """Return when the latest notification came, and how many calls and codes wait.

        Calls that started `stale_after` ago have no end any more; codes wait for `lookback`.
        """
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_SQL["overview"], stale_after, lookback)
        return Overview(*row)

    async def call_of_task(self, task_id: str) -> int | None:
        """Return the StatisticsPartA.ID of a taskid's newest call; None if it is unknown."""
        async with self._database.connection() as connection:
            found = await connection.fetchval(_SQL["call_of_task"], task_id.strip().lower())
        return None if found is None else int(found)
