"""Which line may be sent next: one out per record, in order, live before backfill."""

from collections import defaultdict
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from daemon.delivery.lanes import Lanes

DEPTH = 3


@dataclass(frozen=True, slots=True)
class Line:
    """The least that lanes need to know of a line."""

    key: int
    lane: str
    ended: int = 0
    backfill: bool = False

    @property
    def order(self) -> tuple[bool, int, int]:
        return (self.backfill, self.ended, self.key)


def line(key: int, lane: str = "A", *, backfill: bool = False) -> Line:
    return Line(key, lane, key, backfill)


def lanes_with(*lines: Line, depth: int = 100) -> Lanes[Line]:
    lanes: Lanes[Line] = Lanes(depth)
    assert lanes.add(lines) == len(lines)
    return lanes


def take_all(lanes: Lanes[Line]) -> list[int]:
    """Hand out, free and forget lines until there is none."""
    taken = []
    while (found := lanes.next()) is not None:
        taken.append(found.key)
        lanes.release(found)
        lanes.forget(found)
    return taken


def test_where_much_waits_each_lane_has_a_line_and_no_more_until_it_is_empty() -> None:
    """Many crowded records cannot fill memory, and none of them goes without."""
    lanes: Lanes[Line] = Lanes(10, max_waiting=4)
    assert lanes.add([line(n, "AABAABAC"[n]) for n in range(8)]) == 5
    assert (lanes.waiting, lanes.untruncated, lanes.full) == (5, 1, ["A", "B"])
    assert lanes.add([line(8, "A"), line(9, "C")]) == 0
    assert take_all(lanes) == [0, 1, 2, 3, 7]
    assert lanes.needs_refill
    assert lanes.add([line(4, "A"), line(5, "B"), line(6, "A"), line(9, "C")]) == 4


def test_nothing_comes_of_nothing() -> None:
    lanes: Lanes[Line] = Lanes(1)
    assert lanes.next() is None
    assert lanes.next({"A": 1}) is None
    assert (lanes.waiting, lanes.full, lanes.needs_refill) == (0, [], False)
    lanes.clear()
    lanes.reopen_truncated()


def test_lines_leave_in_order_across_lanes() -> None:
    assert take_all(lanes_with(line(1, "A"), line(2, "B"), line(3, "A"), line(4, "C"))) == [
        1,
        2,
        3,
        4,
    ]


def test_only_one_line_of_a_lane_is_out_at_once() -> None:
    lanes = lanes_with(line(1, "A"), line(2, "A"), line(3, "B"))
    first = lanes.next()
    assert first == line(1, "A")
    assert lanes.next() == line(3, "B")
    assert lanes.next() is None
    lanes.release(first)
    assert lanes.next() == line(2, "A")


def test_live_lines_leave_before_backfill_however_old_that_is() -> None:
    lanes = lanes_with(line(5, "A"), line(1, "B", backfill=True), line(6, "C"))
    assert take_all(lanes) == [5, 6, 1]


def test_a_live_line_passes_the_backfill_of_its_own_lane() -> None:
    lanes = lanes_with(line(1, backfill=True), line(2, backfill=True))
    assert lanes.add([line(9)]) == 1
    assert take_all(lanes) == [9, 1, 2]


def test_an_earlier_line_that_came_late_still_leaves_first() -> None:
    lanes = lanes_with(line(5, "A"), line(6, "A"), line(4, "B"))
    assert lanes.add([line(3, "A")]) == 1
    assert take_all(lanes) == [3, 4, 5, 6]


def test_a_line_is_taken_in_once_while_it_waits_is_out_or_is_unsettled() -> None:
    lanes = lanes_with(line(1), line(2))
    assert lanes.add([line(1), line(2)]) == 0
    first = lanes.next()
    assert first is not None
    assert lanes.add([first]) == 0
    lanes.release(first)
    assert lanes.add([first]) == 0
    assert 1 in lanes
    lanes.forget(first)
    assert 1 not in lanes
    assert lanes.add([first]) == 1
    assert take_all(lanes) == [1, 2]


