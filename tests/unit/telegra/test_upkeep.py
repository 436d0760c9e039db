"""What is due at its time is done, and a database that is away ends nothing."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from daemon.errors import UnreachableError
from daemon.telegra.receiver import Gap
from daemon.telegra.store import MAX_BATCH, Ended
from daemon.telegra.upkeep import Ages, Upkeep

AGES = Ages(timedelta(days=90), timedelta(hours=12), timedelta(hours=26))
GAP = Gap(datetime(2026, 11, 20, tzinfo=UTC), datetime(2026, 11, 20, 1, tzinfo=UTC), 7)


class Parts:
    """A store, a receiver and a ledger in one, as far as upkeep uses them."""

    def __init__(self) -> None:
        self.ends = [[Ended(1, incomplete=False)] * MAX_BATCH, [Ended(2, incomplete=True)]]
        self.removed = [1000, 10, 0]
        self.gap: Gap | None = GAP
        self.noted: list[Gap] = []
        self.away = False
        self.pruned_gaps: list[float] = []

    async def write_ends(self) -> list[Ended]:
        return self.ends.pop(0)

    def refused(self, quiet: float, at_most: float = 0) -> Gap | None:
        assert (quiet > 0) == (at_most > 0)
        gap, self.gap = self.gap, None
        return gap

    def restore(self, gap: Gap) -> None:
        self.gap = gap

    async def note_gap(self, *gap: Any) -> None:
        if self.away:
            raise UnreachableError("away")
        self.noted.append(Gap(*gap))

    async def prune(self, retention: timedelta, limit: int) -> int:
        assert (retention, limit) == (AGES.retention, 1000)
        return self.removed.pop(0)

    async def prune_gaps(self, age: float) -> None:
        self.pruned_gaps.append(age)


def upkeep(parts: Any, *, active: bool = True) -> Upkeep:
    return Upkeep(parts, parts, parts, AGES, lambda: active)


async def test_all_ends_that_are_due_are_written_and_incomplete_calls_are_named() -> None:
    parts = Parts()
    with capture_logs() as events:
        await upkeep(parts).write_ends()
    assert parts.ends == []
    assert [(one["event"], one["call_id"]) for one in events] == [("telegra.incomplete", 2)]


async def test_a_gap_is_written_and_logged_once_the_ledger_answers() -> None:
    parts = Parts()
    parts.away = True
    with pytest.raises(UnreachableError):
        await upkeep(parts).note_gap()
    parts.away = False
    with capture_logs() as events:
        await upkeep(parts).note_gap()
        await upkeep(parts).note_gap()
    assert parts.noted == [GAP]
    assert [(one["event"], one["refused"]) for one in events] == [("telegra.gap", 7)]


@pytest.mark.parametrize("away", [False, True])
async def test_the_last_gap_is_in_the_log_also_while_the_ledger_is_away(away: bool) -> None:
    parts = Parts()
    parts.away = away
    with capture_logs() as events:
        await upkeep(parts).note_last_gap()
        await upkeep(parts).note_last_gap()
    assert parts.noted == ([] if away else [GAP])
    assert [(one["event"], one["refused"]) for one in events] == [("telegra.gap", 7)]


async def test_only_the_active_instance_prunes() -> None:
    parts = Parts()
    await upkeep(parts, active=False).prune()
    assert parts.removed == [1000, 10, 0]
    await upkeep(parts).prune()
    assert parts.removed == []
    assert parts.pruned_gaps == [AGES.retention.total_seconds()]
