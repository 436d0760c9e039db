"""The receiver answers only what is committed, in bounded time, and counts what it refused."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from daemon.errors import UnreachableError
from daemon.tasks import in_background
from daemon.telegra.notifications import Received
from daemon.telegra.receiver import MAX_WAITING, Outcome, Receiver
from daemon.telegra.store import MAX_BATCH, Kept, Late
from tests.support.telegra_site import event

AWAY = UnreachableError("away")
REFUSED = UnreachableError("refused", answered=True)
UNFIT = UnreachableError("refused for ever", answered=True, unfit=True)


class FakeStore:
    """Commits when `open` is set; fails as it is told to."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.faults: list[UnreachableError] = []
        self.poison: set[bytes] = set()
        self.refusal = REFUSED
        self.committed: dict[bytes, Received] = {}
        self.sizes: list[int] = []
        self.late: list[Late] = []
        self.cuts = 0

    async def keep(self, batch: Sequence[Received]) -> Kept:
        await self.open.wait()
        if self.faults:
            raise self.faults.pop(0)
        if any(one.fingerprint in self.poison for one in batch):
            raise self.refusal
        self.sizes.append(len(batch))
        told = {one.fingerprint: one for one in batch}
        new = told.keys() - self.committed.keys()
        self.committed |= told
        return Kept(frozenset(new), self.late)

    async def cut(self) -> None:
        self.cuts += 1
        self.open.set()


@asynccontextmanager
async def receiving(
    store: FakeStore, *, answers_within: float = 5.0, commits_within: float = 10.0
) -> AsyncIterator[Receiver]:
    receiver = Receiver(store, answers_within=answers_within, commits_within=commits_within)
    async with in_background(receiver.run()):
        yield receiver


async def test_what_comes_at_once_is_committed_together_and_repetitions_are_told() -> None:
    store = FakeStore()
    async with receiving(store) as receiver:
        told = [event("CallStart", number % 60) for number in range(120)]
        outcomes = await asyncio.gather(*map(receiver.keep, told))
        assert outcomes == [Outcome.KEPT] * 60 + [Outcome.REPEATED] * 60
        assert await receiver.keep(told[0]) is Outcome.REPEATED
    assert store.sizes == [120, 1]


async def test_beyond_the_bound_all_is_refused_at_once_and_is_a_gap() -> None:
    store = FakeStore()
    store.open.clear()
    async with receiving(store) as receiver:
        waiting = [
            asyncio.create_task(receiver.keep(event("CallStart", number)))
            for number in range(MAX_WAITING)
        ]
        await asyncio.sleep(0)
        for number in range(3):
            assert await receiver.keep(event("CallEnd", number)) is Outcome.UNAVAILABLE
        store.open.set()
        assert set(await asyncio.gather(*waiting)) == {Outcome.KEPT}
        assert receiver.refused(quiet=60) is None
        gap = receiver.refused(quiet=0)
        assert gap is not None
        assert (gap.refused, gap.since <= gap.until) == (3, True)
        assert receiver.refused(quiet=0) is None
        receiver.restore(gap)
        assert receiver.refused(quiet=0) == gap
    assert max(store.sizes) <= MAX_BATCH


async def test_refusals_that_go_on_are_told_of_nevertheless() -> None:
    store = FakeStore()
    store.faults = [AWAY] * 1000
    async with receiving(store, answers_within=0.0) as receiver:
        await receiver.keep(event("CallStart", 1))
        assert receiver.refused(quiet=60, at_most=0.05) is None
        await asyncio.sleep(0.06)
        await receiver.keep(event("CallStart", 2))
        gap = receiver.refused(quiet=60, at_most=0.05)
        assert gap is not None
        assert gap.refused == 2
        await receiver.keep(event("CallStart", 3))
        assert receiver.refused(quiet=60, at_most=0.05) is None


async def test_a_database_that_is_away_is_waited_for() -> None:
    store = FakeStore()
    store.faults = [AWAY, AWAY]
    async with receiving(store) as receiver:
        assert await receiver.keep(event("CallStart", 1)) is Outcome.KEPT
    assert store.sizes == [1]


async def test_what_waits_too_long_is_refused_and_not_committed_later() -> None:
    store = FakeStore()
    store.faults = [AWAY] * 1000
    async with receiving(store, answers_within=0.4) as receiver:
        assert await receiver.keep(event("CallStart", 1)) is Outcome.UNAVAILABLE
        store.faults.clear()
        assert await receiver.keep(event("CallStart", 2)) is Outcome.KEPT
    assert [one.parameters["id"] for one in store.committed.values()] == ["2"]


@pytest.mark.parametrize(
    ("refusal", "outcome"), [(REFUSED, Outcome.UNAVAILABLE), (UNFIT, Outcome.BAD)]
)
async def test_what_the_database_refuses_holds_up_nobody(
    refusal: UnreachableError, outcome: Outcome
) -> None:
    """Also not many of them, as with a pause after each."""
    store = FakeStore()
    store.refusal = refusal
    told = [event("CallStart", number) for number in range(40)]
    store.poison = {one.fingerprint for one in told[:30]}
    async with receiving(store, answers_within=1.0) as receiver:
        outcomes = await asyncio.gather(*map(receiver.keep, told))
        assert outcomes == [outcome] * 30 + [Outcome.KEPT] * 10
        assert await receiver.keep(event("CallStart", 99)) is Outcome.KEPT


async def test_a_silent_database_is_given_up_for_another_connection() -> None:
    store = FakeStore()
    store.open.clear()
    async with receiving(store, commits_within=0.05) as receiver:
        assert await receiver.keep(event("CallStart", 1)) is Outcome.KEPT
    assert store.cuts == 1


async def test_late_ones_are_logged_with_their_call() -> None:
    store = FakeStore()
    store.late = [Late(4_000_000_000_000_001, "callevent")]
    async with receiving(store) as receiver:
        with capture_logs() as events:
            await receiver.keep(event("CallStart", 1))
    assert [(one["event"], one["call_id"], one["cmd"]) for one in events] == [
        ("telegra.late", 4_000_000_000_000_001, "callevent")
    ]


@pytest.mark.parametrize("times", [1, 3])
async def test_a_client_that_goes_away_leaves_nothing_behind(times: int) -> None:
    store = FakeStore()
    store.open.clear()
    async with receiving(store) as receiver:
        for number in range(times * MAX_WAITING):
            gone = asyncio.create_task(receiver.keep(event("CallStart", number)))
            await asyncio.sleep(0)
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
        store.open.set()
        assert await receiver.keep(event("CallEnd", 0)) is Outcome.KEPT
