"""What is said of alerts, in `callstatsd status` and on the status page. Pure."""

from collections.abc import Callable
from datetime import datetime

from daemon.ledger.overview import AlertStatus
from daemon.reports.formats import plural


def alert_sentences(alert: AlertStatus, moment: Callable[[datetime], str]) -> str:
    """Say when the last alert was raised, and which lines wait for the next, and why.

    `moment` writes a time for those who read this.
    """
    said = ["Alerts are on; none has been raised yet."]
    if alert.raised_at is not None:
        event = "" if alert.acd_events_id is None else f" (event {alert.acd_events_id} of the ACD)"
        lines = plural(alert.lines or 0, "line")
        said = [f"Alert raised at {moment(alert.raised_at)} about {lines}{event}."]
    if alert.waiting:
        verb = "waits" if alert.waiting == 1 else "wait"
        said.append(f"{plural(alert.waiting, 'line')} {verb} for the next one.")
    if alert.error:
        said.append(f"The last try failed: {alert.error}. `callstatsd check` says what to do.")
    return " ".join(said)
