"""Salesforce record ids of the demo: what Salesforce makes of one is part of the id."""

import re
from typing import Any, Literal

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SUFFIX = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"

Outcome = Literal["exists", "missing", "conflict", "rejected"]
ENDINGS: dict[str, Outcome] = {"404": "missing", "409": "conflict", "400": "rejected"}


def ids(number: int, ending: str = "", kind: str = "003") -> tuple[str, str]:
    """Return the 15-character id of the n-th record and its 18-character form.

    `ending`, one of ENDINGS, decides the outcome; other ids end in a letter.
    """
    # The factor is coprime to 62: no two numbers below 62**11 have the same id.
    scrambled = (number + 1) * 0x9E3779B97F4A7C15 % 62**11
    digits = []
    for _ in range(11):
        scrambled, digit = divmod(scrambled, 62)
        digits.append(BASE62[digit])
    record = f"{kind}{''.join(digits)}{BASE62[10 + number % 52]}"[: 15 - len(ending)] + ending
    return record, long_form(record)


def long_form(record: str) -> str:
    """Append the three characters that encode upper and lower case; bit 0 is the first of five."""
    groups = (record[0:5], record[5:10], record[10:15])
    bits = (sum(1 << bit for bit, char in enumerate(group) if char.isupper()) for group in groups)
    return record + "".join(SUFFIX[value] for value in bits)


def is_id(value: Any) -> bool:
    """Return whether a value is a record id: 15 characters, or 18 with the right case suffix."""
    if not isinstance(value, str) or not re.fullmatch("[0-9A-Za-z]{15,18}", value):
        return False
    return value in (value[:15], long_form(value[:15]))


def expected_outcome(record: str) -> Outcome:
    """Return what Salesforce does with a record id, by the last of its first 15 characters."""
    return ENDINGS.get(record[12:15], "exists")
