"""The watch over turns: a table of who turned when, with the clock as a number."""

import pytest

from daemon.service.systemd import Loop, ProgressWatchdog, watchdog_seconds

TAKING, SENDING = Loop.TAKING, Loop.SENDING


@pytest.mark.parametrize(
    ("progressed", "satisfied"),
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
    progressed: list[Loop], satisfied: bool
) -> None:
    watch = ProgressWatchdog()
    for part in progressed:
        watch.progressed(part)
    assert watch.all_progressed(0) is satisfied


def test_each_time_new_turns_are_needed() -> None:
    watch = ProgressWatchdog()
    watch.progressed(*Loop)
    assert watch.all_progressed(1)
    assert not watch.all_progressed(2)
    watch.progressed(TAKING)
    assert not watch.all_progressed(3)
    watch.progressed(SENDING)
    assert watch.all_progressed(4)


def test_who_waits_for_its_next_turn_is_not_expected_until_then() -> None:
    watch = ProgressWatchdog()
    watch.progressed(TAKING, rest_until=600)
    for now in (1, 100, 599):
        assert not watch.all_progressed(now), "the sender has not turned"
        watch.progressed(SENDING)
        assert watch.all_progressed(now)
    watch.progressed(SENDING)
    assert not watch.all_progressed(600)
    watch.progressed(TAKING)
    assert watch.all_progressed(601)


def test_a_turn_without_a_rest_ends_the_rest_before() -> None:
    watch = ProgressWatchdog()
    watch.progressed(*Loop, rest_until=600)
    watch.progressed(*Loop)
    assert watch.all_progressed(1)
    assert not watch.all_progressed(2)


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "600000000"}, 600.0),
        ({"WATCHDOG_USEC": "600000000", "WATCHDOG_PID": "7"}, 600.0),
        ({"WATCHDOG_USEC": "600000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_fed_by_the_process_that_it_watches(
    environment: dict[str, str], seconds: float | None
) -> None:
    assert watchdog_seconds(environment, 7) == seconds
