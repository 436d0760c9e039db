"""All that reports say is translated: in a language of wide letters no other word is left."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

from daemon.ingest.readiness import CallFacts, Clock, EventFacts, ReadinessRules
from daemon.language import GERMAN, _, use_language
from daemon.ledger.acts import Act, ActKind, RecordedAct, outcome
from daemon.ledger.gaps import NotedGap
from daemon.ledger.instance import OperatorPause
from daemon.ledger.overview import AlertStatus, LineDetail
from daemon.lines import DISCARDED, KEPT_OUT, NO_ID, FeedName, LineKey, SkipReason, State, Streak
from daemon.reports import explain, formats, gaps, meanings, pace
from daemon.reports.alerts import alert_sentences
from daemon.reports.callback_history import CallbackHistory
from daemon.telegra.reading import Overview
from tests.support.expected import BERLIN
from tests.support.pseudo import pseudo, untranslated
from tests.support.reported import LINE, NOW, SENDING

HOUR = timedelta(hours=1)
RULES = ReadinessRules(HOUR, 12 * HOUR, BERLIN, None, 7)
CLOCK = Clock(NOW, "jtel", standby=False, replayed=None)
ENDED = CallFacts(7, NOW - 3 * HOUR, NOW - 2 * HOUR, 2, 1, 1)
REQUEST = EventFacts(3, 7, NOW - 3 * HOUR, is_alert=False, call_id=1201, call_ended=NOW)
TAKING = replace(SENDING, start_from=NOW - 4 * HOUR)
PENDING = replace(
    LINE, state=State.PENDING, attempts=0, last_status=None, settled_at=None,
    pending_since=NOW - HOUR,
)  # fmt: skip
GAP = NotedGap(NOW - HOUR, NOW, 2)

DATA = ("Europe Berlin alice too long unauthorized CALLSTATSD_GROUPS", *State)
"""Words that are the same in each language."""


def lines() -> Iterator[LineDetail]:
    """A line for each thing that may be said of one."""
    for state in State:
        yield replace(LINE, state=state, settled_at=None)
        yield replace(LINE, state=state, attempts=2, unanswered=1)
        yield replace(LINE, state=state, unanswered=1)
    skipped = replace(LINE, state=State.SKIPPED, attempts=0, last_status=None)
    yield replace(skipped, last_error=NO_ID, skip_reason=SkipReason.NO_ID)
    kept_out = KEPT_OUT.format(setting="CALLSTATSD_GROUPS")
    yield replace(skipped, last_error=kept_out, skip_reason=SkipReason.FILTERED)
    yield replace(skipped, last_error="x", skip_reason=SkipReason.DISCARDED)
    tried = replace(PENDING, attempts=3, last_error="too long")
    for waiting in (PENDING, tried, replace(tried, last_status=423)):
        yield waiting
        yield replace(waiting, next_try_at=NOW)
        yield replace(waiting, generation=1, next_try_at=None, last_error=None)
    for act in ("requeue", "discard", "backfill"):
        yield replace(LINE, act=act, act_who="alice", act_at=NOW)
        yield replace(LINE, act=act, generation=1)


def calls() -> Iterator[explain.CallHistory]:
    """A call for each thing that may be said of one."""
    keys = [LineKey(1201, 0, number, 0) for number in range(1, 30)]
    known = explain.CallHistory(1201, [], TAKING, CLOCK, ENDED, keys[:1])
    yield replace(known, clock=None)
    yield replace(known, facts=None)
    yield replace(known, facts=None, lines=[LINE])
    for kept in (keys, keys[:3]):
        yield replace(known, keys=kept, lines=[replace(LINE, key=keys[0])], gaps=[GAP])
    for facts in (
        ENDED,
        replace(ENDED, clients_id=8),
        replace(ENDED, ended=None),
        replace(ENDED, started=None),
        replace(ENDED, started=None, ended=None),
        replace(ENDED, ended=NOW),
    ):
        yield replace(known, facts=facts)
    for status in (
        SENDING,
        replace(TAKING, start_from=NOW),
        replace(TAKING, active=False),
        replace(TAKING, watermark=NOW - 5 * HOUR),
    ):
        yield replace(known, status=status)
    for status in (
        replace(TAKING, operator_pause=OperatorPause(NOW, None)),
        replace(TAKING, active=False),
        replace(TAKING, state="paused", reason="unauthorized", retry_at=NOW),
    ):
        yield replace(known, status=status, lines=[PENDING])


def events() -> Iterator[CallbackHistory]:
    """A callback request for each thing that may be said of one."""
    known = CallbackHistory(73001, [], TAKING, RULES, CLOCK, REQUEST)
    yield replace(known, rules=None)
    yield replace(known, clock=None)
    yield replace(known, facts=None)
    yield replace(known, facts=None, lines=[LINE])
    for facts in (
        REQUEST,
        replace(REQUEST, call_id=None),
        replace(REQUEST, call_ended=None),
        replace(REQUEST, created=None),
        replace(REQUEST, created=NOW),
        replace(REQUEST, type_id=4),
        replace(REQUEST, is_alert=True),
        replace(REQUEST, clients_id=8),
        replace(REQUEST, clients_id=None),
    ):
        yield replace(known, facts=facts)
    for status in (SENDING, replace(TAKING, start_from=NOW), replace(TAKING, active=False)):
        yield replace(known, status=status)


def of_meanings() -> Iterator[str]:
    """All that is said of states and pauses."""
    yield from map(_, [*meanings.MEANINGS.values(), *meanings.REMEDIES.values()])
    yield from map(_, [meanings.FILTERED_REMEDY, meanings.RESUME])
    for cards in meanings.PAUSES_OF.values():
        for card in cards.values():
            said = card.translated()
            yield from (said.heading, said.text, said.remedy or "")
    yield meanings.error_text(DISCARDED)


def said() -> Iterator[str]:
    """All that reports say."""
    yield from of_meanings()
    for line in lines():
        yield explain.line_sentence(line, BERLIN)
        yield (explain.next_step(line) or ("",))[0]
    histories: list[explain.History] = [*calls(), *events()]
    for history in histories:
        yield " ".join(explain.sentences(history, RULES))
        yield explain.heading(history.subject)
    for feed in FeedName:
        yield explain.streak_sentence(Streak(NOW, NOW, 1, 1, feed))
    yield explain.rest_sentence(10_000, 200) or ""
    yield explain.times_of(BERLIN)
    alerts = (AlertStatus(1), AlertStatus(0, NOW, 102039, 3), AlertStatus(0, NOW, None, 1, "423"))
    for alert in alerts:
        yield alert_sentences(alert, lambda when: formats.local_time(when, BERLIN))
    for found in (None, Overview(None, 0, 0), Overview(NOW, 1, 0), Overview(NOW, 1, 2)):
        yield gaps.receiver_sentence(found, BERLIN)
    for rates in (
        None,
        pace.Pace(1200, 100, 0, None),
        pace.Pace(10, 100, 5500, None),
        *(pace.Pace(10, 1, 5500, seconds) for seconds in (3, 90, 7200, 3 * 86400)),
    ):
        yield pace.pace_sentence(rates)
    yield formats.rough_duration(3)
    yield formats.exact_duration(2 * 86400 + 60)
    act = RecordedAct(1, Act(ActKind.REQUEUE, "alice"), NOW, None, 2)
    yield from map(outcome, (act, replace(act, ended_at=NOW)))


def test_all_that_reports_say_is_translated() -> None:
    with pseudo() as texts:
        for text in said():
            assert untranslated(text, *DATA) == set(), text
        assert texts.unsaid("daemon/reports/", "daemon/ledger/", "daemon/lines.py") == set()


def test_all_of_it_can_be_said_in_german() -> None:
    english = list(said())
    with use_language(GERMAN):
        german = list(said())
    same = {text for text, other in zip(english, german, strict=True) if text == other}
    assert same <= {""}


def test_the_note_of_json_is_english() -> None:
    history = next(calls())
    english = explain.as_json(history, RULES)
    with use_language(GERMAN):
        assert explain.sentences(history, RULES)[0] not in english["note"]
        assert explain.as_json(history, RULES) == english
