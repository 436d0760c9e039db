"""Lists of lines and of commands, over real HTTP and a real ledger."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from html import unescape
from itertools import product

import asyncpg
import pytest

from daemon.ledger.acts import Act, ActKind
from daemon.ledger.operator import OperatorStore
from daemon.lines import State
from daemon.web.lists import PAGE
from tests.integration.web.test_callbacks import URL, callback
from tests.support.calls import record_id
from tests.support.load import stretched
from tests.support.look import Look, Shown, holder, looking
from tests.support.proxy import Mode, proxied

__all__ = ["holder"]

NOON = datetime(2026, 11, 20, 11, tzinfo=UTC)
FILL = """
INSERT INTO line (call_id, group_id, leg_id, code_id, ordinal, lane, call_ended, backfill, state,
                  attempts, last_status, last_error, pending_since, settled_at, record)
SELECT n, 7, 0, 0, 1, n::text, $3::timestamptz + n % 1000 * interval '1 s', false, $1::text, 1,
       400, 'no place for +49 30 23125 017', $3,
       CASE WHEN $1 <> 'pending' THEN $3 - n % 1000 * interval '1 s' END,
       '{"CallerID":"493023125017"}'
FROM unnest($2::bigint[]) AS n
"""
SETTLE = """
UPDATE line SET state = 'delivered', settled_at = now()
WHERE state = 'pending' AND (call_id <= $1 OR call_id % 3 = 0)
"""


@pytest.fixture
async def look(dsn: str, db: asyncpg.Connection, holder: None) -> AsyncIterator[Look]:
    async with looking(dsn, db) as look:
        await look.beat()
        yield look


async def fill(look: Look, state: State, *calls: int, when: datetime = NOON) -> None:
    """Lines of calls, of which the later ones were settled earlier."""
    await look.db.execute(FILL, state, calls, when)


def keys(shown: Shown) -> list[str]:
    """The lines of a page; each links to its call's search."""
    found = re.findall(r'<th scope="row"><a href="\./\?q=([^"]+)">([^<]+)</a>', shown.html)
    assert all(address == key for address, key in found)
    return [key for _, key in found]


def onward(shown: Shown) -> str | None:
    """The address of the next page."""
    link = re.search(r'<a href="([^"]+)" rel="next">', shown.html)
    return link and f"/{unescape(link[1])}"


async def test_a_list_shows_what_is_known_of_its_lines_and_the_commands(look: Look) -> None:
    await fill(look, State.REJECTED, 5)
    await fill(look, State.INVALID, -(2**62) - 7)
    await look.line(6, State.PENDING, pending_since=NOON, next_try_at=NOON, last_error="late")
    shown = await look.get("/lines?state=rejected&feed=statistics&day=2026-11-20")
    assert shown.status == 200
    assert "5-7-0-0 2026-11-20 11:59:55 once 400: no place for …17" in shown.text
    assert "23125" not in shown.html
    window = "--settled-from 2026-11-20T00:00:00 --settled-to 2026-11-21T00:00:00"
    chosen = f"callstatsd lines --state rejected --feed statistics {window}"
    assert chosen in shown.text
    again = f"callstatsd requeue --state rejected {window} --feed statistics"
    assert f"Fix what the reason names, then send it again: {again}" in shown.text
    assert "The day is the one on which the line was settled" in shown.text
    assert "a filter" not in shown.text
    await look.line(8, State.SKIPPED, skip_reason="filtered")
    skipped = await look.get("/lines?state=skipped")
    kept_out = "send it again: callstatsd requeue --state skipped Lines that a filter has kept out"
    assert f"{kept_out} are not among them" in skipped.text

    pending = await look.get("/lines?state=pending")
    assert "6-0-0-0 2026-11-20 12:00:00 next try 2026-11-20 12:00:00" in pending.text
    assert f'<a class="id whole" href="./?q={record_id(6)}">' in pending.html
    assert "never late" in pending.text
    assert "The day is the one on which the call ended" in pending.text
    assert "requeue" not in pending.text
    # What has no number in the source can be looked up too.
    (key,) = keys(await look.get("/lines?state=invalid"))
    assert "invalid at" in (await look.get(f"/?q={key}")).text
    empty = await look.get("/lines?state=expired")
    assert (empty.status, "There is no such line." in empty.text) == (200, True)


