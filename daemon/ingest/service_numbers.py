"""The ACD's service numbers, and which of them Salesforce means."""

from collections.abc import Iterable
from dataclasses import dataclass

from daemon.database import statements
from daemon.ingest.columns import to_bigint
from daemon.ingest.reader import SourceReader
from daemon.ingest.record import caller_id
from daemon.ingest.schema import TABLES


@dataclass(frozen=True, slots=True)
class ServiceNumber:
    """A row of ServiceNumbers: Name is the number, Name2 its name."""

    id: int
    number: str | None
    name: str | None


class ServiceNumberSource(SourceReader):
    """Reads service numbers, lowest id first."""

    tables = {"ServiceNumbers": TABLES["ServiceNumbers"]}  # noqa: RUF012 - a ClassVar above
    sql = statements.load("ingest/service_numbers.sql")
    text_statement = "all"

    async def all(self) -> list[ServiceNumber]:
        """Return all of them; raises `CallstatsdError` if they cannot be read."""
        rows = await self._fetch("all")
        return [ServiceNumber(to_bigint(row_id), number, name) for row_id, number, name in rows]


def find(
    rows: Iterable[ServiceNumber], number: str | None, name: str | None = None
) -> ServiceNumber | None:
    """Return the first row with the number, in whatever form, else the first with the name."""
    rows = list(rows)
    if number is not None and (digits := caller_id(number)) is not None:
        for row in rows:
            if caller_id(row.number) == digits:
                return row
    if name is not None and (wanted := name.strip()):
        for row in rows:
            if (row.name or "").strip() == wanted:
                return row
    return None
