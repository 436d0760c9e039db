"""The address of a list: what is read from it, what is asked for, and the commands beside it."""

from datetime import UTC, date, datetime, timedelta
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo

import pytest

from daemon.ledger.overview import LineQuery
from daemon.lines import FeedName, LineKey, State
from daemon.settings.values import parse_local_time
from daemon.web.list_query import ListQuery, ListQueryError, read_act_id, read_list_query

BERLIN = ZoneInfo("Europe/Berlin")
DAY = date(2026, 11, 20)
BEGINS, ENDS = datetime(2026, 11, 19, 23, tzinfo=UTC), datetime(2026, 11, 20, 23, tzinfo=UTC)
KEY = LineKey(1201, 2201, 3201, 0)
WITHOUT_NUMBER = LineKey(-(2**62) - 7, 0, 0, 0)
"""Of a row whose ID is not a whole number."""


def read(address: str) -> ListQuery:
    return read_list_query(parse_qsl(address, keep_blank_values=True))


@pytest.mark.parametrize(
    ("address", "query"),
    [
        ("state=rejected", ListQuery(State.REJECTED)),
        ("state=%20rejected&feed=&day=&after=", ListQuery(State.REJECTED)),
        (
            "state=pending&feed=callbacks&day=2026-11-20&after=callback-73001",
            ListQuery(State.PENDING, FeedName.CALLBACKS, DAY, LineKey.of_callback(73001)),
        ),
        ("state=delivered&after=1201-2201-3201-0", ListQuery(State.DELIVERED, after=KEY)),
        (
            "state=invalid&after=-4611686018427387911-0-0-0",
            ListQuery(State.INVALID, after=WITHOUT_NUMBER),
        ),
    ],
)
def test_an_address_is_read(address: str, query: ListQuery) -> None:
    assert read(address) == query


@pytest.mark.parametrize(
    "query",
    [
        ListQuery(State.REJECTED),
        ListQuery(State.PENDING, FeedName.CALLBACKS, DAY, LineKey.of_callback(7)),
        ListQuery(State.INVALID, after=WITHOUT_NUMBER),
    ],
)
def test_the_address_that_is_written_is_read_again(query: ListQuery) -> None:
    page, _, parameters = query.address(query.after).partition("?")
    assert (page, read(parameters)) == ("lines", query)
    assert "after" not in query.address()


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("", "Choose the state"),
        ("state=", "Choose the state"),
        ("state=lost", "state=lost does not exist: use pending, delivered,"),
        ("state=REJECTED", "state=REJECTED does not exist"),
        ("state=pending%00", "does not exist"),
        (f"state={'x' * 5000}", f"state={'x' * 60}… does not exist"),
        ("state=pending&state=pending", "state is given twice"),
        ("state=pending&feed=calls", "feed=calls does not exist: use statistics, callbacks."),
        ("state=pending&page=2", "page is not a parameter of this list: use state, feed, day"),
        *(
            (f"state=pending&day={day}", f"day={day} is not a day: write it like 2026-11-20.")
            for day in ("today", "2026-02-30", "20261120", "2026-W47-5", "0001-01-01", "9999-12-31")
        ),
        *(
            (f"state=pending&after={after}", f"after={after} is not the key of a line")
            for after in ("1201", "1-2-3", "callback-", f"callback-{2**63}", f"-{2**63 + 1}-0-0-0")
        ),
    ],
)
def test_a_wrong_address_says_what_is_right(address: str, says: str) -> None:
    with pytest.raises(ListQueryError) as found:
        read(address)
    assert says in str(found.value)


def test_the_day_is_that_of_settling_and_of_pending_lines_that_of_the_call() -> None:
    settled = ListQuery(State.REJECTED, FeedName.STATISTICS, DAY, KEY)
    assert settled.selection(BERLIN, 50) == LineQuery(
        State.REJECTED, 50, FeedName.STATISTICS, None, None, BEGINS, ENDS, None, KEY
    )
    pending = ListQuery(State.PENDING, day=DAY)
    assert pending.selection(BERLIN, 50) == LineQuery(State.PENDING, 50, None, BEGINS, ENDS)


@pytest.mark.parametrize(("day", "hours"), [(date(2026, 3, 29), 23), (date(2026, 10, 25), 25)])
def test_a_day_on_which_clocks_change_is_whole(day: date, hours: int) -> None:
    chosen = ListQuery(State.REJECTED, day=day).selection(BERLIN)
    assert chosen.settled_since is not None
    assert chosen.settled_until is not None
    assert (chosen.settled_until - chosen.settled_since).total_seconds() == hours * 3600


@pytest.mark.parametrize(
    ("day", "begins"),
    [
        (date(2026, 4, 23), datetime(2026, 4, 22, 22, tzinfo=UTC)),
        (date(2026, 4, 24), datetime(2026, 4, 23, 22, tzinfo=UTC)),  # clocks go from 0:00 to 1:00
        (date(2026, 4, 25), datetime(2026, 4, 24, 21, tzinfo=UTC)),
        (date(2026, 10, 30), datetime(2026, 10, 29, 22, tzinfo=UTC)),  # back from 0:00 to 23:00
    ],
)
def test_a_day_begins_when_the_one_before_ends_also_if_clocks_skip_midnight(
    day: date, begins: datetime
) -> None:
    cairo = ZoneInfo("Africa/Cairo")
    chosen = ListQuery(State.REJECTED, day=day)
    before = ListQuery(State.REJECTED, day=day - timedelta(days=1)).selection(cairo)
    assert chosen.selection(cairo).settled_since == before.settled_until == begins
    printed = chosen.command(cairo).split()
    since = printed[printed.index("--settled-from") + 1]
    assert parse_local_time(since, cairo) == begins


def test_the_commands_select_what_the_list_shows() -> None:
    query = ListQuery(State.REJECTED, FeedName.STATISTICS, DAY, KEY)
    window = "--settled-from 2026-11-20T00:00:00 --settled-to 2026-11-21T00:00:00"
    assert query.command(BERLIN) == (
        f"callstatsd lines --state rejected --feed statistics {window} --after 1201-2201-3201-0"
    )
    assert query.requeue_command(BERLIN) == (
        f"callstatsd requeue --state rejected {window} --feed statistics"
    )
    assert ListQuery(State.PENDING, day=DAY).command(BERLIN) == (
        "callstatsd lines --state pending --from 2026-11-20T00:00:00 --to 2026-11-21T00:00:00"
    )
    for state in (State.PENDING, State.DELIVERED):
        assert ListQuery(state).requeue_command(BERLIN) is None


def test_a_list_of_commands_goes_on_before_one_of_them() -> None:
    assert read_act_id([]) is None
    assert read_act_id([("after", " 12 ")]) == 12
    for parameters in (("after", "x"), ("after", "-1"), ("after", str(2**63)), ("before", "1")):
        with pytest.raises(ListQueryError):
            read_act_id([parameters])
