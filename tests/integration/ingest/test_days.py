"""Whole days are taken line by line, also when the clocks change."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from daemon import logs
from daemon.demo.calls import day
from daemon.demo.rows import load
from daemon.lines import NO_ID
from tests.support.expected import BERLIN, data_lines
from tests.support.rows import (
    NIGHTS,
    code,
    ended,
    leg,
    local_times,
    on_local_clocks,
    retype,
    running,
)
from tests.support.site import EITHER_WAY, LONG_AGO, Site

# What is taken.


@EITHER_WAY
async def test_a_day_is_taken_as_the_contract_has_it(site: Site) -> None:
    rows = day(400, 21, site.now)
    await site.db.execute("TRUNCATE ServiceNumbers, Users, AcdGroups, TransactionCodes")
    await load(site.db, rows)
    async with site.poller(start_from=site.ago(days=2), page=50) as poller:
        taken = await poller.poll()
    expected = data_lines(rows)
    assert await site.keys() == [line.key for line in expected]
    assert [line["record"] for line in await site.lines()] == [line.body for line in expected]
    assert (taken.lines, len(taken.call_ids)) == (len(expected), 400)


async def test_a_day_taken_as_it_happens_has_the_same_lines(site: Site) -> None:
    """Rows appear at their time; what differs is only who recorded codes after the taking."""
    rows = day(150, 22, site.now)
    await site.db.execute("TRUNCATE ServiceNumbers, Users, AcdGroups, TransactionCodes")
    await load(site.db, rows)
    for table in ("StatisticsPartA", "AcdStatisticsTransactionCodes"):
        await site.db.execute(f"ALTER TABLE {table} RENAME TO all_{table}")
    await site.db.execute(
        """
        CREATE VIEW StatisticsPartA AS
        SELECT ID, ClientsID, ServiceNumbersID, bOutbound, ANumber, BNumber, dtCallStart,
               CASE WHEN dtCallEnd <= jtelstats.now() THEN dtCallEnd END AS dtCallEnd,
               CauseCodesID, UserData
        FROM all_StatisticsPartA WHERE dtCallStart <= jtelstats.now();
        CREATE VIEW AcdStatisticsTransactionCodes AS
        SELECT * FROM all_AcdStatisticsTransactionCodes WHERE dtCreated <= jtelstats.now()
        """
    )
    end = site.now
    await site.pass_time(hours=-24)
    async with site.poller(start_from=site.now) as poller:
        while site.now < end + timedelta(minutes=10):
            await poller.poll()
            await site.pass_time(minutes=5)
    found = {
        key: line["record"] for key, line in zip(await site.keys(), await site.lines(), strict=True)
    }
    expected = {line.key: line.body for line in data_lines(rows)}
    assert {key: found.get(key) for key in expected} == expected
    # An attempt whose first code came late was sent without a code before.
    assert all(key.endswith("-0") for key in found.keys() - expected.keys())


async def test_skipped_and_invalid_lines_are_taken_with_their_reasons(site: Site) -> None:
    await site.add(
        ended(1, site.ago(minutes=9), userdata=None),
        ended(2, site.ago(minutes=8)),
        leg(31, 2, None),
        ended(3, site.ago(minutes=7)),
    )
    await retype(site.db, "StatisticsPartB", "text", "CONNRES")
    await site.db.execute("UPDATE StatisticsPartB SET CONNRES = 'busy'")
    async with site.poller(start_from=LONG_AGO) as poller:
        with capture_logs() as events:
            taken = await poller.poll()
    assert taken.lines == 3
    assert [(line["state"], line["last_error"]) for line in await site.lines()] == [
        ("skipped", NO_ID),
        ("invalid", "StatisticsPartB.CONNRES holds text where a whole number belongs"),
        ("pending", None),
    ]
    assert [(event["event"], event["log_level"]) for event in events] == [
        (logs.LINE_SKIPPED, "debug"),
        (logs.LINE_INVALID, "warning"),
        (logs.POLL_TAKEN, "info"),
    ]


async def test_one_impossible_id_does_not_stop_the_polling_of_others(site: Site) -> None:
    await retype(site.db, "StatisticsPartA", "numeric(20)", "ID")
    await site.add(ended(1, site.ago(minutes=9)), ended(2, site.ago(minutes=8)))
    await site.db.execute("UPDATE StatisticsPartA SET ID = 18446744073709551615 WHERE ID = 1")
    async with site.poller(start_from=LONG_AGO) as poller:
        await poller.poll()
    assert sorted(line["state"] for line in await site.lines()) == ["invalid", "pending"]


# The nights when the clocks change.


@pytest.mark.parametrize(
    ("night", "kind"),
    [
        ("the clock is put back", "timestamp"),
        ("the clock is put forward", "timestamptz"),
        pytest.param("the clock is put back", "timestamptz", marks=pytest.mark.long),
        pytest.param("the clock is put forward", "timestamp", marks=pytest.mark.long),
    ],
)
async def test_when_the_clocks_change_no_call_or_code_is_lost(
    site: Site, night: str, kind: str
) -> None:
    """Calls every 97 s, each with a code 200 s later; every tenth never ends."""
    begin = NIGHTS[night]
    if kind == "timestamp":
        await local_times(site.db)
    await site.set_clock(begin)
    arriving: list[tuple[datetime, Any]] = []
    expected = set()
    for number in range(1, 221):
        moment = begin + number * timedelta(seconds=97)
        later = moment + timedelta(seconds=200)
        row = running(number, moment) if number % 10 == 0 else ended(number, moment)
        arriving += [(moment, row), (later, code(number, number, None, None, dtcreated=later))]
        expected |= {f"{number}-0-0-0", f"{number}-0-0-{number}"}
    async with site.poller(start_from=begin, stale_call_after=3600, page=2) as poller:
        while site.now < begin + timedelta(hours=9):
            due = [row for moment, row in arriving if moment <= site.now]
            arriving = [pair for pair in arriving if pair[0] > site.now]
            if kind == "timestamp":
                due = [on_local_clocks(row, BERLIN) for row in due]
            await site.add(*due)
            await poller.poll()
            await site.pass_time(minutes=5)
    assert set(await site.keys()) == expected
