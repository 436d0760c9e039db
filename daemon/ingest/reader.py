"""Sessions to the ACD's database: its clock, its columns, and windows read page by page."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, ClassVar, TypeVar

import asyncpg

from daemon.database import statements
from daemon.database.errors import Place
from daemon.database.pool import Database
from daemon.errors import ConfigurationError, UnreadableRowError
from daemon.ingest.columns import MIN_TIME, REPEATED_HOUR, to_bigint
from daemon.ingest.feed import Page, RowRef
from daemon.ingest.readiness import Clock, Window
from daemon.ingest.schema import Tables, id_text, relation, schema_faults
from daemon.lines import MICROSECOND

PAGE = 2000
"""Rows to read at once: large enough that a statement's fixed cost is small beside its rows."""
REPEATS = 3
"""How often a statement is repeated at once that a standby cancelled to go on with its replay."""
CONFLICTS = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)

_SQL = statements.load("ingest/reader.sql")

K = TypeVar("K")
R = TypeVar("R")


class SourceReader:
    """Reads one client's rows, or all clients' when `clients_id` is None. SELECT only.

    A subclass has the tables that its statements read, in braces where they name one, and may give
    words for other braces.
    """

    tables: ClassVar[Tables]
    sql: ClassVar[Mapping[str, str]]
    sql_parts: ClassVar[Sequence[str]] = ()
    """Statements that are pieces of others."""
    id_texts: ClassVar[Mapping[str, str]] = {}
    """Words for texts that are read as far as they may be a Salesforce id."""
    text_statement: ClassVar[str]
    """The statement whose texts the server may be unable to give."""

    def __init__(
        self,
        database: Database,
        schemas: Sequence[str],
        clients_id: int | None,
        page: int = PAGE,
    ) -> None:
        """Sessions of the database have the search path and the ACD server's zone.

        `page` rows of a window are read at once.
        """
        self.database = database
        self._schemas = schemas
        self._clients_id = clients_id
        self._page = page
        self._sql: dict[str, str] = {}

    @property
    def unreachable(self) -> bool:
        """Whether the last query could not reach the source."""
        return self.database.lost

    @property
    def place(self) -> Place:
        """Where it is, for messages."""
        return self.database.place

    async def clock(self) -> Clock:
        """Return the source's time; raises `UnreachableError` if it cannot be reached."""
        async with self.database.connection() as connection:
            row = await connection.fetchrow(_SQL["clock"])
        return Clock(row["now"], row["database"], row["standby"], row["replayed"])

    async def columns(self) -> dict[str, dict[str, str]]:
        """Return table → column → type as the search path shows them, all in lower case."""
        async with self.database.connection() as connection:
            rows = await connection.fetch(_SQL["columns"], [table.lower() for table in self.tables])
        found: dict[str, dict[str, str]] = {}
        for row in rows:
            found.setdefault(row["table_name"], {})[row["column_name"]] = row["type"]
        return found

    async def indexed(self) -> dict[str, set[str]]:
        """Return table → columns that an index begins with; a view counts as having all."""
        tables = {table.lower(): table for table in self.tables}
        async with self.database.connection() as connection:
            rows = await connection.fetch(_SQL["indexed"], list(tables))
            views = await connection.fetch(_SQL["views"], list(tables))
        found: dict[str, set[str]] = {}
        for row in rows:
            found.setdefault(row["table_name"], set()).add(row["column_name"])
        for row in views:
            name = row["table_name"]
            found[name] = {column.lower() for column in self.tables[tables[name]]}
        return found

    async def keeps_sessions(self) -> bool:
        """Whether no pooler lends the sessions of this database from statement to statement."""
        return await self.database.keeps_sessions()

    async def prepare(self) -> None:
        """Fit the statements to the column types; raises `ConfigurationError` per wrong column."""
        columns = await self.columns()
        if faults := schema_faults(columns, self._schemas, self.tables):
            raise ConfigurationError(*faults)
        async with self.database.connection() as connection:
            unicode = await connection.fetchval(_SQL["encoding"]) == "UTF8"
        words = {
            table: relation(table, columns[table.lower()], kinds)
            for table, kinds in self.tables.items()
        } | {name: id_text(text, unicode=unicode) for name, text in self.id_texts.items()}
        parts = {name: self.sql[name].format_map(words) for name in self.sql_parts}
        self._sql = {name: text.format_map(words | parts) for name, text in self.sql.items()}

    async def _fetch(self, statement: str, *arguments: Any) -> list[Any]:
        if not self._sql:
            await self.prepare()
        text = self._sql[statement]
        rows: list[Any]
        async with self.database.connection(statement) as connection:
            try:
                for _ in range(REPEATS):
                    with suppress(*CONFLICTS):
                        rows = await connection.fetch(text, *arguments)
                        return rows
                rows = await connection.fetch(text, *arguments)
            except asyncpg.DataError as error:
                if statement == self.text_statement:
                    raise UnreadableRowError(f"SQLSTATE {error.sqlstate}") from error
                raise
            return rows

    async def _pages(
        self, statement: str, window: Window, *arguments: datetime, whole: bool = True
    ) -> AsyncIterator[Page]:
        """Yield the rows of a window by (time, id).

        A row is what `RowRef` has, with the time in its own type as a cursor, and perhaps whether
        it is wanted: what is not wanted is covered like the others.
        """
        since, cursor, row_id = window.since, MIN_TIME, 0
        while True:
            rows = await self._fetch(
                statement,
                since,
                window.until,
                cursor,
                row_id,
                self._clients_id,
                self._page,
                *arguments,
            )
            if rows:
                cursor, row_id = rows[-1]["cursor"], rows[-1]["row_id"]
                # Local times that the clock skips or repeats are not in their instants' order.
                slack = timedelta(0) if cursor.tzinfo else REPEATED_HOUR
                reached = rows[-1]["moment"] - slack
                found = [
                    RowRef(to_bigint(call), to_bigint(row), moment)
                    for call, row, _, moment, *wanted in rows
                    if all(wanted)
                ]
                # Of the last row's very time there may be more.
                yield Page(found, reached - MICROSECOND, whole)
                since = max(since, reached)
            if len(rows) < self._page:
                return


async def by_halves(
    read: Callable[[list[K]], Awaitable[list[R]]], keys: list[K]
) -> tuple[list[R], list[K]]:
    """Read rows, and find out by halves which of them the source cannot give: returns both."""
    try:
        return await read(keys), []
    except UnreadableRowError:
        if len(keys) == 1:
            return [], keys
        middle = len(keys) // 2
        first, bad = await by_halves(read, keys[:middle])
        second, worse = await by_halves(read, keys[middle:])
        return first + second, bad + worse
