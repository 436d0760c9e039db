"""Lines come into the ledger: what is new is inserted, and how far they are taken is kept."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from daemon.database import statements
from daemon.ledger.tables import LedgerTables, line_columns
from daemon.lines import BIGINT_MIN, MICROSECOND, Covered, Digest, LineKey, NewLine

PAGE = 2000
"""Lines to read at once."""

_SQL = statements.load("ledger/taking.sql")
_COUNT_ACT = statements.load("ledger/operator.sql")["count_act"]


@dataclass(frozen=True, slots=True)
class TakingProgress:
    """How far calls are taken, in instants of the source's clock; None before the first start.

    Calls without an end are taken up to `never_ended_until`, by their start.
    """

    start_from: datetime | None
    watermark: datetime | None
    never_ended_until: datetime | None
    swept_at: datetime | None
    pruned_before: datetime | None
    endpoint_proven: bool

    @property
    def floor(self) -> datetime | None:
        """The earliest end of a call to take: START_FROM, and nothing that retention removed."""
        if self.start_from is None or self.pruned_before is None:
            return self.start_from
        return max(self.start_from, self.pruned_before + MICROSECOND)


class TakingStore(LedgerTables):
    """Inserts new lines, and returns what is there to compare with."""

    async def progress(self) -> TakingProgress:
        """Return how far calls are taken."""
        return TakingProgress(*await self._only_row(_SQL["progress"]))

    async def start(self, start_from: datetime, watermark: datetime) -> None:
        """Keep START_FROM and the first watermark; only the first start does."""
        async with self.database.connection() as connection:
            await connection.execute(_SQL["start"], start_from, watermark)

    async def take(
        self,
        lines: Sequence[NewLine],
        *,
        covered: Covered | None = None,
        backfill: bool = False,
        act: int | None = None,
    ) -> set[LineKey]:
        """Insert what is new and, in the same transaction, move the watermarks over it.

        Returns the keys that were new; what the ledger has already is left alone. `act` is the
        backfill that takes them, and counts them.
        """
        # One order for all who insert, so that two of them wait for each other, never deadlock.
        lines = sorted(lines, key=lambda line: line.key)
        async with self.database.connection("take") as connection, connection.transaction():
            rows: list[Any] = []
            if lines:
                await connection.execute(_SQL["in_bulk"])
                rows = await connection.fetch(_SQL["take"], *line_columns(lines), backfill, act)
            if rows and act is not None:
                await connection.execute(_COUNT_ACT, act, len(rows))
            if covered is not None:
                await connection.execute(_SQL["advance"], *covered)
        return set(map(LineKey._make, rows))

    async def pull_back(self, covered: Covered) -> None:
        """Set a watermark that the source's clock has jumped behind back to that clock."""
        async with self.database.connection("pull_back") as connection:
            await connection.execute(_SQL["pull_back"], *covered)

    async def swept(self, until: datetime) -> None:
        """Remember that a sweep of LOOKBACK has been completed up to there."""
        async with self.database.connection("swept") as connection:
            await connection.execute(_SQL["swept"], until)

    async def without_id(
        self, since: datetime, floor: datetime, reason: str
    ) -> AsyncIterator[list[LineKey]]:
        """Yield pages of the lines skipped for that reason: call ended or line taken since then.

        Lines of calls from before the floor are left out.
        """
        after = LineKey(BIGINT_MIN, 0, 0, 0)
        while True:
            async with self.database.connection() as connection:
                rows = await connection.fetch(
                    _SQL["without_id"], since, reason, *after, PAGE, floor
                )
            keys = [LineKey(*row) for row in rows]
            if keys:
                yield keys
                after = keys[-1]
            if len(keys) < PAGE:
                return

    async def identify(self, lines: Sequence[NewLine], reason: str) -> set[LineKey]:
        """Put lines that were skipped for that reason into the state they call for by now."""
        lines = sorted(lines, key=lambda line: line.key)
        rows = await self.database.change(
            lambda connection: connection.fetch(_SQL["identify"], *line_columns(lines), reason),
            "identify",
        )
        return set(map(LineKey._make, rows))

    async def known(self, call_ids: Sequence[int]) -> set[LineKey]:
        """Return the keys that the ledger has of these calls."""
        async with self.database.connection() as connection:
            rows = await connection.fetch(_SQL["known"], call_ids)
        return set(map(LineKey._make, rows))

    async def settled(self, call_ids: Sequence[int]) -> set[LineKey]:
        """Return the keys of those lines of these calls that are not pending."""
        async with self.database.connection() as connection:
            rows = await connection.fetch(_SQL["settled_keys"], call_ids)
        return set(map(LineKey._make, rows))

    async def digest(self, call_ids: Sequence[int]) -> Digest:
        """Return what all lines of these calls come to; for comparing with the source's."""
        async with self.database.connection() as connection:
            return Digest(*await connection.fetchrow(_SQL["digest"], call_ids))
