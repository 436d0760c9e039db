"""The page's sentences about the daemon."""

from dataclasses import replace
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest

from daemon.ledger.instance import OperatorPause
from daemon.lines import FeedName, PauseReason
from daemon.reports.meanings import CALLBACK_PAUSES, PAUSES, RESUME, Severity
from daemon.web import wording
from tests.support.reported import NOW, SENDING

VIEW = wording.PageContext(
    NOW, ZoneInfo("Europe/Berlin"), timedelta(minutes=2), active=True, source_away=False
)
NONE = dict.fromkeys(("pending", "rejected", "expired", "invalid"), 0)


def test_the_poller_reports_that_it_catches_up_or_waits_for_the_source() -> None:
    taken = wording.taking(SENDING, VIEW)
    assert taken.heading == "Taking calls"
    assert taken.text == "Calls that ended by 13:32:56 are taken (120 seconds after their end)."
    behind = replace(SENDING, watermark=NOW - timedelta(hours=3))
    assert wording.taking(behind, VIEW).heading == "Catching up with calls"
    away = wording.taking(behind, replace(VIEW, source_away=True))
    assert away.severity is Severity.BAD
    assert "10:34:56" in away.text
    assert "2026-11-20" not in away.text
    assert wording.taking(replace(SENDING, watermark=None), VIEW).heading == "Starting"


def test_a_standby_names_the_active_instance() -> None:
    standby = replace(VIEW, active=False)
    assert "acd1 (process 11) is active" in wording.taking(SENDING, standby).text
    assert "acd1 (process 11) is sending" in wording.sending(SENDING, standby, None).text


@pytest.mark.parametrize("reason", PAUSES)
def test_every_pause_has_its_meaning_remedy_and_next_try(reason: str) -> None:
    paused = replace(SENDING, state="paused", reason=reason, retry_at=NOW + timedelta(minutes=1))
    card = wording.sending(paused, VIEW, None)
    assert card.text.startswith(PAUSES[reason].text)
    assert card.text.endswith("Next try: 13:35:56.")
    assert card.remedy == PAUSES[reason].remedy
    assert ("No line is lost." in card.text) == (reason != PauseReason.ENDPOINT_FAILING)


def test_the_reason_of_an_operators_pause_is_masked() -> None:
    pause = OperatorPause(NOW, "ask +49 151 1234567")
    card = wording.sending(replace(SENDING, operator_pause=pause), VIEW, None)
    assert (card.heading, card.remedy) == ("Paused by an operator", RESUME)
    assert "“ask …67”" in card.text


def test_all_is_sent_only_if_nothing_needs_action() -> None:
    assert wording.sending(SENDING, VIEW, NONE).heading == "All is sent"
    kept = wording.sending(SENDING, VIEW, NONE | {"rejected": 1})
    assert kept.heading == "Nothing is pending"
    assert "1 line needs your action." in kept.text
    assert wording.sending(SENDING, VIEW, NONE | {"pending": 1}).heading == "Sending"


def test_the_headline_names_the_worse_of_two_cards() -> None:
    good = wording.sending(SENDING, VIEW, NONE)
    taken = wording.taking(SENDING, VIEW)
    assert wording.headline(taken, good) == "Taking calls, all is sent"
    assert wording.headline(wording.LEDGER_AWAY, good) == wording.LEDGER_AWAY.heading


def test_callbacks_say_how_far_they_are_taken_and_what_their_endpoint_lacks() -> None:
    view = replace(VIEW, callback_delay=timedelta(seconds=30))
    card = wording.callbacks(SENDING, view, NONE)
    assert card.heading == "Callbacks: all is sent"
    assert card.text.startswith(
        "Requests that were created by 13:32:56 are taken (30 seconds after that). "
    )
    paused = replace(SENDING, state="paused", reason=PauseReason.CONFIGURATION)
    assert wording.callbacks(paused, view, NONE).remedy == CALLBACK_PAUSES["configuration"].remedy
    never = wording.callbacks(replace(SENDING, watermark=None), view, NONE)
    assert never.text.startswith("No poll for requests has been made yet. ")
    pause = replace(SENDING, operator_pause=OperatorPause(NOW, None))
    assert "Requests are still taken." in wording.callbacks(pause, view, NONE).text
    assert "Calls are still taken." in wording.sending(pause, view, NONE).text


def test_callbacks_are_the_headline_only_where_nothing_else_is_as_bad() -> None:
    taken, sent = wording.taking(SENDING, VIEW), wording.sending(SENDING, VIEW, NONE)
    well = wording.callbacks(SENDING, VIEW, NONE)
    missing = replace(SENDING, state="paused", reason=PauseReason.ENDPOINT_MISSING)
    ill = wording.callbacks(missing, VIEW, NONE)
    assert wording.headline(taken, sent, well) == "Taking calls, all is sent"
    assert wording.headline(taken, sent, ill) == "Callbacks: sending pauses"
    both = wording.sending(missing, VIEW, NONE)
    assert wording.headline(taken, both, ill) == "Sending pauses"


def test_what_needs_action_is_counted_over_feeds_and_has_one_command() -> None:
    one = wording.kept([NONE | {"rejected": 1}], FeedName.STATISTICS, VIEW.zone)
    assert one is not None
    assert one.heading == "1 line needs your action"
    assert one.command == "callstatsd requeue --state rejected --feed statistics"
    both = wording.kept(
        [NONE | {"rejected": 1200, "pending": 7}, NONE | {"rejected": 34, "invalid": 1}],
        None,
        VIEW.zone,
    )
    assert both is not None
    assert both.heading == "1,235 lines need your action"
    assert [(part.state, part.lines, part.remedy) for part in both.states] == [
        ("rejected", 1234, "Fix what the reason names, then send it again."),
        ("invalid", 1, "Fix the row in the ACD's tables, then send it again."),
    ]
    assert both.command == "callstatsd requeue --state rejected --state invalid"
    assert wording.kept([NONE | {"pending": 7}], None, VIEW.zone) is None
