"""What all that read and write the ledger have in common."""

from collections.abc import Sequence
from typing import Any

from daemon.database.pool import Database
from daemon.errors import UnreachableError
from daemon.lines import LineKey, NewLine


class LedgerTables:
    """A part of the ledger; every method raises `UnreachableError` while it is away."""

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
    """Return the four ids as parallel arrays."""
    return [list(column) for column in zip(*keys, strict=True)] or [[], [], [], []]


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
    ]
