"""What is said of alerts."""

from datetime import UTC, datetime

import pytest

from daemon.ledger.overview import AlertStatus
from daemon.reports.alerts import alert_sentences

RAISED = datetime(2026, 11, 20, 12, 34, 56, tzinfo=UTC)
REFUSED = "the ACD refuses the token or the ClientsID"


@pytest.mark.parametrize(
    ("alert", "said"),
    [
        (AlertStatus(0), "Alerts are on; none has been raised yet."),
        (
            AlertStatus(1),
            "Alerts are on; none has been raised yet. 1 line waits for the next one.",
        ),
        (
            AlertStatus(0, RAISED, 102039, 1234),
            "Alert raised at 12:34 about 1,234 lines (event 102039 of the ACD).",
        ),
        (
            AlertStatus(2, RAISED, None, 1, REFUSED),
            (
                "Alert raised at 12:34 about 1 line. 2 lines wait for the next one. "
                f"The last try failed: {REFUSED}. `callstatsd check` says what to do."
            ),
        ),
    ],
)
def test_the_last_alert_and_what_waits_are_said(alert: AlertStatus, said: str) -> None:
    assert alert_sentences(alert, lambda when: when.strftime("%H:%M")) == said
