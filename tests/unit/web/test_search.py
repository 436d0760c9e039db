"""The text of the search box."""

import pytest

from daemon.web.search import SearchQuery, SearchQueryError, read_search


def test_a_question_is_a_call_or_a_record() -> None:
    assert read_search(" 1201 ") == SearchQuery(1201, None)
    assert read_search("1201-2201-3201-0") == SearchQuery(1201, None)
    assert read_search("0035g00000LnZXkAAN") == SearchQuery(None, "0035g00000LnZXkAAN")
    with pytest.raises(SearchQueryError):
        read_search("1201-2201")
