"""Whole calls give the rows and records that the contract describes."""

import pytest

from tests.support.telegra_scripts import Script, numbered, written_script
from tests.unit.telegra.inbound_calls import INBOUND
from tests.unit.telegra.more_calls import CONSULTED, ODD, OUTBOUND

CALLS = [*INBOUND, *CONSULTED, *OUTBOUND, *ODD]


@pytest.mark.parametrize("script", CALLS, ids=lambda script: script.name)
def test_call(script: Script) -> None:
    rows, records = written_script(script)
    assert rows == [line for _, line in numbered(script.rows)]
    assert records == [line for _, line in numbered(script.records)]
