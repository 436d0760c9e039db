"""The ACD's tables: which calls are ready, and their data lines. SELECT only (contract 2, 3)."""

import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import asyncpg

from daemon.database import statements
from daemon.database.errors import Place
from daemon.database.pool import Database, quoted
from daemon.errors import ConfigurationError, UnreadableRowError
from daemon.lines import NON_NUMERIC_ID, DataLine, Digest, LineKey

PAGE = 2000
"""Calls to read at once: large enough that a statement's fixed cost is small beside its rows."""

LINES = 2000
"""Data lines to hold at once, however many a call has."""

REPEATS = 3
"""How often a statement is repeated at once that a standby cancelled to go on with its replay."""
_CONFLICTS = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)

_ID, _NUMBER, _FLAG, _TIME, _TEXT = "id", "number", "flag", "time", "text"

TABLES: Mapping[str, Mapping[str, str]] = {
    "StatisticsPartA": {
        "ID": _ID,
        "ClientsID": _ID,
        "ServiceNumbersID": _ID,
        "bOutbound": _FLAG,
        "ANumber": _TEXT,
        "BNumber": _TEXT,
        "dtCallStart": _TIME,
        "dtCallEnd": _TIME,
        "CauseCodesID": _NUMBER,
        "UserData": _TEXT,
    },
    "AcdStatisticsPartB": {
        "ID": _ID,
        "StatisticsPartAID": _ID,
        "AcdGroupsID": _ID,
        "AcdAgentGroupsID": _ID,
        "AcdConfigurationGroupsID": _ID,
        "dtGroupStart": _TIME,
    },
    "StatisticsPartB": {
        "ID": _ID,
        "StatisticsPartAID": _ID,
        "AcdStatisticsPartBID": _ID,
        "UsersID": _ID,
        "dtCallStart": _TIME,
        "dtCallAlert": _TIME,
        "dtCallConnect": _TIME,
        "dtCallEnd": _TIME,
        "CONNRES": _NUMBER,
        "CauseCodesID": _NUMBER,
    },
    "AcdStatisticsTransactionCodes": {
        "ID": _ID,
        "StatisticsPartAID": _ID,
        "AcdStatisticsPartBID": _ID,
        "StatisticsPartBID": _ID,
        "TransactionCodesID": _ID,
        "UsersID": _ID,
        "dtCreated": _TIME,
        "UserData": _TEXT,
    },
    "ServiceNumbers": {"ID": _ID, "Name": _TEXT, "Name2": _TEXT},
    "Users": {"ID": _ID, "UID": _TEXT},
    "AcdGroups": {"ID": _ID, "Name": _TEXT},
    "TransactionCodes": {"ID": _ID, "ExportKey": _TEXT},
}
"""Columns that the statements read, with what each is used as."""

_ID_TYPES = {"smallint", "integer", "bigint", "numeric", "real", "double precision"}
_TIME_TYPES = {"timestamp with time zone", "timestamp without time zone"}
_STATEMENTS = statements.load("ingest/source.sql")
_PARTS = ("rows", "expansion", "records")

SHORT_TEXT = 100
"""Octets up to which a UserData is read as it is."""
LONG_TEXT = 65_536
"""Octets from which on a UserData is none: to trim it would take the server too long."""
BLANKS = (
    *range(0x09, 0x0E), *range(0x1C, 0x21), 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B),
    0x2028, 0x2029, 0x202F, 0x205F, 0x3000,
)  # fmt: skip
"""All characters that `str.strip` removes; below 128 they are the same in every encoding."""

