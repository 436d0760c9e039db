"""A whole day through the real daemon: what arrives is what the contract says, line by line."""

from collections import Counter
from datetime import UTC, datetime
from itertools import groupby

import pytest

from daemon.demo import calls as sample_calls
from daemon.demo import record_ids, rows
from tests.support.daemon_process import running
from tests.support.expected import data_lines
from tests.support.whole import CallCentre


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.long)])
async def test_every_line_of_a_day_arrives_as_computed_from_the_contract(
    centre: CallCentre, seed: int
) -> None:
    for table in ("ServiceNumbers", "Users", "AcdGroups", "TransactionCodes"):
        await centre.db.execute(f"DELETE FROM {table}")
    day = sample_calls.day(250, seed, datetime.now(UTC))
    await rows.load(centre.db, day)
    centre.salesforce.lock_rate = 0.02
    expected = data_lines(day)
    with_id = [line for line in expected if line.record["SalesForceID"]]

    async with running(centre.settings(concurrency="8"), centre.folder) as daemon:
        fates = Counter(
            {"missing": "not_found", "conflict": "conflict", "exists": "delivered"}[
                record_ids.expected_outcome(line.record["SalesForceID"])
            ]
            for line in with_id
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
