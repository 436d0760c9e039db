"""Gaps in the ledger: when notifications were refused, and how many."""

from datetime import datetime
from typing import NamedTuple

from daemon.database import statements
from daemon.ledger.tables import LedgerTables

_SQL = statements.load("ledger/gaps.sql")


class NotedGap(NamedTuple):
    """From the first to the last refusal, with how many there were."""

    since: datetime
    until: datetime
    refused: int


class GapStore(LedgerTables):
    """Notes gaps, and tells of them."""

    async def note_gap(self, since: datetime, until: datetime, refused: int) -> None:
        """Add a gap, or what was refused to one that has just ended."""
        async with self.database.connection() as connection:
            await connection.execute(_SQL["note_gap"], since, until, refused)

    async def gaps(self, since: datetime, until: datetime, limit: int) -> list[NotedGap]:
        """Return the newest gaps that overlap a time, newest first."""
        async with self.database.connection() as connection:
            rows = await connection.fetch(_SQL["gaps"], since, until, limit)
        return [NotedGap(*row) for row in rows]

    async def prune_gaps(self, age: float) -> None:
        """Remove gaps that ended so many seconds ago."""
        async with self.database.connection() as connection:
            await connection.execute(_SQL["prune_gaps"], age)
