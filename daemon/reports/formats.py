"""How numbers, times and durations are written for people and programs. Pure."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

MINUTE, HOUR, DAY = 60, 3600, 86400


def plural(number: int, noun: str) -> str:
    """Return `1 line`, `2 lines` or `1,000 lines`."""
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
    for unit, length in (("day", DAY), ("hour", HOUR)):
        if seconds >= 2 * length:
            return plural(int(seconds // length), unit)
    if seconds >= MINUTE:
        return plural(int(seconds // MINUTE), "minute")
    return "less than a minute"
