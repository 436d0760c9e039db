"""The line for `systemctl status`, as a table."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from daemon.reports.status import status_line
from tests.support.expected import BERLIN

NOW = datetime(2026, 11, 20, 14, 5, tzinfo=BERLIN)
NOTHING: dict[str, Any] = {
    "pending": 0,
    "oldest_pending_seconds": None,
    "need_action": 0,
    "delivered": 1204,
    "watermark": None,
    "paused": None,
    "operator_reason": None,
    "now": NOW,
}


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        (
            {
                "pending": 12,
                "oldest_pending_seconds": 3.2,
                "watermark": datetime(2026, 11, 20, 13, 3, 20, tzinfo=UTC),
            },
            "sending: 12 pending, oldest 3 s, 1,204 delivered since start, taken up to 14:03:20",
        ),
        (
            {
                "pending": 20000,
                "oldest_pending_seconds": 4000.0,
                "need_action": 3,
                "watermark": NOW - timedelta(days=1),
                "paused": ("api_limit", 892.4),
            },
            (
                "paused (api_limit), next try in 15 min: 20,000 pending, oldest 67 min, "
                "1,204 delivered since start, 3 need action, "
                "taken up to 2026-11-19 14:05:00"
            ),
        ),
        (
            {"paused": ("operator", None), "operator_reason": "release tonight"},
            "paused (operator: release tonight): 0 pending, 1,204 delivered since start",
        ),
        (
            {"paused": ("operator", None)},
            "paused (operator): 0 pending, 1,204 delivered since start",
        ),
    ],
)
def test_the_status_line_says_what_waits_and_why(facts: dict[str, Any], line: str) -> None:
    assert status_line(**NOTHING | facts) == line
