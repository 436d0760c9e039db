"""Times, numbers and ids as a Telegra ACD writes them (telegra, section 4). Pure."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from daemon.ingest.record import salesforce_id

CLOCKS_APART = timedelta(minutes=5)
"""How far after its receipt a notification's own time may be, as clocks differ."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
MILLISECOND_DIGITS = 12
"""From so many digits on a number of time is milliseconds."""

_SINCE_EPOCH = re.compile(r"(\d{1,18})(\.\d{1,9})?", re.ASCII)
_GERMAN = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4}) (\d{2}:\d{2}:\d{2}(?:\.\d{1,6})?)", re.ASCII)
_LOST_PLUS = re.compile(r"(:\d{2}(?:\.\d+)?) (\d{2}:?\d{2})$", re.ASCII)
"""The blank was the plus of an offset."""
_SUPPRESSED = re.compile("xxx$", re.IGNORECASE)
_NOT_A_DIGIT = re.compile("[^0-9]+")
_WHOLE = re.compile(r"-?\d{1,2000}", re.ASCII)
_BIGINT = range(-(2**63) + 1, 2**63)
"""Numbers that a bigint holds, also with the other sign."""
_ID_INSIDE = re.compile(r"(?<![0-9A-Za-z])[0-9A-Za-z]{18}(?![0-9A-Za-z])")


def moment(named: datetime | None, received: datetime) -> datetime:
    """Return the instant that counts, to the millisecond: what was named, or that of receipt.

    The latter counts where none was named, or one more than `CLOCKS_APART` after it.
    """
    usable = named is not None and named <= received + CLOCKS_APART
    instant = named if named is not None and usable else received
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)


def named_moment(text: str | None, received: datetime, zone: ZoneInfo) -> datetime | None:
    """Return the instant that a text names, whenever that is; None for an unreadable text."""
    written = (text or "").strip()
    try:
        if number := _SINCE_EPOCH.fullmatch(written):
            return _since_epoch(number[1], number[2] or "")
        return _on_clock(_parsed(written), received, zone)
    except (ValueError, OverflowError):
        return None


def number_of(text: str | None, country_code: str) -> str | None:
    """Return a phone number as digits with its country code; None for a suppressed one.

    A shortened number, which ends in `xxx`, would be somebody else's.
    """
    if not text or _SUPPRESSED.search(text.rstrip()):
        return None
    with_plus = text[0] == " " or text.lstrip().startswith("+")
    digits = _NOT_A_DIGIT.sub("", text)
    if with_plus or not digits:
        return digits or None
    if digits.startswith("00"):
        return digits[2:] or None
    if digits.startswith("0"):
        return f"{country_code}{digits[1:]}" if digits[1:] else None
    return digits


def whole(text: str | None) -> int | None:
    """Return a whole number that a bigint holds; None for any other text."""
    number = integer(text)
    return number if number is not None and number in _BIGINT else None


def integer(text: str | None) -> int | None:
    """Return a whole number, however large; None for any other text."""
    written = (text or "").strip()
    return int(written) if _WHOLE.fullmatch(written) else None


def record_id_in(text: str | None) -> str | None:
    """Return the Salesforce id in a text: 18 characters anywhere, or 15 that are all of it."""
    if not text:
        return None
    if whole_text := salesforce_id(text):
        return whole_text
    return next(
        (found for part in _ID_INSIDE.findall(text) if (found := salesforce_id(part))), None
    )


def _since_epoch(digits: str, fraction: str) -> datetime:
    if len(digits) >= MILLISECOND_DIGITS:
        return EPOCH + int(digits) * MILLISECOND
    return EPOCH + timedelta(seconds=int(digits), milliseconds=int(f"{fraction[1:]:0<3}"[:3]))


def _parsed(written: str) -> datetime:
    """Read a date and time, with or without offset; raises `ValueError`."""
    if german := _GERMAN.fullmatch(written):
        day, month, year, clock = german.groups()
        written = f"{year}-{month:0>2}-{day:0>2}T{clock}"
    return datetime.fromisoformat(_LOST_PLUS.sub(r"\1+\2", written))


def _on_clock(written: datetime, received: datetime, zone: ZoneInfo) -> datetime:
    """Return the instant; of the two in the hour that a clock repeats the one nearer to receipt."""
    if written.tzinfo is not None:
        return written.astimezone(UTC)
    first, second = (written.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if second < first:
        return first  # in the hour that the clock leaves out
    return min(first, second, key=lambda reading: abs(reading - received))
