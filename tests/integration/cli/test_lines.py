"""`callstatsd lines`: the lines of a state, in their order, page by page."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from daemon.demo.record_ids import ids
from tests.support.call_centre import CallCentre
from tests.support.calls import long_id, record_id

NOON = datetime(2026, 11, 20, 11, tzinfo=UTC)
KEYS = [
    "key", "state", "call_id", "feed", "salesforce_id", "attempts", "last_status", "last_error",
    "taken_at", "next_try_at", "settled_at",
]  # fmt: skip

FILL = """
INSERT INTO line (call_id, group_id, leg_id, code_id, feed, ordinal, lane, salesforce_id,
                  call_ended, backfill, state, attempts, last_status, last_error, settled_at,
                  next_try_at, record)
SELECT n, CASE $1 WHEN 'statistics' THEN 7 ELSE 0 END, 0, 0, $1, 1, coalesce(left($3, 15), n::text),
       $3, $4::timestamptz + n * interval '1 hour', n % 5 = 0, $2, 1, 400,
       'no place for +49 30 23125 017 in ' || n,
       -- Later calls were settled earlier, two at a time.
       CASE WHEN $2 <> 'pending'
            THEN $4::timestamptz + interval '9 d' - n / 2 * interval '1 min' END,
       CASE WHEN $2 = 'pending' THEN $4::timestamptz END, '{}'
