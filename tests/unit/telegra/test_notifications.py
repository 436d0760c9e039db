"""What is kept, ignored or bad, what is a repetition, and where parameters are read."""

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.telegra.notifications import code_keys, command_of, understood
from daemon.telegra.parameters import BadNotificationError, Parameters, read_parameters
from tests.support.expected import BERLIN

RECEIVED = datetime(2026, 11, 20, 9, tzinfo=UTC)
EVENT = {"cmd": "callevent", "id": "1", "taskid": "5F0A", "eventtype": "CallStart"}
CODE = {"cmd": "classificationevent", "callid": "5f0a", "classificationreason": "SOLD"}
PLAN = {"cmd": "schedulecallevent", "scheduleid": "7", "callednumber": "0221"}
STATE = {"cmd": "agentstate", "agentid": "100001", "state": "connected"}


def keep(parameters: Parameters) -> bool:
    return understood(parameters, RECEIVED, BERLIN) is not None


@pytest.mark.parametrize(
    ("parameters", "kept"),
    [
        (EVENT, True),
        (EVENT | {"cmd": " CallEvent "}, True),
        (EVENT | {"eventtype": "Unheard"}, True),
        (CODE, True),
        (PLAN, True),
        (STATE, False),
        (STATE | {"group": "Support"}, False),
        (STATE | {"group": "Support", "groupid": "40"}, True),
        (STATE | {"group": " ", "groupid": "40"}, False),
        (STATE | {"hotline": "Shop", "hotlineid": "7"}, True),
        (STATE | {"mandator": "Campaign", "mandatorid": "3"}, True),
        (STATE | {"requesttext": "0D5D0000000XZoHKAW", "taskid": "5f"}, True),
        (STATE | {"requesttext": "0D5D0000000XZoHKAW"}, False),
        (STATE | {"requesttext": "hello", "taskid": "5f"}, False),
        ({"cmd": "recordedcall"}, False),
        ({"cmd": "enqueuecall"}, False),
        ({"cmd": "configchanged"}, False),
        ({"cmd": "broadcastevent", "message": "lunch"}, False),
        ({"cmd": "somethingnew"}, False),
    ],
)
def test_kept_or_ignored(parameters: Parameters, kept: bool) -> None:
    assert keep(parameters) is kept


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({}, "no cmd"),
        ({"cmd": " "}, "no cmd"),
        (EVENT | {"taskid": ""}, "no taskid"),
        (EVENT | {"eventtype": ""}, "no eventtype"),
        (EVENT | {"taskid": "xyz"}, "hexadecimal"),
        (EVENT | {"taskid": "a" * 25}, "hexadecimal"),
        (CODE | {"callid": ""}, "no callid"),
        (CODE | {"classificationreason": " "}, "no classificationreason"),
        (PLAN | {"scheduleid": ""}, "no scheduleid"),
        (PLAN | {"callednumber": ""}, "no callednumber"),
    ],
)
def test_bad(parameters: Parameters, reason: str) -> None:
    with pytest.raises(BadNotificationError, match=reason):
        keep(parameters)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (EVENT, EVENT | {"eventtype": "CallEnd", "eventtime": "5"}, True),
        (EVENT, EVENT | {"id": "01"}, True),
        (EVENT | {"id": "9" * 19}, EVENT | {"id": "0" + "9" * 19}, True),
        (EVENT, EVENT | {"id": "2"}, False),
        (EVENT, EVENT | {"customernumber": "0"}, True),
        (EVENT, EVENT | {"customernumber": "8"}, False),
        (EVENT | {"id": ""}, EVENT | {"id": "", "mode": "1"}, False),
        (CODE, dict(reversed(CODE.items())), True),
        (CODE, CODE | {"agent": "100001"}, False),
        (PLAN, PLAN | {"callednumber": "0222"}, True),
        (PLAN, PLAN | {"scheduleid": "8"}, False),
    ],
)
def test_repetitions(one: Parameters, other: Parameters, same: bool) -> None:
    first, second = (understood(each, RECEIVED, BERLIN) for each in (one, other))
    assert first is not None
    assert second is not None
    assert (first.fingerprint == second.fingerprint) is same


def test_a_classification_has_the_time_of_its_timestamp() -> None:
    earlier = RECEIVED - timedelta(minutes=2)
    times = {"timestamp": str(round(earlier.timestamp())), "eventtime": "2026-11-20 10:00:00"}
    one = understood(CODE | times, RECEIVED, BERLIN)
    assert one is not None
    assert one.at == earlier
    one = understood(CODE | times | {"timestamp": "noon"}, RECEIVED, BERLIN)
    assert one is not None
    assert one.at == RECEIVED


