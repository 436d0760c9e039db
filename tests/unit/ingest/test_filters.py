"""What the filters keep out (contract, section 7)."""

from collections.abc import Sequence
from typing import Any

import pytest

from daemon.errors import InvalidLineError
from daemon.ingest.filters import DIRECTION, GROUPS, SERVICE_NUMBERS, Filters, without_match
from tests.support.attempts import ATTEMPT_W

CALLED = ATTEMPT_W._replace(
    service_number="4989100", service_name="Hotline", agent_group="Sales", configuration_group="EU"
)


def kept_out(
    numbers: Sequence[str] = (),
    groups: Sequence[str] = (),
    outbound: bool | None = None,
    **columns: Any,
) -> str | None:
    return Filters(numbers, groups, outbound=outbound).keeping_out(CALLED._replace(**columns))


@pytest.mark.parametrize(
    ("names", "passes"),
    [
        (["4989100"], True),
        (["Hotline"], True),
        (["4930*", "4989*"], True),
        (["*100"], True),
        (["Hot**e"], True),
        (["*"], True),
        (["4989"], False),
        (["989100"], False),
        (["hotline"], False),
        (["49?9100"], False),
        (["4[8-9]89100"], False),
        (["Hot.*"], False),
        (["4930*"], False),
    ],
)
def test_a_call_passes_by_the_number_or_the_name_of_its_service(
    names: list[str], passes: bool
) -> None:
    assert kept_out(numbers=names) == (None if passes else SERVICE_NUMBERS)


@pytest.mark.parametrize(
    ("names", "passes"),
    [(["Sales"], True), (["EU"], True), (["E*", "Other"], True), (["Support"], False)],
)
def test_a_line_passes_by_either_of_its_groups(names: list[str], passes: bool) -> None:
    assert kept_out(groups=names) == (None if passes else GROUPS)


def test_a_line_without_a_group_passes_and_a_call_without_a_service_number_does_not() -> None:
    assert kept_out(groups=["Support"], agent_group=None, configuration_group=" ") is None
    assert kept_out(groups=["Support"], agent_group=None, configuration_group="EU") == GROUPS
    nowhere: dict[str, Any] = {"service_number": None, "service_name": None}
    assert kept_out(numbers=["4989*"], **nowhere) == SERVICE_NUMBERS
    assert kept_out(numbers=["4989*", "*"], **nowhere) is None


def test_blanks_around_a_name_of_the_tables_do_not_count() -> None:
    assert kept_out(groups=["Sales"], agent_group=" Sales ") is None
    assert kept_out(numbers=["Hotline"], service_name="Hotline  ") is None


@pytest.mark.parametrize(
    ("outbound", "column", "passes"),
    [(None, None, True), (True, True, True), (True, 0, False), (False, 0, True), (False, 1, False)],
)
def test_a_call_passes_in_its_direction(
    outbound: bool | None, column: object, passes: bool
) -> None:
    line = CALLED._replace(outbound=column)
    found = Filters([], [], outbound=outbound).keeping_out(line)
    assert found == (None if passes else DIRECTION)


def test_the_direction_of_a_call_without_one_is_a_fault_of_the_row() -> None:
    with pytest.raises(InvalidLineError, match="bOutbound is empty"):
        Filters([], [], outbound=True).keeping_out(CALLED._replace(outbound=None))
    assert kept_out(numbers=["4930*"], outbound=True) == SERVICE_NUMBERS


def test_names_that_match_nothing_are_found() -> None:
    names = ["Sales", "Sup*", "North *", "*"]
    assert without_match(names, ["Sales ", None, "Support"]) == ["North *"]
    assert without_match(names, []) == ["Sales", "Sup*", "North *"]
