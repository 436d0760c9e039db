"""Which lines to send next, their outcomes, and how long sending has paused."""

from collections.abc import Sequence
from typing import Any, TypeVar

from daemon.database import statements
from daemon.ledger.tables import LedgerTables, by_feed, key_columns
from daemon.lines import FailingAnswers, FeedName, LineKey, PendingLine, Settlement, State, Streak

NEWEST = 50_000
"""Pending lines among which the newest one that may be sent is looked for."""
NEWEST_PAGE = 1000
"""How many of them are looked at at once; nearly always the first page has it."""
REFUSED = 100
"""Refused lines that are looked at for a row of failing answers that another sender began."""

_SQL = statements.load("ledger/sending.sql")

T = TypeVar("T")


class SendingStore(LedgerTables):
    """Returns lines to send, and writes their outcomes."""

    async def pending(
        self, feed: FeedName, limit: int, without_lanes: Sequence[str]
    ) -> list[PendingLine]:
        """Return the next lines of a feed that may be sent now, in order."""
        async with self.database.connection() as connection, connection.transaction():
            await connection.execute(_SQL["in_order"])
            rows = await connection.fetch(_SQL["pending"], limit, without_lanes, feed)
        return [PendingLine(LineKey._make((*row[:4], feed)), *row[4:]) for row in rows]

    async def newest(self, feed: FeedName, *, backfill: bool) -> PendingLine | None:
        """Return the newest line for a probe of an endpoint that fails: live, or from backfills.

        It is ready, the first of its record, and has not failed as a probe in this pause.
        """
        place: tuple[Any, ...] = (None, None, None)
        async with self.database.connection() as connection, connection.transaction():
            await connection.execute(_SQL["in_order"])
            for _ in range(NEWEST // NEWEST_PAGE):
                row = await connection.fetchrow(_SQL["newest"], backfill, NEWEST_PAGE, *place, feed)
                if row is None:
                    return None
                if row["lane"] is not None:
                    return PendingLine(LineKey._make((*row[3:7], feed)), *row[7:])
                place = tuple(row[:3])
        return None

    async def settle(
        self, settlements: Sequence[Settlement], retry_for: float, *, again: bool = False
    ) -> dict[LineKey, tuple[State, int]]:
        """Write outcomes; returns state and attempts of each line that took its outcome.

        A line that a person discarded or requeued meanwhile keeps its new state; see `settle_void`.
        With `again` outcomes may be written already, and no attempt is counted twice.
        """
        lanes = {s.lane: s for s in settlements if s.hold or s.free}  # of several the last one
        by_feeds = list(by_feed(settlements))

        async def write(connection: Any) -> dict[LineKey, tuple[State, int]]:
            if not lanes and len(by_feeds) == 1:
                return await self._settle(connection, *by_feeds[0], retry_for, again=again)
            done: dict[LineKey, tuple[State, int]] = {}
            async with connection.transaction():
                for feed, some in by_feeds:
                    done |= await self._settle(connection, feed, some, retry_for, again=again)
                held = [s for s in lanes.values() if s.hold]
                freed = [s.lane for s in lanes.values() if not s.hold]
                await connection.execute(
                    _SQL["settle_lanes"],
                    [s.lane for s in held],
                    [s.wait for s in held],
                    [s.lane_tries for s in held],
                    freed,
                )
            return done

        return await self.database.change(write, "settle")

    async def _settle(
        self,
        connection: Any,
        feed: FeedName,
        settlements: Sequence[Settlement],
        retry_for: float,
        *,
        again: bool,
    ) -> dict[LineKey, tuple[State, int]]:
        arguments = (
            *key_columns([s.key for s in settlements]),
            [s.generation for s in settlements],
            [s.state for s in settlements],
            [s.sent for s in settlements],
            _unless_all([s.failed for s in settlements], usual=False),
            _unless_all([s.unanswered for s in settlements], usual=False),
            [s.status for s in settlements],
            _unless_all([s.error for s in settlements], usual=None),
            [s.age for s in settlements],
            _unless_all([s.wait for s in settlements], usual=None),
            [s.attempts for s in settlements] if again else [],
            _unless_all([s.answer for s in settlements], usual=None),
            retry_for,
            feed,
            again,
        )
        rows = await connection.fetch(_SQL["settle"], *arguments)
        return {
            settlements[place - 1].key: (State(state), attempts) for place, state, attempts in rows
        }

    async def settle_void(self, settlements: Sequence[Settlement]) -> None:
        """Count attempts at lines that an operator changed meanwhile, so that `show` has them."""

        async def count(connection: Any) -> None:
            async with connection.transaction():
                for feed, some in by_feed(settlements):
                    await connection.execute(
                        _SQL["settle_void"],
                        *key_columns([s.key for s in some]),
                        [s.generation for s in some],
                        [s.unanswered for s in some],
                        [s.status for s in some],
                        feed,
                    )

        await self.database.change(count, "settle")

    async def pause_began(self, feed: FeedName) -> None:
        """Stop the clock by which the feed's lines expire."""
        await self._execute("pause_began", feed)

    async def pause_ended(self, feed: FeedName) -> None:
        """Restart the clock by which the feed's lines expire."""
        await self._execute("pause_ended", feed)

    async def count_pending(self, feed: FeedName) -> int:
        """Return how many lines of a feed wait to be sent."""
        async with self.database.connection() as connection:
            lines: int = await connection.fetchval(_SQL["count_pending"], feed)
        return lines

    async def proven(self, feed: FeedName) -> None:
        """Remember that the endpoint exists: from now on its 404 is about the record."""
        await self._execute("proven", feed)

    async def failing_answers(self, feed: FeedName) -> FailingAnswers:
        """Return whether a pause for a failing endpoint lasts, and the latest refusals in a row.

        Failures with 500 settle no line, so those of an earlier sender are not counted.
        """
        async with self.database.connection() as connection:
            paused = await connection.fetchval(_SQL["streak_lasts"], feed)
            proven = await connection.fetchval(_SQL["endpoint_proven"], feed)
            rows = await connection.fetch(_SQL["refused_last"], REFUSED, feed)
        refused = {}
        for row in rows:
            bad_request = row["state"] == State.REJECTED and row["last_status"] == 400
            if not bad_request and (proven or row["state"] != State.NOT_FOUND):
                break
            refused[row["lane"]] = LineKey._make((*row[:4], feed))
        return FailingAnswers(paused, refused)

    async def streak_began(self, feed: FeedName, refused: Sequence[LineKey]) -> None:
        """Remember the pause for a failing endpoint, and the lines that it refused before.

        `refused` has the first line of each record.
        """
        async with self.database.connection() as connection:
            await connection.execute(_SQL["streak_began"], *key_columns(refused), feed)

    async def streak_ended(self, feed: FeedName) -> Streak | None:
        """End that pause; returns what stays refused, None if there was no such pause."""
        async with self.database.connection() as connection:
            row = await connection.fetchrow(_SQL["streak_ended"], feed)
        return None if row is None else Streak(*row)

    async def probe_failed(self, key: LineKey) -> None:
        """Exclude this line from probes with the newest line, for the rest of this pause."""
        async with self.database.connection() as connection:
            await connection.execute(_SQL["probe_failed"], *key)

    async def _execute(self, statement: str, feed: FeedName) -> None:
        async with self.database.connection(statement) as connection:
            await connection.execute(_SQL[statement], feed)


def _unless_all(column: list[T], *, usual: T) -> list[T]:
    """Return the column, empty if all of it is as usual."""
    return [] if column.count(usual) == len(column) else column
