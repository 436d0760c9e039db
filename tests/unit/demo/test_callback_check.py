"""Every way in which a callback record can differ from the contract is found and named."""

from typing import Any

import pytest

from daemon.demo.callback_check import FIELDS, record_faults
from tests.support.standin_client import CALLBACK, CALLBACK_KEY

# fmt: off
KEYS = [
    "Caller", "CallbackNumber", "ServiceNumbersNumber", "ServiceNumbersName",
    "AcdGroupsID", "AcdGroupsName", "AcdGroupsForeignSystemID", "dtCallStart", "dtCallEnd",
    "ID", "AcdEventsID", "Subject", "Body",
    "CreatingUsersID", "CreatingUsersUID", "CreatingUsersNickName",
    "TargetUsersID", "TargetUsersUID", "TargetUsersNickName",
    "SalesforceId", "SalesforceQueryResult",
]
# fmt: on
"""The keys of the vendor's page, in its order."""
NUMBERS = ("AcdGroupsID", "CreatingUsersID", "TargetUsersID")
REQUIRED = ("ID", "AcdEventsID", "SalesforceQueryResult")
STRINGS = [name for name in KEYS if name not in (*NUMBERS, *REQUIRED)]
EMPTY: dict[str, Any] = CALLBACK | dict.fromkeys((*NUMBERS, *STRINGS))


def faults(record: dict[str, Any], empty: str | None = None) -> list[str]:
    return record_faults(record, CALLBACK_KEY, empty)


def test_the_fields_are_those_of_the_vendors_page_in_its_order() -> None:
    assert len(KEYS) == 21
    assert list(FIELDS) == list(CALLBACK) == KEYS


def test_a_full_record_and_an_empty_one_are_right() -> None:
    assert faults(CALLBACK) == []
    assert faults(EMPTY) == []
    assert faults(EMPTY | dict.fromkeys(STRINGS, ""), "") == []


@pytest.mark.parametrize("name", KEYS)
def test_every_key_is_needed_in_its_place_and_spelling(name: str) -> None:
    missing = {key: value for key, value in CALLBACK.items() if key != name}
    assert faults(missing) == [f"the keys are {', '.join(missing)}"]
    assert len(faults(missing | {name.swapcase(): CALLBACK[name]})) == 1
    moved = {name: CALLBACK[name]} | CALLBACK
    assert bool(faults(moved)) == (name != KEYS[0])


def test_a_further_key_is_refused() -> None:
    assert len(faults(CALLBACK | {"ClientsID": 1})) == 1


@pytest.mark.parametrize(
    "value", ["+49301", "0049301", "49 301", "٤٩", "4930@x", 4930, True, ["1"]]
)
@pytest.mark.parametrize("name", ["Caller", "CallbackNumber", "ServiceNumbersNumber"])
def test_a_number_is_digits_without_leading_00(name: str, value: Any) -> None:
    expected = f"{name} is not digits without leading 00: {value!r}"
    assert faults(CALLBACK | {name: value}) == [expected]


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-20 08:01:20",
        "2026-11-20T08:01:20Z",
        "2026-11-20T08:01:20.5",
        "2026-02-30T08:01:20",
        7,
    ],
)
@pytest.mark.parametrize("name", ["dtCallStart", "dtCallEnd"])
def test_a_time_is_local_and_whole(name: str, value: Any) -> None:
    assert faults(CALLBACK | {name: value}) == [f"{name} is not a time: {value!r}"]


@pytest.mark.parametrize("value", [7, True, 1.5, ["x"], {}])
@pytest.mark.parametrize(
    "name",
    [
        *("ServiceNumbersName", "AcdGroupsName", "AcdGroupsForeignSystemID", "Subject", "Body"),
        *("CreatingUsersUID", "CreatingUsersNickName", "TargetUsersUID", "TargetUsersNickName"),
    ],
)
def test_a_text_is_a_string(name: str, value: Any) -> None:
    assert faults(CALLBACK | {name: value}) == [f"{name} is not text: {value!r}"]


@pytest.mark.parametrize("value", ["2", 2.0, True, ""])
@pytest.mark.parametrize("name", NUMBERS)
def test_an_id_of_the_acd_is_an_integer(name: str, value: Any) -> None:
    assert faults(CALLBACK | {name: value}) == [f"{name} is not an integer: {value!r}"]


@pytest.mark.parametrize("value", [None, "73001", 73001.0])
@pytest.mark.parametrize("name", ["ID", "AcdEventsID"])
def test_the_id_of_the_event_is_an_integer_and_never_empty(name: str, value: Any) -> None:
    assert f"{name} is not an integer: {value!r}" in faults(CALLBACK | {name: value})


def test_both_ids_are_of_the_one_event_that_the_key_names() -> None:
    assert faults(CALLBACK | {"ID": 73002}) == ["ID and AcdEventsID differ: 73002 and 73001"]
    both = {"ID": 73002, "AcdEventsID": 73002}
    assert faults(CALLBACK | both) == ["the key is not the one of event 73002"]


@pytest.mark.parametrize("value", ["0059E000002GhnoQAA", "0059E000002Ghn", "", " ", "4711", 7])
def test_a_salesforce_id_is_one_or_empty(value: Any) -> None:
    assert faults(CALLBACK | {"SalesforceId": value}) == [
        f"SalesforceId is not a record id: {value!r}"
    ]


@pytest.mark.parametrize("value", [None, 3, -1, "1", True, 1.0])
def test_the_query_result_is_0_1_or_2(value: Any) -> None:
    assert faults(CALLBACK | {"SalesforceQueryResult": value}) == [
        f"SalesforceQueryResult is not 0, 1 or 2: {value!r}"
    ]


@pytest.mark.parametrize("name", STRINGS)
def test_empty_is_what_the_setting_says_and_not_the_other(name: str) -> None:
    assert faults(EMPTY | {name: ""})[0].endswith(": ''")
    blanks = EMPTY | dict.fromkeys(STRINGS, "")
    assert faults(blanks | {name: None}, "")[0].endswith(": None")


@pytest.mark.parametrize("name", NUMBERS)
def test_an_empty_integer_is_always_null(name: str) -> None:
    blanks = EMPTY | dict.fromkeys(STRINGS, "")
    assert faults(blanks | {name: ""}, "") == [f"{name} is not an integer: ''"]


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("AcdGroupsName", "AcdGroupsID"),
        ("AcdGroupsForeignSystemID", "AcdGroupsID"),
        ("CreatingUsersUID", "CreatingUsersID"),
        ("CreatingUsersNickName", "CreatingUsersID"),
        ("TargetUsersUID", "TargetUsersID"),
        ("TargetUsersNickName", "TargetUsersID"),
        ("dtCallEnd", "dtCallStart"),
    ],
)
@pytest.mark.parametrize("empty", [None, ""])
def test_nothing_comes_without_what_it_belongs_to(name: str, owner: str, empty: str | None) -> None:
    void = EMPTY | dict.fromkeys(STRINGS, empty)
    assert faults(void | {name: CALLBACK[name]}, empty) == [f"{name} comes without {owner}"]
    assert faults(void | {owner: CALLBACK[owner]}, empty) == []
