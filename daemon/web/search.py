"""Parses the text of the search box. Pure."""

import re
from dataclasses import dataclass

from daemon.ingest.record import salesforce_id

_LARGEST = 2**63 - 1
_DIGITS = 19
_KEY = re.compile(r"(\d{1,19})(?:-\d+){3}", re.ASCII)


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """A call id, or a Salesforce record whose latest calls are wanted."""

    call_id: int | None
    record: str | None


class SearchQueryError(ValueError):
    """The text is neither; the message says what to type."""


def read_search(text: str) -> SearchQuery:
    """Read a call id, a line's key (`1201-2201-3201-0`) or a Salesforce id."""
    text = text.strip()
    key = _KEY.fullmatch(text)
    digits = key[1] if key else text
    if digits.isascii() and digits.isdecimal():
        if len(digits) > _DIGITS or int(digits) > _LARGEST:
            raise SearchQueryError("This number is too large for a call id.")
        return SearchQuery(int(digits), None)
    record = salesforce_id(text)
    if record is not None:
        return SearchQuery(None, record)
    if len(text) == 18 and text.isascii() and text.isalnum():
        raise SearchQueryError(
            "The last three characters of this Salesforce id do not match the others: there is a "
            "typing error, or upper and lower case were changed."
        )
    if text.isascii() and text.isalnum():
        raise SearchQueryError(
            f"A Salesforce id has 15 or 18 letters and digits; this has {len(text)}. "
            "A call id has digits only."
        )
    raise SearchQueryError(
        "Type a call id (digits only, the ID in StatisticsPartA), or a Salesforce id of 15 or 18 "
        "letters and digits."
    )
