"""What an answer of the ACD's REST server means (the contract's table of answers)."""

import json
from typing import Any

import pytest

from daemon.acd import answers
from daemon.acd.answers import AcdEvent, read_records

EVENT: dict[str, Any] = {
    "ID": 102039,
    "AcdEventTypesID": 6,
    "AcdEventStatusID": 1,
    "AcdGroupsID": 235,
    "UsersID": None,
    "Sender": "info@example.com",
    "dtCreated": "2020-09-15T02:59:32.794",
    "bCloseByForeignSystem": False,
}


def body(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def test_200_with_records_gives_them_as_they_came() -> None:
    assert read_records(200, body(records=[EVENT], count=1, status=200)) == [EVENT]
    assert read_records(200, body(records=[])) == []


@pytest.mark.parametrize("status", [400, 402, 403, 409, 418, 500])
def test_a_refusal_is_in_the_words_of_the_acd_and_exits_with_1(status: int) -> None:
    with pytest.raises(answers.AcdRefusedError) as caught:
        read_records(status, body(status=status, error="The group\n is closed"))
    assert str(caught.value) == f"the ACD refused ({status}): The group is closed"
    assert (caught.value.exit_code, caught.value.status) == (1, status)


def test_words_are_bounded_and_may_be_missing_or_of_another_type() -> None:
    for said in ({}, {"error": None}, {"error": {"x": 1}}, {"error": "  "}):
        with pytest.raises(answers.AcdRefusedError, match="no reason given"):
            read_records(400, body(**said))
    with pytest.raises(answers.AcdRefusedError) as caught:
        read_records(400, body(error="x" * 10_000))
    assert len(str(caught.value)) < 400


def test_401_is_a_wrong_token_or_client() -> None:
    with pytest.raises(answers.AcdSetupError, match="CALLSTATSD_ACD_TOKEN") as caught:
        read_records(401, b"")
    assert caught.value.exit_code == 78


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (body(status=404, error="AcdEvent 7 not found"), "AcdEvent 7 not found"),
        (b"[]", "no reason given"),
        (b'"none"', "no reason given"),
    ],
)
def test_404_in_json_is_no_such_thing(said: bytes, words: str) -> None:
    with pytest.raises(answers.AcdRefusedError, match=words) as caught:
        read_records(404, said)
    assert caught.value.exit_code == 1


def test_half_a_character_or_a_byte_order_mark_hurts_nobody() -> None:
    said = b'\xef\xbb\xbf{"records": [{"ID": 1, "Subject": "R\\u00fcckruf \\ud83d"}]}'
    assert read_records(200, said) == [{"ID": 1, "Subject": "Rückruf ?"}]


@pytest.mark.parametrize("said", [b"", b"<html>Not Found</html>", b"{", b"[" * 100_000])
def test_404_without_json_is_a_function_that_is_missing(said: bytes) -> None:
    with pytest.raises(answers.AcdFunctionError, match="CALLSTATSD_ACD_URL") as caught:
        read_records(404, said)
    assert caught.value.exit_code == 78


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (200, b""),
        (200, b"<html>Welcome</html>"),
        (200, b"[]"),
        (200, b"{}"),
        (200, b'{"records": {}}'),
        (200, b'{"records": [1]}'),
        (200, b'{"records": [\xff]}'),
        (200, b"[" * 100_000),
        (204, b""),
        (301, b""),
        (302, b'{"records": []}'),
        (307, b""),
    ],
)
def test_what_is_no_answer_of_such_a_server_exits_with_78(status: int, said: bytes) -> None:
    with pytest.raises(answers.AcdSetupError, match="no jtel REST server answers") as caught:
        read_records(status, said)
    assert caught.value.exit_code == 78


@pytest.mark.parametrize("status", [408, 421, 425, 429, 501, 502, 503, 504, 599])
def test_what_may_pass_exits_with_69(status: int) -> None:
    with pytest.raises(answers.AcdUnavailableError) as caught:
        read_records(status, b"<html>")
    assert (caught.value.exit_code, caught.value.status, caught.value.sent) == (69, status, True)


@pytest.mark.parametrize(
    ("inner", "kind"),
    [
        (401, answers.AcdSetupError),
        (403, answers.AcdRefusedError),
        (404, answers.AcdRefusedError),
        (503, answers.AcdUnavailableError),
    ],
)
def test_a_status_in_the_body_counts_instead_of_200(
    inner: int, kind: type[answers.AcdError]
) -> None:
    with pytest.raises(kind) as caught:
        read_records(200, body(records=[EVENT], status=inner, error="no"))
    assert caught.value.status == inner
    assert type(caught.value) is kind


def test_a_status_in_the_body_that_is_no_number_counts_for_nothing() -> None:
    assert read_records(200, body(records=[], status="500")) == []
    assert read_records(200, body(records=[], status=True)) == []
    with pytest.raises(answers.AcdRefusedError):
        read_records(400, body(records=[], status=200))


def test_an_event_is_typed_and_keeps_what_it_was() -> None:
    event = AcdEvent.of(EVENT)
    assert (event.id, event.type_id, event.status_id, event.group_id) == (102039, 6, 1, 235)
    assert (event.sender, event.created) == ("info@example.com", "2020-09-15T02:59:32.794")
    assert (event.user_id, event.receiver, event.priority) == (None, None, None)
    assert event.record is EVENT
    assert not event.updated


def test_a_key_that_is_missing_or_of_another_type_hurts_nobody() -> None:
    event = AcdEvent.of({"ID": "7", "AcdEventTypesID": True, "Sender": 4930, "dtCreated": None})
    assert (event.id, event.type_id, event.sender, event.created) == (None, None, None, None)
    assert AcdEvent.of({"ID": 2**63 - 1}).id == 2**63 - 1
    assert AcdEvent.of({"ID": 2**63}).id is None  # no bigint


def test_an_event_that_got_a_comment_says_so() -> None:
    assert AcdEvent.of(EVENT | {"Result_": "UPDATED"}).updated
    assert not AcdEvent.of(EVENT | {"Result_": None}).updated
