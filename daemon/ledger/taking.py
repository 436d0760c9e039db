"""Inserts new lines into the ledger, and stores how far lines are taken."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from daemon.database import statements
from daemon.ledger.tables import LedgerTables, keys_of, line_columns
from daemon.lines import (
    BIGINT_MIN,
    MICROSECOND,
    Covered,
    Digest,
    FeedName,
    LineKey,
    NewLine,
    SkipReason,
)

PAGE = 2000
"""Lines to read at once."""

_SQL = statements.load("ledger/taking.sql")
_COUNT_ACT = statements.load("ledger/operator.sql")["count_act"]


@dataclass(frozen=True, slots=True)
class TakingProgress:
    """How far a feed is taken, in instants of the source's clock; None before the first start.

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
    """Inserts new lines, and returns known keys for sweeps and backfills to compare with."""

    async def progress(self, feed: FeedName) -> TakingProgress:
        """Return how far lines are taken."""
        return TakingProgress(*await self._only_row(_SQL["progress"], feed))

    async def start(self, feed: FeedName, start_from: datetime, watermark: datetime) -> None:
        """Keep START_FROM and the first watermark; only the first start does."""
        async with self.database.connection() as connection:
            await connection.execute(_SQL["start"], feed, start_from, watermark)

    async def take(
        self,
        feed: FeedName,
        lines: Sequence[NewLine],
        *,
        covered: Covered | None = None,
        backfill: bool = False,
        act: int | None = None,
    ) -> set[LineKey]:
        """Insert a feed's lines that are new and move the watermarks over them, in one transaction.

        Returns the keys that were new; what the ledger has already is left alone. `act` is the
        backfill that takes them, and counts them.
        """
        # One order for all who insert, so that two of them wait for each other, never deadlock.
        lines = sorted(lines, key=lambda line: line.key)
        async with self.database.connection("take") as connection, connection.transaction():
            rows: list[Any] = []
            if lines:
                await connection.execute(_SQL["in_bulk"])
                columns = line_columns(lines)
                rows = await connection.fetch(_SQL["take"], *columns, backfill, act, feed)
            if rows and act is not None:
                await connection.execute(_COUNT_ACT, act, len(rows))
            if covered is not None:
                await connection.execute(_SQL["advance"], feed, *covered)
        return keys_of(rows, feed)

    async def pull_back(self, feed: FeedName, covered: Covered) -> None:
        """Set back a watermark that is ahead of the source's clock."""
        async with self.database.connection("pull_back") as connection:
            await connection.execute(_SQL["pull_back"], feed, *covered)

    async def swept(self, feed: FeedName, until: datetime) -> None:
        """Remember that a sweep of LOOKBACK has been completed up to there."""
        async with self.database.connection("swept") as connection:
            await connection.execute(_SQL["swept"], feed, until)

    async def without_id(
        self, feed: FeedName, since: datetime, floor: datetime, reason: SkipReason
    ) -> AsyncIterator[list[LineKey]]:
        """Yield pages of the lines skipped for that reason: call ended or line taken since then.

        Lines of calls from before the floor are left out.
        """
        after = (BIGINT_MIN, 0, 0, 0)
        while True:
            async with self.database.connection() as connection:
                rows = await connection.fetch(
                    _SQL["without_id"], since, reason, *after, PAGE, floor, feed
                )
            keys = [LineKey._make((*row, feed)) for row in rows]
            if keys:
                yield keys
                after = keys[-1].ids
            if len(keys) < PAGE:
                return

    async def identify(
        self, feed: FeedName, lines: Sequence[NewLine], reason: SkipReason
    ) -> set[LineKey]:
        """Give a feed's lines that were skipped for that reason their new state and record."""
        lines = sorted(lines, key=lambda line: line.key)
        rows = await self.database.change(
            lambda connection: connection.fetch(
                _SQL["identify"], *line_columns(lines), reason, feed
            ),
            "identify",
        )
        return keys_of(rows, feed)

    async def known(self, feed: FeedName, call_ids: Sequence[int]) -> set[LineKey]:
        """Return the keys that the ledger has of these calls."""
        async with self.database.connection() as connection:
            rows = await connection.fetch(_SQL["known"], call_ids, feed)
        return keys_of(rows, feed)

    async def filtered(self, feed: FeedName, call_ids: Sequence[int]) -> set[LineKey]:
        """Return the keys of those lines of these calls that a filter has kept out."""
        async with self.database.connection() as connection:
            rows = await connection.fetch(_SQL["filtered"], call_ids, feed, SkipReason.FILTERED)
        return keys_of(rows, feed)

    async def settled(self, feed: FeedName, call_ids: Sequence[int]) -> set[LineKey]:
        """Return the keys of those lines of these calls that are not pending."""
        async with self.database.connection() as connection:
            rows = await connection.fetch(_SQL["settled_keys"], call_ids, feed)
        return keys_of(rows, feed)

    async def digest(self, feed: FeedName, call_ids: Sequence[int]) -> Digest:
        """Return the digest of all lines of these calls, to compare with the source's."""
        async with self.database.connection() as connection:
            return Digest(*await connection.fetchrow(_SQL["digest"], call_ids, feed))
