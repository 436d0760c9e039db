"""What reports and the page speak of in tests: a sender that works, and a delivered line."""

from datetime import UTC, datetime, timedelta

from daemon.ledger.overview import LedgerStatus, LineDetail
from daemon.lines import LineKey, State

NOW = datetime(2026, 11, 20, 12, 34, 56, tzinfo=UTC)
SENDING = LedgerStatus(
    watermark=NOW - timedelta(minutes=2), start_from=None, last_delivered_at=NOW,
    operator_pause=None, active=True, host="acd1", pid=11, version="0", started_at=NOW,
    stopped_at=None, unclean_at=None, state="sending", reason=None, retry_at=None,
)  # fmt: skip
LINE = LineDetail(
    key=LineKey(1201, 2201, 3201, 0), ordinal=1, lane="0015g00000ABCDE",
    salesforce_id="0015g00000ABCDEAA0", backfill=False, state=State.DELIVERED, generation=0,
    attempts=1, unanswered=0, last_status=200, last_error=None, taken_at=NOW, pending_since=NOW,
    next_try_at=None, settled_at=NOW, record=None,
)  # fmt: skip
