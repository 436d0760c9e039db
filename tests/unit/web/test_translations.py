"""All sentences of the page are translated: in a language of wide letters no other word is left."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from daemon.language import GERMAN, use_language
from daemon.ledger.gaps import NotedGap
from daemon.ledger.instance import OperatorPause
from daemon.lines import NO_ID, FeedName, State
from daemon.reports.meanings import Severity, StatusCard
from daemon.reports.telegra import TelegraReport
from daemon.settings.model import Settings
from daemon.telegra.reading import Overview
from daemon.web import list_wording, wording
from daemon.web.chart import HOUR, chart, first_hour
from daemon.web.frame import whose
from daemon.web.list_query import ListQuery, ListQueryError, read_act_id, read_list_query
from daemon.web.masking import fields
from daemon.web.search import SearchQueryError, read_search
from tests.support.expected import BERLIN
from tests.support.pseudo import pseudo, untranslated
from tests.support.reported import LINE, NOW, SENDING

MINUTE = timedelta(minutes=1)
VIEW = wording.PageContext(
    NOW, BERLIN, 2 * MINUTE, active=True, source_away=False, callback_delay=MINUTE
)
COUNTS: dict[str, int] = dict.fromkeys(State, 0)
DATA = (
    "acd Europe Berlin jtel callstatsd north AgentUID state feed day after lost",
    *("too late release shape", *State, *FeedName),
)
"""Words that are the same in each language."""
WRONG = [
    [("state", "lost")],
    [("state", "pending"), ("state", "pending")],
    [("shape", "lost")],
    [("state", "pending"), ("day", "lost")],
    [("state", "pending"), ("after", "lost")],
    [],
]


def cards() -> Iterator[StatusCard]:
    """A card for each thing that may be said of taking, sending and receiving."""
    away, standby = replace(VIEW, source_away=True), replace(VIEW, active=False)
    never = replace(SENDING, watermark=None, last_delivered_at=None)
    behind = replace(SENDING, watermark=NOW - 5 * HOUR)
    yield wording.LEDGER_AWAY.translated()
    yield wording.NOT_READ_YET.translated()
    yield wording.taking(SENDING, replace(VIEW, settle_delay=timedelta(0)))
    for status in (SENDING, never, behind, replace(SENDING, active=False)):
        yield from (wording.taking(status, view) for view in (VIEW, away, standby))
    for status in (
        SENDING,
        never,
        replace(SENDING, operator_pause=OperatorPause(NOW, None)),
        replace(SENDING, operator_pause=OperatorPause(NOW, "release")),
        replace(SENDING, active=False),
        replace(SENDING, state="stopped"),
        replace(SENDING, state="paused", reason="unavailable", retry_at=NOW),
        replace(SENDING, state="paused", reason="endpoint_failing"),
    ):
        for counts in (None, COUNTS, COUNTS | {State.REJECTED: 2}):
            yield wording.sending(status, VIEW, counts)
            yield wording.callbacks(status, standby, counts)
    yield wording.callbacks(SENDING, replace(VIEW, callback_delay=timedelta(0)), None)
    gap = NotedGap(NOW, NOW, 2)
    for overview, gaps in ((None, []), (Overview(NOW, 1, 1), [gap]), (Overview(NOW, 0, 0), [])):
        yield wording.receiving(TelegraReport(overview, gaps), VIEW)


def headlines() -> Iterator[str]:
    """A headline for each card, and for those of a day without trouble."""
    taken = wording.taking(SENDING, VIEW)
    for card in cards():
        yield wording.headline(taken, card)
        yield wording.headline(taken, wording.sending(SENDING, VIEW, COUNTS), card)
    yield wording.headline(wording.taking(replace(SENDING, watermark=None), VIEW), taken)


def of_lines() -> Iterator[str]:
    """What is said of lines, and of lists of them."""
    tried = replace(LINE, attempts=3, next_try_at=NOW + HOUR, last_error="too late")
    for status in (None, 423, 500, 429):
        yield wording.why_waiting(replace(tried, last_status=status), VIEW)
    for error in (None, "too late"):
        yield wording.why_waiting(replace(tried, attempts=0, last_error=error), VIEW)
    yield wording.reason(replace(LINE, last_error=NO_ID))
    yield from map(list_wording.times_sent, (0, 1, 2))
    for state in (None, State.PENDING, State.REJECTED):
        yield list_wording.heading(state)
        yield list_wording.day_meaning(state, BERLIN)
        yield list_wording.order(state or State.SKIPPED)
    yield list_wording.next_try(NOW, BERLIN)
    yield list_wording.left_the_list(ListQuery(State.PENDING, after=LINE.key))
    kept = wording.kept([COUNTS | {State.REJECTED: 2}], None, BERLIN)
    assert kept is not None
    yield from (kept.heading, kept.states[0].remedy)
    first = first_hour(NOW, BERLIN)
    drawn = chart({(first, state): 2 for state in State}, first)
    yield wording.day(drawn, VIEW)
    yield from (wording.hour(bar, VIEW) for bar in drawn.bars)


def refusal(read: Callable[[], object]) -> str:
    """What is said where something cannot be read."""
    with pytest.raises((SearchQueryError, ListQueryError)) as refused:
        read()
    return str(refused.value)


def said() -> Iterator[str]:
    """All that the page's modules say."""
    for card in cards():
        yield from (card.heading, card.text, card.remedy or "")
    yield from headlines()
    yield from of_lines()
    yield from (list_wording.who_is_shown(with_people=people) for people in (True, False))
    for typed in ("9" * 20, "003000000000001ZZZ", "abc", "?"):
        yield refusal(partial(read_search, typed))
    for parameters in WRONG:
        yield refusal(partial(read_list_query, parameters))
    yield refusal(partial(read_act_id, [("after", "lost")]))
    yield from whose(Settings(source_dsn="postgresql://acd:1/jtel", clients_id=7, instance="north"))
    yield from whose(Settings(source_dsn="postgresql:///"))
    yield str(fields('{"AgentUID":"x"}', with_people=False))


def test_all_sentences_of_the_page_are_translated() -> None:
    with pseudo() as texts:
        for text in said():
            assert untranslated(text, *DATA) == set(), text
        names = ("wording", "list_wording", "search", "list_query", "masking")
        assert texts.unsaid(*(f"daemon/web/{name}.py" for name in names)) <= {
            *wording.KIND_NAMES.values()
        }


def test_in_german_each_sentence_is_another() -> None:
    english = list(said())
    with use_language(GERMAN):
        german = list(said())
    assert {text for text, other in zip(english, german, strict=True) if text == other} <= {""}
    assert all(card.severity in Severity for card in cards())
