"""A whole day through the real daemon: what arrives is what the contract says, line by line."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import NamedTuple

import asyncpg
import pytest

from daemon.demo import calls as sample_calls
from daemon.demo import record_ids, rows
from daemon.demo.faults import RANDOM_FAULTS, FaultInjector, endpoint_missing, unavailable
from daemon.demo.rows import Call, Sample
from daemon.demo.standin import CALLBACK_PATH, WRITE_PATH, Incoming, Reply
from daemon.lines import FeedName, LineKey
from tests.support.call_centre import CallCentre
from tests.support.callback_days import CLIENT, FLOOR, callback_day
from tests.support.daemon_process import PATIENCE, running
from tests.support.expected import Line, data_lines
from tests.support.expected_callbacks import (
    INFINITY,
    CallbackDay,
    broken_column,
    callback_line,
    is_taken,
)
from tests.support.proxied_centre import BOTH_FEEDS
from tests.support.rows import local_times

STATES = {
    "exists": "delivered",
    "missing": "not_found",
    "conflict": "conflict",
    "rejected": "rejected",
}
"""What becomes of a line by what Salesforce makes of its record."""
# None of them lasts as long as a time-out.
QUICK_FAULTS = [fault for fault in RANDOM_FAULTS if fault.name != "slow answer"]
STALE_AFTER = timedelta(hours=12)


async def load_callback_day(centre: CallCentre, day: CallbackDay) -> None:
    """Insert a day with what only callbacks show; a last moment in it is for ever."""
    await load_day(centre, day)
    await centre.db.executemany(
        "UPDATE Users SET NickName = $2 WHERE ID = $1", day.nick_names.items()
    )
    await centre.db.executemany(
        "UPDATE AcdGroups SET ForeignSystemID = $2 WHERE ID = $1", day.foreign_ids.items()
    )
    await centre.db.executemany(
        "UPDATE StatisticsPartA SET dtCallEnd = 'infinity' WHERE ID = $1",
        [(call.id,) for call in day.calls if call.dtcallend == INFINITY],
    )


async def load_day(centre: CallCentre, day: Sample) -> None:
    """Insert a day with its own master rows."""
    for table in ("ServiceNumbers", "Users", "AcdGroups", "TransactionCodes"):
        await centre.db.execute(f"DELETE FROM {table}")
    await rows.load(centre.db, day)


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.long)])
async def test_every_line_of_a_day_arrives_as_computed_from_the_contract(
    centre: CallCentre, seed: int
) -> None:
    day = sample_calls.day(250, seed, datetime.now(UTC))
    await load_day(centre, day)
    centre.salesforce.lock_rate = 0.02
    expected = data_lines(day)
    with_id = [line for line in expected if line.record["SalesForceID"]]

    async with running(centre.settings(concurrency="8"), centre.folder) as daemon:
        fates = Counter(
            STATES[record_ids.expected_outcome(line.record["SalesForceID"])] for line in with_id
        )
        await centre.until(**fates, skipped=len(expected) - len(with_id))
        assert await daemon.stop() == 0

    bodies = {request.key: request.body.decode() for request in centre.salesforce.requests}
    assert bodies == {line.key: line.body for line in with_id}
    # First sendings of each record are in the order of its lines.
    position = {line.key: number for number, line in enumerate(expected)}
    first_sent = dict.fromkeys(request.key for request in centre.salesforce.requests)
    lane_of = {line.key: line.record["SalesForceID"][:15] for line in with_id}
    by_lane = sorted(first_sent, key=lane_of.__getitem__)
    for _, keys in groupby(by_lane, key=lane_of.__getitem__):
        places = [position[key] for key in keys]
        assert places == sorted(places)


@dataclass
class BadDay:
    """A rule with random faults, one outage of the org, and one missing endpoint."""

    seed: int
    missing: str
    """The path whose class is gone for a while."""
    unavailable: int = 4
    """Requests that are answered 503, from the 60th on."""
    gone: int = 5
    """Requests to `missing` that find no class, from the 120th of all on."""
    faults: FaultInjector = field(init=False)

    def __post_init__(self) -> None:
        self.faults = FaultInjector(self.seed, time.monotonic(), random_faults=QUICK_FAULTS)

    def __call__(self, incoming: Incoming) -> Reply | None:
        if incoming.number >= 60 and self.unavailable:
            self.unavailable -= 1
            return unavailable()
        if incoming.number >= 120 and incoming.path == self.missing and self.gone:
            self.gone -= 1
            return endpoint_missing()
        return self.faults(incoming)


class Fate(NamedTuple):
    """What becomes of a line; `body` is that of each of its requests, None if there is none."""

    state: str
    path: str
    body: str | None
    error: str = ""
    """What the line's last error names."""


