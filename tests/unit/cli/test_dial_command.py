"""What `callstatsd click-to-dial` says to people."""

import pytest

from daemon.cli.dial_command import sentence
from daemon.salesforce.click_to_dial import Reason
from daemon.web.dialling import MESSAGES, Dial, ServiceChoice

HOTLINE = ServiceChoice("4980012300", "Service Hotline", 1, "salesforce")
STRANGE = ServiceChoice(None, "Orders", None, "salesforce")
FALLBACK = ServiceChoice("4980012300", None, 1, "fallback")
AWAY = (Reason.UNAVAILABLE, MESSAGES[Reason.UNAVAILABLE])


@pytest.mark.parametrize(
    ("dial", "said"),
    [
        (
            Dial("allowed", 200, HOTLINE, None, None, 0.2),
            "Allowed, with 4980012300, Service Hotline.",
        ),
        (
            Dial("allowed", 200, STRANGE, None, None, 0.2),
            "Allowed, with Orders; ServiceNumbers has no such row, or cannot be read.",
        ),
        (
            Dial("allowed", None, FALLBACK, *AWAY, 0.2),
            "Allowed by the fallback, with 4980012300. Salesforce cannot be reached.",
        ),
        (
            Dial("refused", 403, None, None, "Do not call before noon", 0.2),
            "Refused (403): Do not call before noon",
        ),
        (
            Dial("undecided", None, None, *AWAY, 0.2),
            "Undecided. Salesforce cannot be reached: try again later.",
        ),
        (
            Dial("undecided", 503, None, *AWAY, 0.2),
            "Undecided (503). Salesforce cannot be reached: try again later.",
        ),
    ],
)
def test_a_decision_is_a_sentence(dial: Dial, said: str) -> None:
    assert sentence(dial) == said
