"""What polls, sweeps and backfills need of one kind of rows in the source."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from daemon.ingest.readiness import Clock, ReadinessRules, Window
from daemon.ingest.record import lane
from daemon.lines import Covered, Digest, FeedName, LineKey, NewLine, State

UNREADABLE = "a text of the call is not valid in the encoding of the source's database"
"""What is wrong with a line whose rows the server cannot give."""


class RowRef(NamedTuple):
    """A row that a window chose: its call, its own id (a code's, or the call's), its time.

    An event is its own call. `call_id` is what the keys of its lines begin with. Below
    `NON_NUMERIC_ID`, the id in the source is not a whole number.
    """

    call_id: int
    row_id: int
    moment: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of a window in order; all of the window up to `covered` are in it or in earlier ones.

    Each stands for all lines of its call, or only for its own (a code's) where not `whole`.
    """

    found: list[RowRef]
    covered: datetime
    whole: bool = True


class Due(NamedTuple):
    """Rows that became ready, and how far all is covered once their lines are in the ledger."""

    page: Page
    covered: Covered | None


class Feed(Protocol):
    """One kind of rows that become data lines; every method may raise `UnreachableError`."""

    @property
    def name(self) -> FeedName:
        """Under which name its lines are in the ledger."""

    @property
    def rules(self) -> ReadinessRules:
        """When its rows are ready."""

    async def prepare(self) -> None:
        """Fit the statements to the source; raises `ConfigurationError` per wrong column."""

    async def clock(self) -> Clock:
        """Return the source's time."""

    def due(self, covered: Covered, floor: datetime, clock: Clock) -> AsyncIterator[Due]:
        """Yield what became ready after what is covered; the last one covers all until now."""

    def late(
        self, window: Window, floor: datetime, clock: Clock, *, wide: bool
    ) -> AsyncIterator[Page]:
        """Yield what a sweep compares with the ledger: what polls may have missed."""

    def ready_in(self, window: Window) -> AsyncIterator[Page]:
        """Yield what a backfill of the window takes."""

    async def count(self, window: Window) -> int:
        """Return how many rows `ready_in` would yield."""

    async def keys(self, call_ids: Sequence[int]) -> list[LineKey]:
        """Return the keys of all lines, in no order."""

    async def digest(self, call_ids: Sequence[int]) -> Digest:
        """Return the digest of `keys`, to compare with the ledger's."""

    def new_lines(
        self, found: Sequence[RowRef], *, whole: bool = True
    ) -> AsyncGenerator[list[NewLine], None]:
        """Yield the lines of rows, a few at a time, with their records; see `Page.whole`."""

    async def lines_by_key(self, keys: Sequence[LineKey]) -> list[NewLine]:
        """Return known lines made anew from the rows that are still there."""


def invalid(key: LineKey, ordinal: int, moment: datetime, error: str) -> NewLine:
    """Return the line of a row that cannot become a record, with the reason."""
    return NewLine(
        key=key,
        ordinal=ordinal,
        lane=lane(key, None),
        salesforce_id=None,
        call_ended=moment,
        state=State.INVALID,
        record=None,
        error=error,
    )