def test_one_line_given_twice_at_once_is_taken_in_once() -> None:
    lanes: Lanes[Line] = Lanes(5)
    assert lanes.add([line(1), line(1)]) == 1
    assert take_all(lanes) == [1]


def test_held_back_the_lane_forgets_its_waiting_lines_and_no_other() -> None:
    lanes = lanes_with(line(1, "A"), line(2, "A"), line(3, "A"), line(4, "B"))
    first = lanes.next()
    assert first is not None
    lanes.release(first, drop_waiting=True)
    assert lanes.waiting == 1
    assert [key in lanes for key in (1, 2, 3, 4)] == [True, False, False, True]
    assert lanes.next() == line(4, "B")
    assert lanes.next() is None


def test_a_lane_that_was_held_back_goes_on_in_order_when_it_is_read_again() -> None:
    lanes = lanes_with(line(1), line(2))
    first = lanes.next()
    assert first is not None
    lanes.release(first, drop_waiting=True)
    lanes.forget(first)
    assert lanes.add([line(1), line(2)]) == 2
    assert take_all(lanes) == [1, 2]


def test_a_lane_keeps_no_more_lines_than_its_depth() -> None:
    lanes: Lanes[Line] = Lanes(2)
    assert lanes.add([line(n) for n in range(5)] + [line(9, "B")]) == 3
    assert lanes.waiting == 3
    assert lanes.full == ["A"]
    assert 2 not in lanes


def test_a_line_that_was_left_out_is_not_overtaken() -> None:
    lanes: Lanes[Line] = Lanes(2)
    lanes.add([line(1), line(2), line(3)])
    first = lanes.next()
    assert first is not None
    lanes.release(first)
    lanes.forget(first)
    assert lanes.add([line(4)]) == 0
    assert lanes.full == ["A"]
    assert take_all(lanes) == [2]
    assert lanes.needs_refill
    assert lanes.full == []
    assert lanes.add([line(3), line(4)]) == 2
    assert not lanes.needs_refill
    assert take_all(lanes) == [3, 4]


def test_a_lane_that_is_starved_while_its_last_line_is_out_takes_in_the_rest() -> None:
    lanes: Lanes[Line] = Lanes(1)
    lanes.add([line(1), line(2), line(3)])
    first = lanes.next()
    assert first is not None
    assert lanes.needs_refill
    assert lanes.add([line(1), line(2), line(3)]) == 1
    assert lanes.next() is None
    lanes.release(first)
    assert lanes.next() == line(2)


def test_a_lane_that_is_held_back_is_neither_full_nor_starved() -> None:
    lanes: Lanes[Line] = Lanes(1)
    lanes.add([line(1), line(2), line(3)])
    first = lanes.next()
    assert first is not None
    lanes.add([line(2), line(3)])
    assert lanes.full == ["A"]
    lanes.release(first, drop_waiting=True)
    assert (lanes.full, lanes.needs_refill) == ([], False)


def test_a_lane_that_is_held_back_when_starved_is_so_no_longer() -> None:
    lanes: Lanes[Line] = Lanes(1)
    lanes.add([line(1), line(2)])
    first = lanes.next()
    assert first is not None
    assert lanes.needs_refill
    lanes.release(first, drop_waiting=True)
    assert not lanes.needs_refill


def test_a_lane_has_the_turn_of_its_first_line_not_of_one_that_has_left() -> None:
    lanes = lanes_with(line(5, "A"))
    lanes.add([line(4, "A")])
    for key in (4, 5):
        found = lanes.next()
        assert found == line(key, "A")
        lanes.release(found)
        lanes.forget(found)
        lanes.add([line(7, "A")])
    lanes.add([line(6, "B")])
    assert take_all(lanes) == [6, 7]


def test_forgiving_ends_starvation_for_which_there_are_no_lines() -> None:
    lanes: Lanes[Line] = Lanes(1)
    lanes.add([line(1), line(2)])
    first = lanes.next()
    assert first is not None
    lanes.reopen_truncated()
    assert not lanes.needs_refill
    lanes.release(first)
    lanes.forget(first)
    assert lanes.add([line(7)]) == 1
    assert take_all(lanes) == [7]


