"""Lines go out of the ledger: which to send next, what came of them, how long sending paused."""

from collections.abc import Sequence
from typing import Any

from daemon.database import statements
from daemon.ledger.tables import LedgerTables, key_columns
from daemon.lines import FailingAnswers, LineKey, PendingLine, Settlement, State, Streak

NEWEST = 50_000
"""Pending lines among which the newest one that may be sent is looked for."""
NEWEST_PAGE = 1000
"""How many of them are looked at at once; nearly always the first page has it."""
REFUSED = 100
"""Refused lines that are looked at for a row of failing answers that another sender began."""

_SQL = statements.load("ledger/sending.sql")


class SendingStore(LedgerTables):
    """Returns lines to send, and writes their outcomes."""

    async def pending(self, limit: int, without_lanes: Sequence[str]) -> list[PendingLine]:
        """Return the next lines that may be sent now, in order."""
        async with self.database.connection() as connection, connection.transaction():
            await connection.execute(_SQL["in_order"])
            rows = await connection.fetch(_SQL["pending"], limit, without_lanes)
        return [PendingLine(LineKey._make(row[:4]), *row[4:]) for row in rows]

    async def newest(self, *, backfill: bool) -> PendingLine | None:
        """Return the newest line for a probe of an endpoint that fails: live, or from backfills.

        It is ready, the first of its record, and has not failed as a probe in this pause.
        """
        place: tuple[Any, ...] = (None, None, None)
        async with self.database.connection() as connection, connection.transaction():
            await connection.execute(_SQL["in_order"])
            for _ in range(NEWEST // NEWEST_PAGE):
                row = await connection.fetchrow(_SQL["newest"], backfill, NEWEST_PAGE, *place)
                if row is None:
                    return None
                if row["lane"] is not None:
                    return PendingLine(LineKey._make(row[3:7]), *row[7:])
                place = tuple(row[:3])
        return None

    async def settle(
        self, settlements: Sequence[Settlement], retry_for: float
    ) -> dict[LineKey, tuple[State, int]]:
        """Write outcomes; returns state and attempts of each line that took its outcome.

        A line that a person discarded or requeued meanwhile keeps what that person said.
        """
        # One order for all who write, so that they wait for each other and seldom deadlock.
        settlements = sorted(settlements, key=lambda s: s.key)
        return await self.database.change(
            lambda connection: self._settle(connection, settlements, retry_for), "settle"
        )

    async def _settle(
        self, connection: Any, settlements: Sequence[Settlement], retry_for: float
    ) -> dict[LineKey, tuple[State, int]]:
        held = {s.lane: s for s in settlements if s.hold}
        freed = {s.lane for s in settlements if s.free} - held.keys()
        rows = await connection.fetch(
            _SQL["settle"],
            *key_columns([s.key for s in settlements]),
            [s.generation for s in settlements],
            [s.state for s in settlements],
            [s.sent for s in settlements],
            [s.failed for s in settlements],
            [s.unanswered for s in settlements],
            [s.status for s in settlements],
            [s.error for s in settlements],
            [s.age for s in settlements],
            [s.wait for s in settlements],
            retry_for,
            list(held),
            [s.wait for s in held.values()],
            [s.lane_tries for s in held.values()],
            list(freed),
        )
        done = {LineKey._make(row[:4]): (State(row["state"]), row["attempts"]) for row in rows}
        if len(done) < len(settlements):
            await self._settle_void(connection, [s for s in settlements if s.key not in done])
        return done

    async def _settle_void(self, connection: Any, settlements: Sequence[Settlement]) -> None:
        """Count what was sent before a person's act: `show` must not call it unsent."""
        sent = [s for s in settlements if s.sent]
        await connection.execute(
            _SQL["settle_void"],
            *key_columns([s.key for s in sent]),
            [s.generation for s in sent],
            [s.unanswered for s in sent],
            [s.status for s in sent],
        )

    async def pause_began(self) -> None:
        """Stop the clock by which lines expire."""
        await self._execute("pause_began")

    async def pause_ended(self) -> None:
        """Let the clock by which lines expire go on."""
        await self._execute("pause_ended")

    async def proven(self) -> None:
        """Remember that the endpoint exists: from now on its 404 is about the record."""
        await self._execute("proven")

    async def failing_answers(self) -> FailingAnswers:
        """Return whether the pause for a failing endpoint lasts, and the row of refusals since.

        Answers of 500 settle nothing, so that those of an earlier sender are not known.
        """
        async with self.database.connection() as connection:
            paused = await connection.fetchval(_SQL["streak_lasts"])
            proven = await connection.fetchval(_SQL["endpoint_proven"])
            rows = await connection.fetch(_SQL["refused_last"], REFUSED)
        refused = {}
        for row in rows:
            bad_request = row["state"] == State.REJECTED and row["last_status"] == 400
            if not bad_request and (proven or row["state"] != State.NOT_FOUND):
                break
            refused[row["lane"]] = LineKey._make(row[:4])
        return FailingAnswers(paused, refused)

    async def streak_began(self, refused: Sequence[LineKey]) -> None:
        """Remember the pause for a failing endpoint, and the lines that it refused before.

        `refused` has the first line of each record.
        """
        async with self.database.connection() as connection:
            await connection.execute(_SQL["streak_began"], *key_columns(refused))

    async def streak_ended(self) -> Streak | None:
        """End that pause; returns what stays refused, None if there was no such pause."""
        async with self.database.connection() as connection:
            row = await connection.fetchrow(_SQL["streak_ended"])
        return None if row is None else Streak(*row)

    async def probe_failed(self, key: LineKey) -> None:
        """Choose this line for no further probe as the newest in this pause."""
        async with self.database.connection() as connection:
            await connection.execute(_SQL["probe_failed"], *key)

    async def _execute(self, statement: str) -> None:
        async with self.database.connection(statement) as connection:
            await connection.execute(_SQL[statement])
