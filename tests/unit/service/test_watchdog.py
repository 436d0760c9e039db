"""The watch over turns: a table of who turned when, with the clock as a number."""

import pytest

from daemon.service.watchdog import Part, ProgressWatchdog

TAKING, SENDING = Part.TAKING, Part.SENDING


@pytest.mark.parametrize(
    ("turned", "satisfied"),
    [
        ([], False),
        ([TAKING], False),
        ([SENDING], False),
        ([SENDING, SENDING, SENDING], False),
        ([TAKING, SENDING], True),
        ([SENDING, TAKING, SENDING], True),
    ],
    ids=str,
)
def test_systemd_is_told_when_both_have_finished_a_turn(
    turned: list[Part], satisfied: bool
) -> None:
    watch = ProgressWatchdog()
    for part in turned:
        watch.turned(part)
    assert watch.all_turned(0) is satisfied


def test_each_time_new_turns_are_needed() -> None:
    watch = ProgressWatchdog()
    watch.turned(*Part)
    assert watch.all_turned(1)
    assert not watch.all_turned(2)
    watch.turned(TAKING)
    assert not watch.all_turned(3)
    watch.turned(SENDING)
    assert watch.all_turned(4)


def test_who_waits_for_its_next_turn_is_not_expected_until_then() -> None:
    watch = ProgressWatchdog()
    watch.turned(TAKING, rest_until=600)
    for now in (1, 100, 599):
        assert not watch.all_turned(now), "the sender has not turned"
        watch.turned(SENDING)
        assert watch.all_turned(now)
    watch.turned(SENDING)
    assert not watch.all_turned(600)
    watch.turned(TAKING)
    assert watch.all_turned(601)


def test_a_turn_without_a_rest_ends_the_rest_before() -> None:
    watch = ProgressWatchdog()
    watch.turned(*Part, rest_until=600)
    watch.turned(*Part)
    assert watch.all_turned(1)
    assert not watch.all_turned(2)
