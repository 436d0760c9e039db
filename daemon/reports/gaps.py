"""What is said of the receiver of notifications, and of those that were refused. Pure."""

from collections.abc import Sequence
from zoneinfo import ZoneInfo

from daemon.language import _, ngettext
from daemon.ledger.gaps import NotedGap
from daemon.reports.formats import local_time
from daemon.telegra.reading import Overview


def gap_sentence(gap: NotedGap, zone: ZoneInfo) -> str:
    """Return when notifications were refused, and how many."""
    return ngettext(
        "{count} notification was refused from {since} to {until}.",
        "{count} notifications were refused from {since} to {until}.",
        gap.refused,
        since=local_time(gap.since, zone),
        until=local_time(gap.until, zone),
    )


def call_sentences(gaps: Sequence[NotedGap], zone: ZoneInfo) -> list[str]:
    """Return what gaps mean for a call that ran in them."""
    if not gaps:
        return []
    said = " ".join(gap_sentence(gap, zone) for gap in gaps)
    meaning = _("Some may be of this call: what the ACD did not repeat is missing in it.")
    return [f"{said} {meaning}"]


def receiver_sentence(found: Overview | None, zone: ZoneInfo) -> str:
    """Return how the receiver is doing; `found` is None while the source is away."""
    if found is None:
        return _("The source database cannot be reached: notifications are refused.")
    if found.last_notification_at is None:
        return _("No notification in the last 7 days.")
    latest = local_time(found.last_notification_at, zone)
    calls = ngettext("{count} open call", "{count} open calls", found.open_calls)
    if not found.waiting_codes:
        return _("Latest notification {latest}; {open_calls}.", latest=latest, open_calls=calls)
    return ngettext(
        "Latest notification {latest}; {open_calls}; {count} classification waits for its call.",
        "Latest notification {latest}; {open_calls}; {count} classifications wait for their calls.",
        found.waiting_codes,
        latest=latest,
        open_calls=calls,
    )
