"""What is said of the receiver of notifications, and of those that were refused. Pure."""

from collections.abc import Sequence
from zoneinfo import ZoneInfo

from daemon.ledger.gaps import NotedGap
from daemon.reports.formats import local_time, plural
from daemon.telegra.reading import Overview


def gap_sentence(gap: NotedGap, zone: ZoneInfo) -> str:
    """Return when notifications were refused, and how many."""
    were = "was" if gap.refused == 1 else "were"
    return (
        f"{plural(gap.refused, 'notification')} {were} refused from "
        f"{local_time(gap.since, zone)} to {local_time(gap.until, zone)}."
    )


def call_sentences(gaps: Sequence[NotedGap], zone: ZoneInfo) -> list[str]:
    """Return what gaps mean for a call that ran in them."""
    if not gaps:
        return []
    said = " ".join(gap_sentence(gap, zone) for gap in gaps)
    return [f"{said} Some may be of this call: what the ACD did not repeat is missing in it."]


def receiver_sentence(found: Overview | None, zone: ZoneInfo) -> str:
    """Return how the receiver is doing; `found` is None while the source is away."""
    if found is None:
        return "The source database cannot be reached: notifications are refused."
    if found.last_notification_at is None:
        return "No notification in the last 7 days."
    open_calls = plural(found.open_calls, "open call")
    waiting = ""
    if found.waiting_codes:
        waits = "waits for its call" if found.waiting_codes == 1 else "wait for their calls"
        waiting = f"; {plural(found.waiting_codes, 'classification')} {waits}"
    latest = local_time(found.last_notification_at, zone)
    return f"Latest notification {latest}; {open_calls}{waiting}."