MIN_TIME = datetime.min.replace(tzinfo=UTC)
MAX_TIME = datetime.max.replace(tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
REPEATED_HOUR = timedelta(hours=1)
_LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Clock:
    """The source's own time, by which readiness is decided, never by the daemon's."""

    now: datetime
    database: str
    standby: bool
    replayed: datetime | None


@dataclass(frozen=True, slots=True)
class Window:
    """Instants of the source's clock, both ends included; a column has microseconds at most."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Readiness:
    """Which calls were ready: ended by, or started by and never ended; none before the floor."""

    ended_by: datetime
    started_by: datetime
    floor: datetime


class RowRef(NamedTuple):
    """A row that a window chose: its call, its own id (a code's, or the call's), its time.

    A `call_id` below `NON_NUMERIC_ID` stands for an id that is no whole number.
    """

    call_id: int
    row_id: int
    moment: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of a window in order; all of the window up to `covered` are in it or in earlier ones."""

    found: list[RowRef]
    covered: datetime


@dataclass(frozen=True, slots=True)
class CallFacts:
    """What the source says of a call: times, and how many rows it has."""

    clients_id: Any
    started: datetime | None
    ended: datetime | None
    has_user_data: bool
    visits: int
    legs: int
    codes: int


class Source:
    """Reads one client's calls, or all clients' when `clients_id` is None."""

    def __init__(self, database: Database, schemas: Sequence[str], clients_id: int | None) -> None:
        """Wrap a database whose sessions have the search path and the ACD server's zone."""
        self._database = database
        self._schemas = schemas
        self._clients_id = clients_id
        self._sql: dict[str, str] = {}

    @property
    def unreachable(self) -> bool:
        """Whether the source was away when last asked."""
        return self._database.lost

    @property
    def place(self) -> Place:
        """Where it is, for messages."""
        return self._database.place

    async def clock(self) -> Clock:
        """Return the source's time; raises `UnreachableError` while it is away."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_STATEMENTS["clock"])
        return Clock(row["now"], row["database"], row["standby"], row["replayed"])

    async def columns(self) -> dict[str, dict[str, str]]:
        """Return table → column → type as the search path shows them, all in lower case."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                _STATEMENTS["columns"], [table.lower() for table in TABLES]
            )
        found: dict[str, dict[str, str]] = {}
        for row in rows:
            found.setdefault(row["table_name"], {})[row["column_name"]] = row["type"]
        return found

    async def indexed(self) -> dict[str, set[str]]:
        """Return table → columns that an index begins with; a view counts as having all."""
        tables = {table.lower(): table for table in TABLES}
        async with self._database.connection() as connection:
            rows = await connection.fetch(_STATEMENTS["indexed"], list(tables))
            views = await connection.fetch(_STATEMENTS["views"], list(tables))
        found: dict[str, set[str]] = {}
        for row in rows:
            found.setdefault(row["table_name"], set()).add(row["column_name"])
        for row in views:
            name = row["table_name"]
            found[name] = {column.lower() for column in TABLES[tables[name]]}
        return found

    async def newest_start(self) -> datetime | None:
        """Return the start of the newest call."""
        newest: datetime | None = (await self._fetch("newest_start"))[0][0]
        return newest

    async def newest_clients(self) -> list[int]:
        """Return whose the newest calls are, each ClientsID once; at most a few, and ours first."""
        return [row[0] for row in await self._fetch("newest_clients", self._clients_id)]

    async def keeps_sessions(self) -> bool:
        """Whether no pooler lends the sessions of this database from statement to statement."""
        return await self._database.keeps_sessions()

    async def prepare(self) -> None:
        """Fit the statements to the column types; raises `ConfigurationError` per wrong column."""
        columns = await self.columns()
        if faults := schema_faults(columns, self._schemas):
            raise ConfigurationError(*faults)
        async with self._database.connection() as connection:
            unicode = await connection.fetchval(_STATEMENTS["encoding"]) == "UTF8"
        words = {table: _relation(table, columns[table.lower()]) for table in TABLES} | {
            "call_user_data": _shortened("call.UserData::text", unicode=unicode),
            "code_user_data": _shortened("code.UserData::text", unicode=unicode),
        }
        parts = {name: _STATEMENTS[name].format_map(words) for name in _PARTS}
        self._sql = {name: text.format_map(words | parts) for name, text in _STATEMENTS.items()}

    def ended(self, window: Window) -> AsyncIterator[Page]:
        """Yield pages of the calls whose dtCallEnd lies in the window, by (time, id)."""
        return self._pages("ended", window)

    async def count_ended(self, window: Window) -> int:
        """Return how many calls ended in the window."""
        rows = await self._fetch("count_ended", window.since, window.until, self._clients_id)
        return int(rows[0][0])

    def never_ended(self, window: Window) -> AsyncIterator[Page]:
        """Yield pages of the calls without an end whose dtCallStart lies in the window."""
        return self._pages("never_ended", window)

    def late_codes(self, window: Window, ready: Readiness) -> AsyncIterator[Page]:
        """Yield pages of the codes created in the window for calls that were ready."""
        return self._pages("late_codes", window, ready.ended_by, ready.started_by, ready.floor)

    async def about(self, call_id: int) -> CallFacts | None:
        """Return what can be said of a call, whichever client's; None for an unknown id."""
        rows = await self._fetch("about", call_id)
        return CallFacts(*rows[0]) if rows else None

    async def lines(self, call_ids: Sequence[int]) -> list[DataLine]:
        """Return the lines of `line_pages` at once."""
        async with aclosing(self.line_pages(call_ids)) as pages:
            return [line async for lines in pages for line in lines]

    async def line_pages(self, call_ids: Sequence[int]) -> AsyncGenerator[list[DataLine], None]:
        """Yield the calls' data lines in sending order, all as visible in one statement.

        A master view that shows an id twice would repeat a line; the key is kept once. Raises
        `UnreadableRowError` for a value that the server cannot give.
        """
        numbered = Numbering()
        async with aclosing(self._stream("lines", call_ids)) as pages:
            async for rows in pages:
                yield numbered.lines(rows)

    async def keys(self, call_ids: Sequence[int]) -> list[LineKey]:
        """Return the keys of the calls' data lines, in no order; cheaper than `lines`."""
        rows = await self._fetch("keys", call_ids) if call_ids else []
        if rows and all(type(part) is int for part in rows[0]):
            return list(dict.fromkeys(map(LineKey._make, rows)))
        return list(dict.fromkeys(LineKey(*map(to_bigint, row)) for row in rows))

    async def digest(self, call_ids: Sequence[int]) -> Digest:
        """Return what the calls' data lines come to; far cheaper than `keys`."""
        (row,) = await self._fetch("digest", call_ids)
        return Digest(*row)

    async def lines_by_key(self, keys: Sequence[LineKey]) -> list[DataLine]:
        """Return the lines of known keys from the rows that are still there.

        A key whose call has gone is left out; where a leg or code has gone, it is as without one.
        Raises `UnreadableRowError` as `lines` does.
        """
        if not keys:
            return []
        columns = [list(column) for column in zip(*keys, strict=True)]
        return Numbering().lines(
            await self._fetch("lines_by_key", sorted(set(columns[0])), *columns)
        )

    async def _fetch(self, statement: str, *arguments: Any) -> list[Any]:
        if not self._sql:
            await self.prepare()
        text = self._sql[statement]
        rows: list[Any]
        async with self._database.connection(statement) as connection:
            try:
                for _ in range(REPEATS):
                    with suppress(*_CONFLICTS):
                        rows = await connection.fetch(text, *arguments)
                        return rows
                rows = await connection.fetch(text, *arguments)
            except asyncpg.DataError as error:
                if statement == "lines_by_key":
                    raise UnreadableRowError(f"SQLSTATE {error.sqlstate}") from error
                raise
            return rows

    async def _stream(self, statement: str, *arguments: Any) -> AsyncGenerator[list[Any], None]:
        """Yield `LINES` rows at a time; a conflict before the first ones is repeated."""
        if not self._sql:
            await self.prepare()
        text = self._sql[statement]
        async with self._database.connection(statement) as connection:
            for left in range(REPEATS, -1, -1):
                begun = False
                try:
                    async with aclosing(_a_few(connection, text, arguments)) as pages:
                        async for rows in pages:
                            begun = True
                            yield rows
                except _CONFLICTS:
                    if begun or not left:
                        raise
                except asyncpg.DataError as error:
                    raise UnreadableRowError(f"SQLSTATE {error.sqlstate}") from error
                else:
                    return

    async def _pages(
        self, statement: str, window: Window, *arguments: datetime
    ) -> AsyncIterator[Page]:
        since, cursor, row_id = window.since, MIN_TIME, 0
        while True:
            rows = await self._fetch(
                statement, since, window.until, cursor, row_id, self._clients_id, PAGE, *arguments
            )
            if rows:
                cursor, row_id = rows[-1]["cursor"], rows[-1]["row_id"]
                # Local times that the clock skips or repeats are not in their instants' order.
                slack = timedelta(0) if cursor.tzinfo else REPEATED_HOUR
                reached = rows[-1]["moment"] - slack
                found = [
                    RowRef(to_bigint(call), to_bigint(row), moment) for call, row, _, moment in rows
                ]
                # Of the last row's very time there may be more.
                yield Page(found, reached - _MICROSECOND)
                since = max(since, reached)
            if len(rows) < PAGE:
                return


