"""Every row of the contract's section 5: what an answer means for its line and for the sender."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.delivery.outcome import (
    Conflict,
    Delivered,
    Failed,
    Locked,
    NotFound,
    Outcome,
    PauseSender,
    Rejected,
    Unanswered,
    classify,
    error_code,
)
from daemon.lines import PauseReason
from daemon.salesforce.responses import NoResponse, Response, TokenFailure


def platform(code: str, message: str = "") -> str:
    """The array that the platform, not the endpoint, answers with."""
    return json.dumps([{"message": message, "errorCode": code}])


def impossible(status: object) -> str:
    """What the platform makes of a status that Apex may not set."""
    return f"Invalid status code for HTTP response: {status}"


def told(outcome: Outcome) -> tuple[Any, ...]:
    """The outcome without its error text: kind, reason, status."""
    match outcome:
        case Delivered(status, expected):
            return Delivered, status, expected
        case Rejected(status):
            return Rejected, status
        case Failed(status):
            return Failed, status
        case Unanswered(status):
            return Unanswered, status
        case PauseSender(reason, status):
            return PauseSender, reason, status
        case _:
            return (type(outcome),)


def pausing(reason: PauseReason, status: int) -> tuple[Any, ...]:
    return PauseSender, reason, status


MISSING = platform("NOT_FOUND", "Could not find a match for URL")
LOCK = "UNABLE_TO_LOCK_ROW: unable to obtain exclusive access to this record"

STATUSES: list[tuple[int, tuple[Any, ...]]] = [
    (200, (Delivered, 200, True)),
    (201, (Delivered, 201, False)),
    (202, (Delivered, 202, False)),
    (204, (Delivered, 204, False)),
    (206, (Delivered, 206, False)),
    (299, (Delivered, 299, False)),
    (300, pausing(PauseReason.CONFIGURATION, 300)),
    (301, pausing(PauseReason.CONFIGURATION, 301)),
    (302, pausing(PauseReason.CONFIGURATION, 302)),
    (304, pausing(PauseReason.CONFIGURATION, 304)),
    (307, pausing(PauseReason.CONFIGURATION, 307)),
    (308, pausing(PauseReason.CONFIGURATION, 308)),
    (400, (Rejected, 400)),
    (401, pausing(PauseReason.UNAUTHORIZED, 401)),
    (402, (Rejected, 402)),
    (403, pausing(PauseReason.CONFIGURATION, 403)),
    (404, (NotFound,)),
    (405, pausing(PauseReason.CONFIGURATION, 405)),
    (406, pausing(PauseReason.CONFIGURATION, 406)),
    (408, (Unanswered, 408)),
    (409, (Conflict,)),
    (410, (Rejected, 410)),
    (412, (Rejected, 412)),
    (413, (Rejected, 413)),
    (415, pausing(PauseReason.CONFIGURATION, 415)),
    (417, (Rejected, 417)),
    (421, (Unanswered, 421)),
    (422, (Rejected, 422)),
    (423, (Locked,)),
    (425, (Unanswered, 425)),
    (429, pausing(PauseReason.UNAVAILABLE, 429)),
    (499, (Rejected, 499)),
    (500, (Failed, 500)),
    (501, (Failed, 501)),
    (502, (Unanswered, 502)),
    (503, pausing(PauseReason.UNAVAILABLE, 503)),
    (504, (Unanswered, 504)),
    (505, (Failed, 505)),
    (599, (Failed, 599)),
]

BODIES: list[tuple[int, str, tuple[Any, ...]]] = [
    # The endpoint's own 404 has whatever body its author chose; the platform's is about no line.
    (404, MISSING, pausing(PauseReason.ENDPOINT_MISSING, 404)),
    (404, " \n" + MISSING, pausing(PauseReason.ENDPOINT_MISSING, 404)),
    (404, "Salesforce record not found", (NotFound,)),
    (404, "Could not find a match for URL", (NotFound,)),
    (404, platform("NOT_FOUND", "The requested resource does not exist"), (NotFound,)),
    (404, platform("INVALID", "Could not find a match for URL"), (NotFound,)),
    (404, '{"errorCode": "NOT_FOUND", "message": "no such record"}', (NotFound,)),
    (403, platform("REQUEST_LIMIT_EXCEEDED", "..."), pausing(PauseReason.API_LIMIT, 403)),
    (403, platform("API_DISABLED_FOR_ORG", "..."), pausing(PauseReason.CONFIGURATION, 403)),
    (403, "forbidden", pausing(PauseReason.CONFIGURATION, 403)),
    (400, platform("JSON_PARSER_ERROR", "No such column"), (Rejected, 400)),
    (500, platform("APEX_ERROR", "System.NullPointerException"), (Failed, 500)),
    (401, platform("INVALID_SESSION_ID"), pausing(PauseReason.UNAUTHORIZED, 401)),
]

BODY_BEFORE_STATUS: list[tuple[int, str, tuple[Any, ...]]] = [
    (500, impossible(423), (Locked,)),
    (500, platform("APEX_ERROR", "System.RestException: " + impossible(423)), (Locked,)),
    (500, json.dumps({"error": impossible(423)}), (Locked,)),
    (500, f"<html><body>{impossible(423)}</body></html>", (Locked,)),
    (500, impossible(409), (Conflict,)),
    (500, impossible(422), (Rejected, 422)),
    (500, impossible(429), pausing(PauseReason.UNAVAILABLE, 429)),
    (500, impossible(504), (Unanswered, 504)),
    (500, impossible(408), (Unanswered, 408)),
    (500, impossible(421), (Unanswered, 421)),
    (500, impossible(425), (Unanswered, 425)),
    (500, impossible(404), (NotFound,)),
    (500, impossible(207), (Delivered, 207, False)),
    (500, impossible(999), pausing(PauseReason.CONFIGURATION, 999)),
    (200, impossible(423), (Locked,)),
    (500, impossible(520), (Failed, 520)),
    (500, impossible("none"), (Failed, 500)),
    (500, impossible(""), (Failed, 500)),
    (500, impossible(42), (Failed, 500)),
    (500, impossible(4230), (Failed, 500)),
    (500, impossible("9" * 5000), (Failed, 500)),
    (500, impossible("٤٢٣"), (Failed, 500)),
    (500, platform("UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access"), (Locked,)),
    (500, platform("APEX_ERROR", f"System.DmlException: Insert failed. {LOCK}"), (Locked,)),
    (400, LOCK, (Locked,)),
    (409, LOCK, (Locked,)),
    (503, json.dumps({"reason": LOCK}), (Locked,)),
]


@pytest.mark.parametrize(("status", "outcome"), STATUSES)
def test_without_a_telling_body_the_status_decides(status: int, outcome: tuple[Any, ...]) -> None:
    assert told(classify(Response(status))) == outcome


@pytest.mark.parametrize(("status", "body", "outcome"), BODIES)
def test_the_platforms_own_codes_tell_faults_of_the_set_up_from_faults_of_a_line(
    status: int, body: str, outcome: tuple[Any, ...]
) -> None:
    assert told(classify(Response(status, body))) == outcome


@pytest.mark.parametrize(("status", "body", "outcome"), BODY_BEFORE_STATUS)
def test_the_body_is_read_before_the_status(
    status: int, body: str, outcome: tuple[Any, ...]
) -> None:
    assert told(classify(Response(status, body))) == outcome


def test_a_200_whose_body_says_that_the_row_was_locked_is_not_delivered() -> None:
    body = json.dumps({"success": False, "errors": [{"statusCode": "UNABLE_TO_LOCK_ROW"}]})
    assert told(classify(Response(200, body))) == (Locked,)


ODD_BODIES = {
    "empty": "",
    "blank": " \r\n\t ",
    "plain text": "no such thing",
    "html": "<!DOCTYPE html>\n<html><head><title>Down</title></head></html>",
    "broken array": '[{"errorCode": "NOT_FOUND"',
    "broken object": '{"errorCode": ',
    "deeply nested": "[" * 32_000 + "]" * 32_000,
    "deeply nested and cut": "[" * 65_536,
    "huge number": "[" + "9" * 60_000 + "]",
    "array of numbers": "[1, 2, 3]",
    "array of arrays": '[["NOT_FOUND", "Could not find a match for URL"]]',
    "array of null": "[null]",
    "empty array": "[]",
    "array of empty objects": "[{}]",
    "codes that are no text": '[{"errorCode": ["NOT_FOUND"], "message": {"a": 1}}]',
    "a message that is a number": '[{"errorCode": "X", "message": ' + "9" * 4300 + "}]",
    "a message too long for a number": '[{"errorCode": "X", "message": ' + "9" * 60_000 + "}]",
    "a message of depth": '[{"errorCode": "X", "message": ' + "[" * 900 + "]" * 900 + "}]",
    "null": "null",
    "number": "404",
    "NUL": "a\x00b",
    "lone surrogate": '[{"errorCode": "X", "message": "\\ud800"}]',
    "replacement characters": "\ufffd" * 100,
}


@pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES.keys())
@pytest.mark.parametrize(("status", "outcome"), STATUSES)
def test_a_body_of_any_other_shape_leaves_it_to_the_status(
    status: int, outcome: tuple[Any, ...], body: str
) -> None:
    assert told(classify(Response(status, body))) == outcome


def test_a_request_that_was_cut_after_it_was_sent_is_unanswered() -> None:
    assert classify(NoResponse(sent=True, error="TimeoutError")) == Unanswered(None, "TimeoutError")


def test_no_connection_pauses_the_sender_and_sends_nothing() -> None:
    outcome = classify(NoResponse(sent=False, error="ClientConnectorError"))
    assert outcome == PauseSender(PauseReason.UNAVAILABLE, None, None, "ClientConnectorError")
    assert not outcome.sent


NO_TOKENS: list[tuple[TokenFailure, PauseSender]] = [
    (
        TokenFailure(refused=True, error="no"),
        PauseSender(PauseReason.UNAUTHORIZED, None, None, "no"),
    ),
    (
        TokenFailure(refused=False, error="away"),
        PauseSender(PauseReason.UNAVAILABLE, None, None, "away"),
    ),
    (TokenFailure(False, "busy", 7.0), PauseSender(PauseReason.UNAVAILABLE, None, 7.0, "busy")),
    (TokenFailure(True, "no", None, 401), PauseSender(PauseReason.UNAUTHORIZED, 401, None, "no")),
    (TokenFailure(True, "no", None, 302), PauseSender(PauseReason.UNAUTHORIZED, 302, None, "no")),
    (TokenFailure(False, "busy", 7.0, 401), PauseSender(PauseReason.UNAVAILABLE, 401, 7.0, "busy")),
]


@pytest.mark.parametrize(("no_token", "pausing"), NO_TOKENS)
def test_without_a_token_the_sender_pauses_and_says_why(
    no_token: TokenFailure, pausing: PauseSender
) -> None:
    assert classify(no_token) == pausing


@pytest.mark.parametrize("status", [None, 302, 401])
@pytest.mark.parametrize("refused", [False, True])
def test_without_a_token_an_attempt_counts_only_if_the_endpoint_answered(
    status: int | None, *, refused: bool
) -> None:
    outcome = classify(TokenFailure(refused, "no", None, status))
    assert isinstance(outcome, PauseSender)
    assert outcome.sent is (status is not None)


def test_a_pause_that_the_endpoint_asked_for_counts_as_an_attempt() -> None:
    outcome = classify(Response(503))
    assert isinstance(outcome, PauseSender)
    assert outcome.sent


@pytest.mark.parametrize("status", [423, 429, 503])
def test_retry_after_is_kept_where_the_contract_names_it(status: int) -> None:
    outcome = classify(Response(status, "", 7.0))
    assert isinstance(outcome, Locked | PauseSender)
    assert outcome.retry_after == 7.0


def test_retry_after_is_kept_for_a_lock_that_the_platform_disguised() -> None:
    assert classify(Response(500, impossible(423), 7.0)) == Locked(7.0, impossible(423))


def test_retry_after_is_kept_for_a_lock_and_a_pause_that_the_body_tells() -> None:
    assert classify(Response(200, LOCK, 7.0)) == Locked(7.0, LOCK)
    assert classify(Response(500, impossible(429), 7.0)) == PauseSender(
        PauseReason.UNAVAILABLE, 429, 7.0, impossible(429)
    )


@pytest.mark.parametrize("status", [302, 401, 403, 405, 406, 415])
def test_retry_after_counts_for_nothing_elsewhere(status: int) -> None:
    outcome = classify(Response(status, "", 7.0))
    assert isinstance(outcome, PauseSender)
    assert outcome.retry_after is None


def error_of(outcome: Outcome) -> str | None:
    return None if isinstance(outcome, Delivered) else outcome.error


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("", None),
        (" \n ", None),
        ("Conflict in the data", "Conflict in the data"),
        ("  two\r\n lines\tand\x00 more ", "two lines and more"),
        (platform("DUPLICATE_VALUE", "it is there"), "DUPLICATE_VALUE: it is there"),
        (platform("DUPLICATE_VALUE"), "DUPLICATE_VALUE"),
        (
            json.dumps([{"errorCode": "A", "message": "a"}, 1, {"errorCode": "B"}]),
            "A: a; B",
        ),
        ('{"error": "x"}', '{"error": "x"}'),
        ("x" * 5000, "x" * 200),
        (platform("A", "x\n" * 5000), ("A: " + "x " * 200)[:200].strip()),
        ("\u2028line separator", "line separator"),
        ("Größe 5 µm", "Größe 5 µm"),
    ],
)
def test_the_error_is_short_and_on_one_line(body: str, error: str | None) -> None:
    assert error_of(classify(Response(409, body))) == error


def test_an_array_with_keys_of_the_endpoints_own_is_still_shown_to_people() -> None:
    outcome = classify(Response(422, '[{"error": "CallerID is too long"}]'))
    assert "CallerID is too long" in (error_of(outcome) or "")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (platform("JSON_PARSER_ERROR", "No such column"), "JSON_PARSER_ERROR"),
        ('[{"errorCode": "49301234567"}, {"errorCode": "APEX_ERROR"}]', "APEX_ERROR"),
        ('{"code": "RECORD_GONE", "message": "Müller"}', "RECORD_GONE"),
        (' {"code": "AB"}', "AB"),
        (json.dumps({"code": "A" * 64}), "A" * 64),
        (json.dumps({"code": "A" * 65}), None),
        ('{"code": "A"}', None),
        ('{"code": "_A"}', None),
        ('{"code": "Mueller"}', None),
        ('{"code": "MÜLLER"}', None),
        ('{"code": "CODE_1"}', None),
        ('{"code": "GONE\\n"}', None),
        ('{"code": 404}', None),
        ('{"code": ["GONE"]}', None),
        ('{"errorCode": "GONE"}', None),
        ('{"code": "GONE"', None),
        ('"GONE"', None),
        ("GONE", None),
    ],
)
def test_the_code_of_an_answer_is_a_word_of_capitals_or_nothing(
    body: str, code: str | None
) -> None:
    assert error_code(body) == code


@pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES.keys())
def test_a_body_of_any_other_shape_has_no_code(body: str) -> None:
    assert error_code(body) in {None, "NOT_FOUND"}


@given(status=st.integers(100, 999), body=st.text(), retry_after=st.none() | st.floats(0, 1e9))
def test_any_answer_has_an_outcome(status: int, body: str, retry_after: float | None) -> None:
    check(classify(Response(status, body, retry_after)))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
ERRORS = st.lists(
    st.fixed_dictionaries({}, optional={"errorCode": JSON, "message": JSON}) | JSON, max_size=4
)


@given(status=st.integers(100, 999), errors=ERRORS)
def test_any_json_array_has_an_outcome(status: int, errors: list[Any]) -> None:
    check(classify(Response(status, json.dumps(errors))))


@given(status=st.integers(100, 999), meant=st.integers(0, 99999), before=st.text(max_size=20))
def test_any_status_in_the_body_has_an_outcome(status: int, meant: int, before: str) -> None:
    check(classify(Response(status, before + impossible(meant))))


def check(outcome: Outcome) -> None:
    error = error_of(outcome)
    if error is not None:
        assert 0 < len(error) <= 200
        assert error.isprintable()
        error.encode()
