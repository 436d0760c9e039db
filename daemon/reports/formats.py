"""How numbers, times and durations are written for people and programs. Pure."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from daemon.language import _, ngettext

MINUTE, HOUR, DAY = 60, 3600, 86400


def plural(number: int, noun: str) -> str:
    """Return `1 line`, `2 lines` or `1,000 lines`, for texts that are English only."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def local_time(moment: datetime, zone: ZoneInfo) -> str:
    """Return date and time on the clocks of a zone, in whole seconds."""
    return moment.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")


def iso_time(moment: datetime | None) -> str | None:
    """Return a time for programs: ISO 8601, UTC with offset."""
    return None if moment is None else moment.astimezone(UTC).isoformat()


def short_duration(seconds: float) -> str:
    """Return a duration of at least two of its unit, such as `90 s`, `5 min` or `3 d`."""
    for unit, length in (("d", DAY), ("h", HOUR), ("min", MINUTE)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def rough_duration(seconds: float) -> str:
    """Return a duration in words, such as `90 minutes` or `3 days`."""
    if seconds >= 2 * DAY:
        return ngettext("{count} day", "{count} days", int(seconds // DAY))
    if seconds >= 2 * HOUR:
        return ngettext("{count} hour", "{count} hours", int(seconds // HOUR))
    if seconds >= MINUTE:
        return ngettext("{count} minute", "{count} minutes", int(seconds // MINUTE))
    return _("less than a minute")


def exact_duration(seconds: float) -> str:
    """Return a duration to the second, such as `2:03:04` or `1 day, 2:03:04`."""
    days, rest = divmod(round(seconds), DAY)
    clock = str(timedelta(seconds=rest))
    return (
        ngettext("{count} day, {clock}", "{count} days, {clock}", days, clock=clock)
        if days
        else clock
    )
