"""What is said of the receiver of notifications, in status, on the page and with a call."""

from datetime import UTC, datetime, timedelta

import pytest

from daemon.ledger.gaps import NotedGap
from daemon.reports.gaps import call_sentences, gap_sentence, receiver_sentence
from daemon.reports.meanings import Severity
from daemon.reports.telegra import TelegraReport
from daemon.telegra.reading import Overview
from daemon.web.wording import PageContext, receiving
from tests.support.expected import BERLIN

AT = datetime(2026, 11, 20, 9, tzinfo=UTC)
GAP = NotedGap(AT, AT + timedelta(minutes=5), 1200)
VIEW = PageContext(AT, BERLIN, timedelta(0), active=True, source_away=False)


def test_a_gap_is_told_of_in_local_time() -> None:
    said = "1,200 notifications were refused from 2026-11-20 10:00:00 to 2026-11-20 10:05:00."
    assert gap_sentence(GAP, BERLIN) == said
    one = gap_sentence(GAP._replace(refused=1), BERLIN)
    assert one.startswith("1 notification was refused")
    assert call_sentences([], BERLIN) == []
    (of_call,) = call_sentences([GAP], BERLIN)
    assert of_call.startswith(f"{said} Some may be of this call")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, "The source database cannot be reached: notifications are refused."),
        (Overview(None, 0, 0), "No notification in the last 7 days."),
        (Overview(AT, 1, 0), "Latest notification 2026-11-20 10:00:00; 1 open call."),
        (
            Overview(AT, 3, 1),
            (
                "Latest notification 2026-11-20 10:00:00; 3 open calls; 1 classification waits for "
                "its call."
            ),
        ),
        (
            Overview(AT, 3, 2),
            (
                "Latest notification 2026-11-20 10:00:00; 3 open calls; 2 classifications wait for "
                "their calls."
            ),
        ),
    ],
)
def test_the_receiver_in_a_sentence(found: Overview | None, said: str) -> None:
    assert receiver_sentence(found, BERLIN) == said


@pytest.mark.parametrize(
    ("report", "severity", "heading"),
    [
        (TelegraReport(Overview(AT, 0, 0), []), Severity.GOOD, "Receiving notifications"),
        (TelegraReport(Overview(AT, 0, 0), [GAP]), Severity.WARN, "Notifications were refused"),
        (TelegraReport(None, [GAP]), Severity.BAD, "Notifications are refused"),
    ],
)
def test_the_card_of_the_page(report: TelegraReport, severity: Severity, heading: str) -> None:
    card = receiving(report, VIEW)
    assert (card.severity, card.heading) == (severity, heading)
    assert bool(card.remedy) is (severity is not Severity.GOOD)
    assert all(gap_sentence(gap, BERLIN) in card.text for gap in report.gaps)
