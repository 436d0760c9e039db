"""A list is read while it arrives, whatever its parts are, and is what it would be as a whole."""

import json
import tracemalloc
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.acd.answers import AcdError, AcdSetupError, AcdUnavailableError, read_records
from daemon.acd.record_stream import AROUND_LIMIT, RECORD_LIMIT, RecordStream

Records = list[dict[str, Any]]

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
records = st.lists(st.dictionaries(st.text(max_size=8), values, max_size=4), max_size=5)


def read(parts: list[bytes], status: int = 200) -> Records:
    stream = RecordStream()
    found = [record for part in parts for record in stream.feed(part)]
    return found + list(stream.finish(status))


@settings(max_examples=60, deadline=None)
@given(
    records,
    st.sets(st.integers(0, 600)),
    st.sampled_from([None, 1]),
    st.booleans(),
    st.booleans(),
)
def test_any_parts_give_the_records_of_the_whole(
    wanted: Records, cuts: set[int], indent: int | None, ascii_only: bool, last: bool
) -> None:
    before = {"filter": 'a "records": [', "limitStart": 0}
    answer = {**before, "records": wanted, "count": 1, "status": 200}
    if last:
        answer = {**before, "status": 200, "records": wanted}
    text = json.dumps(answer, indent=indent, ensure_ascii=ascii_only)
    body = text.encode("utf-8", "replace")
    places = [0, *sorted(cut for cut in cuts if cut < len(body)), len(body)]
    parts = [body[start:end] for start, end in pairwise(places)]
    assert read(parts) == read_records(200, body) == json.loads(body)["records"]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (200, b""),
        (200, b"<html>Welcome</html>"),
        (200, b"[]"),
        (200, b"{}"),
        (200, b'{"records": {}}'),
        (200, b'{"records": [1]}'),
        (200, b'{"records": [{"ID": 1}'),
        (200, b'{"records": [{"ID": 1}, 2, {"ID": 3}]}'),
        (200, b'{"records": [{"ID": 1}]} more'),
        (200, b'{"records": [' + b"[" * 100_000),
        (200, b'{"records": [], "status": 401}'),
        (200, b'{"records": [], "status": 503}'),
        (200, b'{"status": 403, "error": "no"}'),
        (401, b'{"records": []}'),
        (404, b"<html>Not Found</html>"),
        (404, b'{"status": 404, "error": "no"}'),
        (302, b""),
        (500, b""),
        (503, b'{"records": []}'),
    ],
)
def test_what_is_no_good_list_is_the_same_fault_as_of_a_whole_answer(
    status: int, said: bytes
) -> None:
    with pytest.raises(AcdError) as whole:
        read_records(status, said)
    with pytest.raises(AcdError) as streamed:
        read([said[:9], said[9:]], status)
    assert type(streamed.value) is type(whole.value)
    assert str(streamed.value) == str(whole.value)


@pytest.mark.parametrize("digits", [21, 5000])
def test_a_number_that_no_column_holds_hurts_nobody(digits: int) -> None:
    body = b'{"records": [{"ID": ' + b"9" * digits + b', "UserData": "x"}]}'
    assert read([body]) == [{"ID": None, "UserData": "x"}]


def test_bytes_that_are_no_utf_8_hurt_nobody() -> None:
    assert read([b'{"records": [{"Sender": "\xff"}]}']) == [{"Sender": "\ufffd"}]


def test_a_byte_order_mark_and_half_a_character_hurt_nobody() -> None:
    body = b'\xef\xbb\xbf{"records": [{"Sender": "\\ud83d"}], "status": 200}'
    assert read([body[:2], body[2:]]) == [{"Sender": "\ud83d"}]


def test_a_record_that_is_too_long_is_not_read() -> None:
    parts = [b"x" * 65536] * (2 * RECORD_LIMIT // 65536 + 1)
    with pytest.raises(AcdUnavailableError, match="longer than"):
        read([b'{"records": [{"EventData": "', *parts])


@pytest.mark.parametrize("garbage", [b"x", b'{"a": "', b'{"records": []}'])
def test_of_garbage_and_of_long_lists_little_is_held(garbage: bytes) -> None:
    records = b",".join([json.dumps({"EventData": "x" * 1000}).encode()] * 64)
    long_list = [b'{"records": [', *[records, b","] * 100, b'{"ID": 1}], "count": 1}']
    for parts in ([garbage, *[b"y" * 65536] * 100], long_list):
        stream = RecordStream()
        tracemalloc.start()
        for part in parts:
            for _ in stream.feed(part):
                pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 8 * AROUND_LIMIT + 4 * 65536
    with pytest.raises(AcdSetupError):
        read([garbage, *[b"y" * 65536] * 100])
