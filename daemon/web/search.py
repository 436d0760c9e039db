"""Parses the text of the search box. Pure."""

from dataclasses import dataclass

from daemon.ingest.record import salesforce_id
from daemon.language import _
from daemon.lines import BIGINT_MAX, FeedName, LineKey, Subject

_DIGITS = 19


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """A call or a callback, or a Salesforce record whose latest ones are wanted."""

    subject: Subject | None
    record: str | None

    @property
    def wanted(self) -> Subject | str:
        """What to look up."""
        return self.subject or self.record or ""


class SearchQueryError(ValueError):
    """The text is neither; the message says what to type, in the current language."""


def read_search(text: str) -> SearchQuery:
    """Read a call id, a line's key (`1201-2201-3201-0`, `callback-73001`) or a Salesforce id."""
    text = text.strip()
    key = LineKey.parse(text)
    if key is not None:
        return SearchQuery(key.subject, None)
    if text.isascii() and text.isdecimal():
        if len(text) > _DIGITS or int(text) > BIGINT_MAX:
            raise SearchQueryError(_("This number is too large for a call id."))
        return SearchQuery(Subject(FeedName.STATISTICS, int(text)), None)
    record = salesforce_id(text)
    if record is not None:
        return SearchQuery(None, record)
    if len(text) == 18 and text.isascii() and text.isalnum():
        raise SearchQueryError(
            _(
                "The last three characters of this Salesforce id do not match the others: there is "
                "a typing error, or upper and lower case were changed."
            )
        )
    if text.isascii() and text.isalnum():
        raise SearchQueryError(
            _(
                "A Salesforce id has 15 or 18 letters and digits; this has {count}. A call id has "
                "digits only.",
                count=len(text),
            )
        )
    raise SearchQueryError(
        _(
            "Type a call id (digits only, the ID in StatisticsPartA), a callback as in "
            "callback-73001, or a Salesforce id of 15 or 18 letters and digits."
        )
    )
