"""What is said of alerts, in `callstatsd status` and on the status page. Pure."""

from collections.abc import Callable
from datetime import datetime

from daemon.language import _, ngettext
from daemon.ledger.overview import AlertStatus


def alert_sentences(alert: AlertStatus, moment: Callable[[datetime], str]) -> str:
    """Say when the last alert was raised, and which lines wait for the next, and why.

    `moment` writes a time for those who read this.
    """
    said = [_last_alert(alert, moment)]
    if alert.waiting:
        said.append(
            ngettext(
                "{count} line waits for the next one.",
                "{count} lines wait for the next one.",
                alert.waiting,
            )
        )
    if alert.error:
        failed = _(
            "The last try failed: {error}. `callstatsd check` says what to do.", error=alert.error
        )
        said.append(failed)
    return " ".join(said)


def _last_alert(alert: AlertStatus, moment: Callable[[datetime], str]) -> str:
    if alert.raised_at is None:
        return _("Alerts are on; none has been raised yet.")
    time, lines = moment(alert.raised_at), alert.lines or 0
    if alert.acd_events_id is None:
        return ngettext(
            "Alert raised at {time} about {count} line.",
            "Alert raised at {time} about {count} lines.",
            lines,
            time=time,
        )
    return ngettext(
        "Alert raised at {time} about {count} line (event {event} of the ACD).",
        "Alert raised at {time} about {count} lines (event {event} of the ACD).",
        lines,
        time=time,
        event=alert.acd_events_id,
    )
