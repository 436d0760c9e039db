"""Queries and changes of the ledger for commands and the status page."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from daemon.database import statements
from daemon.database.pool import Database
from daemon.ledger.acts import Act, ActKind, RecordedAct
from daemon.ledger.instance import OperatorPause
from daemon.ledger.locks import ACTIVE_LOCK, DAEMON_LOCK
from daemon.ledger.tables import by_feed, key_columns, keys_of, line_columns
from daemon.lines import BIGINT_MIN, FeedName, LineKey, NewLine, SkipReason, State, Streak

BATCH = 1000
"""Lines that an operator's act changes in one transaction."""
STREAKS = 50
"""Streaks of a failing endpoint that are named at once."""

ACTS = 2
"""Acts that `status` shows."""

_SQL = statements.load("ledger/operator.sql")
_NOTIFY = _SQL["notify"]
_IN_ORDER = statements.load("ledger/sending.sql")["in_order"]
_DAEMON_WAITING = statements.load("ledger/lease.sql")["daemon_waiting"]
_BEFORE_ALL = (*(BIGINT_MIN,) * 4, "")


@dataclass(frozen=True, slots=True)
class LedgerStatus:
    """How far calls are taken, an operator's pause, and what the instance last reported."""

    watermark: datetime | None
    start_from: datetime | None
    last_delivered_at: datetime | None
    operator_pause: OperatorPause | None
    active: bool
    host: str | None
    pid: int | None
    version: str | None
    started_at: datetime | None
    beat_at: datetime | None
    stopped_at: datetime | None
    unclean_at: datetime | None
    state: str | None
    reason: str | None
    retry_at: datetime | None
    probe_answered: int | None = None


@dataclass(frozen=True, slots=True)
class StatusReport:
    """What `status` shows: counts, the ledger's status, streaks of refusals, and commands."""

    lines: dict[str, int]
    oldest_pending_seconds: float | None
    status: LedgerStatus
    streaks: Sequence[Streak]
    acts: Sequence[RecordedAct] = ()


@dataclass(frozen=True, slots=True)
class Backlog:
    """Lines that are pending or need action, per state; age in seconds of the oldest of each."""

    lines: dict[str, int]
    oldest_pending_seconds: float | None
    oldest_kept_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class LineFilter:
    """Selects the lines of a command: by state, end of call [since, until), call, backfills only.

    And by when they were settled, [settled_since, settled_until).
    """

    states: tuple[State, ...]
    since: datetime | None = None
    until: datetime | None = None
    call_id: int | None = None
    backfill: bool = False
    settled_since: datetime | None = None
    settled_until: datetime | None = None
    feed: FeedName | None = None

    @property
    def arguments(self) -> tuple[Any, ...]:
        """Return them in the order of the statements."""
        return (
            list(self.states),
            self.since,
            self.until,
            self.call_id,
            self.backfill,
            self.settled_since,
            self.settled_until,
            self.feed,
        )

    def act(self, kind: ActKind, who: str) -> Act:
        """Return the command to record for this selection."""
        return Act(
            kind,
            who,
            self.states,
            self.since,
            self.until,
            self.settled_since,
            self.settled_until,
            self.call_id,
            self.backfill,
        )


@dataclass(frozen=True, slots=True)
class SelectedLine:
    """A line that a command selected; without a record, its record is made again first."""

    key: LineKey
    state: State
    without_id: bool
    has_record: bool


@dataclass(frozen=True, slots=True)
class LineDetail:
    """A line with all that `show` prints."""

    key: LineKey
    ordinal: int
    lane: str
    salesforce_id: str | None
    backfill: bool
    state: State
    generation: int
    attempts: int
    unanswered: int
    last_status: int | None
    last_error: str | None
    taken_at: datetime
    pending_since: datetime
    next_try_at: datetime | None
    settled_at: datetime | None
    record: str | None
    act: str | None = None
    act_who: str | None = None
    act_at: datetime | None = None
    skip_reason: SkipReason | None = None


@dataclass(frozen=True, slots=True)
class RecentLines:
    """Lines and commands to show first, as of the ledger's `now`; the lines have no records."""

    now: datetime
    waiting: Sequence[LineDetail]
    failed: Sequence[LineDetail]
    streaks: Sequence[Streak] = ()
    acts: Sequence[RecordedAct] = ()


@dataclass(frozen=True, slots=True)
class HourlyCounts:
    """Lines settled since some time, per (hour, state)."""

    settled: Mapping[tuple[datetime, State], int]


