"""Masks phone numbers and mail addresses; the last two digits of a number stay. Pure."""

import json
import re
from collections.abc import Collection
from typing import Any

from daemon.ingest.record import case_suffix
from daemon.language import _, mark

LEFT = 2
"""Digits that stay: enough to distinguish two callers, too few to call them."""
HIDDEN = mark("hidden")

_NUMBERS = ("CallerID", "ServiceNumber", "Caller", "CallbackNumber", "ServiceNumbersNumber")
_PEOPLE = (
    "AgentUID",
    "CreatingUsersID",
    "CreatingUsersUID",
    "CreatingUsersNickName",
    "TargetUsersID",
    "TargetUsersUID",
    "TargetUsersNickName",
)
_HARMLESS = (
    "SalesForceID",
    "jtelStatisticsPartAID",
    "SalesforceId",
    "ID",
    "AcdEventsID",
    "AcdGroupsID",
)
_TIME = re.compile(r"dtCall\w+")

LEAST = 10**6
"""Numbers from this one on are masked."""
MOST = 2000
"""Characters of a text that are shown."""

# What looks similar but is no phone number is matched first: mail addresses, ids, dates.
_MAIL = r"(?P<mail>(?=[\d.+_-]{0,256}[^\W\d_])[\w.+-]{1,256}@[\w-]+(?:\.[\w-]+)+)"
# Neither begins with a number, nor has one inside but for a counter with its zeros.
_NO_ID = r"[A-Za-z]*\d{7}|\w*(?<!\d)(?!0000)\d{7}"
_ID = rf"(?<![A-Za-z0-9])(?!{_NO_ID})[A-Za-z0-9]{{15}}(?:[A-Z0-5]{{3}})?(?![A-Za-z0-9])"
_DATE = r"(?<!\d)(?:19|20)\d\d-[01]\d-[0-3]\d(?:[T ][0-2]\d:[0-5]\d(?::[0-5]\d(?:\.\d+)?)?)?(?!\d)"
# Anything but letters may be between the digits.
_NUMBER = rf"(?P<number>[+(]*\d(?:[\W_]{{0,8}}(?!{_DATE})\d){{6,}})"
_TEXT = re.compile(f"{_MAIL}|(?P<id>{_ID})|{_DATE}|{_NUMBER}")


def masked(text: str, known: Collection[int] = ()) -> str:
    """Mask numbers of seven or more digits in a text, and hide mail addresses.

    Record ids, dates, the ids in `known` and the key made of them stay. A long text is cut.
    """
    if len(text) > MOST:
        text = re.sub(r"[\d\W_]+$", "", text[:MOST]) + "…"
    ids = ["-".join(map(str, known)), *(str(part) for part in known if part >= LEAST)]
    spared = [one for one in ids if one and one in text]
    if not spared:
        return _TEXT.sub(_shorten, text)
    pieces = re.split(rf"(?<!\d)({'|'.join(spared)})(?!\d)", text)
    pieces[::2] = [_TEXT.sub(_shorten, piece) for piece in pieces[::2]]
    return "".join(pieces)


def _shorten(match: re.Match[str]) -> str:
    found = match[0]
    if match["mail"] is not None:
        return HIDDEN
    mistyped = match["id"] is not None and found[15:] not in {"", case_suffix(found[:15])}
    return number(found) if match["number"] is not None or mistyped else found


def number(phone: str) -> str:
    """Mask a phone number; no digit of an extension stays."""
    digits = [character for character in phone if character.isdecimal()]
    return "…" + "".join(digits[-LEFT:] if len(digits) > 3 * LEFT else ())


def fields(record: str, *, with_people: bool) -> list[tuple[str, str | None]]:
    """Return a record's keys and masked values, in the current language; agents `with_people`."""
    return [
        (key, _shown(key, value, with_people=with_people))
        for key, value in json.loads(record).items()
    ]


def _shown(key: str, value: Any, *, with_people: bool) -> str | None:
    if value is None or value == "":
        return None
    text = str(value)
    if key in _NUMBERS:
        return number(text)
    if key in _PEOPLE and not with_people:
        return _(HIDDEN)
    if key in _HARMLESS or _TIME.fullmatch(key):
        return text
    return masked(text)