@asynccontextmanager
async def open_source(
    dsn: str, schemas: Sequence[str], zone: ZoneInfo, clients_id: int | None
) -> AsyncIterator[Source]:
    """Open the ACD's database; it need not be there yet.

    The session's zone is the ACD server's, so that a `timestamp` column means its local time.
    """
    session = {
        "search_path": ", ".join(quoted(schema) for schema in schemas),
        "TimeZone": zone.key,
        "default_transaction_read_only": "on",
        # A plan for all windows alike would read every call without an end, of years.
        "plan_cache_mode": "force_custom_plan",
    }
    database = Database("source", dsn, session=session, size=4, initialise=_times_without_limits)
    async with database:
        yield Source(database, schemas, clients_id)


WANTED_INDEXES = (
    ("StatisticsPartA", "ID"),
    ("StatisticsPartA", "dtCallEnd"),
    ("StatisticsPartA", "dtCallStart"),
    ("AcdStatisticsPartB", "StatisticsPartAID"),
    ("StatisticsPartB", "StatisticsPartAID"),
    ("AcdStatisticsTransactionCodes", "StatisticsPartAID"),
    ("AcdStatisticsTransactionCodes", "dtCreated"),
)


def missing_indexes(indexed: Mapping[str, set[str]]) -> list[str]:
    """Return a CREATE INDEX for each index that polls would want and do not have."""
    return [
        f"CREATE INDEX CONCURRENTLY ON {table} ({column})"
        for table, column in WANTED_INDEXES
        if column.lower() not in indexed.get(table.lower(), set())
    ]


