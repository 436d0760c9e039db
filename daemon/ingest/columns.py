"""Column values as the driver gives them: numbers, texts and times that a view may spoil. Pure."""

import re
import zlib
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from daemon.errors import InvalidLineError
from daemon.lines import BIGINT_MAX, BIGINT_MIN, MICROSECOND, NON_NUMERIC_ID

WHOLE_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.0+)?")

MIN_TIME = datetime.min.replace(tzinfo=UTC)
MAX_TIME = datetime.max.replace(tzinfo=UTC)
REPEATED_HOUR = timedelta(hours=1)
"""What the clocks of a zone repeat in autumn, at most."""
EPOCHS = {
    "timestamptz": datetime(2000, 1, 1, tzinfo=UTC),
    "timestamp": datetime(2000, 1, 1),  # noqa: DTZ001 - the ACD's local time has no zone
}
"""Postgres' zero of each type of time."""

# The driver gives Postgres' infinities as the first and the last datetime. Nothing else in these
# years is a call's time either, and no zone's offset pushes a moment between them out of range.
INFINITE_YEARS = (1, 9999)

MINUTES_KEPT = 16_384
"""Minutes whose local form is kept: more than a day of calls has."""
WHOLE_MINUTES_FROM = 1973
"""The year from which every zone's offset is whole minutes; Monrovia was the last with seconds."""
_TWO_DIGITS = tuple(f"{number:02}" for number in range(60))

# A subtype before its base: True is an int, a datetime is a date.
KINDS = (
    (bool, "a boolean"),
    (int, "a whole number"),
    ((float, Decimal), "a decimal number"),
    (str, "text"),
    (datetime, "a time"),
    (date, "a date"),
    ((bytes, bytearray, memoryview), "binary data"),
)


def to_bigint(value: Any) -> int:
    """Return an id as a bigint; others become a number below `NON_NUMERIC_ID`."""
    if type(value) is int:
        return value
    if value == value and abs(value) <= BIGINT_MAX and value == int(value):  # noqa: PLR0124 - NaN
        return int(value)
    return NON_NUMERIC_ID - 1 - zlib.crc32(str(value).encode())


def whole_number(value: object, column: str) -> int | None:
    """Return a number column's value; None where it is empty.

    A foreign view may hold a whole number as numeric, double precision or text.
    """
    if type(value) is int and BIGINT_MIN <= value <= BIGINT_MAX:
        return value
    if isinstance(value, str):
        value = value.strip()
    if value is None or value == "":
        return None
    if isinstance(value, float) or (isinstance(value, str) and WHOLE_NUMBER.fullmatch(value)):
        value = Decimal(value)
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        raise InvalidLineError(f"{column} holds {kind(value)} where a whole number belongs")
    # The range comes before int(), which would write out every digit of 1E+999999.
    finite = isinstance(value, int) or value.is_finite()
    if not (finite and BIGINT_MIN <= value <= BIGINT_MAX):
        raise InvalidLineError(f"{column} is out of range")
    if value != int(value):
        raise InvalidLineError(f"{column} holds {kind(value)} where a whole number belongs")
    return int(value)


def text(value: object, column: str) -> str | None:
    """Return a text column's value unchanged; None where it is empty."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return value
    raise InvalidLineError(f"{column} holds {kind(value)} where text belongs")


def kind(value: object) -> str:
    """Name the kind of a value, so that a reason need not show the value itself."""
    return next((name for type_, name in KINDS if isinstance(value, type_)), "an unknown type")


def local_time(moment: datetime | None, zone: ZoneInfo) -> str | None:
    """Write a moment as `YYYY-MM-DDThh:mm:ss` on the zone's clock; a naive one already is.

    Raises OverflowError for Postgres' infinities.
    """
    if moment is None:
        return None
    year = moment.year
    if year in INFINITE_YEARS:
        raise OverflowError("no moment of a call")
    if moment.tzinfo is UTC and year >= WHOLE_MINUTES_FROM:
        minute = year, moment.month, moment.day, moment.hour, moment.minute
        return _local_minute(zone, *minute) + _TWO_DIGITS[moment.second]
    local = moment if moment.tzinfo is None else moment.astimezone(zone)
    return local.isoformat()[:19]


@lru_cache(MINUTES_KEPT)
def _local_minute(zone: ZoneInfo, year: int, month: int, day: int, hour: int, minute: int) -> str:
    """Write a minute of UTC as `YYYY-MM-DDThh:mm:`; calls of a day share few of them."""
    utc = datetime(year, month, day, hour, minute, tzinfo=UTC)
    return utc.astimezone(zone).isoformat()[:17]


def local_column(value: object, zone: ZoneInfo, column: str) -> str | None:
    """Write a time column's value as local time; None where it is empty."""
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise InvalidLineError(f"{column} holds {kind(value)} where a time belongs")
    try:
        return local_time(value, zone)
    except OverflowError as error:
        raise InvalidLineError(f"{column} is out of range") from error


def instant(moment: datetime, zone: ZoneInfo) -> datetime:
    """Return a moment in UTC, because Python compares two times of one zone by their clocks.

    A naive moment is on the zone's clock.
    """
    aware = moment.replace(tzinfo=zone) if moment.tzinfo is None else moment
    return aware.astimezone(UTC)


def time_encoder(epoch: datetime) -> Callable[[datetime], tuple[int]]:
    """Return what writes a time as Postgres does: microseconds since the epoch."""

    def encode(moment: datetime) -> tuple[int]:
        if epoch.tzinfo is None:
            moment = moment.replace(tzinfo=None)
        return ((moment - epoch) // MICROSECOND,)

    return encode


def time_decoder(epoch: datetime) -> Callable[[tuple[int]], datetime]:
    """Return what reads such a time; one out of Python's range becomes the nearest in it."""

    def decode(value: tuple[int]) -> datetime:
        try:
            return epoch + timedelta(0, 0, value[0])  # by name it takes half as long again
        except OverflowError:
            return (MAX_TIME if value[0] > 0 else MIN_TIME).replace(tzinfo=epoch.tzinfo)

    return decode
