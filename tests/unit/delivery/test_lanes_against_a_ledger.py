"""Whatever happens, lanes hand out what a ledger read anew at each step would."""

from collections import defaultdict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from daemon.delivery.lanes import Lanes
from tests.support.lane_lines import Line

DEPTH = 3


class LanesAgainstALedger(RuleBasedStateMachine):
    """Lanes as the sender uses them, beside a ledger that is a set of pending lines.

    The model knows nothing of truncation: it sees which of the offered lines were taken in, and
    judges that. What is handed out next it foretells exactly.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lanes: Lanes[Line] = Lanes(DEPTH)
        self.count = 0
        self.pending: dict[int, Line] = {}
        self.lines_that_wait: set[int] = set()
        self.lanes_held: set[str] = set()
        self.waiting: dict[str, list[Line]] = defaultdict(list)
        self.out: dict[str, Line] = {}
        self.unsettled: dict[int, Line] = {}
        self.left_out: dict[str, set[Line]] = defaultdict(set)

    def known(self) -> set[int]:
        waiting = {held.key for lines in self.waiting.values() for held in lines}
        return waiting | {held.key for held in self.out.values()} | set(self.unsettled)

    def readable(self) -> list[Line]:
        """What a read of the ledger may give, in order."""
        full = set(self.lanes.full)
        return sorted(
            (
                each
                for each in self.pending.values()
                if each.key not in self.lines_that_wait
                and each.lane not in self.lanes_held
                and each.lane not in full
            ),
            key=lambda each: each.order,
        )

    @rule(
        new=st.lists(
            st.tuples(st.sampled_from("ABC"), st.integers(0, 9), st.booleans()),
            min_size=1,
            max_size=8,
        )
    )
    def lines_appear_in_the_ledger(self, new: list[tuple[str, int, bool]]) -> None:
        for lane, ended, backfill in new:
            self.count += 1
            self.pending[self.count] = Line(self.count, lane, ended, backfill)

    @precondition(lambda self: self.pending)
    @rule(limit=st.sampled_from([1, 2, 4, 8, 1000]))
    def add(self, limit: int) -> None:
        known = self.known()
        offered = self.readable()[:limit]
        was_empty = {each.lane for each in offered if not self.waiting[each.lane]}
        added = self.lanes.add(offered)
        new = [each for each in offered if each.key in self.lanes and each.key not in known]
        assert added == len(new)
        for each in offered:
            if each.key not in known:
                (self.left_out[each.lane].discard if each in new else self.left_out[each.lane].add)(
                    each
                )
        for each in new:
            earlier = [y for y in self.left_out[each.lane] if y.order < each.order]
            assert not earlier, f"{each} overtook {earlier}"
            self.waiting[each.lane] = sorted(
                [*self.waiting[each.lane], each], key=lambda held: held.order
            )
        for lane in was_empty:
            unknown = [each for each in offered if each.lane == lane and each.key not in known]
            assert self.waiting[lane] == unknown[:DEPTH], "an empty lane takes in what it can"

    @rule(avoid=st.dictionaries(st.sampled_from("ABC"), st.integers(), max_size=3))
    def next(self, avoid: dict[str, int]) -> None:
        ready = [lines[0] for lane, lines in self.waiting.items() if lines and lane not in self.out]
        ready.sort(key=lambda each: (each.lane in avoid, avoid.get(each.lane, 0), each.order))
        found = self.lanes.next(avoid)
        assert found == (ready[0] if ready else None)
        if found is not None:
            assert found.lane not in self.out
            assert found.key not in self.unsettled
            self.waiting[found.lane].remove(found)
            self.out[found.lane] = found

    @precondition(lambda self: self.pending)
    @rule(data=st.data())
    def claim(self, data: st.DataObject) -> None:
        """The ledger names a line that is the first of its record, as it is written there."""
        first = {
            each.lane: each for each in sorted(self.pending.values(), key=lambda p: p.order)[::-1]
        }
        candidates = [
            each
            for each in first.values()
            if each.key not in self.lines_that_wait and each.lane not in self.lanes_held
        ]
        if not candidates:
            return
        found = data.draw(st.sampled_from(sorted(candidates, key=lambda each: each.order)))
        was_waiting = self.waiting[found.lane]
        in_order = not was_waiting or found.order <= was_waiting[0].order
        may = found.lane not in self.out and found.key not in self.unsettled and in_order
        assert self.lanes.claim(found) is may
        if may:
            if found in was_waiting:
                was_waiting.remove(found)
            self.left_out[found.lane].discard(found)
            self.out[found.lane] = found

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        """A line was answered and its lane goes on at once; its outcome is written later."""
        held = self.out.pop(data.draw(st.sampled_from(sorted(self.out))))
        self.lanes.release(held)
        self.unsettled[held.key] = held

    @precondition(lambda self: self.out)
    @rule(data=st.data(), lane_waits=st.booleans())
    def done_held_back(self, data: st.DataObject, *, lane_waits: bool) -> None:
        """A lock, a missing answer or a pause: the line stays pending, and is written at once."""
        held = self.out.pop(data.draw(st.sampled_from(sorted(self.out))))
        if lane_waits:
            self.lanes_held.add(held.lane)
        self.lanes.release(held, drop_waiting=True)
        self.lanes.forget(held)
        self.waiting[held.lane].clear()

    @precondition(lambda self: self.unsettled)
    @rule(data=st.data(), final=st.booleans())
    def settled(self, data: st.DataObject, *, final: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.unsettled)))
        held = self.unsettled.pop(key)
        if final:
            del self.pending[key]
        else:
            self.lines_that_wait.add(key)
        self.lanes.forget(held)

    @rule()
    def time_passes(self) -> None:
        self.lines_that_wait.clear()
        self.lanes_held.clear()

    @rule()
    def clear(self) -> None:
        self.lanes.clear()
        self.waiting.clear()

    @rule()
    def reopen_truncated(self) -> None:
        self.lanes.reopen_truncated()
        assert not self.lanes.needs_refill

    @invariant()
    def the_count_is_true(self) -> None:
        crowded = sum(len(self.waiting[lane]) for lane in self.lanes.full)
        assert self.lanes.waiting == sum(map(len, self.waiting.values()))
        assert self.lanes.untruncated == self.lanes.waiting - crowded

    @invariant()
    def no_lane_is_deeper_than_allowed(self) -> None:
        assert all(len(lines) <= DEPTH for lines in self.waiting.values())

    @invariant()
    def it_knows_what_waits_is_out_or_is_unsettled_and_nothing_else(self) -> None:
        known = self.known()
        assert {key for key in range(self.count + 1) if key in self.lanes} == known

    @invariant()
    def only_lanes_with_lines_are_full(self) -> None:
        assert all(self.waiting[lane] for lane in self.lanes.full)
        assert len(set(self.lanes.full)) == len(self.lanes.full)

    def teardown(self) -> None:
        """Whatever happened, every line is handed out in the end, and nothing is left behind."""
        for _ in range(10 * self.count + 10):
            if not self.pending:
                break
            self.time_passes()
            self.add(1000)
            for lane in list(self.out):
                held = self.out.pop(lane)
                self.lanes.release(held)
                self.unsettled[held.key] = held
            for held in self.unsettled.values():
                del self.pending[held.key]
                self.lanes.forget(held)
            self.unsettled.clear()
            self.next({})
        assert not self.pending
        self.lanes.reopen_truncated()
        assert (self.lanes.waiting, self.lanes.full, self.lanes.needs_refill) == (0, [], False)


LanesAgainstALedger.TestCase.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None
)
TestLanesAgainstALedger = LanesAgainstALedger.TestCase
