"""The forms in which people see a line."""

import pytest

from daemon.lines import BIGINT_MAX, NON_NUMERIC_ID, LineKey


@pytest.mark.parametrize(
    "key",
    [
        LineKey(1201, 2201, 3201, 0),
        LineKey.of_callback(73001),
        LineKey(-7, 0, -2, BIGINT_MAX),
        LineKey.of_callback(-7),
        # The key of a row whose id is not a whole number: lists go on after it, too.
        LineKey(NON_NUMERIC_ID - 1, 0, 0, 0),
    ],
    ids=str,
)
def test_a_key_is_read_as_it_is_written(key: LineKey) -> None:
    read = LineKey.parse(str(key))
    assert read == key
    assert read is not None
    assert read.feed is key.feed


@pytest.mark.parametrize(
    "text", ["1201", "1-2-3", "1-2-3-4-5", "1---2-3-4", "callback-1-2", f"0-0-0-{2**63}",
             f"{-(2**63) - 1}-0-0-0", " 1-2-3-4"],
)  # fmt: skip
def test_what_is_no_key_is_not_read(text: str) -> None:
    assert LineKey.parse(text) is None
