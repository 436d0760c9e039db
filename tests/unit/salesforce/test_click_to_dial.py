"""The question to Salesforce and what its answers mean, by the contract's tables."""

import json
from typing import Any

import pytest

from daemon.salesforce.click_to_dial import (
    Allowed,
    Question,
    Reason,
    Refused,
    Undecided,
    agent_fault,
    classify,
    clean_number,
    number_fault,
)
from daemon.salesforce.responses import CutResponse, NoResponse, Response, TokenFailure

RECORD = "0035g00000LnZXkAAN"


def platform(code: str, message: str = "so it is") -> str:
    return json.dumps([{"errorCode": code, "message": message}])


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("+49 (0)221 2601-599", "+492212601599"),
        ("0221/2601 599", "02212601599"),
        ("0049 (0)221 26", "004922126"),
        ("(0)221 26", "022126"),
        ("(0)0221 26", "0022126"),
        ("(+49) (0)221", "+49221"),
        ("sip:+49221@acd.example.com", "+49221"),
        ("SIP:221;user=phone", "221"),
        ("tel:+49-221-26;ext=7", "+4922126"),
        ("*21#", "*21#"),
        ("221+5", "2215"),
        ("++49", "+49"),
        ("  +49 221", "+49221"),
        ("anonymous", ""),
        ("@221", ""),
        ("٢٢١", ""),
    ],
)
def test_a_number_is_cleaned(text: str, number: str) -> None:
    assert clean_number(text) == number


@pytest.mark.parametrize(
    ("number", "right"),
    [("1", True), ("+" + "1" * 31, True), ("1" * 33, False), ("", False), ("*#", False)],
)
def test_a_number_needs_a_digit_and_is_bounded(number: str, right: bool) -> None:
    assert (number_fault(number) is None) is right


@pytest.mark.parametrize(
    ("agent", "right"),
    [("agent.y", True), ("ü" * 255, True), ("a" * 256, False), ("", False), (" ", False)]
    + [(f"a{character}b", False) for character in "\x00\n\x1f\x7f\x85"],
)
def test_an_agents_uid_is_bounded(agent: str, right: bool) -> None:
    assert (agent_fault(agent) is None) is right


def test_the_three_parameters_are_sent_in_order_and_percent_encoded() -> None:
    question = Question(RECORD, "+49221", "Jörg & Söhne/1")
    assert question.query == (
        f"SalesForceID={RECORD}&CallerID=%2B49221&AgentUID=J%C3%B6rg%20%26%20S%C3%B6hne%2F1"
    )


@pytest.mark.parametrize(
    ("content", "allowed"),
    [
        (
            {"ServiceNumber": "4980012300", "ServiceNumberName": "Service Hotline"},
            Allowed("4980012300", "Service Hotline"),
        ),
        ({"ServiceNumber": 4980012300}, Allowed("4980012300", None)),
        ({"ServiceNumber": 4980012300.0}, Allowed("4980012300", None)),
        ({"ServiceNumber": None, "ServiceNumberName": " Hotline "}, Allowed(None, "Hotline")),
        (
            {"ServiceNumber": "", "ServiceNumberName": "Hotline", "more": 1},
            Allowed(None, "Hotline"),
        ),
        ({"ServiceNumber": ["1"], "ServiceNumberName": "Hotline"}, Allowed(None, "Hotline")),
    ],
)
def test_200_with_a_service_number_or_its_name_allows(
    content: dict[str, Any], allowed: Allowed
) -> None:
    assert classify(Response(200, json.dumps(content))) == allowed


def test_a_number_with_an_exponent_is_written_out_and_a_huge_one_is_not() -> None:
    assert classify(Response(200, '{"ServiceNumber": 4.9800123E9}')) == Allowed("4980012300", None)
    assert classify(Response(200, '{"ServiceNumber": 1e999999}')) == Allowed("1e999999", None)


def test_half_a_surrogate_can_be_written_in_the_answer() -> None:
    decision = classify(Response(200, '{"ServiceNumberName": "Hot\\ud800line"}'))
    assert decision == Allowed(None, "Hot?line")


