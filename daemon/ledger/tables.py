"""Base class of the ledger's parts, and lines and keys as parallel arrays for SQL."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from daemon.database.pool import Database
from daemon.errors import UnreachableError
from daemon.lines import FeedName, LineKey, NewLine


class Keyed(Protocol):
    """A value that belongs to one line."""

    @property
    def key(self) -> LineKey:
        """The line's key."""


T = TypeVar("T", bound=Keyed)


class LedgerTables:
    """A part of the ledger; every method raises `UnreachableError` if it cannot be used."""

    def __init__(self, database: Database) -> None:
        """Sessions of the database find the ledger's schema first."""
        self.database = database

    async def _only_row(self, statement: str, *arguments: Any) -> Any:
        """Return what is kept once for the whole ledger."""
        async with self.database.connection() as connection:
            row = await connection.fetchrow(statement, *arguments)
        if row is None:
            raise UnreachableError("the ledger is empty: it is just being restored")
        return row


def key_columns(keys: Sequence[LineKey]) -> list[list[int]]:
    """Return the four ids as parallel arrays; the feed is a parameter of its own."""
    return [list(column) for column in zip(*keys, strict=True)][:4] or [[], [], [], []]


def keys_of(rows: Iterable[Any], feed: FeedName) -> set[LineKey]:
    """Return the keys of rows that begin with the four ids."""
    return {LineKey._make((*row[:4], feed)) for row in rows}


def by_feed(keyed: Iterable[T]) -> Iterator[tuple[FeedName, list[T]]]:
    """Yield each feed with what belongs to it, sorted by key.

    One order for all who write, so that they wait for each other and seldom deadlock.
    """
    sorted_by_key = sorted(keyed, key=lambda one: one.key)
    for feed in FeedName:
        if mine := [one for one in sorted_by_key if one.key.feed == feed]:
            yield feed, mine


def line_columns(lines: Sequence[NewLine]) -> list[list[Any]]:
    """Return the fields of lines to store as parallel arrays."""
    return [
        *key_columns([line.key for line in lines]),
        [line.ordinal for line in lines],
        [line.lane for line in lines],
        [line.salesforce_id for line in lines],
        [line.call_ended for line in lines],
        [line.state for line in lines],
        [line.record for line in lines],
        [line.error for line in lines],
        [line.skip_reason for line in lines],
    ]