async def test_a_day_is_one_of_the_acds_local_time(look: Look) -> None:
    midnight = datetime(2026, 11, 19, 23, tzinfo=UTC)
    await fill(look, State.REJECTED, 0, 1, when=midnight)
    await fill(look, State.PENDING, 2, when=midnight)
    await fill(look, State.PENDING, 3, when=midnight - timedelta(seconds=4))
    for state, day, found in (
        ("rejected", "2026-11-20", ["0-7-0-0"]),
        ("rejected", "2026-11-19", ["1-7-0-0"]),
        ("rejected", "2026-11-21", []),
        ("pending", "2026-11-20", ["2-7-0-0"]),
        ("pending", "2026-11-19", ["3-7-0-0"]),
    ):
        assert keys(await look.get(f"/lines?state={state}&day={day}")) == found


async def test_pages_hold_each_line_once_while_lines_are_settled(look: Look) -> None:
    calls = range(1, 2 * PAGE + 8)
    for state, day in product((State.REJECTED, State.PENDING), ("", "&day=2026-11-20")):
        await look.db.execute("TRUNCATE line")
        await fill(look, state, *calls)
        found: list[str] = []
        address: str | None = f"/lines?state={state}{day}"
        while address is not None:
            shown = await look.get(address)
            assert ("First page" in shown.text) == bool(found)
            found += keys(shown)
            address = onward(shown)
            # Also the last line of the first page, after which the next one goes on.
            await look.db.execute(SETTLE, PAGE)
        kept = (call for call in calls if call <= PAGE or call % 3 or state is State.REJECTED)
        assert found == [f"{call}-7-0-0" for call in kept]


async def test_a_wrong_address_and_a_line_that_left_the_list_get_a_sentence(look: Look) -> None:
    await fill(look, State.DELIVERED, 1)
    for address, says in {
        "lines": "Choose the state whose lines are to be listed.",
        "lines?state=%3Cscript%3E": "state=<script> does not exist: use pending,",
        "lines?state=%FF%00": "does not exist",
        "lines?state=pending&state=pending": "state is given twice",
        "lines?state=pending&feed=calls": "feed=calls does not exist",
        "lines?state=pending&day=20-11-2026": "day=20-11-2026 is not a day",
        "lines?state=pending&day=0001-01-01": "is not a day",
        "lines?state=pending&day=9999-12-31": "is not a day",
        "lines?state=pending&after=1": "after=1 is not the key of a line",
        f"lines?state=pending&after={2**63}-0-0-0": "is not the key of a line",
        "lines?state=pending&offset=50": "offset is not a parameter of this list",
        "lines?state=rejected&after=1-7-0-0": "1-7-0-0 is not rejected any more",
        "lines?state=rejected&after=2-7-0-0": "2-7-0-0 is not rejected any more",
        "acts?after=x": "after=x is not the number of a command.",
        f"acts?after={2**63}": "is not the number of a command.",
        "acts?state=pending": "state is not a parameter of this list: use after.",
    }.items():
        shown = await look.get(f"/{address}")
        assert (shown.status, says in shown.text) == (400, True), (address, shown.text)
        assert "<script>" not in shown.html
        assert 'role="alert"' in shown.html