def schema_faults(
    columns: Mapping[str, Mapping[str, str]], schemas: Sequence[str]
) -> tuple[str, ...]:
    """Name each table or column that is missing or of a type that cannot be used."""
    faults = []
    for table, expected in TABLES.items():
        found = columns.get(table.lower())
        if found is None:
            faults.append(
                f"table {table} is not in the source's {', '.join(schemas)}: set "
                "CALLSTATSD_SOURCE_SCHEMAS, grant USAGE on the schema, or make a view of that name"
            )
            continue
        for column, kind in expected.items():
            type_name = found.get(column.lower())
            if type_name is None:
                faults.append(f"column {table}.{column} is missing: add it, or make a view with it")
            elif kind == _TIME and type_name not in _TIME_TYPES:
                faults.append(
                    f"column {table}.{column} is {type_name}: it must be timestamptz or timestamp"
                )
    return tuple(faults)


def to_bigint(value: Any) -> int:
    """Return an id as a bigint; one that is none becomes a number below `NON_NUMERIC_ID`."""
    if type(value) is int:
        return value
    if value == value and abs(value) <= _LARGEST and value == int(value):  # noqa: PLR0124 - NaN
        return int(value)
    return NON_NUMERIC_ID - 1 - zlib.crc32(str(value).encode())


async def _a_few(
    connection: Any, text: str, arguments: Sequence[Any]
) -> AsyncGenerator[list[Any], None]:
    async with connection.transaction(readonly=True):
        cursor = await connection.cursor(text, *arguments)
        while rows := await cursor.fetch(LINES):
            yield rows
            if len(rows) < LINES:
                return


