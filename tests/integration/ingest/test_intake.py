"""Calls become lines in the ledger: new ones only, each with its record or the reason for none."""

import random
import tracemalloc
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from daemon import logs
from daemon.demo.calls import day
from daemon.demo.record_ids import ids
from daemon.demo.rows import load
from daemon.errors import UnreachableError
from daemon.ingest.feed import RowRef
from daemon.ingest.intake import Intake
from daemon.ingest.readiness import Window
from daemon.ingest.statistics import RecordOptions
from daemon.lines import NO_ID, NOT_AN_ID, Covered, FeedName, LineKey, NewLine, State, missing_keys
from tests.support.expected import BERLIN, data_lines
from tests.support.rows import RECORD, START, at, call, code, leg, retype, sample, visit
from tests.support.site import EITHER_WAY, LONG_AGO, Site
from tests.support.taking import take


@EITHER_WAY
async def test_a_call_is_taken_as_its_lines_and_records(site: Site, intake: Intake) -> None:
    rows = sample(
        call(1), visit(21, 1), leg(31, 1, 21), leg(32, 1, 21), code(41, 1, 21, 32), call(2)
    )
    await load_over(site, rows)
    new = await take(intake, 2, 1, 2)
    assert new == {LineKey(1, 21, 31, 0), LineKey(1, 21, 32, 41), LineKey(2, 0, 0, 0)}
    lines = await site.lines()
    assert await site.keys() == ["1-21-31-0", "1-21-32-41", "2-0-0-0"]
    assert [line["record"] for line in lines] == [line.body for line in data_lines(rows)]
    assert [line["ordinal"] for line in lines] == [1, 2, 1]
    assert {line["state"] for line in lines} == {"pending"}
    assert {line["call_ended"] for line in lines} == {at(120)}
    assert {line["salesforce_id"] for line in lines} == {rows.calls[0].userdata}
    assert not any(line["backfill"] or line["settled_at"] or line["last_error"] for line in lines)
    assert all(line["taken_at"] for line in lines)


async def load_over(site: Site, rows: Any) -> None:
    """Load a day with its own master rows."""
    await site.db.execute("TRUNCATE ServiceNumbers, Users, AcdGroups, TransactionCodes")
    await load(site.db, rows)


@EITHER_WAY
async def test_a_day_is_in_the_ledger_as_the_contract_has_it(site: Site, intake: Intake) -> None:
    rows = day(300, 11, START)
    await load_over(site, rows)
    expected = data_lines(rows)
    assert len(await take(intake, *(row.id for row in rows.calls))) == len(expected)
    assert await site.keys() == [line.key for line in expected]
    for line, wanted in zip(await site.lines(), expected, strict=True):
        found = wanted.record["SalesForceID"]
        assert line["record"] == wanted.body
        assert line["salesforce_id"] == found
        assert line["lane"] == (found[:15] if found else wanted.key)
        assert line["state"] == ("pending" if found else "skipped")


@EITHER_WAY
async def test_what_the_ledger_has_is_left_alone_even_if_the_rows_changed(
    site: Site, intake: Intake
) -> None:
    await site.add(call(1), leg(31, 1, None), call(2))
    assert len(await take(intake, 1, 2)) == 2
    before = await site.lines()
    await site.db.execute("UPDATE StatisticsPartB SET CONNRES = 7")
    await site.db.execute("UPDATE StatisticsPartA SET UserData = NULL, dtCallEnd = $1", at(500))
    with capture_logs() as events:
        assert await take(intake, 1, 2) == set()
    assert await site.lines() == before
    assert events == []


async def test_only_the_lines_of_the_codes_asked_for_are_taken(site: Site, intake: Intake) -> None:
    await site.add(call(1), leg(31, 1, None), *(code(n, 1, None, 31) for n in (41, 42, 43)))
    codes = [RowRef(1, code_id, START) for code_id in (41, 42)]
    assert await intake.take(codes[1:], whole=False) == {LineKey(1, 0, 31, 42)}
    assert await intake.take(codes, whole=False) == {LineKey(1, 0, 31, 41)}
    assert await intake.take([], whole=False) == set()
    assert [line["ordinal"] for line in await site.lines()] == [1, 2]


