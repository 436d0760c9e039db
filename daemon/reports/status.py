"""The one line that says what an instance does, as `systemctl status` shows it. Pure."""

from datetime import datetime

from daemon.reports.formats import short_duration


def status_line(
    *,
    pending: int,
    oldest_pending_seconds: float | None,
    need_action: int,
    delivered: int,
    watermark: datetime | None,
    paused: tuple[str, float | None] | None,
    operator_reason: str | None,
    now: datetime,
) -> str:
    """Say what the sender does and which lines wait; `now` is in the zone to show times in.

    `paused` is the reason and the seconds until the next try, `operator_reason` the text that an
    operator gave for a pause, `delivered` counts since the start.
    """
    if paused is None:
        doing = "sending"
    else:
        reason, retry_in = paused
        if operator_reason:
            reason += f": {operator_reason}"
        again = "" if retry_in is None else f", next try in {short_duration(retry_in)}"
        doing = f"paused ({reason}){again}"
    counts = [f"{pending:,} pending"]
    if oldest_pending_seconds is not None:
        counts.append(f"oldest {short_duration(oldest_pending_seconds)}")
    counts.append(f"{delivered:,} delivered since start")
    if need_action:
        counts.append(f"{need_action:,} need action")
    if watermark is not None:
        local = watermark.astimezone(now.tzinfo)
        form = "%H:%M:%S" if local.date() == now.date() else "%Y-%m-%d %H:%M:%S"
        counts.append(f"taken up to {local:{form}}")
    return f"{doing}: {', '.join(counts)}"