@pytest.mark.parametrize("status", [400, 403, 404])
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("no such record", "no such record"),
        ("", None),
        ("<html>", "<html>"),
        ('"not today"', "not today"),
        ('{"code": "NO", "message": "Do not call."}', "Do not call."),
        ("[]", "[]"),
        ('[{"message": "no errorCode"}]', '[{"message": "no errorCode"}]'),
        ("x" * 300, "x" * 200),
        ("two\nlines\x00", "two lines"),
    ],
)
def test_the_endpoints_own_400_403_and_404_refuse(
    status: int, body: str, message: str | None
) -> None:
    assert classify(Response(status, body)) == Refused(status, message)


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (401, platform("INVALID_SESSION_ID"), Reason.UNAUTHORIZED),
        (408, "", Reason.UNANSWERED),
        (421, "", Reason.UNANSWERED),
        (425, "", Reason.UNANSWERED),
        (429, "", Reason.UNAVAILABLE),
        (500, platform("APEX_ERROR"), Reason.BAD_ANSWER),
        (502, "", Reason.UNANSWERED),
        (503, "", Reason.UNAVAILABLE),
        (504, "", Reason.UNANSWERED),
        (599, "", Reason.BAD_ANSWER),
        (403, platform("REQUEST_LIMIT_EXCEEDED"), Reason.API_LIMIT),
        (200, "", Reason.BAD_ANSWER),
        (200, "<html>", Reason.BAD_ANSWER),
        (200, "[" * 100_000, Reason.BAD_ANSWER),
        (200, '{"ServiceNumber": " ", "ServiceNumberName": true}', Reason.BAD_ANSWER),
        (200, '[{"ServiceNumber": "1"}]', Reason.BAD_ANSWER),
        (204, "", Reason.BAD_ANSWER),
    ],
)
def test_no_word_about_the_call_leaves_room_for_the_fallback(
    status: int, body: str, reason: Reason
) -> None:
    decision = classify(Response(status, body))
    assert isinstance(decision, Undecided)
    assert (decision.reason, decision.status) == (reason, status)
    assert not decision.may_be_refusal


@pytest.mark.parametrize(
    ("status", "body", "reason", "meant"),
    [
        (400, platform("JSON_PARSER_ERROR"), Reason.CONFIGURATION, 400),
        (403, platform("FORBIDDEN"), Reason.CONFIGURATION, 403),
        (
            404,
            platform("NOT_FOUND", "Could not find a match for URL"),
            Reason.ENDPOINT_MISSING,
            404,
        ),
        (302, "", Reason.CONFIGURATION, 302),
        (405, platform("METHOD_NOT_ALLOWED"), Reason.CONFIGURATION, 405),
        (406, "", Reason.CONFIGURATION, 406),
        (415, "", Reason.CONFIGURATION, 415),
        (409, "", Reason.BAD_ANSWER, 409),
        (
            500,
            platform("APEX_ERROR", "Invalid status code for HTTP response: 423"),
            Reason.BAD_ANSWER,
            423,
        ),
    ],
)
def test_what_may_be_a_refusal_never_becomes_a_permission(
    status: int, body: str, reason: Reason, meant: int
) -> None:
    decision = classify(Response(status, body))
    assert isinstance(decision, Undecided)
    assert (decision.reason, decision.status) == (reason, meant)
    assert decision.may_be_refusal


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        *((CutResponse(status, "cut"), Reason.UNANSWERED) for status in (302, 400, 403, 404, 409)),
        (TokenFailure(refused=True, error="no token", status=302), Reason.CONFIGURATION),
        (TokenFailure(refused=False, error="no token", status=307), Reason.CONFIGURATION),
    ],
)
def test_a_status_alone_may_be_a_refusal(
    answer: CutResponse | TokenFailure, reason: Reason
) -> None:
    decision = classify(answer)
    assert isinstance(decision, Undecided)
    assert (decision.reason, decision.status) == (reason, answer.status)
    assert decision.may_be_refusal


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        ('[{"errorCode": 7}]', False),
        ('[{"errorCode": ""}]', False),
        ('[{"errorCode": "A"}, {"x": 1}]', False),
        ('[{"x": 1}, {"errorCode": "A"}]', True),
        ('["errorCode"]', True),
        ("[]", True),
        ('{"errorCode": "A"}', True),
    ],
)
def test_the_platforms_array_begins_with_an_error_code(body: str, *, refused: bool) -> None:
    assert isinstance(classify(Response(400, body)), Refused) is refused


def test_a_number_that_nothing_can_hold_hurts_nobody() -> None:
    body = '{"ServiceNumber": "49", "x": 1e99999999999999999999}'
    assert classify(Response(200, body)) == Allowed("49", None)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (NoResponse(sent=False, error="no connection"), Reason.UNAVAILABLE),
        (NoResponse(sent=True, error="timed out"), Reason.UNANSWERED),
        (TokenFailure(refused=True, error="no token"), Reason.UNAUTHORIZED),
        (TokenFailure(refused=False, error="no token"), Reason.UNAVAILABLE),
        (TokenFailure(refused=True, error="no token", status=401), Reason.UNAUTHORIZED),
        (TokenFailure(refused=False, error="no token", status=401), Reason.UNAUTHORIZED),
        (CutResponse(200, "cut"), Reason.UNANSWERED),
        (CutResponse(503, "cut"), Reason.UNANSWERED),
        (CutResponse(401, "cut"), Reason.UNANSWERED),
    ],
)
def test_without_an_answer_nothing_is_decided(
    answer: CutResponse | NoResponse | TokenFailure, reason: Reason
) -> None:
    decision = classify(answer)
    assert isinstance(decision, Undecided)
    assert decision.reason is reason
    assert not decision.may_be_refusal