async def test_both_forms_of_an_id_share_a_lane(site: Site, intake: Intake) -> None:
    short, long = ids(5)
    await site.add(call(1, userdata=short), call(2, userdata=f" {long} "))
    await take(intake, 1, 2)
    lines = await site.lines()
    assert [line["lane"] for line in lines] == [short, short]
    assert [line["salesforce_id"] for line in lines] == [short, long]


async def test_a_line_without_an_id_is_skipped_with_the_reason(site: Site, intake: Intake) -> None:
    await site.add(call(1, userdata="4711"))
    with capture_logs() as events:
        await take(intake, 1)
    (line,) = await site.lines()
    assert (line["state"], line["last_error"]) == ("skipped", NO_ID)
    assert (line["lane"], line["salesforce_id"]) == ("1-0-0-0", None)
    assert line["settled_at"] is not None
    assert '"SalesForceID":null' in line["record"]
    assert events == [
        {
            "event": logs.LINE_SKIPPED,
            "log_level": "debug",
            "key": "1-0-0-0",
            "call_id": 1,
            "salesforce_id": None,
            "status": None,
            "attempt": 0,
            "seconds": None,
            "error": NO_ID,
        }
    ]


async def test_a_code_that_carries_an_id_is_sent_beside_skipped_lines(
    site: Site, intake: Intake
) -> None:
    await site.add(call(1, userdata=None), code(41, 1, None, None, userdata=ids(3)[1]))
    await take(intake, 1)
    assert [line["state"] for line in await site.lines()] == ["skipped", "pending"]


async def test_lines_without_an_id_are_sent_where_that_is_wanted(site: Site) -> None:
    await site.add(call(1, userdata=None))
    form = RecordOptions(BERLIN, empty_as_string=True, send_without_id=True)
    async with site.taking(form) as (_, _, intake):
        with capture_logs() as events:
            await take(intake, 1)
    (line,) = await site.lines()
    assert (line["state"], line["lane"], line["last_error"]) == ("pending", "1-0-0-0", None)
    assert line["record"].startswith('{"SalesForceID":"","jtelStatisticsPartAID":1,"AgentUID":"",')
    assert events == []


async def test_a_row_that_cannot_become_a_record_is_invalid_and_the_others_go_on(
    site: Site, intake: Intake
) -> None:
    await site.add(call(1), leg(31, 1, None), leg(32, 1, None), call(2))
    await retype(site.db, "StatisticsPartB", "text", "CONNRES")
    await site.db.execute("UPDATE StatisticsPartB SET CONNRES = '+49 30 1' WHERE ID = 31")
    with capture_logs() as events:
        await take(intake, 1, 2)
    reason = "StatisticsPartB.CONNRES holds text where a whole number belongs"
    assert await site.keys() == ["1-0-31-0", "1-0-32-0", "2-0-0-0"]
    invalid, *others = await site.lines()
    assert (invalid["state"], invalid["last_error"], invalid["record"]) == ("invalid", reason, None)
    assert invalid["settled_at"] is not None
    assert [line["state"] for line in others] == ["pending", "pending"]
    assert events == [
        {
            "event": logs.LINE_INVALID,
            "log_level": "warning",
            "key": "1-0-31-0",
            "call_id": 1,
            "salesforce_id": None,
            "status": None,
            "attempt": 0,
            "seconds": None,
            "error": reason,
        }
    ]


async def test_ids_that_are_no_numbers_end_as_invalid_lines_of_their_own(
    site: Site, intake: Intake
) -> None:
    await site.add(call(1), leg(31, 1, None), leg(32, 1, None), leg(33, 1, None))
    await retype(site.db, "StatisticsPartB", "text", "ID")
    await site.db.execute("UPDATE StatisticsPartB SET ID = 'abc' WHERE ID = '32'")
    await site.db.execute("UPDATE StatisticsPartB SET ID = 'abd' WHERE ID = '33'")
    assert len(await take(intake, 1)) == 3
    assert await take(intake, 1) == set()
    found = {(line["state"], line["last_error"]) for line in await site.lines()}
    assert found == {("pending", None), ("invalid", f"StatisticsPartB.ID {NOT_AN_ID}")}


