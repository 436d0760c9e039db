"""The daemon's own tables: every data line ever taken, what was sent and what came back."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from daemon.database import statements
from daemon.database.pool import Database, quoted
from daemon.errors import ConfigurationError, LeaseLostError, UnreachableError
from daemon.lines import (
    Digest,
    FailingAnswers,
    LineKey,
    NewLine,
    PendingLine,
    Settlement,
    State,
    Streak,
)

SCHEMA_VERSION = "0002"
"""The newest migration this program knows; revisions are numbers, so that they compare."""

MICROSECOND = timedelta(microseconds=1)
PAGE = 2000
"""Lines to read at once."""
NEWEST = 50_000
"""Pending lines among which the newest one that may be sent is looked for."""
NEWEST_PAGE = 1000
"""How many of them are looked at at once; nearly always the first page has it."""
REFUSED = 100
"""Refused lines that are looked at for a row of failing answers that another sender began."""

_SQL = statements.load("ledger/store.sql")


@dataclass(frozen=True, slots=True)
class Binding:
    """Whose calls a ledger holds: one client (None: all) of one source (None: not asked)."""

    clients_id: int | None
    source_database: str | None
    source_schemas: tuple[str, ...]

    def __str__(self) -> str:
        """Name all three as an administrator knows them."""
        client = "all clients" if self.clients_id is None else f"client {self.clients_id}"
        return (
            f"{client} of database {self.source_database}, schemas {','.join(self.source_schemas)}"
        )


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


@dataclass(frozen=True, slots=True)
class InstanceStatus:
    """What the active instance tells of itself every few seconds."""

    host: str
    pid: int
    version: str
    uptime: float
    state: str
    reason: str | None
    retry_in: float | None
    stopped: bool = False
    probe_answered: int | None = None


@dataclass(frozen=True, slots=True)
class Tenure:
    """One holding of the ledger's lock: its name, the ledger's oid, and who held it before."""

    lease: str | None = None
    ledger_oid: int | None = None
    previous: str | None = None


@dataclass(frozen=True, slots=True)
class OperatorPause:
    """An operator's pause: since when, and why."""

    since: datetime
    reason: str | None


@dataclass(frozen=True, slots=True)
class Wishes:
    """What people want of the active instance.

    An operator's pause; the latest act that asked to end an automatic pause with a try at once;
    whether a migration wants to bring the ledger to a newer version than this program knows.
    """

    pause: OperatorPause | None
    probe: int | None
    upgrade: bool