@dataclass(frozen=True)
class Expectation:
    """What the contract makes of a day, with these settings, at this time."""

    day: CallbackDay
    now: datetime
    clients_id: int | None
    empty_as_string: bool

    def fates(self) -> dict[str, Fate]:
        """Return the fate of every line of both feeds, by key."""
        return self.of_calls() | self.of_requests()

    def of_calls(self) -> dict[str, Fate]:
        ready = [call for call in self.day.calls if self.is_ready(call)]
        lines = data_lines(replace(self.day, calls=ready))
        return {
            line.key: self.sent(line, WRITE_PATH, record_id)
            if (record_id := line.record["SalesForceID"])
            else Fate("skipped", WRITE_PATH, None)
            for line in lines
        }

    def is_ready(self, call: Call) -> bool:
        if self.clients_id not in (None, call.clientsid):
            return False
        return (call.dtcallend or call.dtcallstart + STALE_AFTER) <= self.now

    def of_requests(self) -> dict[str, Fate]:
        fates = {}
        for event in self.day.events:
            if not is_taken(self.day, event, self.now, FLOOR, self.clients_id):
                continue
            if column := broken_column(self.day, event):
                fates[f"callback-{event.id}"] = Fate("invalid", CALLBACK_PATH, None, column)
            else:
                line = callback_line(self.day, event)
                fates[line.key] = self.sent(line, CALLBACK_PATH, line.record["SalesforceId"])
        return fates

    def sent(self, line: Line, path: str, record_id: str | None) -> Fate:
        state = STATES[record_ids.expected_outcome(record_id or "")]
        return Fate(state, path, (line.with_empty_strings() if self.empty_as_string else line).body)


async def ledger_lines(centre: CallCentre) -> dict[str, asyncpg.Record]:
    """Return every line in the ledger, by key."""
    found = await centre.db.fetch(
        "SELECT call_id, group_id, leg_id, code_id, feed, state, record, last_error FROM line"
    )
    return {str(LineKey._make((*row[:4], FeedName(row["feed"])))): row for row in found}


async def settled(centre: CallCentre, lines: int) -> None:
    """Wait until the ledger has so many lines and none of them is pending."""
    async with asyncio.timeout(PATIENCE):
        while (states := await centre.states()).total() < lines or states["pending"]:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("size", "seed", "clients_id", "empty", "local", "missing"),
    [
        (400, 1, None, "null", False, CALLBACK_PATH),
        (400, 2, CLIENT, "string", True, WRITE_PATH),
        pytest.param(5000, 3, CLIENT, "null", True, CALLBACK_PATH, marks=pytest.mark.long),
        pytest.param(5000, 4, None, "string", False, WRITE_PATH, marks=pytest.mark.long),
    ],
)
async def test_after_a_bad_day_each_line_of_both_feeds_is_settled_as_computed_from_the_contract(
    centre: CallCentre,
    size: int,
    seed: int,
    clients_id: int | None,
    empty: str,
    local: bool,
    missing: str,
) -> None:
    now = datetime.now(UTC)
    day = callback_day(size // 10, size, seed, now)
    await load_callback_day(centre, day)
    if local:
        await local_times(centre.db)
    fates = Expectation(day, now, clients_id, empty == "string").fates()
    centre.salesforce.work = 0.002
    centre.salesforce.empty = "" if empty == "string" else None
    centre.salesforce.rule = rule = BadDay(seed, missing)
    options = {"clients_id": str(clients_id or ""), "empty_as": empty, **BOTH_FEEDS}
    quick = {"concurrency": "8", "retry_max": "1", "request_timeout": "5"}
    assert (await centre.run("migrate", "--rebind", **options))[0] == 0

    async with running(centre.settings(**options, **quick), centre.folder) as daemon:
        await settled(centre, len(fates))
        assert await daemon.stop() == 0

    lines = await ledger_lines(centre)
    assert {key: line["state"] for key, line in lines.items()} == {
        key: fate.state for key, fate in fates.items()
    }
    sent = {key: (fate.path, fate.body) for key, fate in fates.items() if fate.body}
    requests = {(one.key, (one.path, one.body.decode())) for one in centre.salesforce.requests}
    assert requests == set(sent.items())
    assert {key: lines[key]["record"] for key in sent} == {
        key: body for key, (_, body) in sent.items()
    }
    assert all(fate.error in (lines[key]["last_error"] or "") for key, fate in fates.items())
    # It was a bad day, and a day with everything in it.
    assert set(rule.faults.counts) == {fault.name for fault in QUICK_FAULTS}
    feed = "callbacks" if missing == CALLBACK_PATH else "statistics"
    assert daemon.seen("sender.paused", reason="endpoint_missing", feed=feed)
    assert daemon.seen("sender.paused", reason="unavailable")
    assert {fate.state for fate in fates.values()} == {*STATES.values(), "skipped", "invalid"}
