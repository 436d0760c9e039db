"""How often something may be done."""

import pytest

from daemon.web.pace import Pace


@pytest.mark.parametrize(
    ("moments", "waits"),
    [
        ([0.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.1, 0.2]),
        ([0.0, 0.1, 0.2, 0.3, 0.4, 0.5], [0.0] * 6),
        ([0.0, 0.0, 0.0, 0.0, 0.25, 9.0, 9.0, 9.0, 9.0], [0, 0, 0, 0.1, 0, 0, 0, 0, 0.1]),
    ],
    ids=["at once", "in time", "after a rest"],
)
def test_ten_a_second_and_three_at_once(moments: list[float], waits: list[float]) -> None:
    pace = Pace(10, 3)
    assert [pace.reserve(now) for now in moments] == pytest.approx(waits)