class Ledger:
    """Reads and writes the ledger; every method raises `UnreachableError` while it is away."""

    def __init__(self, database: Database) -> None:
        """Wrap a database whose sessions find the ledger's schema first."""
        self.database = database

    async def check_version(self) -> None:
        """Raise `ConfigurationError` unless migrations brought the ledger to our version."""
        found = await self._version()
        if found is None:
            raise ConfigurationError("the ledger does not exist yet: run `callstatsd migrate`")
        if found < SCHEMA_VERSION:
            raise ConfigurationError(
                f"the ledger is at version {found}, this program needs {SCHEMA_VERSION}: "
                "run `callstatsd migrate`"
            )
        _refuse_newer(found)

    async def is_outdated(self) -> bool:
        """Whether there is a ledger, of an older version than this program's."""
        found = await self._version()
        return found is not None and found < SCHEMA_VERSION

    async def check_upgradable(self) -> None:
        """Raise `ConfigurationError` where no migration of ours can help."""
        async with self.database.connection() as connection:
            encoding = await connection.fetchval(_SQL["encoding"])
        if encoding != "UTF8":
            raise ConfigurationError(
                f"the ledger's database has the encoding {encoding}, which cannot hold every "
                "name: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, and name it in "
                "CALLSTATSD_LEDGER_DSN"
            )
        _refuse_newer(await self._version() or SCHEMA_VERSION)

    async def _version(self) -> str | None:
        async with self.database.connection() as connection:
            if not await connection.fetchval(_SQL["migrated"]):
                return None
            found: str | None = await connection.fetchval(_SQL["version"])
        return found

    async def lacking_rights(self) -> str | None:
        """Name what this user lacks to write the ledger; None if nothing."""
        async with self.database.connection() as connection:
            lacking: str | None = await connection.fetchval(_SQL["lacking_rights"])
        return lacking

    async def exists(self) -> bool:
        """Whether migrations have made a ledger here."""
        return await self._version() is not None

    async def may_create(self, schema: str) -> bool:
        """Whether this user may create the ledger there."""
        async with self.database.connection() as connection:
            return bool(await connection.fetchval(_SQL["may_create"], schema))

    async def binding(self) -> Binding | None:
        """Return whose calls this ledger holds; None before the first `migrate`."""
        row = await self._only_row("binding")
        if row["bound_at"] is None:
            return None
        return Binding(row["clients_id"], row["source_database"], tuple(row["source_schemas"]))

    async def bind(self, binding: Binding, *, rebind: bool = False) -> None:
        """Bind an unbound ledger; a bound one is only compared, unless told to rebind."""
        async with self.database.connection() as connection:
            await connection.execute(
                _SQL["bind"],
                binding.clients_id,
                binding.source_database,
                list(binding.source_schemas),
                rebind,
            )
        await self.check_binding(binding)

    async def check_binding(self, wanted: Binding) -> None:
        """Raise `ConfigurationError` naming both, when the ledger belongs to other calls."""
        found = await self.binding()
        if found is None:
            raise ConfigurationError(
                "the ledger is not bound to a source yet: run `callstatsd migrate`"
            )
        if wanted.source_database is None:
            wanted = replace(wanted, source_database=found.source_database)
        if found != wanted:
            raise ConfigurationError(
                f"the ledger holds the lines of {found}, the settings name {wanted}: correct them, "
                "use another CALLSTATSD_LEDGER_SCHEMA, or run `callstatsd migrate --rebind`"
            )

    async def progress(self) -> TakingProgress:
        """Return how far calls are taken."""
        return TakingProgress(*await self._only_row("progress"))

    async def start(self, start_from: datetime, watermark: datetime) -> None:
        """Keep START_FROM and the first watermark; only the first start does."""
        async with self.database.connection() as connection:
            await connection.execute(_SQL["start"], start_from, watermark)

    async def prune(self, age: float, limit: int) -> int:
        """Remove lines that were settled so many seconds ago; 0 when none is left."""
        return await self._remove("prune", age, limit)

    async def prune_acts(self, age: float, limit: int) -> int:
        """Remove acts so many seconds old that no line refers to; 0 when none is left."""
        return await self._remove("prune_acts", age, limit)

    async def drop_records(self, age: float, limit: int) -> int:
        """Drop the records of lines that were settled so many seconds ago; 0 when none is left."""
        return await self._remove("drop_records", age, limit)

    async def prune_lanes(self, limit: int) -> int:
        """Remove records that hold no line back any more; 0 when none is left."""
        async with self.database.connection() as connection:
            return int(await connection.fetchval(_SQL["prune_lanes"], limit))

    async def _remove(self, statement: str, age: float, limit: int) -> int:
        async def remove(connection: Any) -> int:
            async with connection.transaction():
                if not await connection.fetchval(_SQL["may_prune"], RETENTION_LOCK):
                    return 0
                return int(await connection.fetchval(_SQL[statement], age, limit))

        return await self.database.change(remove, statement)

    @asynccontextmanager
    async def retention_locked(self) -> AsyncIterator[Callable[[], None]]:
        """Let nothing be pruned meanwhile: a backfill compares with what is there.

        Gives a function that raises `UnreachableError` once that cannot be relied on any more.
        """
        connection = await self.database.connect()

        def still() -> None:
            if connection.is_closed():
                raise UnreachableError(
                    "the session that keeps retention away has ended: start the backfill again"
                )

        try:
            with self.database.watched():
                await connection.fetchval(_SQL["lock_retention"], RETENTION_LOCK)
            yield still
        finally:
            connection.terminate()

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
        after = LineKey(-(2**63), 0, 0, 0)
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

    async def identify(self, entries: Sequence[NewLine], reason: str) -> set[LineKey]:
        """Put lines that were skipped for that reason into the state they call for by now."""
        entries = sorted(entries, key=lambda entry: entry.key)
        rows = await self.database.change(
            lambda connection: connection.fetch(_SQL["identify"], *entry_columns(entries), reason),
            "identify",
        )
        return set(map(LineKey._make, rows))

    async def pull_back(self, watermark: datetime, never_ended_until: datetime) -> None:
        """Set a watermark that the source's clock has jumped behind back to that clock."""
        async with self.database.connection("pull_back") as connection:
            await connection.execute(_SQL["pull_back"], watermark, never_ended_until)

    async def take(
        self,
        entries: Sequence[NewLine],
        *,
        watermark: datetime | None = None,
        never_ended_until: datetime | None = None,
        backfill: bool = False,
        act: int | None = None,
    ) -> set[LineKey]:
        """Insert what is new and, in the same transaction, move the watermarks over it.

        Returns the keys that were new; what the ledger has already is left alone. `act` is the
        backfill that takes them, and counts them.
        """
        # One order for all who insert, so that two of them wait for each other, never deadlock.
        entries = sorted(entries, key=lambda entry: entry.key)
        async with self.database.connection("take") as connection, connection.transaction():
            rows: list[Any] = []
            if entries:
                await connection.execute(_SQL["in_bulk"])
                rows = await connection.fetch(_SQL["take"], *entry_columns(entries), backfill, act)
            if rows and act is not None:
                await connection.execute(_SQL["count_act"], act, len(rows))
            if watermark is not None:
                await connection.execute(_SQL["advance"], watermark, never_ended_until)
        return set(map(LineKey._make, rows))

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

    async def failing_answers(self) -> FailingAnswers:
        """Return whether the pause for a failing endpoint lasts, and the row of refusals since.

        Answers of 500 settle nothing, so that those of an earlier sender are not known.
        """
        async with self.database.connection() as connection:
            paused = await connection.fetchval(_SQL["streak_lasts"])
            proven = (await connection.fetchrow(_SQL["progress"]))["endpoint_proven"]
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

    async def prune_streaks(self) -> None:
        """Forget streaks of which no line is refused any more."""
        await self._execute("prune_streaks")

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

    async def succeed(self, tenure: Tenure) -> None:
        """Begin after another instance, which may have been killed; the next beat says whether."""
        async with self.database.connection() as connection:
            await connection.execute(
                _SQL["succeed"], tenure.lease, tenure.ledger_oid, tenure.previous
            )

    async def write_heartbeat(self, beat: InstanceStatus, tenure: Tenure) -> Wishes:
        """Write what this instance does; return what people want of it.

        Raises `LeaseLostError`, and writes nothing, once another instance holds the ledger.
        """
        async with self.database.connection("write_heartbeat") as connection:
            written = await connection.fetchval(
                _SQL["write_heartbeat"],
                beat.host,
                beat.pid,
                beat.version,
                beat.uptime,
                beat.state,
                beat.reason,
                beat.retry_in,
                beat.stopped,
                tenure.lease,
                tenure.ledger_oid,
                beat.probe_answered,
            )
        if not written:
            raise LeaseLostError("another instance has taken the ledger over")
        own, last = UPGRADE_LOCK + int(SCHEMA_VERSION), UPGRADE_LOCK + LAST_VERSION
        row = await self._only_row("wishes", own, last)
        since = row["held_since"]
        pause = None if since is None else OperatorPause(since, row["held_reason"])
        return Wishes(pause, row["probe_requested"], row["upgrade"])

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

    async def _only_row(self, statement: str, *arguments: Any) -> Any:
        """Return what is kept once for the whole ledger."""
        async with self.database.connection() as connection:
            row = await connection.fetchrow(_SQL[statement], *arguments)
        if row is None:
            raise UnreachableError("the ledger is empty: it is just being restored")
        return row

    async def _execute(self, statement: str) -> None:
        async with self.database.connection(statement) as connection:
            await connection.execute(_SQL[statement])


