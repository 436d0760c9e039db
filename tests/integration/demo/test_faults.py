"""A bad day at Salesforce: nothing is lost, nothing is sent once more that was answered."""

import asyncio
import random
import re
import time
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from daemon.demo.faults import all_faults, serve_closable
from daemon.demo.record_ids import ids, long_form
from daemon.demo.standin import TOKEN_PATH, Received
from tests.support import rows
from tests.support.call_centre import CallCentre
from tests.support.calls import record_id
from tests.support.daemon_process import PATIENCE, Daemon, command, running, settings
from tests.support.load import stretched


async def add_lines(centre: CallCentre, records: list[str], *, first: int = 1) -> None:
    """Insert calls of one line each that end now, in this order."""
    ended = datetime.now(UTC) - timedelta(milliseconds=len(records))
    await rows.add(
        centre.db,
        *(
            rows.call(
                first + place,
                userdata=record,
                dtcallstart=ended - timedelta(seconds=9),
                dtcallend=ended + timedelta(milliseconds=place),
            )
            for place, record in enumerate(records)
        ),
    )


async def feed(centre: CallCentre, records: list[str], seconds: float) -> None:
    """Let calls end one after another, so many seconds long."""
    began = time.monotonic()
    done = 0
    while done < len(records):
        share = min(1.0, (time.monotonic() - began) / seconds)
        due = max(done + 1, int(share * len(records)))
        await add_lines(centre, records[done:due], first=1 + done)
        done = due
        await asyncio.sleep(0.1)


async def settled(centre: CallCentre, count: int, within: float) -> None:
    async with asyncio.timeout(stretched(within)):
        while True:  # a table tells nobody
            states = await centre.states()
            if states.total() == count and not states["pending"]:
                return
            await asyncio.sleep(0.1)


def mixed_records(count: int, seed: int, *, hot: int, others: int) -> list[str]:
    """Records of lines: six in ten on few hot ones, one in twenty each missing or in conflict."""
    chance = random.Random(seed)
    drawn = []
    for _ in range(count):
        kind = chance.random()
        if kind < 0.6:
            drawn.append(record_id(chance.randrange(hot)))
        elif kind < 0.7:
            ending = chance.choice(("404", "409"))
            drawn.append(ids(chance.randrange(9), ending)[0])
        else:
            drawn.append(record_id(hot + chance.randrange(others)))
    return drawn


def fates(records: list[str]) -> Counter[str]:
    endings = {"404": "not_found", "409": "conflict"}
    return Counter(endings.get(record[12:15], "delivered") for record in records)


async def assert_accounted_for(centre: CallCentre, records: list[str]) -> None:
    """Compare ledger and Salesforce line by line, and print the counts of the run."""
    ledger = {
        f"{row['call_id']}-{row['group_id']}-{row['leg_id']}-{row['code_id']}": row
        for row in await centre.db.fetch("SELECT * FROM line")
    }
    assert set(ledger) == {f"{number}-0-0-0" for number in range(1, len(records) + 1)}
    assert await centre.states() == fates(records)

    salesforce = centre.salesforce
    delivered = {key for key, row in ledger.items() if row["state"] == "delivered"}
    assert set(salesforce.written) == delivered
    assert len(salesforce.known) == len(delivered)

    by_key: defaultdict[str, list[Received]] = defaultdict(list)
    for request in sorted(salesforce.requests, key=lambda request: request.started):
        by_key[request.key].append(request)
    assert set(by_key) == set(ledger)
    again = {
        key
        for key, requests in by_key.items()
        if any(request.status in {200, 409} for request in requests[:-1])
    }
    unanswered = {key for key, row in ledger.items() if row["unanswered"]}
    assert again <= unanswered
    assert salesforce.repeated <= sum(row["unanswered"] for row in ledger.values())

    assert salesforce.self_caused_locks == 0
    assert salesforce.violations == []
    counts = salesforce.counts() | {
        "lines": len(ledger),
        "unanswered": sum(row["unanswered"] for row in ledger.values()),
        "most attempts of a line": max(row["attempts"] for row in ledger.values()),
    }
    print(counts)  # noqa: T201 - shown by pytest -s, and with a failure


