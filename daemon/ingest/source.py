"""The ACD's tables: which calls are ready, and their data lines. SELECT only."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

import asyncpg

from daemon.database import statements
from daemon.database.pool import Database, quoted
from daemon.errors import UnreadableRowError
from daemon.ingest.columns import EPOCHS, time_decoder, time_encoder, to_bigint
from daemon.ingest.feed import Page
from daemon.ingest.reader import CONFLICTS, PAGE, REPEATS, SourceReader
from daemon.ingest.readiness import CallFacts, Readiness, Window
from daemon.ingest.schema import TABLES
from daemon.lines import DataLine, Digest, LineKey

LINES = 2000
"""Data lines to hold at once, however many a call has."""


class Source(SourceReader):
    """Reads one client's calls, or all clients' when `clients_id` is None."""

    tables = TABLES
    sql = statements.load("ingest/source.sql")
    sql_parts = ("rows", "expansion", "records")
    id_texts: ClassVar = {
        "call_user_data": "call.UserData::text",
        "code_user_data": "code.UserData::text",
    }
    text_statement = "lines_by_key"

    def __init__(
        self,
        database: Database,
        schemas: Sequence[str],
        clients_id: int | None,
        page: int = PAGE,
        lines: int = LINES,
    ) -> None:
        """`page` calls are read at once, and `lines` data lines are in memory at once."""
        super().__init__(database, schemas, clients_id, page)
        self._lines_at_once = lines

    async def newest_start(self) -> datetime | None:
        """Return the start of the newest call."""
        newest: datetime | None = (await self._fetch("newest_start"))[0][0]
        return newest

    async def newest_clients(self) -> list[int]:
        """Return whose the newest calls are, each ClientsID once; at most a few, and ours first."""
        return [row[0] for row in await self._fetch("newest_clients", self._clients_id)]

    async def group_names(self) -> list[str | None]:
        """Return the names of all groups."""
        return [row[0] for row in await self._fetch("group_names")]

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
        moments = (ready.ended_by, ready.started_by, ready.floor)
        return self._pages("late_codes", window, *moments, whole=False)

    async def about(self, call_id: int) -> CallFacts | None:
        """Return times and row counts of a call, whichever client's; None for an unknown id."""
        rows = await self._fetch("about", call_id)
        return CallFacts(*rows[0]) if rows else None

    async def lines(self, call_ids: Sequence[int]) -> list[DataLine]:
        """Return the lines of `line_pages` at once."""
        async with aclosing(self.line_pages(call_ids)) as pages:
            return [line async for lines in pages for line in lines]

    async def line_pages(self, call_ids: Sequence[int]) -> AsyncGenerator[list[DataLine], None]:
        """Yield the calls' data lines in sending order, all as visible in one statement.

        A master view that shows an id twice would repeat a line; the key is kept once. A conflict
        with a standby's replay before the first lines is repeated. Raises `UnreadableRowError` for
        a value that the server cannot give.
        """
        if not self._sql:
            await self.prepare()
        text, limit = self._sql["lines"], self._lines_at_once
        async with self.database.connection("lines") as connection:
            for left in range(REPEATS, -1, -1):
                numbered: Numbering | None = None
                try:
                    async with connection.transaction(readonly=True):
                        cursor = await connection.cursor(text, call_ids)
                        while rows := await cursor.fetch(limit):
                            numbered = numbered or Numbering()
                            yield numbered.lines(rows)
                            if len(rows) < limit:
                                break
                except CONFLICTS:
                    if numbered is not None or not left:
                        raise
                except asyncpg.DataError as error:
                    raise UnreadableRowError(f"SQLSTATE {error.sqlstate}") from error
                else:
                    return

    async def keys(self, call_ids: Sequence[int]) -> list[LineKey]:
        """Return the keys of the calls' data lines, in no order; cheaper than `lines`."""
        rows = await self._fetch("keys", call_ids) if call_ids else []
        if not (rows and all(type(part) is int for part in rows[0])):
            rows = [list(map(to_bigint, row)) for row in rows]
        return list(dict.fromkeys(LineKey(*row) for row in rows))

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
        columns = [list(column) for column in zip(*(key.ids for key in keys), strict=True)]
        return Numbering().lines(
            await self._fetch("lines_by_key", sorted(set(columns[0])), *columns)
        )


@asynccontextmanager
async def open_source(
    dsn: str,
    schemas: Sequence[str],
    zone: ZoneInfo,
    clients_id: int | None,
    *,
    page: int = PAGE,
    lines: int = LINES,
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
    # Poll and sweep of each feed at once, each feed with as many as it can use.
    database = Database("source", dsn, session=session, size=8, initialise=_times_without_limits)
    async with database:
        yield Source(database, schemas, clients_id, page, lines)


class Numbering:
    """Makes lines of rows, numbered in each call; a doubled master row repeats none."""

    def __init__(self) -> None:
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


async def _times_without_limits(connection: Any) -> None:
    """Decode times ourselves: one before year 1 must spoil its own line, not the whole page."""
    for type_name, epoch in EPOCHS.items():
        await connection.set_type_codec(
            type_name,
            schema="pg_catalog",
            format="tuple",
            encoder=time_encoder(epoch),
            decoder=time_decoder(epoch),
        )