def test_forgiving_changes_nothing_for_a_lane_that_still_has_lines() -> None:
    lanes: Lanes[Line] = Lanes(1)
    lanes.add([line(1), line(2)])
    lanes.reopen_truncated()
    assert lanes.full == ["A"]


def test_clearing_forgets_what_waits_and_keeps_what_is_out() -> None:
    lanes = lanes_with(line(1, "A"), line(2, "A"), line(3, "B"))
    first = lanes.next()
    assert first is not None
    lanes.clear()
    assert lanes.waiting == 0
    assert lanes.next() is None
    assert [key in lanes for key in (1, 2, 3)] == [True, False, False]
    assert lanes.add([line(1, "A"), line(2, "A"), line(3, "B")]) == 2
    assert lanes.next() == line(3, "B")
    assert lanes.next() is None
    lanes.release(first)
    assert lanes.next() == line(2, "A")


def test_the_avoided_lane_waits_while_another_one_is_ready() -> None:
    lanes = lanes_with(line(1, "A"), line(2, "B"), line(3, "C", backfill=True))
    assert lanes.next(avoid={"A": 1}) == line(2, "B")
    assert lanes.next(avoid={"A": 1}) == line(3, "C", backfill=True)
    assert lanes.next(avoid={"A": 1}) == line(1, "A")
    assert lanes.next(avoid={"A": 1}) is None


def test_the_avoided_lane_keeps_its_place_for_later() -> None:
    lanes = lanes_with(line(1, "A"), line(2, "B"), line(3, "C"))
    assert lanes.next(avoid={"A": 1}) == line(2, "B")
    assert lanes.next() == line(1, "A")


@pytest.mark.parametrize("avoid", ["B", "no such lane"])
def test_avoiding_a_lane_that_is_not_ready_changes_nothing(avoid: str) -> None:
    lanes = lanes_with(line(1, "A"), line(2, "B"), line(3, "B"))
    assert lanes.next(avoid={avoid: 1}) == line(1, "A")


def test_of_avoided_lanes_alone_the_one_that_failed_first_has_its_turn() -> None:
    lanes = lanes_with(line(1, "A"), line(2, "B"), line(3, "C"))
    assert lanes.next(avoid={"A": 7, "B": 5, "C": 6}) == line(2, "B")
    assert lanes.next(avoid={"A": 7, "B": 5, "C": 6}) == line(3, "C")
    assert lanes.next() == line(1, "A")


def test_a_line_that_is_not_in_memory_can_be_claimed_and_keeps_its_lane() -> None:
    lanes = lanes_with(line(1, "A"))
    assert lanes.claim(line(8, "B"))
    assert lanes.add([line(8, "B"), line(9, "B")]) == 1
    assert lanes.next() == line(1, "A")
    assert lanes.next() is None
    lanes.release(line(8, "B"))
    assert lanes.next() == line(9, "B")


def test_the_first_line_of_a_lane_in_memory_can_be_claimed_and_no_other() -> None:
    lanes = lanes_with(line(1, "A"), line(2, "A"), line(3, "A"))
    assert not lanes.claim(line(2, "A"))
    assert not lanes.claim(line(4, "A"))
    assert lanes.claim(line(1, "A"))
    assert not lanes.claim(line(2, "A"))
    assert lanes.next() is None
    lanes.release(line(1, "A"))
    assert not lanes.claim(line(1, "A"))
    assert take_all(lanes) == [2, 3]


def test_an_earlier_line_than_memory_has_can_be_claimed() -> None:
    lanes = lanes_with(line(5, "A"), line(6, "A"))
    assert lanes.claim(line(3, "A"))
    assert lanes.waiting == 2
    lanes.release(line(3, "A"))
    assert take_all(lanes) == [5, 6]


def test_what_was_left_out_of_a_lane_comes_after_the_line_that_was_claimed() -> None:
    lanes: Lanes[Line] = Lanes(1)
    lanes.add([line(1), line(2), line(3)])
    assert lanes.claim(line(1))
    assert lanes.needs_refill
    lanes.release(line(1))
    lanes.forget(line(1))
    assert lanes.claim(line(2))
    assert lanes.add([line(2), line(3)]) == 1
    lanes.release(line(2))
    assert take_all(lanes) == [3]


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