def _refuse_newer(version: str) -> None:
    if version > SCHEMA_VERSION:
        raise ConfigurationError(
            f"the ledger is at version {version}, newer than this program's {SCHEMA_VERSION}: "
            "install the callstatsd that upgraded it, or a later one"
        )


ACTIVE_LOCK = 0x63616C6C
"""First half of the advisory lock's key; the second is the oid of the ledger's own table."""
RETENTION_LOCK = ACTIVE_LOCK + 2
"""The same, of the lock that backfills share against retention."""
DAEMON_LOCK = ACTIVE_LOCK + 1
"""The same, of the lock that every `run` shares for as long as it lives, active or not."""
UPGRADE_LOCK = ACTIVE_LOCK + 0x10000
"""The same, plus the version, of the lock by which a migration to it says that it waits."""
LAST_VERSION = 9999
"""Revisions are four digits."""


@asynccontextmanager
async def open_ledger(dsn: str, schema: str) -> AsyncIterator[Ledger]:
    """Open the ledger's database; it need not be there yet."""
    session = {
        "search_path": quoted(schema),
        # A plan for all parameters alike would walk the whole table where most ask for little.
        "plan_cache_mode": "force_custom_plan",
        # What a frozen instance was just writing must not stay locked for the one that takes over.
        "idle_in_transaction_session_timeout": "10s",
    }
    async with Database("ledger", dsn, session=session, size=7) as database:
        yield Ledger(database)


def key_columns(keys: Sequence[LineKey]) -> list[list[int]]:
    """Return the four ids as parallel arrays."""
    return [list(column) for column in zip(*keys, strict=True)] or [[], [], [], []]


def entry_columns(entries: Sequence[NewLine]) -> list[list[Any]]:
    """Return the fields of lines to store as parallel arrays."""
    return [
        *key_columns([entry.key for entry in entries]),
        [entry.ordinal for entry in entries],
        [entry.lane for entry in entries],
        [entry.salesforce_id for entry in entries],
        [entry.call_ended for entry in entries],
        [entry.state for entry in entries],
        [entry.record for entry in entries],
        [entry.error for entry in entries],
    ]
