"""The text of the search box."""

import pytest

from daemon.lines import FeedName, Subject
from daemon.web.search import SearchQuery, SearchQueryError, read_search


def test_a_question_is_a_call_a_callback_or_a_record() -> None:
    call, event = Subject(FeedName.STATISTICS, 1201), Subject(FeedName.CALLBACKS, 73001)
    assert read_search(" 1201 ") == SearchQuery(call, None)
    assert read_search("1201-2201-3201-0") == SearchQuery(call, None)
    assert read_search(" callback-73001") == SearchQuery(event, None)
    assert read_search("0035g00000LnZXkAAN") == SearchQuery(None, "0035g00000LnZXkAAN")
    for text in ("1201-2201", "callback-", "callback-1-2", f"callback-{2**63}"):
        with pytest.raises(SearchQueryError):
            read_search(text)