class OperatorStore:
    """Reads and changes the ledger for people; raises `UnreachableError` if it cannot be used.

    It counts and shows the lines of one feed; commands change the lines that they select.
    """

    def __init__(self, database: Database, feed: FeedName = FeedName.STATISTICS) -> None:
        self._database = database
        self._feed = feed

    async def overview(self) -> StatusReport:
        """Return what `status` shows; counts all lines, so it takes a while on a large ledger."""
        async with self._database.connection() as connection:
            counted = await connection.fetch(_SQL["counts"], self._feed)
            oldest = await connection.fetchval(_SQL["oldest"], self._feed)
        status, streaks = await self.status(), await self.streaks()
        acts = await self.latest_acts(ACTS)
        return StatusReport(_by_state(counted), _seconds(oldest), status, streaks, acts)

    async def status(self) -> LedgerStatus:
        """Return how far calls are taken and what the instance reported last; cheap."""
        async with self._database.connection() as connection:
            row = dict(await connection.fetchrow(_SQL["status"], self._feed))
            active = await connection.fetchval(_SQL["active"], ACTIVE_LOCK)
        since, reason = row.pop("held_since"), row.pop("held_reason")
        pause = None if since is None else OperatorPause(since, reason)
        return LedgerStatus(operator_pause=pause, active=active, **row)

    async def streaks(self) -> list[Streak]:
        """Return what is still refused of the lines that a failing endpoint refused."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_SQL["streaks"], STREAKS, self._feed)
        return [Streak(*row) for row in rows]

    async def waiting(self) -> Backlog:
        """Return how many lines wait for Salesforce, and for an operator."""
        async with self._database.connection() as connection:
            row = dict(await connection.fetchrow(_SQL["waiting"], self._feed))
        oldest = _seconds(row.pop("oldest_pending_seconds"))
        oldest_kept = _seconds(row.pop("oldest_kept_seconds"))
        return Backlog(row, oldest, oldest_kept)

    async def window(self, since: datetime, until: datetime) -> dict[str, int]:
        """Return lines per state of the calls that ended in [since, until)."""
        async with self._database.connection() as connection:
            return _by_state(await connection.fetch(_SQL["window"], since, until, self._feed))

    async def pending_in(self, since: datetime, until: datetime) -> int:
        """Return how many lines of a window are still to be sent."""
        async with self._database.connection() as connection:
            return int(await connection.fetchval(_SQL["window_pending"], since, until, self._feed))

    async def pruned_before(self) -> datetime | None:
        """Return the end of the newest call whose lines retention has removed."""
        async with self._database.connection() as connection:
            pruned: datetime | None = await connection.fetchval(_SQL["pruned"], self._feed)
        return pruned

    async def call(self, call_id: int, records: int | None = None) -> list[LineDetail]:
        """Return all lines of a call, in sending order, the first ones or all with records."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_SQL["of_call"], call_id, records, self._feed)
        return self._details(rows)

    async def glance(self, waiting: int, failed: int, acts: int) -> RecentLines:
        """Return the oldest pending lines, the latest that failed, and the latest commands.

        All by indexes.
        """
        async with self._database.connection() as connection, connection.transaction():
            now = await connection.fetchval(_SQL["now"])
            await connection.execute(_IN_ORDER)
            oldest = await connection.fetch(_SQL["oldest_pending"], waiting, self._feed)
            latest = await connection.fetch(_SQL["latest_failed"], failed, self._feed)
        done = await self.latest_acts(acts)
        details = self._details
        return RecentLines(now, details(oldest), details(latest), await self.streaks(), done)

    async def latest_acts(self, limit: int) -> list[RecordedAct]:
        """Return what people did last, newest first."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_SQL["latest_acts"], limit)
        return [_recorded(dict(row)) for row in rows]

    async def daemon_runs(self) -> bool:
        """Whether a `run` is here, active or standing by."""
        async with self._database.connection() as connection:
            return bool(await connection.fetchval(_DAEMON_WAITING, DAEMON_LOCK))

    async def tally(self, since: datetime) -> HourlyCounts:
        """Return how many lines were settled in each hour from `since`."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_SQL["settled_by_hour"], since, self._feed)
        settled = {(row["hour"], State(row["state"])): row["lines"] for row in rows}
        return HourlyCounts(settled)

    async def calls_of_lane(self, lane: str, limit: int) -> list[int]:
        """Return the latest calls of a Salesforce record, newest first."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_SQL["calls_of_lane"], lane, limit, self._feed)
        return [row["call_id"] for row in rows]

    async def pause(self, act: Act) -> None:
        """Pause sending until `resume`, also across restarts."""

        async def pause(connection: Any) -> None:
            async with connection.transaction():
                await _begin(connection, act, over=True)
                await connection.execute(_SQL["pause"], act.reason)
                await connection.execute(_NOTIFY)

        await self._database.change(pause)

    async def resume(self, act: Act) -> tuple[int, bool]:
        """Continue sending; an automatic pause tries again at once.

        Returns the act's id, which `LedgerStatus.probe_answered` reaches when the instance reports
        the result; and whether any line is pending, to try with.
        """

        async def resume(connection: Any) -> tuple[int, bool]:
            async with connection.transaction():
                act_id = await _begin(connection, act, over=True)
                await connection.execute(_IN_ORDER)
                for feed in FeedName:
                    await connection.execute(_SQL["allow_probe"], feed)
                await connection.execute(_SQL["resume"], act_id)
                pending: bool = await connection.fetchval(_SQL["any_pending"])
                await connection.execute(_NOTIFY)
            return act_id, pending

        return await self._database.change(resume)

    async def begin(self, act: Act) -> int:
        """Record an act before it changes lines; returns its id, by which they are counted."""
        async with self._database.connection() as connection:
            return await _begin(connection, act, over=False)

    async def end(self, act_id: int) -> None:
        """Record that an act has come to its end."""
        async with self._database.connection() as connection:
            await connection.execute(_SQL["end_act"], act_id)

    async def count(self, choice: LineFilter) -> dict[str, int]:
        """Return how many lines a choice has, per state."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_SQL["count_lines"], *choice.arguments)
        return {state: lines for state, lines in _by_state(rows).items() if lines}

    async def choose(self, choice: LineFilter) -> AsyncIterator[list[SelectedLine]]:
        """Yield the lines of a choice in batches, by key."""
        after: tuple[int | str, ...] = _BEFORE_ALL
        while True:
            async with self._database.connection() as connection:
                rows = await connection.fetch(
                    _SQL["select_lines"], *choice.arguments, *after, BATCH
                )
            if rows:
                yield [
                    SelectedLine(
                        LineKey._make((*row[:4], FeedName(row[4]))), State(row[5]), row[6], row[7]
                    )
                    for row in rows
                ]
            if len(rows) < BATCH:
                return
            after = tuple(rows[-1][:5])

    async def requeue(self, lines: Sequence[SelectedLine], act_id: int) -> set[LineKey]:
        """Put lines back to pending with the record they have; returns those that still could."""
        return await self._change("requeue", lines, act_id)

    async def discard(self, lines: Sequence[SelectedLine], act_id: int) -> set[LineKey]:
        """Withdraw lines; returns those that were still in the state they were chosen in."""
        return await self._change("discard", lines, act_id)

    async def renew(
        self,
        lines: Sequence[NewLine],
        act_id: int,
        states: Collection[State] = tuple(State),
        *,
        backfill: bool | None = None,
    ) -> dict[LineKey, State]:
        """Give settled lines in these states a record made anew; returns their states now."""

        async def renew(connection: Any) -> dict[LineKey, State]:
            renewed: dict[LineKey, State] = {}
            async with connection.transaction():
                for feed, some in by_feed(lines):
                    keys = key_columns([line.key for line in some])
                    await connection.execute(_SQL["lock_lines"], *keys, feed)
                    rows = await connection.fetch(
                        _SQL["renew"], *line_columns(some), backfill, list(states), act_id, feed
                    )
                    renewed |= {LineKey._make((*row[:4], feed)): State(row[4]) for row in rows}
                await connection.execute(_SQL["count_act"], act_id, len(renewed))
                await connection.execute(_NOTIFY)
            return renewed

        return await self._database.change(renew)

    async def _change(
        self, statement: str, lines: Sequence[SelectedLine], act_id: int
    ) -> set[LineKey]:
        async def change(connection: Any) -> set[LineKey]:
            done: set[LineKey] = set()
            async with connection.transaction():
                for feed, some in by_feed(lines):
                    keys = key_columns([line.key for line in some])
                    await connection.execute(_SQL["lock_lines"], *keys, feed)
                    rows = await connection.fetch(
                        _SQL[statement], *keys, feed, [line.state for line in some], act_id
                    )
                    done |= keys_of(rows, feed)
                await connection.execute(_SQL["count_act"], act_id, len(done))
                await connection.execute(_NOTIFY)
            return done

        return await self._database.change(change)

    def _details(self, rows: Sequence[Any]) -> list[LineDetail]:
        return [_detail(row, self._feed) for row in rows]


async def _begin(connection: Any, act: Act, *, over: bool) -> int:
    act_id: int = await connection.fetchval(
        _SQL["begin_act"],
        act.kind,
        act.who,
        list(act.states),
        act.since,
        act.until,
        act.settled_since,
        act.settled_until,
        act.call_id,
        act.backfill,
        act.resend,
        act.reason,
        over,
    )
    return act_id


def _recorded(row: dict[str, Any]) -> RecordedAct:
    about = {name: row.pop(name) for name in ("began_at", "ended_at", "lines")}
    row["kind"] = ActKind(row["kind"])
    row["states"] = tuple(map(State, row["states"]))
    return RecordedAct(Act(**row), **about)


def _seconds(value: Any) -> float | None:
    return None if value is None else float(value)


def _detail(row: Any, feed: FeedName) -> LineDetail:
    fields = dict(list(row.items())[4:])
    fields["state"] = State(fields["state"])
    if fields["skip_reason"] is not None:
        fields["skip_reason"] = SkipReason(fields["skip_reason"])
    return LineDetail(LineKey._make((*row[:4], feed)), **fields)


def _by_state(rows: Sequence[Any]) -> dict[str, int]:
    return {state.value: 0 for state in State} | {row["state"]: row["lines"] for row in rows}
