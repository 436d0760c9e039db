"""The demo's day has every kind of call that the contract names, and is repeatable."""

import re
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from daemon.demo import calls
from daemon.demo.calls import GONE, day
from daemon.demo.record_ids import expected_outcome, ids, is_id, long_form
from daemon.demo.rows import Sample

END = datetime(2026, 11, 20, 17, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def sample() -> Sample:
    return day(4000, 1, END)


def test_the_same_seed_gives_the_same_day() -> None:
    assert day(300, 7, END) == day(300, 7, END)
    assert day(300, 7, END) != day(300, 8, END)


@pytest.mark.parametrize("count", [1, 2, 5, 30])
def test_a_day_has_as_many_calls_as_asked_for(count: int) -> None:
    numbers = [call.id for call in day(count, 1, END).calls]
    assert numbers == list(range(1201, 1201 + count))


@pytest.mark.parametrize("seed", [1, 2])
def test_the_first_call_is_the_one_of_the_seed(seed: int) -> None:
    first = day(50, seed, END)
    legs = [leg for leg in first.legs if leg.statisticspartaid == 1201]
    visits = [visit for visit in first.visits if visit.statisticspartaid == 1201]
    codes = [code for code in first.codes if code.statisticspartaid == 1201]
    keys = dict(first.transaction_codes)
    uids = dict(first.users)
    groups = dict(first.groups)
    assert [(visit.id, groups[visit.acdgroupsid or 0]) for visit in visits] == [
        (2201, "ACD Group 1"),
        (2202, "ACD Group 2"),
    ]
    assert [(leg.acdstatisticspartbid, uids[leg.usersid or 0]) for leg in legs] == [
        (2201, "agent.w"),
        (2201, "agent.x"),
        (2202, "agent.y"),
        (2202, "agent.z"),
    ]
    assert [leg.id for leg in legs] == [3201, 3202, 3203, 3204]
    assert [(c.id, c.statisticspartbid, keys[c.transactioncodesid]) for c in codes] == [
        (4201, 3203, "AAA"),
        (4202, 3204, "BBB"),
        (4203, 3204, "CCC"),
    ]
    record = first.calls[0].userdata
    assert is_id(record)
    assert expected_outcome(record or "") == "exists"


def test_calls_end_before_the_end_of_the_day_and_so_do_their_codes(sample: Sample) -> None:
    ends = {call.id: call.dtcallend for call in sample.calls}
    ended = [end for end in ends.values() if end]
    assert END - timedelta(hours=11) < min(ended)
    assert max(ended) <= END - timedelta(minutes=2)
    assert any(end.microsecond % 1_000_000 for end in ended)
    for code in sample.codes:
        end = ends[code.statisticspartaid]
        assert end is None or code.dtcreated <= end + timedelta(seconds=100)
    never = [call for call in sample.calls if call.dtcallend is None]
    assert 0 < len(never) < 100
    assert all(call.dtcallstart < END - timedelta(hours=13) for call in never)


def test_times_of_a_leg_follow_each_other_and_fit_its_result(sample: Sample) -> None:
    for leg in sample.legs:
        times = [leg.dtcallstart, leg.dtcallalert, leg.dtcallconnect, leg.dtcallend]
        known = [at for at in times if at]
        assert known == sorted(known)
        assert all(at.microsecond % 1000 == 0 for at in known)
        assert (leg.dtcallconnect is not None) == (leg.connres == 1)


@pytest.mark.parametrize("sized", [60, 4000])
def test_every_kind_of_call_occurs(sized: int) -> None:
    sample = day(sized, 3, END)
    visited = {visit.statisticspartaid for visit in sample.visits}
    tried = {leg.statisticspartaid for leg in sample.legs}
    every = {call.id for call in sample.calls}
    assert visited - tried, "hung up in the queue"
    assert every - visited - tried, "hung up in the IVR"
    assert {leg.connres for leg in sample.legs} >= {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}
    assert {call.boutbound for call in sample.calls} == {True, False}
    dialled = [leg for leg in sample.legs if leg.acdstatisticspartbid is None]
    assert any(leg.usersid is None for leg in dialled)
    assert max(Counter(v.statisticspartaid for v in sample.visits).values()) >= 2
    in_group = Counter(leg.acdstatisticspartbid for leg in sample.legs if leg.dtcallconnect)
    assert max(n for visit, n in in_group.items() if visit is not None) >= 2
    assert any(call.anumber in calls.WITHHELD for call in sample.calls)
    assert len({visit.acdgroupsid for visit in sample.visits}) > 4
    assert len({call.servicenumbersid for call in sample.calls}) > 4


def test_codes_come_during_and_after_the_call_with_and_without_a_leg(sample: Sample) -> None:
    legs = {leg.id: leg for leg in sample.legs}
    ends = {call.id: call.dtcallend for call in sample.calls}
    after = [c for c in sample.codes if c.dtcreated > (ends[c.statisticspartaid] or END)]
    assert 0.2 < len(after) / len(sample.codes) < 0.9
    alone = [code for code in sample.codes if code.statisticspartbid is None]
    assert {code.acdstatisticspartbid is None for code in alone} == {True, False}
    for code in sample.codes:
        leg = legs.get(code.statisticspartbid or 0)
        assert leg is None or leg.acdstatisticspartbid == code.acdstatisticspartbid


def test_some_rows_are_broken(sample: Sample) -> None:
    assert any(leg.acdstatisticspartbid == GONE for leg in sample.legs)
    assert any(code.statisticspartbid == GONE for code in sample.codes)
    assert any(call.servicenumbersid == GONE for call in sample.calls)
    assert any(visit.acdgroupsid == GONE for visit in sample.visits)
    assert any(leg.usersid == GONE for leg in sample.legs)
    assert any(code.transactioncodesid == GONE for code in sample.codes)
    assert any(leg.dtcallstart is None for leg in sample.legs)
    assert any(leg.dtcallconnect and leg.dtcallend is None for leg in sample.legs)


def test_records_occur_in_both_forms_and_about_two_in_a_hundred_are_bad(sample: Sample) -> None:
    data = [call.userdata.strip() for call in sample.calls if call.userdata]
    records = [text for text in data if is_id(text)]
    assert {len(text) for text in records} == {15, 18}
    assert any(long_form(text) in records for text in records if len(text) == 15)
    assert max(Counter(text[:15] for text in records).values()) > 5
    share = {kind: n / len(records) for kind, n in Counter(map(expected_outcome, records)).items()}
    assert 0.01 < share["missing"] < 0.04
    assert 0.01 < share["conflict"] < 0.04
    assert 0.7 < len(records) / len(sample.calls) < 0.9
    assert any(is_id(code.userdata) for code in sample.codes)


def test_numbers_come_in_the_shapes_of_the_trunks(sample: Sample) -> None:
    shapes = [
        r"\+49 \(0\) 30 23125\d{3}",
        r"sip:\+49\d+@[0-9.]+;user=phone",
        r"0049\d+",
        r"\+49\d+",
        r"49\d+",
        r"tel:\+49-\d\d-\d+",
    ]
    numbers = [call.anumber or "" for call in sample.calls if not call.boutbound]
    for shape in shapes:
        assert any(re.fullmatch(shape, number) for number in numbers), shape


@pytest.mark.parametrize(
    ("record", "suffix"),
    [
        ("50130000000014C", "AAQ"),
        ("50130000000014c", "AAA"),
        ("0D5D0000000XZoH", "KAW"),
        ("0059E000002Ghno", "QAC"),
    ],
)
def test_the_long_form_tells_upper_from_lower_case(record: str, suffix: str) -> None:
    assert long_form(record) == record + suffix


def test_ids_are_valid_different_and_have_their_fate() -> None:
    made = [ids(number) for number in range(20_000)]
    assert len({short for short, _ in made}) == len(made)
    assert all(
        is_id(short) and is_id(long) and expected_outcome(long) == "exists" for short, long in made
    )
    assert [expected_outcome(form) for form in ids(5, "404")] == ["missing", "missing"]
    assert [expected_outcome(form) for form in ids(5, "409")] == ["conflict", "conflict"]
