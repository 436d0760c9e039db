"""Keeps notifications, and writes the rows of their calls anew in the same transaction.

Invariants, also with two instances at once: a call's rows change only under the lock of its row in
TelegraCalls; under it they are those of all its kept notifications; what came after the call was
settled changes no row, and only adds lines for its codes.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

import orjson

from daemon.database import statements
from daemon.database.pool import Database, quoted
from daemon.telegra.known import Fact, KnownMasters
from daemon.telegra.notifications import (
    Command,
    Notification,
    Received,
    customer_in,
    task_key,
)
from daemon.telegra.rows import (
    CallRows,
    CodeRow,
    LegRow,
    call_rows,
    code_row,
    masters_of,
    scheduled_call,
)

_SQL = statements.load("telegra/store.sql")

MAX_BATCH = 200
"""Notifications, or calls, in one transaction."""
KEEP_EVENTS_FOR = timedelta(days=7)

CallName = tuple[int, str]
"""customerNumber and taskid, the latter in lower case."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the settings say of calls."""

    country_code: str
    grace: timedelta
    settle_delay: timedelta
    lookback: timedelta


class LockedCall(NamedTuple):
    """A row of TelegraCalls under lock; `ended` when its end is written."""

    id: int
    customer: int
    task_id: str
    code_key: str
    ended: bool
    is_new: bool
    settled: bool


class Late(NamedTuple):
    """A notification of a call that was settled before it came."""

    call_id: int
    command: str


class Kept(NamedTuple):
    """What became of a batch: fingerprints of those that are new, and which of them came late."""

    new: frozenset[bytes]
    late: Sequence[Late]


class Ended(NamedTuple):
    """A call whose end was written."""

    id: int
    incomplete: bool