def lasting_pauses(daemon: Daemon) -> int:
    """How many pauses for want of an endpoint a second probe did not end."""
    found = failed = 0
    for event in daemon.events:
        if event["event"] == "sender.resumed":
            failed = 0
        elif event["event"] in {"sender.paused", "sender.still_paused"}:
            failed += 1
            away = event["reason"] in {"unavailable", "unanswered", "endpoint_missing"}
            found += failed > 2 and away
    return found


def refreshes(daemon: Daemon) -> int:
    return len(daemon.seen("token.refreshed"))


async def test_after_a_bad_day_every_line_is_settled_and_none_was_sent_twice_without_need(
    centre: CallCentre,
) -> None:
    records = mixed_records(300, seed=1, hot=6, others=60)
    centre.salesforce.work = 0.01
    environment = centre.settings(concurrency="8", retry_max="1", request_timeout="1")

    async with running(environment, centre.folder) as daemon:
        await daemon.until("daemon.started")
        day = all_faults(1, time.monotonic(), seconds=14.0)
        centre.salesforce.rule = day
        await feed(centre, records, seconds=13.0)
        await settled(centre, len(records), within=PATIENCE)
        assert await daemon.stop() == 0

    print(sorted(day.counts.items()))  # noqa: T201
    await assert_accounted_for(centre, records)
    everything = {chance.name for chance in day.random_faults} | {
        spell.name for spell in day.outages
    }
    assert set(day.counts) == everything | {"token expired"}
    paused = daemon.seen("sender.paused") + daemon.seen("sender.still_paused")
    assert {event["reason"] for event in paused} >= {
        "unavailable", "api_limit", "endpoint_missing",
    }  # fmt: skip
    # One at the start, one when it expired; more only where an outage looked like a moved org.
    assert refreshes(daemon) == centre.salesforce.tokens_issued
    assert 2 <= centre.salesforce.tokens_issued <= 2 + lasting_pauses(daemon)
    assert not daemon.seen("line.expired")

    sent = Counter(each.key for each in centre.salesforce.requests if each.status != 401)
    attempts = await centre.db.fetch("SELECT call_id || '-0-0-0' AS key, attempts FROM line")
    assert sent == Counter({row["key"]: row["attempts"] for row in attempts})


@pytest.mark.long
async def test_three_bad_minutes_with_nobody_there_for_twenty_seconds_lose_nothing(
    centre: CallCentre,
) -> None:
    records = mixed_records(4000, seed=2, hot=20, others=600)
    centre.salesforce.work = 0.02
    async with serve_closable(centre.salesforce) as entrance:
        environment = centre.settings(
            token_url=f"{entrance.url}{TOKEN_PATH}",
            concurrency="16", retry_max="2", request_timeout="1",
        )  # fmt: skip
        async with running(environment, centre.folder) as daemon:
            await daemon.until("daemon.started")
            day = all_faults(2, time.monotonic(), seconds=180.0)
            centre.salesforce.rule = day
            async with asyncio.TaskGroup() as together:
                together.create_task(entrance.interrupt(after=30.0, seconds=20.0))
                together.create_task(feed(centre, records, seconds=175.0))
            await settled(centre, len(records), within=120.0)
            assert await daemon.stop() == 0

    print(sorted(day.counts.items()))  # noqa: T201
    await assert_accounted_for(centre, records)
    assert "token expired" in day.counts
    # One at the start, one when it expired; more only where an outage looked like a moved org.
    assert refreshes(daemon) == centre.salesforce.tokens_issued
    assert 2 <= centre.salesforce.tokens_issued <= 2 + lasting_pauses(daemon)
    assert not daemon.seen("line.expired")
    refused = [
        event for event in daemon.seen("sender.paused")
        if event["reason"] == "unavailable" and event["status"] is None
    ]  # fmt: skip
    assert len(refused) == 1