FROM unnest($5::bigint[]) AS n
"""


async def fill(
    centre: CallCentre, feed: str, state: str, *numbers: int, record: str | None = None
) -> None:
    """Lines of calls that ended so many hours after noon."""
    await centre.db.execute(FILL, feed, state, record, NOON, numbers)


async def listed(centre: CallCentre, *options: str) -> list[int]:
    """The calls and events that one page has."""
    answer = await centre.run_json("lines", *options)
    return [line["call_id"] for line in answer["lines"]]


async def paged(centre: CallCentre, *options: str) -> list[list[str]]:
    """The keys of all pages, by the key that each says is next."""
    pages: list[list[str]] = []
    after: Sequence[str] = ()
    while True:
        answer = await centre.run_json("lines", *options, *after)
        pages.append([line["key"] for line in answer["lines"]])
        if answer["next"] is None:
            return pages
        assert answer["next"] == pages[-1][-1]
        after = ("--after", answer["next"])


async def test_a_line_has_what_people_need_of_it(centre: CallCentre) -> None:
    await fill(centre, "statistics", "rejected", 1201, record=long_id(1))
    await fill(centre, "callbacks", "rejected", 73001)
    answer = await centre.run_json("lines", "--state", "rejected")
    assert answer["next"] is None
    assert [list(line) for line in answer["lines"]] == [KEYS, KEYS]
    line, callback = answer["lines"]
    assert line == line | {
        "key": "1201-7-0-0", "state": "rejected", "call_id": 1201, "feed": "statistics",
        "salesforce_id": long_id(1), "attempts": 1, "last_status": 400, "next_try_at": None,
        "last_error": "no place for …17 in 1201", "settled_at": "2026-11-29T01:00:00+00:00",
    }  # fmt: skip
    assert (callback["key"], callback["call_id"]) == ("callback-73001", 73001)

    code, text, _ = await centre.run("lines", "--state", "rejected")
    assert code == 0
    rows = text.splitlines()
    assert rows[0] == "rejected lines, newest first"
    assert rows[1].split("  ")[0] == "key"
    assert rows[2].split() == [
        "1201-7-0-0", "2026-11-29", "02:00:00", long_id(1), "1", "400", "no", "place", "for",
        "…17", "in", "1201",
    ]  # fmt: skip
    assert "23125" not in text
    assert rows[-1] == "Times are in the time zone Europe/Berlin."


async def test_pages_hold_each_line_once_in_order(centre: CallCentre) -> None:
    await fill(centre, "statistics", "delivered", 1, 2, 3, 4, 5, 6, 7)
    await fill(centre, "callbacks", "delivered", 4, 5, 9)
    await fill(centre, "statistics", "pending", 11, 12, 13, 14, 15, 16)
    await fill(centre, "callbacks", "pending", 12, 15)
    settled = [
        # Two minutes apart; of one moment live ones first, by their calls.
        "1-7-0-0", "2-7-0-0", "3-7-0-0", "callback-4", "4-7-0-0", "callback-5", "5-7-0-0",
        "6-7-0-0", "7-7-0-0", "callback-9",
    ]  # fmt: skip
    pending = [
        "11-7-0-0", "callback-12", "12-7-0-0", "13-7-0-0", "14-7-0-0", "16-7-0-0",
        "callback-15", "15-7-0-0",
    ]  # fmt: skip
    for state, expected in (("delivered", settled), ("pending", pending)):
        whole = await paged(centre, "--state", state)
        assert len(whole) == 1
        assert sorted(whole[0]) == sorted(expected)
        for options in ((), ("--from", "2026-11-20"), ("--feed", "statistics")):
            chosen = ("--state", state, *options)
            (whole_page,) = await paged(centre, *chosen)
            for limit in (1, 3):
                pages = await paged(centre, *chosen, "--limit", str(limit))
                assert [key for page in pages for key in page] == whole_page
                assert {len(page) for page in pages[:-1]} <= {limit}
    (found,) = await paged(centre, "--state", "pending")
    assert found == pending
    moments = (await centre.run_json("lines", "--state", "delivered"))["lines"]
    assert [line["settled_at"] for line in moments] == sorted(
        (line["settled_at"] for line in moments), reverse=True
    )


@pytest.mark.parametrize("state", ["rejected", "pending"])
async def test_feed_window_and_record_narrow_a_list(centre: CallCentre, state: str) -> None:
    await fill(centre, "statistics", state, 1, 20, record=record_id(1))
    await fill(centre, "statistics", state, 2, record=long_id(2))
    await fill(centre, "callbacks", state, 3, record=record_id(1))
    chosen = ("--state", state)
    assert sorted(await listed(centre, *chosen)) == [1, 2, 3, 20]
    assert await listed(centre, *chosen, "--feed", "callbacks") == [3]
    assert sorted(await listed(centre, *chosen, "--salesforce-id", long_id(1))) == [1, 3, 20]
    assert await listed(centre, *chosen, "--salesforce-id", record_id(2)) == [2]
    assert await listed(centre, *chosen, "--from", "2026-11-21") == [20]
    assert sorted(await listed(centre, *chosen, "--to", "2026-11-21")) == [1, 2, 3]
    assert await listed(centre, *chosen, "--from", "2026-11-21", "--feed", "callbacks") == []
    both = ("--from", "2026-11-20T14:00", "--to", "2026-11-20T14:30")
    assert await listed(centre, *chosen, *both) == [2]
    assert await listed(centre, "--state", "expired") == []


async def test_a_list_can_be_of_when_lines_were_settled(centre: CallCentre) -> None:
    await fill(centre, "statistics", "rejected", 1, 40, 200)
    window = ("--settled-from", "2026-11-29T11:40", "--settled-to", "2026-11-29T12:00")
    assert await listed(centre, "--state", "rejected", *window) == [40]
    assert await listed(centre, "--state", "rejected", *window, "--to", "2026-11-21") == []
    code, _, errors = await centre.run("lines", "--state", "pending", *window)
    assert (code, "pending lines are not settled" in errors) == (2, True)


async def test_the_command_for_the_next_page_is_printed(centre: CallCentre) -> None:
    await fill(centre, "statistics", "rejected", *range(1, 5), record=record_id(1))
    options = ("--from", "2026-11-20T13:00", "--salesforce-id", long_id(1), "--limit", "2")
    _, text, _ = await centre.run("lines", "--state", "rejected", *options, instance="north")
    assert text.endswith(
        "There are more:\n"
        "  callstatsd lines --instance north --state rejected --from 2026-11-20T13:00:00"
        f" --salesforce-id {record_id(1)} --limit 2 --after 2-7-0-0\n"
    )
    code, text, _ = await centre.run("lines", "--state", "expired")
    assert (code, text) == (0, "No such line is expired.\n")


async def test_a_list_goes_on_where_pending_lines_were_sent_meanwhile(centre: CallCentre) -> None:
    """A line that was settled again, or is gone, has no place in the list any more."""
    await fill(centre, "statistics", "pending", 1, 2, 3)
    settle = "UPDATE line SET state = 'delivered', settled_at = now() WHERE call_id = 2"
    await centre.db.execute(settle)
    for options in ((), ("--from", "2026-11-20")):
        chosen = ("--state", "pending", *options, "--after", "2-7-0-0")
        assert await listed(centre, *chosen) == [3]
    for state, after in (("rejected", "2-7-0-0"), ("pending", "callback-2")):
        code, output, errors = await centre.run("lines", "--state", state, "--after", after)
        assert (code, output) == (2, "")
        assert f"the line {after} is not {state} any more" in " ".join(errors.split())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "Missing option '--state'"),
        (("--state", "lost"), "Invalid value for '--state'"),
        (("--state", "rejected", "--after", "1201"), "is no key of a line"),
        (("--state", "rejected", "--limit", "0"), "Invalid value for '--limit'"),
        (("--state", "rejected", "--limit", "1001"), "Invalid value for '--limit'"),
        (("--state", "rejected", "--from", "2026-11-21", "--to", "2026-11-20"), "must be before"),
        (("--state", "rejected", "--from", "yesterday"), "is not a valid time"),
    ],
)
async def test_wrong_use_is_named(centre: CallCentre, options: Any, says: str) -> None:
    code, output, errors = await centre.run("lines", *options)
    assert (code, output) == (2, "")
    assert says in " ".join(errors.split())


def test_the_ids_of_these_tests_are_of_one_record() -> None:
    assert ids(1) == (record_id(1), long_id(1))
    assert NOON + timedelta(hours=13) == datetime(2026, 11, 21, tzinfo=UTC)
