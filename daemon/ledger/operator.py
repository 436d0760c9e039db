"""Queries and changes of the ledger for commands and the status page."""

from collections.abc import AsyncIterator, Collection, Sequence
from datetime import datetime
from typing import Any

from daemon.database import statements
from daemon.database.pool import Database
from daemon.ledger import listing
from daemon.ledger.acts import Act, ActKind, RecordedAct
from daemon.ledger.alerts import AlertStore
from daemon.ledger.instance import OperatorPause
from daemon.ledger.locks import ACTIVE_LOCK, DAEMON_LOCK
from daemon.ledger.overview import (
    LATELY,
    AlertStatus,
    Backlog,
    FeedReport,
    HourlyCounts,
    LedgerStatus,
    LineDetail,
    LineFilter,
    LinePage,
    LineQuery,
    RecentLines,
    SelectedCounts,
    SelectedLine,
    StatusReport,
)
from daemon.ledger.tables import by_feed, key_columns, keys_of, line_columns
from daemon.lines import (
    BIGINT_MIN,
    ORG_REASONS,
    FeedName,
    LineKey,
    NewLine,
    PauseReason,
    SkipReason,
    State,
    Streak,
    Subject,
)

BATCH = 1000
"""Lines that an operator's act changes in one transaction."""
STREAKS = 50
"""Streaks of a failing endpoint that are named at once."""
ACTS = 2
"""Acts that `status` shows."""
OF_ALL_FEEDS = {*ORG_REASONS, PauseReason.OPERATOR}
"""Pauses that stop every feed; any other is of one feed's endpoint."""

_SQL = statements.load("ledger/operator.sql")
_NOTIFY = _SQL["notify"]
_IN_ORDER = statements.load("ledger/sending.sql")["in_order"]
_DAEMON_WAITING = statements.load("ledger/lease.sql")["daemon_waiting"]
_BEFORE_ALL = (*(BIGINT_MIN,) * 4, "")