async def test_the_numbers_of_the_overview_lead_to_their_lines(
    dsn: str, db: asyncpg.Connection, holder: None
) -> None:
    async with looking(dsn, db, callback_url=URL) as look:
        await look.beat()
        for number, state in enumerate(State, 1):
            await look.line(number, state)
            if state is not State.SKIPPED:
                await callback(look, 73000 + number, state)
        shown = await look.get()
        addresses = re.findall(r'href="(lines\?state=\w+&amp;feed=\w+)"', shown.html)
        assert len(set(addresses)) == len(addresses) == 2 * (len(State) - 1)
        for address in addresses:
            assert len(keys(await look.get(f"/{unescape(address)}"))) == 1
        assert "6 lines need your action" in shown.text
        command = "callstatsd requeue --state rejected --state expired --state invalid"
        assert f"this sends all of them again: {command}" in shown.text
        assert shown.text.index(command) < shown.text.index("Waiting to be sent")
        assert "7 settled and 8 taken per minute" in shown.text
        assert "6 settled and 7 taken per minute" in shown.text


async def test_without_need_nothing_asks_for_action(
    dsn: str, db: asyncpg.Connection, look: Look
) -> None:
    await look.line(1, State.DELIVERED)
    shown = await look.get()
    assert re.search(r'<section id="action"[^>]* hidden>', shown.html)
    assert "requeue --state" not in shown.text
    await look.line(2, State.REJECTED)
    async with looking(dsn, db) as later:
        shown = await later.get()
    assert "requeue --state rejected --feed statistics" in shown.text
    assert 'href="lines?state=rejected&amp;feed=statistics"><span' in shown.html
    assert not re.search(r'<section id="action"[^>]* hidden>', shown.html)


async def test_the_pace_and_the_host_are_those_of_the_active_instance_also_on_a_standby(
    look: Look,
) -> None:
    now = datetime.now(UTC)
    for call in range(1, 21):
        state = State.DELIVERED if call <= 10 else State.PENDING
        since = now - timedelta(hours=1)
        await look.line(call, state, pending_since=since if call != 1 else now)
    look.condition.active = False
    shown = await look.get()
    pace = "10 settled and 1 taken per minute; nothing waits in about 1 minute"
    assert pace in shown.text
    assert "Active on acd-01" in shown.text


async def test_all_commands_are_listed_and_names_only_where_people_may_be_named(
    dsn: str, db: asyncpg.Connection, look: Look
) -> None:
    operator_store = OperatorStore(look.ledger.database)
    assert "No command has been run." in (await look.get("/acts")).text
    for call in range(1, PAGE + 4):
        requeue = Act(ActKind.REQUEUE, "alice@acd1", (State.REJECTED,), call_id=call)
        await operator_store.end(await operator_store.begin(requeue))
    await operator_store.pause(Act(ActKind.PAUSE, "alice@acd1", reason="ask +49 151 1234567"))
    for people in (False, True):
        async with looking(dsn, db, log_personal_data=people) as page:
            first = await page.get("/acts")
            second = await page.get(onward(first) or "")
        assert (second.status, onward(second)) == (200, None)
        assert "callstatsd pause --reason 'ask …67'" in first.text
        calls = [re.findall(r"--call-id (\d+)", shown.text) for shown in (first, second)]
        assert [*map(int, calls[0] + calls[1])] == [*range(PAGE + 3, 0, -1)]
        assert len(calls[0]) == PAGE - 1
        assert "1234567" not in first.html
        for shown in (first, second):
            assert ("alice@acd1" in shown.text) == people
            assert ("hidden here" in shown.text) != people


async def test_a_ledger_that_is_away_is_a_sentence(
    dsn: str, db: asyncpg.Connection, holder: None
) -> None:
    patience = stretched(0.3)
    async with (
        proxied(dsn) as (wire, ledger_dsn),
        looking(dsn, db, ledger_dsn, patience) as look,
    ):
        for mode in (Mode.REFUSE, Mode.STALL):
            await wire.switch(mode)
            for address in ("/lines?state=pending", "/acts"):
                shown = await look.get(address)
                assert shown.status == 503
                assert "The ledger's database cannot be used now" in shown.text
