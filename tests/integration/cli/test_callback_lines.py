"""What people do with callbacks: backfill, requeue and discard."""

import json
from collections import Counter
from datetime import timedelta

import pytest

from tests.integration.cli.test_callbacks import (
    CREATED,
    DAY,
    NONE,
    ON,
    request,
    settle,
    states,
    take,
)
from tests.support import rows
from tests.support.call_centre import CallCentre
from tests.support.calls import plain_call, record_id

# backfill


async def test_a_backfill_of_callbacks_counts_and_takes_requests(centre: CallCentre) -> None:
    await plain_call(centre.db, 1, record=record_id(1), ended=CREATED)
    await rows.add(
        centre.db,
        request(73001),
        request(73002, sender="withheld"),
        request(73003, acdeventtypesid=1),
        request(73004, dtcreated=CREATED + timedelta(days=1)),
    )
    command = ("backfill", *DAY, "--feed", "callbacks")
    assert await centre.run_json(*command, "--dry-run", **ON) == {
        "callbacks": 2, "lines": 2, "new": 2,
    }  # fmt: skip
    taken = await centre.run_json(*command, "--no-wait", **ON)
    assert taken.pop("seconds") >= 0
    assert taken == {"callbacks": 2, "lines": 2, "new": 2, **NONE, "pending": 2}
    assert await states(centre) == {"callbacks 73001": "pending", "callbacks 73002": "pending"}

    await settle(centre, 73001, "delivered")
    again = await centre.run_json(*command, "--no-wait", "--resend", **ON)
    assert (again["new"], again["resent"], again["pending"]) == (0, 1, 2)
    code, text, errors = await centre.run(*command, "--dry-run", **ON)
    assert code == 0, errors
    assert text == "2 callbacks, 2 lines, 0 of them new (nothing was changed).\n"
    done = [json.loads(line) for line in errors.splitlines() if "backfill.done" in line]
    assert [(event["callbacks"], "calls" in event) for event in done] == [(2, False)]
    _, text, _ = await centre.run("status", **ON)
    assert "backfill --from 2026-11-20T00:00:00 --to 2026-11-21T00:00:00 --feed callbacks" in text


async def test_a_backfill_of_callbacks_that_are_off_says_what_to_set(centre: CallCentre) -> None:
    code, _, errors = await centre.run("backfill", *DAY, "--feed", "callbacks", "--no-wait")
    assert code == 78
    assert "CALLSTATSD_CALLBACK_URL" in errors


# requeue and discard


async def both(centre: CallCentre, state: str) -> None:
    """Let a call and a callback with the same id be in that state."""
    await plain_call(centre.db, 7, record=record_id(7), ended=CREATED)
    await centre.run("backfill", *DAY, "--no-wait")
    await take(centre, request(7), request(8))
    await centre.db.execute("UPDATE line SET state = $1, settled_at = now()", state)


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ((), {"statistics 7", "callbacks 7", "callbacks 8"}),
        (("--feed", "statistics"), {"statistics 7"}),
        (("--feed", "callbacks"), {"callbacks 7", "callbacks 8"}),
        (("--call-id", "7"), {"statistics 7"}),
        (("--callback", "7"), {"callbacks 7"}),
        (("--callback", "7", "--feed", "callbacks"), {"callbacks 7"}),
    ],
)
async def test_both_feeds_are_put_back_and_withdrawn_or_the_one_that_is_named(
    centre: CallCentre, options: tuple[str, ...], changed: set[str]
) -> None:
    await both(centre, "rejected")
    every = {"statistics 7", "callbacks 7", "callbacks 8"}
    code, text, _ = await centre.run("requeue", "--state", "rejected", *options, "--dry-run")
    assert text.split()[-1] == str(len(changed))

    code, _, errors = await centre.run("requeue", "--state", "rejected", *options)
    assert code == 0, errors
    assert await states(centre) == {
        line: "pending" if line in changed else "rejected" for line in every
    }
    code, text, _ = await centre.run("discard", "--state", "pending", *options)
    assert code == 0
    assert await states(centre) == {
        line: "skipped" if line in changed else "rejected" for line in every
    }


async def test_a_record_that_was_dropped_is_made_anew_by_the_lines_own_feed(
    centre: CallCentre,
) -> None:
    await both(centre, "delivered")
    await centre.db.execute("UPDATE line SET record = NULL")
    await centre.db.execute("DELETE FROM AcdEvents WHERE ID = 8")
    code, text, errors = await centre.run("requeue", "--state", "delivered", *DAY, **ON)
    assert code == 0, errors
    assert Counter(text.split())["gone"] == 1
    assert await states(centre) == {
        "statistics 7": "pending", "callbacks 7": "pending", "callbacks 8": "delivered",
    }  # fmt: skip
    found = await centre.db.fetch("SELECT feed, record FROM line WHERE state = 'pending'")
    records = {row["feed"]: json.loads(row["record"]) for row in found}
    assert records["callbacks"]["AcdEventsID"] == 7
    assert records["statistics"]["jtelStatisticsPartAID"] == 7


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--call-id", "7", "--callback", "7"), "give --call-id or --callback, not both"),
        (("--call-id", "7", "--feed", "callbacks"), "--call-id is of the feed statistics"),
        (("--callback", "7", "--feed", "statistics"), "--callback is of the feed callbacks"),
        (("--feed", "calls"), "Invalid value"),
    ],
)
@pytest.mark.parametrize("command", ["requeue", "discard"])
async def test_options_that_contradict_each_other_are_a_wrong_use(
    centre: CallCentre, command: str, options: tuple[str, ...], says: str
) -> None:
    code, _, errors = await centre.run(command, "--state", "rejected", *options)
    assert code == 2
    assert says in " ".join(errors.split())
