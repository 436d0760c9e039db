"""Every state and pause has one wording, and what it names exists."""

import re

import pytest

from daemon.lines import FeedName, LineKey, PauseReason, State
from daemon.reports.meanings import MEANINGS, NEED_ACTION, PAUSES, REMEDIES, requeue_command
from daemon.settings.model import FIELDS


def test_every_state_and_every_pause_of_the_sender_has_a_meaning() -> None:
    assert set(MEANINGS) == set(State)
    assert set(PAUSES) == set(PauseReason) - {PauseReason.OPERATOR}
    assert all(card.remedy for card in PAUSES.values())


def test_what_needs_action_says_so_and_has_a_remedy() -> None:
    for state in State:
        assert ("needs your action" in MEANINGS[state]) == (state in NEED_ACTION)
    assert set(REMEDIES) == set(State) - {State.PENDING, State.DELIVERED}


@pytest.mark.parametrize("state", State)
def test_a_remedy_that_ends_with_a_colon_has_a_command(state: State) -> None:
    for expected, which in (
        ("", {}),
        (" --feed callbacks", {"feed": FeedName.CALLBACKS}),
        (" --call-id 7", {"key": LineKey(7, 1, 2, 3)}),
        (" --callback 7", {"key": LineKey.of_callback(7)}),
    ):
        command = f"callstatsd requeue --state {state}{expected}" if state in REMEDIES else None
        assert requeue_command(state, **which) == command


def test_settings_that_are_named_exist() -> None:
    texts = [*REMEDIES.values(), *(f"{card.text} {card.remedy}" for card in PAUSES.values())]
    named = {name.lower() for text in texts for name in re.findall(r"CALLSTATSD_(\w+)", text)}
    assert named
    assert named <= set(FIELDS)
