"""All that `status`, `show` and `lines` print for people is translated."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from daemon.cli import output, watch
from daemon.cli.list_command import show_lines
from daemon.cli.status_reader import Status
from daemon.ingest.readiness import Clock, ReadinessRules
from daemon.ledger.acts import Act, ActKind, RecordedAct
from daemon.ledger.gaps import NotedGap
from daemon.ledger.instance import OperatorPause
from daemon.ledger.overview import (
    AlertStatus,
    FeedReport,
    LinePage,
    LineQuery,
    ListedLine,
    StatusReport,
)
from daemon.lines import NO_ID, FeedName, LineKey, State, Streak
from daemon.reports.explain import SHOWN, CallHistory
from daemon.reports.telegra import TelegraReport
from daemon.telegra.reading import Overview
from tests.support.expected import BERLIN
from tests.support.pseudo import pseudo, untranslated
from tests.support.reported import LINE, NOW, SENDING

DATA = (
    "pid Europe Berlin callbacks statistics telegra alice operator unauthorized off release x",
    "callstatsd requeue resume show lines --state --feed --settled-from --settled-to --call-id",
    "--after --limit --json CaseId null",
    *State,
)
"""Words that are the same in each language, and those of commands."""


def reports() -> Iterator[StatusReport]:
    """A report for each thing that `status` may say."""
    act = RecordedAct(1, Act(ActKind.RESUME, "alice"), NOW, NOW, 0)
    many: dict[str, int] = dict.fromkeys(State, 1000)
    callbacks = FeedReport(many, 90_061, SENDING, [Streak(NOW, NOW, 1, 1)], on=False)
    alert = AlertStatus(1)
    yield StatusReport(many, None, SENDING, [], acts=[act], callbacks=callbacks, alert=alert)
    for status in (
        replace(SENDING, active=False, watermark=None, last_delivered_at=None),
        replace(SENDING, operator_pause=OperatorPause(NOW, "release")),
        replace(SENDING, state="paused", reason="unauthorized", retry_at=NOW),
    ):
        yield StatusReport({State.PENDING: 0}, None, status, [])


def printed() -> Iterator[Callable[[], None]]:
    """Whatever prints for people, in the order in which it is called."""
    telegra = TelegraReport(Overview(NOW, 1, 1), [NotedGap(NOW, NOW, 2)] * 2)
    for report in reports():
        seen = watch.Observation(NOW, Status(report, telegra), {FeedName.STATISTICS: None})
        yield partial(watch.show_observation, seen, BERLIN, 2.5, ["x"])
    rules = ReadinessRules(timedelta(0), timedelta(0), BERLIN, None, None)
    clock = Clock(NOW, "x", standby=False, replayed=None)
    line = replace(LINE, state=State.REJECTED, answer="a00", record='{"CaseId":null}')
    history = CallHistory(1201, [line] * (SHOWN + 1), SENDING, clock, None, [])
    for verbose in (True, False):
        yield partial(output.show_history, history, rules, verbose=verbose)
    key = LineKey(1201, 0, 0, 0)
    for state, settled in ((State.PENDING, None), (State.SKIPPED, NOW)):
        listed = ListedLine(key, state, None, 0, None, NO_ID, NOW, NOW, None, settled)
        for page in (LinePage([], None), LinePage([listed], key)):
            yield partial(show_lines, page, LineQuery(state, 5), BERLIN)


def test_all_that_is_printed_for_people_is_translated(capsys: pytest.CaptureFixture[str]) -> None:
    with pseudo() as texts:
        for show in printed():
            show()
            text = capsys.readouterr().out
            assert untranslated(text, *DATA) == set(), text
        # Two sentences of `show` need a ledger.
        assert {
            file
            for text in texts.unsaid("daemon/cli/")
            for file in texts.files[text]
            if file.startswith("daemon/cli/")
        } == {"daemon/cli/show_command.py"}
