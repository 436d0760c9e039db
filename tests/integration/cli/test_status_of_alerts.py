"""`status` says which alert was raised last, and what waits for the next."""

import re

from tests.support.call_centre import CallCentre
from tests.support.calls import plain_call, record_id

ON = {"acd_url": "https://acd.example.com/rest/v1.0/1", "acd_token": "t", "alert_group_id": "235"}
NOTHING = {"waiting": 0, "raised_at": None, "acd_events_id": None, "lines": None, "error": None}


async def test_status_has_the_last_alert_and_what_waits(centre: CallCentre) -> None:
    await plain_call(centre.db, 1, record=record_id(1))
    await centre.run("backfill", "--from", "2020-01-01", "--to", "2100-01-01", "--no-wait")
    assert (await centre.run_json("status"))["alert"] is None
    assert not re.search("alert", (await centre.run("status"))[1], re.IGNORECASE)
    assert (await centre.run_json("status", **ON))["alert"] == NOTHING

    await centre.db.execute(
        "UPDATE line SET state = 'rejected', settled_at = now(), alert_number = 7,"
        " alert_generation = 0;"
        "UPDATE ledger SET alerts_since = '-infinity';"
        "INSERT INTO alert (number, rejected, expired, invalid, requested_at, raised_at,"
        " acd_events_id, error) VALUES"
        " (6, 2, 1, 0, now(), '2026-11-20T10:00:00Z', 102039, NULL),"
        " (7, 1, 0, 0, now(), NULL, NULL, 'no response from the ACD')"
    )
    assert (await centre.run_json("status", **ON))["alert"] == {
        "waiting": 1,
        "raised_at": "2026-11-20T10:00:00+00:00",
        "acd_events_id": 102039,
        "lines": 3,
        "error": "no response from the ACD",
    }
    _, text, _ = await centre.run("status", **ON)
    assert (
        "alerts          Alert raised at 2026-11-20 11:00:00 about 3 lines (event 102039 of the "
        "ACD). 1 line waits for the next one. The last try failed: no response from the ACD. "
        "`callstatsd check` says what to do."
    ) in text
