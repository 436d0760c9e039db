"""What `status` says: as JSON for programs, as a glance for people."""

from datetime import UTC, datetime, timedelta
from typing import TypedDict

from rich.console import Console
from rich.table import Table

from daemon.desk import Overview


class SenderReport(TypedDict):
    """The sender: `sending`, `paused`, or `stopped` when nobody holds the ledger."""

    state: str
    reason: str | None
    retry_at: str | None


class Report(TypedDict):
    """`status --json` (contract, section 8); times are ISO 8601 with offset."""

    lines: dict[str, int]
    oldest_pending_seconds: float | None
    watermark: str | None
    last_delivered_at: str | None
    sender: SenderReport


def report(overview: Overview) -> Report:
    """Put the ledger's word into the fixed form.

    An operator's pause holds whether or not anybody runs; what a dead instance said does not.
    """
    sender: SenderReport = {"state": "stopped", "reason": None, "retry_at": None}
    if overview.active:
        sender = {
            "state": overview.state or "sending",
            "reason": overview.reason,
            "retry_at": _iso(overview.retry_at),
        }
        if sender["state"] == "stopped":
            sender["state"] = "sending"  # a new instance holds the ledger, not yet heard of
    if overview.held is not None:
        state = "paused" if overview.active else "stopped"
        sender = {"state": state, "reason": "operator", "retry_at": None}
    return {
        "lines": overview.lines,
        "oldest_pending_seconds": overview.oldest_pending_seconds,
        "watermark": _iso(overview.watermark),
        "last_delivered_at": _iso(overview.last_delivered_at),
        "sender": sender,
    }


def show(status: Report) -> None:
    """Print it for people."""
    table = Table("state", "lines", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for state, lines in status["lines"].items():
        table.add_row(state, f"{lines:,}")
    console = Console(highlight=False)
    console.print(table)
    sender = status["sender"]
    reason = f" ({sender['reason']})" if sender["reason"] else ""
    retry = f", next try {sender['retry_at']}" if sender["retry_at"] else ""
    oldest = status["oldest_pending_seconds"]
    waiting = "nothing is pending" if oldest is None else str(timedelta(seconds=round(oldest)))
    console.print()
    console.print(f"sender          {sender['state']}{reason}{retry}")
    console.print(f"oldest pending  {waiting}")
    console.print(f"taken up to     {status['watermark'] or 'not started yet'}")
    console.print(f"last delivered  {status['last_delivered_at'] or 'never'}")


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()
