"""Lists of lines by state: a page of what a query selects, by indexes alone."""

from typing import Any

from daemon.database import statements
from daemon.ledger.overview import LinePage, LineQuery, ListedLine
from daemon.lines import FeedName, LineKey, State

_SQL = statements.load("ledger/listing.sql")
_FIRST: tuple[Any, ...] = (None,) * 9
"""The place before all lines."""


async def page(connection: Any, query: LineQuery) -> LinePage | None:
    """Return a page of lines; None if the line `query.after` is not in that list any more.

    Pending lines that were sent meanwhile keep their place.
    """
    async with connection.transaction():
        await connection.execute(_SQL["for_values"])
        place = _FIRST
        if query.after is not None:
            row = await connection.fetchrow(_SQL["place"], *query.after)
            if row is None or query.state not in {State.PENDING, row["state"]}:
                return None
            settled_at = None if query.state is State.PENDING else row["settled_at"]
            place = (settled_at, *row[2:])
        rows = await _rows(connection, query, place)
    lines = [_listed(row) for row in rows[: query.limit]]
    return LinePage(lines, lines[-1].key if len(rows) > query.limit else None)


async def _rows(connection: Any, query: LineQuery, place: tuple[Any, ...]) -> list[Any]:
    """Return one row more than the page has, if there are more."""
    feeds = list(FeedName) if query.feed is None else [query.feed]
    ended = (query.since, query.until)
    settled = (query.settled_since, query.settled_until)
    more = query.limit + 1
    if query.state is State.PENDING and query.lane is None:
        statement, rest = "list_pending", (*place[1:], *ended)
    elif query.lane is not None or ended != (None, None):
        statement, rest = "list_chosen", (query.state, *settled, *place, *ended, query.lane)
    else:
        statement, rest = "list_settled", (query.state, *settled, *place)
    rows: list[Any] = await connection.fetch(_SQL[statement], feeds, more, *rest)
    return rows


def _listed(row: Any) -> ListedLine:
    *ids, feed, state = row[:6]
    key = LineKey._make((*ids, FeedName(feed)))
    return ListedLine(key, State(state), *row[6:])
