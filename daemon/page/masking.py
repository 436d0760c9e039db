"""Keeps phone numbers and mail addresses off the page; of a number two digits are left. Pure."""

import json
import re
from collections.abc import Collection
from typing import Any

LEFT = 2
"""Digits that stay: enough to tell two callers apart, not enough to call them."""
HIDDEN = "hidden"

_NUMBERS = ("CallerID", "ServiceNumber")
_PEOPLE = ("AgentUID",)
_HARMLESS = ("SalesForceID", "jtelStatisticsPartAID")
_TIME = re.compile(r"dtCall\w+")

# What is alike but no phone number comes first: record ids, dates, addresses of machines.
_MAIL = r"(?P<mail>(?=[\d.+_-]*[^\W\d_])[\w.+-]+@[\w-]+(?:\.[\w-]+)+)"
_NO_ID = r"(?:\d+|[A-Za-z]+\d{7,})(?![A-Za-z0-9])"
_ID = rf"(?<![A-Za-z0-9])(?!{_NO_ID})(?:[A-Za-z0-9]{{18}}|[A-Za-z0-9]{{15}})(?![A-Za-z0-9])"
_DATE = r"(?<!\d)(?:19|20)\d\d-[01]\d-[0-3]\d(?:[T ][0-2]\d:[0-5]\d(?::[0-5]\d(?:\.\d+)?)?)?(?!\d)"
_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_ADDRESS = rf"(?<![\d.]){_OCTET}(?:\.{_OCTET}){{3}}(?![\d.])"
_PHONE = r"(?P<phone>[+(]*\d(?:[ \t\u00a0._/()\u2010-\u2015-]{0,3}\d){6,})"
_TEXT = re.compile(f"{_MAIL}|{_ID}|{_DATE}|{_ADDRESS}|{_PHONE}")


def masked(text: str, known: Collection[int] = ()) -> str:
    """Shorten phone numbers in a text, but for the ids that are `known`; hide mail addresses."""

    def shorten(match: re.Match[str]) -> str:
        if match["mail"] is not None:
            return HIDDEN
        phone = match["phone"]
        if phone is None or (phone.isdecimal() and int(phone) in known):
            return match[0]
        return number(phone)

    return _TEXT.sub(shorten, text)


def number(phone: str) -> str:
    """Shorten a phone number; of an extension nothing is left."""
    digits = [character for character in phone if character.isdecimal()]
    return "…" + "".join(digits[-LEFT:] if len(digits) > 3 * LEFT else ())


def fields(record: str, *, with_people: bool) -> list[tuple[str, str | None]]:
    """Return a record's keys and values to show, phone numbers masked; agents only if told to."""
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
        return HIDDEN
    if key in _HARMLESS or _TIME.fullmatch(key):
        return text
    return masked(text)