async def test_an_id_beyond_bigint_ends_as_an_invalid_line_of_its_own(
    site: Site, intake: Intake
) -> None:
    await site.add(call(1), leg(31, 1, None), leg(32, 1, None))
    await retype(site.db, "StatisticsPartB", "numeric(20)", "ID")
    await site.db.execute("UPDATE StatisticsPartB SET ID = 18446744073709551615 WHERE ID = 32")
    await take(intake, 1)
    assert sorted(line["state"] for line in await site.lines()) == ["invalid", "pending"]


async def test_an_id_too_low_to_be_told_from_what_is_none_is_named_as_such(
    site: Site, intake: Intake
) -> None:
    lowest = -(2**62)
    await site.add(call(lowest), call(lowest - 1))
    assert await take(intake, lowest, lowest - 1)
    assert sorted((line["state"], line["last_error"] or "") for line in await site.lines()) == [
        ("invalid", "StatisticsPartA.ID is not a whole number from -2^62 to 2^63-1"),
        ("pending", ""),
    ]


@pytest.mark.parametrize("type_name", ["text", "numeric(20)"])
async def test_a_call_whose_id_is_no_whole_number_ends_as_one_invalid_line(
    site: Site, type_name: str
) -> None:
    await site.add(call(1), call(2), leg(31, 2, None), leg(32, 2, None))
    await retype(site.db, "StatisticsPartA", type_name, "ID")
    await site.db.execute("UPDATE StatisticsPartA SET ID = '18446744073709551615' WHERE ID = '2'")
    async with site.taking() as (feed, _, intake):
        (page,) = [page async for page in feed.ready_in(Window(START, at(200)))]
        with capture_logs() as events:
            assert len(await intake.take(page.found)) == 2
        assert await intake.take(page.found) == set()
    assert sorted((line["state"], line["last_error"] or "") for line in await site.lines()) == [
        ("invalid", f"StatisticsPartA.ID {NOT_AN_ID}"),
        ("pending", ""),
    ]
    assert [event["event"] for event in events] == [logs.LINE_INVALID]


async def test_the_watermark_moves_with_the_lines_and_forward_only(
    site: Site, intake: Intake
) -> None:
    async with site.poller(start_from=LONG_AGO):
        pass
    await site.add(call(1))
    await take(intake, 1, covered=Covered(at(0), None))
    assert await site.watermark() == at(0)
    await take(intake, covered=Covered(at(-10), None))
    assert await site.watermark() == at(0)
    await take(intake, covered=Covered(at(10), None))
    assert await site.watermark() == at(10)
    await take(intake, 1)
    assert await site.watermark() == at(10)


@EITHER_WAY
async def test_lines_and_watermark_are_stored_together_or_not_at_all(
    site: Site, intake: Intake
) -> None:
    async with site.poller(start_from=LONG_AGO):
        pass
    before = await site.watermark()
    await site.add(*(call(n) for n in range(1, 6)))
    await site.refuse("NEW.call_id = 4")
    with (
        capture_logs() as events,
        pytest.raises(UnreachableError, match="P0001"),
    ):
        await take(intake, *range(1, 6), covered=Covered(at(500), None))
    assert await site.keys() == []
    assert await site.watermark() == before
    assert [event for event in events if event["event"].startswith("line.")] == []
    await site.accept()
    assert len(await take(intake, *range(1, 6), covered=Covered(at(500), None))) == 5
    assert await site.watermark() == at(500)


