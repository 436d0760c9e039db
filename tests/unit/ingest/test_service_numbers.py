"""Which of the ACD's service numbers Salesforce means, by the contract's rule."""

import pytest

from daemon.ingest.service_numbers import ServiceNumber, find

ROWS = [
    ServiceNumber(1, "4980012300", "Service Hotline"),
    ServiceNumber(2, "+49 (0)221 26", " Sales "),
    ServiceNumber(3, "4980012300", "Sales"),
    ServiceNumber(4, None, None),
    ServiceNumber(5, "anonymous", ""),
]


@pytest.mark.parametrize(
    ("number", "name", "found"),
    [
        ("4980012300", None, 1),
        ("+49 800 12300", "Sales", 1),
        ("0049 221 26", None, 2),
        (None, "Sales", 2),
        ("49999", " Service Hotline ", 1),
        ("anonymous", None, None),
        ("49999", None, None),
        (None, "sales", None),
        (None, " ", None),
        ("", "", None),
    ],
)
def test_the_number_comes_before_the_name_and_the_lowest_id_first(
    number: str | None, name: str | None, found: int | None
) -> None:
    row = find(ROWS, number, name)
    assert (row.id if row else None) == found
