"""Which record of Salesforce a line belongs to."""

from itertools import product
from string import ascii_letters, digits

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.ingest.record import case_suffix, lane, salesforce_id
from tests.support.attempts import CODE_AAA, CODE_RECORD_ID, RECORD_ID, field


@pytest.mark.parametrize(
    ("code_user_data", "call_user_data", "expected"),
    [
        (CODE_RECORD_ID, RECORD_ID, CODE_RECORD_ID),
        (f"\t{CODE_RECORD_ID}\n", RECORD_ID, CODE_RECORD_ID),
        ("ticket 4711", RECORD_ID, RECORD_ID),
        ("", RECORD_ID, RECORD_ID),
        (None, RECORD_ID[:15], RECORD_ID[:15]),
        (CODE_RECORD_ID, None, CODE_RECORD_ID),
        (None, None, None),
        ("", "", None),
        ("ticket 4711", "ticket 4712", None),
    ],
)
def test_the_codes_record_id_goes_before_the_calls(
    code_user_data: str | None, call_user_data: str | None, expected: str | None
) -> None:
    changes = {"code_user_data": code_user_data, "call_user_data": call_user_data}
    assert field("SalesForceID", **changes) == expected


@pytest.mark.parametrize(
    ("short", "suffix"),
    [
        ("50130000000014C", "AAQ"),
        ("50130000000014c", "AAA"),
        ("0D5D0000000XZoH", "KAW"),
        ("0059E000002Ghno", "QAC"),
        ("ABCDEFGHIJKLMNO", "555"),
        ("abcdefghijklmno", "AAA"),
    ],
)
def test_salesforces_own_ids_are_known_with_their_suffix_and_without(
    short: str, suffix: str
) -> None:
    assert case_suffix(short) == suffix
    assert salesforce_id(short) == short
    assert salesforce_id(f"  {short}{suffix}\r\n") == short + suffix


@pytest.mark.parametrize(
    "user_data",
    [
        None,
        "",
        "   ",
        "50130000000014",
        "50130000000014C0",
        "50130000000014CAA",
        "50130000000014CAAA",
        "50130000000014Caaq",
        "50130000000014CAAQX",
        "5013000000001-C",
        "50130000 000014C",
        "5013000000001äC",
        "501300000000\u0661\u0662C",
        "50130000000014CA\u0391Q",
        "https://example.my.salesforce.com/50130000000014C",
    ],
)
def test_user_data_that_is_no_id_is_none(user_data: str | None) -> None:
    assert salesforce_id(user_data) is None


@given(st.text(ascii_letters + digits, min_size=15, max_size=15), st.data())
def test_an_18_character_id_needs_its_own_suffix_and_no_other(
    short: str, data: st.DataObject
) -> None:
    suffix = case_suffix(short)
    other = data.draw(st.text(ascii_letters + digits, min_size=3, max_size=3).filter(suffix.__ne__))
    assert salesforce_id(short) == short
    assert salesforce_id(short + suffix) == short + suffix
    assert salesforce_id(short + other) is None


def test_the_suffix_says_which_of_five_characters_are_upper_case_lowest_bit_first() -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
    for cases in product((0, 1), repeat=5):
        group = "".join("xX"[upper] for upper in cases)
        place = sum(upper << bit for bit, upper in enumerate(cases))
        assert case_suffix(f"{group}00000{group}") == f"{alphabet[place]}A{alphabet[place]}"


@pytest.mark.parametrize(
    ("record_id", "expected"),
    [
        (RECORD_ID, "0D5D0000000XZoH"),
        (RECORD_ID[:15], "0D5D0000000XZoH"),
        ("50130000000014cAAA", "50130000000014c"),
        (None, "1201-2202-3203-4201"),
    ],
)
def test_both_forms_of_an_id_share_a_lane_and_a_line_without_id_has_its_own(
    record_id: str | None, expected: str
) -> None:
    assert lane(CODE_AAA.key, record_id) == expected