class OperatorStore:
    """Reads and changes the ledger for people; raises `UnreachableError` if it cannot be used.

    It counts and shows the lines of one feed; `overview`, `lines`, `subjects_of_lane` and
    what changes lines are for all feeds.
    """

    def __init__(self, database: Database, feed: FeedName = FeedName.STATISTICS) -> None:
        self.database = database
        self._feed = feed

    def of(self, feed: FeedName) -> "OperatorStore":
        """Return the same for the lines of another feed."""
        return OperatorStore(self.database, feed)

    async def overview(self, *, callbacks: bool = False, alerts: bool = False) -> StatusReport:
        """Return what `status` shows; counts all lines, so it takes a while on a large ledger.

        `callbacks` says whether these are on; if not, and none was ever taken, they are left out.
        So are alerts unless they are on.
        """
        async with self.database.connection() as connection:
            rows = await connection.fetch(_SQL["counts"])
        counts = {
            feed: _by_state([row for row in rows if row["feed"] == feed]) for feed in FeedName
        }
        calls = await self.of(FeedName.STATISTICS).report(counts[FeedName.STATISTICS])
        requests = await self.of(FeedName.CALLBACKS).report(
            counts[FeedName.CALLBACKS], on=callbacks
        )
        return StatusReport(
            calls.lines,
            calls.oldest_pending_seconds,
            calls.status,
            calls.streaks,
            acts=await self.latest_acts(ACTS),
            callbacks=requests if callbacks or requests.ever_taken else None,
            alert=await self.alert() if alerts else None,
        )

    async def report(self, lines: dict[str, int], *, on: bool = True) -> FeedReport:
        """Return what `status` shows of the feed, which has so many lines in each state."""
        async with self.database.connection() as connection:
            oldest = await connection.fetchval(_SQL["oldest"], self._feed)
        status = await self.status()
        return FeedReport(lines, _seconds(oldest), status, await self.streaks(), on)

    async def status(self) -> LedgerStatus:
        """Return how far rows are taken and what the instance reported last; cheap."""
        async with self.database.connection() as connection:
            row = dict(await connection.fetchrow(_SQL["status"], self._feed))
            active = await connection.fetchval(_SQL["active"], ACTIVE_LOCK)
        since, reason = row.pop("held_since"), row.pop("held_reason")
        pause = None if since is None else OperatorPause(since, reason)
        feed_reason, feed_retry_at = row.pop("pause_reason"), row.pop("pause_retry_at")
        if row["state"] in {"sending", "paused"} and row["reason"] not in OF_ALL_FEEDS:
            if feed_reason is not None:
                row |= {"state": "paused", "reason": feed_reason, "retry_at": feed_retry_at}
            elif self._feed is not FeedName.STATISTICS:
                row |= {"state": "sending", "reason": None, "retry_at": None}
        return LedgerStatus(operator_pause=pause, active=active, **row)

    async def streaks(self) -> list[Streak]:
        """Return what is still refused of the lines that a failing endpoint refused."""
        async with self.database.connection() as connection:
            rows = await connection.fetch(_SQL["streaks"], STREAKS, self._feed)
        return [Streak._make((*row, self._feed)) for row in rows]

    async def alert(self) -> AlertStatus:
        """Return the alert that the ACD got last, and how many lines wait for the next."""
        return await AlertStore(self.database).alert_status()

    async def waiting(self) -> Backlog:
        """Return how many lines wait for Salesforce, and for an operator."""
        async with self.database.connection() as connection:
            row = dict(await connection.fetchrow(_SQL["waiting"], self._feed, LATELY))
        taken = row.pop("taken_lately")
        oldest = _seconds(row.pop("oldest_pending_seconds"))
        oldest_kept = _seconds(row.pop("oldest_kept_seconds"))
        return Backlog(row, taken, oldest, oldest_kept)

    async def settled_lately(self) -> tuple[int, int]:
        """Return how many lines were settled within `LATELY`, and how many of them taken, too."""
        async with self.database.connection() as connection:
            row = await connection.fetchrow(_SQL["settled_lately"], self._feed, LATELY)
        return row["settled"], row["taken"]

    async def pace(self, since: datetime | None) -> tuple[datetime, int, int]:
        """Return the ledger's time, the lines that wait then, and those settled since."""
        async with self.database.connection() as connection:
            at, pending, settled = await connection.fetchrow(_SQL["pace"], self._feed, since)
        return at, pending, settled

    async def window(self, since: datetime, until: datetime) -> dict[str, int]:
        """Return lines per state of the calls that ended in [since, until)."""
        async with self.database.connection() as connection:
            return _by_state(await connection.fetch(_SQL["window"], since, until, self._feed))

    async def pending_in(self, since: datetime, until: datetime) -> int:
        """Return how many lines of a window are still to be sent."""
        async with self.database.connection() as connection:
            return int(await connection.fetchval(_SQL["window_pending"], since, until, self._feed))

    async def pruned_before(self) -> datetime | None:
        """Return the end of the newest call whose lines retention has removed."""
        async with self.database.connection() as connection:
            pruned: datetime | None = await connection.fetchval(_SQL["pruned"], self._feed)
        return pruned

    async def call(self, call_id: int, records: int | None = None) -> list[LineDetail]:
        """Return all lines of a call or event, in sending order, the first or all with records."""
        async with self.database.connection() as connection:
            rows = await connection.fetch(_SQL["of_call"], call_id, records, self._feed)
        return self._details(rows)

    async def glance(self, waiting: int, failed: int, acts: int) -> RecentLines:
        """Return the oldest pending lines, the latest that failed, and the latest commands.

        All by indexes.
        """
        async with self.database.connection() as connection, connection.transaction():
            now = await connection.fetchval(_SQL["now"])
            await connection.execute(_IN_ORDER)
            oldest = await connection.fetch(_SQL["oldest_pending"], waiting, self._feed)
            latest = await connection.fetch(_SQL["latest_failed"], failed, self._feed)
        done = await self.latest_acts(acts)
        details = self._details
        return RecentLines(now, details(oldest), details(latest), await self.streaks(), done)

    async def lines(self, query: LineQuery) -> LinePage | None:
        """Return a page of the lines of a state; None if the line that it follows has left it."""
        async with self.database.connection() as connection:
            return await listing.page(connection, query)

    async def latest_acts(self, limit: int, before: int | None = None) -> list[RecordedAct]:
        """Return what people did last, newest first; only acts before the one with that id."""
        async with self.database.connection() as connection:
            rows = await connection.fetch(_SQL["latest_acts"], limit, before)
        return [_recorded(dict(row)) for row in rows]

    async def daemon_runs(self) -> bool:
        """Whether a `run` is here, active or standing by."""
        async with self.database.connection() as connection:
            return bool(await connection.fetchval(_DAEMON_WAITING, DAEMON_LOCK))

    async def tally(self, since: datetime) -> HourlyCounts:
        """Return how many lines were settled in each hour from `since`."""
        async with self.database.connection() as connection:
            rows = await connection.fetch(_SQL["settled_by_hour"], since, self._feed)
        settled = {(row["hour"], State(row["state"])): row["lines"] for row in rows}
        return HourlyCounts(settled)

    async def subjects_of_lane(self, lane: str, limit: int) -> list[Subject]:
        """Return the latest calls and events of a Salesforce record, newest first."""
        async with self.database.connection() as connection:
            rows = await connection.fetch(_SQL["subjects_of_lane"], lane, limit)
        return [Subject(FeedName(row["feed"]), row["call_id"]) for row in rows]

    async def pause(self, act: Act) -> None:
        """Pause sending until `resume`, also across restarts."""

        async def pause(connection: Any) -> None:
            async with connection.transaction():
                await _begin(connection, act, over=True)
                await connection.execute(_SQL["pause"], act.reason)
                await connection.execute(_NOTIFY)

        await self.database.change(pause)

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

        return await self.database.change(resume)

    async def begin(self, act: Act) -> int:
        """Record an act before it changes lines; returns its id, by which they are counted."""
        async with self.database.connection() as connection:
            return await _begin(connection, act, over=False)

    async def end(self, act_id: int) -> None:
        """Record that an act has come to its end."""
        async with self.database.connection() as connection:
            await connection.execute(_SQL["end_act"], act_id)

    async def count(self, choice: LineFilter) -> SelectedCounts:
        """Return how many lines a choice has, per state, as `choose` yields them."""
        async with self.database.connection() as connection:
            rows = await connection.fetch(_SQL["count_lines"], *choice.arguments)
        lines = {state: lines for state, lines in _by_state(rows).items() if lines}
        return SelectedCounts(lines, sum(row["filtered"] for row in rows))

    async def choose(self, choice: LineFilter) -> AsyncIterator[list[SelectedLine]]:
        """Yield the lines of a choice in batches, by key; none that a filter has kept out."""
        after: tuple[int | str, ...] = _BEFORE_ALL
        while True:
            async with self.database.connection() as connection:
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
        skip_reason: SkipReason | None = None,
    ) -> dict[LineKey, State]:
        """Give settled lines in these states a record made anew; returns their states now.

        With a reason only those that were skipped for it.
        """

        async def renew(connection: Any) -> dict[LineKey, State]:
            renewed: dict[LineKey, State] = {}
            async with connection.transaction():
                for feed, some in by_feed(lines):
                    keys = key_columns([line.key for line in some])
                    await connection.execute(_SQL["lock_lines"], *keys, feed)
                    about = (backfill, list(states), act_id, feed, skip_reason)
                    rows = await connection.fetch(_SQL["renew"], *line_columns(some), *about)
                    renewed |= {LineKey._make((*row[:4], feed)): State(row[4]) for row in rows}
                await connection.execute(_SQL["count_act"], act_id, len(renewed))
                await connection.execute(_NOTIFY)
            return renewed

        return await self.database.change(renew)

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

        return await self.database.change(change)

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
        act.feed,
    )
    return act_id


def _recorded(row: dict[str, Any]) -> RecordedAct:
    about = {name: row.pop(name) for name in ("id", "began_at", "ended_at", "lines")}
    row["kind"] = ActKind(row["kind"])
    row["states"] = tuple(map(State, row["states"]))
    row["feed"] = row["feed"] and FeedName(row["feed"])
    return RecordedAct(act=Act(**row), **about)


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
