"""Which line may be sent next: one out per record, in order, live before backfill."""

import pytest

from daemon.delivery.lanes import Lanes
from tests.support.lane_lines import Line


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