class Numbering:
    """Makes lines of rows, numbered in each call; a doubled master row repeats none."""

    def __init__(self) -> None:
        """Begin before the first row."""
        self._ordinal = 0
        self._last_call = None
        self._last_key: LineKey | None = None

    def lines(self, rows: Sequence[Any]) -> list[DataLine]:
        """Return the lines of the next rows."""
        lines: dict[LineKey, DataLine] = {}
        for row in rows:
            call_id, group_id, leg_id, code_id, *rest = row
            self._ordinal = self._ordinal + 1 if call_id == self._last_call else 1
            self._last_call = call_id
            key = LineKey(
                to_bigint(call_id), to_bigint(group_id), to_bigint(leg_id), to_bigint(code_id)
            )
            if key != self._last_key:  # also of the rows before these
                lines.setdefault(key, DataLine(key, self._ordinal, *rest))
            self._last_key = key
        return list(lines.values())


def _relation(table: str, types: Mapping[str, str]) -> str:
    """Return the FROM item for a table: its columns of section 2, ids as numbers.

    An id that a view has as text is cast where it is a number; where it is none it becomes a
    stable number below `NON_NUMERIC_ID`, so that the line still has a key and ends as `invalid`.
    """
    columns = []
    for column, kind in TABLES[table].items():
        if kind == _ID and types[column.lower()] not in _ID_TYPES:
            columns.append(
                f"CASE WHEN {column} IS NULL THEN NULL"
                f" WHEN {column}::text ~ '^\\s*-?\\d{{1,18}}\\s*$'"
                f" OR {column}::text ~ '^\\d{{19}}$'"
                f" AND {column}::text COLLATE \"C\" <= '{_LARGEST}'"
                f" THEN {column}::text::bigint"
                f" ELSE {NON_NUMERIC_ID} - 1 - (hashtextextended({column}::text, 0) & {2**62 - 1})"
                f" END AS {column}"
            )
        else:
            columns.append(column)
    return f"(SELECT {', '.join(columns)} FROM {table})"


def _shortened(text: str, *, unicode: bool) -> str:
    """Return an expression for what may be a Salesforce id in a text: trimmed, short, or NULL.

    The beginning of a long text mostly says that it is none, without the rest being read.
    """
    blanks = " || ".join(f"chr({code})" for code in BLANKS if unicode or code < 128)
    return (
        f"CASE WHEN octet_length({text}) <= {SHORT_TEXT} THEN {text}"
        f" WHEN octet_length({text}) <= {LONG_TEXT}"
        f" AND length(btrim(left({text}, {2 * SHORT_TEXT}), {blanks})) <= {SHORT_TEXT}"
        f" AND octet_length(btrim({text}, {blanks})) <= {SHORT_TEXT}"
        f" THEN btrim({text}, {blanks}) END"
    )


async def _times_without_limits(connection: Any) -> None:
    """Decode times ourselves: one before year 1 must spoil its own line, not the whole page."""
    for type_name, epoch in (
        ("timestamptz", datetime(2000, 1, 1, tzinfo=UTC)),
        ("timestamp", datetime(2000, 1, 1)),  # noqa: DTZ001 - the ACD's local time has no zone
    ):
        await connection.set_type_codec(
            type_name,
            schema="pg_catalog",
            format="tuple",
            encoder=_encoder(epoch),
            decoder=_decoder(epoch),
        )


def _encoder(epoch: datetime) -> Any:
    def encode(moment: datetime) -> tuple[int]:
        if epoch.tzinfo is None:
            moment = moment.replace(tzinfo=None)
        return ((moment - epoch) // _MICROSECOND,)

    return encode


def _decoder(epoch: datetime) -> Any:
    def decode(value: tuple[int]) -> datetime:
        try:
            return epoch + timedelta(0, 0, value[0])  # by name it takes half as long again
        except OverflowError:
            return (MAX_TIME if value[0] > 0 else MIN_TIME).replace(tzinfo=epoch.tzinfo)

    return decode