async def test_what_counts_as_known_is_the_same_to_the_ledger_and_to_sweeps(site: Site) -> None:
    chance = random.Random(7)

    def some(call_id: int, count: int) -> set[LineKey]:
        ids = [[chance.randrange(4) for _ in range(3)] for _ in range(count)]
        return {LineKey(call_id, group, leg, code) for group, leg, code in ids}

    async with site.taking() as (_, ledger, _):
        for call_id in range(1, 41):
            known, keys = some(call_id, 6), some(call_id, 20)
            await site.ledger_db.executemany(
                "INSERT INTO callstatsd.line (call_id, group_id, leg_id, code_id, ordinal, lane,"
                " call_ended, backfill, state)"
                " VALUES ($1, $2, $3, $4, 1, '', $5, false, 'skipped')",
                [(*key.ids, START) for key in known],
            )
            entries = [NewLine(key, 1, "", None, START, State.SKIPPED, None) for key in keys]
            assert await ledger.take(FeedName.STATISTICS, entries) == missing_keys(keys, known)


async def test_a_line_knows_whether_a_backfill_took_it(site: Site, intake: Intake) -> None:
    await site.add(call(1), call(2))
    await take(intake, 1, backfill=True)
    await take(intake, 1, 2)
    assert [line["backfill"] for line in await site.lines()] == [True, False]


async def test_a_call_that_never_ended_is_ordered_by_its_start(site: Site, intake: Intake) -> None:
    started = datetime(2026, 11, 20, 8, tzinfo=UTC)
    await site.add(call(1), call(2, dtcallstart=started, dtcallend=None))
    await take(intake, 1, 2)
    assert await site.keys() == ["2-0-0-0", "1-0-0-0"]
    assert (await site.lines())[0]["call_ended"] == started


async def test_thousands_of_calls_are_taken_at_once(site: Site, intake: Intake) -> None:
    many = [call(n, dtcallend=at(120) + timedelta(milliseconds=n)) for n in range(1, 3001)]
    await site.add(*many)
    assert len(await take(intake, *(row.id for row in many))) == 3000
    assert await site.keys() == [f"{n}-0-0-0" for n in range(1, 3001)]


async def test_a_call_of_any_size_is_taken_with_little_memory(site: Site, intake: Intake) -> None:
    """Ten thousand attempts and codes, and a megabyte of UserData at the call and at codes."""
    await site.add(call(1))
    await site.db.execute("UPDATE StatisticsPartA SET UserData = repeat('long ', 200000)")
    await site.db.execute(
        "INSERT INTO StatisticsPartB (ID, StatisticsPartAID) SELECT n, 1"
        " FROM generate_series(1, 10000) AS n"
    )
    await site.db.execute(
        "INSERT INTO AcdStatisticsTransactionCodes (ID, StatisticsPartAID, StatisticsPartBID,"
        " TransactionCodesID, dtCreated, UserData) SELECT n, 1, n, 1, now(),"
        " repeat(' ', 1000) || $1 FROM generate_series(1, 300) AS n",
        RECORD,
    )
    tracemalloc.start()
    try:
        new = await take(intake, 1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(new) == 10_000
    assert peak < 40_000_000
    states = Counter(line["state"] for line in await site.lines())
    assert states == {"pending": 300, "skipped": 9700}


async def test_a_large_call_that_was_taken_in_part_is_taken_to_its_end(
    site: Site, intake: Intake
) -> None:
    """What is there is neither repeated nor passed by the watermark."""
    async with site.poller(start_from=LONG_AGO):
        pass
    before = await site.watermark()
    await site.add(call(1), *(leg(n, 1, None) for n in range(1, 5001)))
    await site.refuse("NEW.leg_id = 4500")
    with pytest.raises(UnreachableError, match="P0001"):
        await take(intake, 1, covered=Covered(at(500), None))
    assert len(await site.lines()) == 4000
    assert await site.watermark() == before
    await site.accept()
    assert len(await take(intake, 1, covered=Covered(at(500), None))) == 1000
    assert [line["ordinal"] for line in await site.lines()] == list(range(1, 5001))
    assert await site.watermark() == at(500)


async def test_calls_that_are_gone_take_nothing(site: Site, intake: Intake) -> None:
    with capture_logs() as events:
        assert await take(intake, 7, 8) == set()
        assert await take(intake) == set()
    assert events == []
