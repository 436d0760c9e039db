"""The chart of the last 24 hours."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from daemon.lines import State
from daemon.web import chart, wording

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 20, 12, 34, 56, tzinfo=UTC)


def test_the_chart_has_24_hours_of_local_clocks_also_when_these_change() -> None:
    back = datetime(2026, 10, 25, 11, 30, tzinfo=UTC)
    first = chart.first_hour(back, BERLIN)
    assert back - first == timedelta(hours=23, minutes=30)
    view = wording.PageContext(back, BERLIN, timedelta(0), active=True, source_away=False)
    hours = [wording.clock(first + hour * chart.HOUR, view) for hour in range(24)]
    assert hours.count("02:00") == 2
    assert hours[-1] == "12:00"
    kolkata = ZoneInfo("Asia/Kolkata")
    assert chart.first_hour(NOW, kolkata).minute == 30


def test_one_failure_among_thousands_is_seen_and_no_bar_is_too_high() -> None:
    first = chart.first_hour(NOW, BERLIN)
    settled = {
        (first, State.DELIVERED): 7999,
        (first, State.REJECTED): 1,
        (first + chart.HOUR, State.SKIPPED): 3,
    }
    drawn = chart.chart(settled, first)
    bar = drawn.bars[0]
    assert drawn.top == 8000
    assert [part.kind for part in bar.parts] == ["delivered", "kept"]
    assert bar.parts[1].height >= chart.LEAST
    assert bar.parts[1].y >= 0
    assert bar.parts[0].y + bar.parts[0].height == pytest.approx(chart.HEIGHT, abs=0.2)
    assert drawn.of("kept") == 1
    assert drawn.total(State.SKIPPED) == 3
    assert len(drawn.bars) == 24


@pytest.mark.parametrize(("most", "top"), [(0, 2), (1, 2), (3, 4), (9, 10), (11, 20), (61, 80)])
def test_the_top_of_the_chart_is_a_round_number(most: int, top: int) -> None:
    first = chart.first_hour(NOW, BERLIN)
    assert chart.chart({(first, State.DELIVERED): most}, first).top == top