async def test_a_token_that_expires_among_a_thousand_lines_is_renewed_once(
    centre: CallCentre,
) -> None:
    records = [record_id(number) for number in range(1000)]
    await add_lines(centre, records)
    centre.salesforce.work = 0.002

    async with running(centre.settings(concurrency="16"), centre.folder) as daemon:
        async with asyncio.timeout(PATIENCE):
            await centre.salesforce.until(lambda salesforce: len(salesforce.known) >= 500)
        centre.salesforce.expire_tokens()
        await settled(centre, len(records), within=PATIENCE)
        assert await daemon.stop() == 0

    assert await centre.states() == Counter(delivered=1000)
    assert centre.salesforce.tokens_issued == refreshes(daemon) == 2
    assert 1 <= centre.salesforce.by_status[401] <= 16
    assert centre.salesforce.repeated == 0
    assert await centre.db.fetchval("SELECT max(attempts) FROM line") == 1


async def test_many_requests_at_once_never_lock_each_others_records(centre: CallCentre) -> None:
    chance = random.Random(4)
    records = [record_id(chance.randrange(40)) for _ in range(1000)]
    # A record in its long form is the same record.
    records = [chance.choice((record, long_form(record))) for record in records]
    await add_lines(centre, records)
    centre.salesforce.work = 0.02

    async with running(centre.settings(concurrency="32"), centre.folder) as daemon:
        await settled(centre, len(records), within=PATIENCE)
        assert await daemon.stop() == 0

    assert await centre.states() == Counter(delivered=1000)
    assert dict(centre.salesforce.by_status) == {200: 1000}
    assert centre.salesforce.self_caused_locks == 0
    assert 20 < centre.salesforce.most_in_flight <= 32
    last: dict[str, int] = {}
    for request in centre.salesforce.requests:
        call = request.record["jtelStatisticsPartAID"]
        assert last.get(request.lane, 0) < call
        last[request.lane] = call


async def test_a_record_with_thousands_of_waiting_lines_starves_nobody(centre: CallCentre) -> None:
    # Older than all others, and more than the sender reads at once.
    hot, others = [record_id(0)] * 3000, [record_id(1 + n % 50) for n in range(300)]
    await add_lines(centre, hot + others)
    keys_of_others = {f"{len(hot) + number}-0-0-0" for number in range(1, 1 + len(others))}
    centre.salesforce.work = 0.005

    async with running(centre.settings(), centre.folder) as daemon:
        async with asyncio.timeout(PATIENCE):
            await centre.salesforce.until(
                lambda salesforce: len(salesforce.written.keys() & keys_of_others) == len(others)
            )
        waiting = len(hot) + len(others) - len(centre.salesforce.written)
        assert await daemon.stop() == 0

    assert waiting > 1000
    assert centre.salesforce.self_caused_locks == 0


@pytest.mark.long
async def test_the_demo_shows_how_the_daemon_copes(tmp_path: Path) -> None:
    environment = settings("postgresql://nobody@127.0.0.1:1/not-used", "http://127.0.0.1:1")
    environment["NO_COLOR"] = "1"
    environment["COLUMNS"] = "160"

    code, output, errors = await command(
        "demo", "--faults", "--calls", "150", environment=environment, folder=tmp_path
    )

    assert (code, errors) == (0, "")
    assert "reason=unavailable" in output
    # The first, the one that expired, and on a busy machine one more for the address of the org.
    assert output.count("token.refreshed") in {2, 3}
    assert "Simulated faults of Salesforce" in output
    for name in ("token expired", "REQUEST_LIMIT_EXCEEDED", "endpoint missing"):
        assert f"│ {name}" in output
    assert "│ pending" not in output
    assert ", 0 malformed" in " ".join(output.split())
    # Locks are counted once: those of the table are all that there were.
    rows = [int(n) for n in re.findall(r"│ record locked: [^│]*│ +(\d+) │", output)]
    (locks,) = re.findall(r"a record was locked (\d+) times", " ".join(output.split()))
    assert sum(rows) == int(locks) > 0