class TelegraStore:
    """Writes the source's tables; the only one who does."""

    def __init__(self, database: Database, rules: Rules) -> None:
        self.database = database
        self._rules = rules
        self._known = KnownMasters()

    async def keep(self, batch: Sequence[Received]) -> Kept:
        """Commit notifications with the rows of their calls; repetitions change nothing.

        Raises `UnusableError`: then nothing is kept, or it is recognised when it is repeated.
        """
        by_fingerprint: dict[bytes, Received] = {}
        for one in batch:
            by_fingerprint.setdefault(one.fingerprint, one)
        kept, learnt = await self.database.change(partial(self._keep, by_fingerprint), "telegra")
        self._known.learn(learnt)
        return kept

    async def cut(self) -> None:
        """Drop all connections: the server is silent, another may not be."""
        await self.database.cut()

    async def bind_waiting(self) -> None:
        """Give classifications to their calls that both came at once, through two instances."""
        await self.database.change(self._bind_waiting, "telegra")

    async def write_ends(self) -> list[Ended]:
        """Write the ends that are due, at most a batch of them."""
        async with self.database.connection("telegra") as connection:
            rows = await connection.fetch(_SQL["write_ends"], self._rules.grace, MAX_BATCH)
        return [Ended(*row) for row in rows]

    async def prune(self, retention: timedelta, limit: int) -> int:
        """Remove what is old enough, so many rows of each kind at most; returns how many."""
        settled = self._rules.settle_delay + self._rules.lookback
        rounds: list[tuple[Any, ...]] = [
            ("prune_events", KEEP_EVENTS_FOR, settled, self._rules.lookback, limit),
            ("prune_calls", retention, limit),
            ("prune_planned", retention, limit),
        ]
        removed = 0
        async with self.database.connection("telegra") as connection:
            for name, *arguments in rounds:
                done = await connection.execute(_SQL[name], *arguments)
                removed += int(done.rpartition(" ")[2])
        return removed

    async def _keep(
        self, batch: Mapping[bytes, Received], connection: Any
    ) -> tuple[Kept, list[Fact]]:
        async with connection.transaction():
            names = await self._find_calls(connection, batch)
            names |= {key: (one.customer, one.task_id) for key, one in batch.items() if one.task_id}
            calls = await self._lock(connection, set(names.values()))
            own = {key: calls[name] for key, name in names.items()}
            ids = await self._insert(connection, batch, own)
            changed = {own[key].id: own[key] for key in ids if key in own}
            bound = await self._bind(connection, batch, ids, calls.values())
            changed |= {call.id: call for call in calls.values() if call.id in bound.values()}
            new_ids = {*ids.values(), *bound}
            await self._rewrite(connection, list(changed.values()), new_ids)
            told = [
                Notification(row_id, batch[key].command, batch[key].at, batch[key].parameters)
                for key, row_id in ids.items()
            ]
            await self._plan(connection, told)
            learnt = await self._known.make(connection, masters_of(told, self._rules.country_code))
        late = [
            Late(call.id, batch[key].command)
            for key in ids
            if (call := own.get(key)) is not None and call.settled
        ]
        return Kept(frozenset(ids), late), learnt

    async def _find_calls(
        self, connection: Any, batch: Mapping[bytes, Received]
    ) -> dict[bytes, CallName]:
        """Return the calls that classifications mean, as far as they are known."""
        codes = [(key, one) for key, one in batch.items() if one.code_keys]
        if not codes:
            return {}
        rows = await connection.fetch(
            _SQL["find_calls"],
            [one.customer for _, one in codes],
            [",".join(one.code_keys) for _, one in codes],
        )
        return {codes[number - 1][0]: (customer, task_id) for number, customer, task_id in rows}

    async def _lock(self, connection: Any, names: Iterable[CallName]) -> dict[CallName, LockedCall]:
        told = sorted(names)
        if not told:
            return {}
        rows = await connection.fetch(
            _SQL["lock_calls"],
            [customer for customer, _ in told],
            [task_id for _, task_id in told],
            [task_key(task_id) for _, task_id in told],
            self._rules.settle_delay,
        )
        locked = [LockedCall(*row) for row in rows]
        return {(call.customer, call.task_id): call for call in locked}

    async def _insert(
        self, connection: Any, batch: Mapping[bytes, Received], own: Mapping[bytes, LockedCall]
    ) -> dict[bytes, int]:
        """Return the ids of notifications that are no repetitions."""
        columns = zip(
            *(
                (
                    key,
                    one.command,
                    one.customer,
                    own[key].id if key in own else None,
                    ",".join(one.code_keys) if _is_code(one) else None,
                    orjson.dumps(one.parameters).decode(),
                    one.at,
                    key in own and own[key].settled,
                )
                for key, one in batch.items()
            ),
            strict=True,
        )
        rows = await connection.fetch(_SQL["keep"], *map(list, columns))
        return {row["fingerprint"]: row["id"] for row in rows}

    async def _bind(
        self,
        connection: Any,
        batch: Mapping[bytes, Received],
        ids: Mapping[bytes, int],
        calls: Iterable[LockedCall],
    ) -> dict[int, int]:
        """Return classifications that waited for one of the calls, and for which."""
        waits = any(_is_code(batch[key]) for key in ids)
        told = [call for call in calls if call.is_new or waits]
        if not told:
            return {}
        rows = await connection.fetch(
            _SQL["bind_codes"],
            [call.id for call in told],
            [call.customer for call in told],
            [call.code_key for call in told],
            [call.settled for call in told],
            self._rules.lookback,
        )
        return {row["id"]: row["call_id"] for row in rows}

    async def _bind_waiting(self, connection: Any) -> None:
        waiting = await connection.fetch(_SQL["waiting"], self._rules.lookback, MAX_BATCH)
        if not waiting:
            return
        async with connection.transaction():
            rows = await connection.fetch(
                _SQL["find_calls"],
                [row["customer"] for row in waiting],
                [row["keys"] for row in waiting],
            )
            calls = await self._lock(connection, {(row[1], row[2]) for row in rows})
            told = [call._replace(is_new=True) for call in calls.values()]
            bound = await self._bind(connection, {}, {}, told)
            changed = [call for call in told if call.id in bound.values()]
            await self._rewrite(connection, changed, set(bound))

    async def _rewrite(
        self, connection: Any, changed: Sequence[LockedCall], new_ids: set[int]
    ) -> None:
        """Write the rows of calls anew; of settled ones only those of new classifications."""
        if not changed:
            return
        kept = await self._notifications(connection, [call.id for call in changed])
        rows = []
        settled = [call for call in changed if call.settled]
        codes = await self._late_codes(connection, settled, kept, new_ids)
        for call in changed:
            if call.settled:
                continue
            of_call = call_rows(call.id, call.customer, kept[call.id], self._rules.country_code)
            if of_call is not None:
                rows.append((call, of_call))
        written = {call.id for call, _ in rows}
        if rows:
            await self._write_rows(connection, rows)
        await self._write_codes(connection, [*codes, *(c for _, r in rows for c in r.codes)])
        if others := [call.id for call in changed if call.id not in written]:
            await connection.execute(_SQL["touch_calls"], others)

    async def _notifications(
        self, connection: Any, call_ids: Sequence[int]
    ) -> dict[int, list[Notification]]:
        kept = defaultdict(list)
        for row in await connection.fetch(_SQL["kept"], call_ids):
            parameters = orjson.loads(row["parameters"])
            told = Notification(row["id"], row["command"], row["at"], parameters)
            kept[row["call_id"]].append(told)
        return kept

    async def _late_codes(
        self,
        connection: Any,
        settled: Sequence[LockedCall],
        kept: Mapping[int, Sequence[Notification]],
        new_ids: set[int],
    ) -> list[CodeRow]:
        """Return rows for classifications of calls whose other rows stay as they are."""
        late = [
            (call.id, told)
            for call in settled
            for told in kept.get(call.id, ())
            if told.command == Command.CLASSIFICATIONEVENT and told.row_id in new_ids
        ]
        if not late:
            return []
        legs = defaultdict(list)
        for row in await connection.fetch(_SQL["legs"], [call_id for call_id, _ in late]):
            leg = LegRow(*row)
            legs[leg.call_id].append(leg)
        return [code_row(call_id, told, legs[call_id]) for call_id, told in late]

    async def _write_rows(
        self, connection: Any, rows: Sequence[tuple[LockedCall, CallRows]]
    ) -> None:
        call_ids = [call.id for call, _ in rows]
        # An incomplete end is left to `write_ends`, which tells of it.
        written = [
            of_call.ended is not None
            and (call.ended or not (self._rules.grace or of_call.incomplete))
            for call, of_call in rows
        ]
        ends = [
            of_call.ended if now else None for (_, of_call), now in zip(rows, written, strict=True)
        ]
        heads = _columns([of_call.call for _, of_call in rows], 11)
        await connection.execute(_SQL["write_calls"], *heads, ends)
        visits = [visit for _, of_call in rows for visit in of_call.visits]
        legs = [leg for _, of_call in rows for leg in of_call.legs]
        await connection.execute(_SQL["write_visits"], call_ids, *_columns(visits, 4))
        await connection.execute(_SQL["write_legs"], call_ids, *_columns(legs, 10))
        await connection.execute(
            _SQL["note_calls"],
            call_ids,
            [of_call.call.started for _, of_call in rows],
            [of_call.ended for _, of_call in rows],
            [of_call.incomplete for _, of_call in rows],
            written,
        )

    async def _write_codes(self, connection: Any, codes: Sequence[CodeRow]) -> None:
        if not codes:
            return
        names = sorted({(code.category, code.reason) for code in codes})
        said = _columns(names, 2)
        found = await connection.fetch(_SQL["codes"], *said)
        if len(found) < len(names):
            await connection.execute(_SQL["name_codes"], *said)
            found = await connection.fetch(_SQL["codes"], *said)
        ids = {(row["category"], row["reason"]): row["id"] for row in found}
        rows = [
            (code.id, code.call_id, code.visit_id, code.leg_id, ids[code.category, code.reason],
             code.agent, code.created)
            for code in codes
        ]  # fmt: skip
        await connection.execute(_SQL["write_codes"], *_columns(rows, 7))

    async def _plan(self, connection: Any, told: Iterable[Notification]) -> None:
        """Make callback requests of planned calls."""
        planned = [
            scheduled_call(one.row_id, customer_in(one.parameters), one.parameters, one.at,
                           self._rules.country_code)
            for one in told
            if one.command == Command.SCHEDULECALLEVENT
        ]  # fmt: skip
        if planned:
            await connection.execute(_SQL["plan_callbacks"], *_columns(planned, 9))


def _is_code(one: Received) -> bool:
    return one.command is Command.CLASSIFICATIONEVENT


def _columns(rows: Sequence[Sequence[Any]], width: int) -> list[list[Any]]:
    """Return rows of so many columns as parallel arrays."""
    return [[row[place] for row in rows] for place in range(width)]


@asynccontextmanager
async def open_store(dsn: str, schemas: Sequence[str], rules: Rules) -> AsyncIterator[TelegraStore]:
    """Open the source for writing; it need not be there yet."""
    session = {
        "search_path": ", ".join(quoted(schema) for schema in schemas),
        # What a frozen instance was just writing must not stay locked for the others.
        "idle_in_transaction_session_timeout": "10s",
    }
    async with Database("source", dsn, session=session, size=3) as database:
        yield TelegraStore(database, rules)