@pytest.mark.parametrize(
    ("call_id", "keys"),
    [
        ("5F0A", ("5f0a",)),
        ("0005f0a", ("5f0a",)),
        ("24330", ("24330", "5f0a")),
        ("9" * 29, (f"{int('9' * 29):x}",)),
        ("7", ("7",)),
        ("000", ("0",)),
        ("x1", ()),
        ("9" * 400, ()),
        ("٣", ()),
    ],
)
def test_the_calls_that_a_classification_may_mean(call_id: str, keys: tuple[str, ...]) -> None:
    assert code_keys(call_id) == keys


def test_commands_are_counted_by_name_or_as_other() -> None:
    assert command_of({"cmd": " BroadcastEvent"}) == "broadcastevent"
    assert command_of({"cmd": "unheard"}) == command_of({}) == "other"


FORM, JSON = "application/x-www-form-urlencoded", "application/json"


@pytest.mark.parametrize(
    ("query", "body", "content_type", "expected"),
    [
        (b"CMD=callevent&TaskId=5f", b"", "", {"cmd": "callevent", "taskid": "5f"}),
        (b"a=1&A=2&a=3", b"", "", {"a": "1"}),
        (b"a=1&b=2", b"a=3&c=4", FORM, {"a": "3", "b": "2", "c": "4"}),
        (b"a=1", b"a=3\r\n", "", {"a": "3"}),
        (b"", b"a=%2B49%20221", "text/plain", {"a": "+49 221"}),
        (b"n=+49221", b"", "", {"n": " 49221"}),
        (b"n=M%C3%BCller&o=M%FCller", b"", "", {"n": "Müller", "o": "Müller"}),
        ("n=Müller".encode(), b"", "", {"n": "Müller"}),
        (b"%00n%00m=a%00b", b"", "", {"nm": "ab"}),
        (b"n=%ZZ&&=x&m", b"", "", {"n": "%ZZ", "m": ""}),
        (b"", b'{"Cmd": "x", "id": 12345678901234567890, "f": 1.50, "t": true, "n": null}', JSON,
         {"cmd": "x", "id": "12345678901234567890", "f": "1.50", "t": "1"}),
        (b"", b'{"a": "1", "A": "2"}', JSON, {"a": "1"}),
        (b"", b'{"a": "\\ud800"}', JSON, {"a": "?"}),
        (b"", b'\xef\xbb\xbf{"a": "1"}', JSON, {"a": "1"}),
        (b"a=1", b"", JSON, {"a": "1"}),
    ],
)  # fmt: skip
def test_parameters(query: bytes, body: bytes, content_type: str, expected: Parameters) -> None:
    assert read_parameters(query, body, content_type) == expected


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"{", JSON),
        (b"[]", JSON),
        (b'"text"', JSON),
        (b'{"a": {}}', JSON),
        (b'{"a": [1]}', JSON),
        (b'{"a": NaN}', JSON),
        (b"[" * 60_000, JSON),
        (b"<a/>", "application/xml"),
        (b"a=1", "multipart/form-data"),
    ],
)
def test_unreadable_bodies(body: bytes, content_type: str) -> None:
    with pytest.raises(BadNotificationError, match="unreadable body"):
        read_parameters(b"", body, content_type)


def test_limits() -> None:
    names = [f"p{number}=1" for number in range(65)]
    assert len(read_parameters("&".join(names[:64]).encode(), b"", "")) == 64
    with pytest.raises(BadNotificationError, match="over 64 parameters"):
        read_parameters("&".join(names).encode(), b"", "")
    assert read_parameters(b"a=" + b"x" * 2000, b"", "")
    with pytest.raises(BadNotificationError, match="a value over 2000 characters"):
        read_parameters(b"a=" + b"x" * 2001, b"", "")


@given(st.binary(max_size=200), st.binary(max_size=200), st.sampled_from([FORM, JSON, "", "x"]))
def test_no_bytes_are_too_odd(query: bytes, body: bytes, content_type: str) -> None:
    with suppress(BadNotificationError):
        found = read_parameters(query, body, content_type)
        assert json.loads(json.dumps(found)) == found
        assert all("\0" not in name + value for name, value in found.items())
        understood(found | {"cmd": "callevent"}, RECEIVED, BERLIN)
