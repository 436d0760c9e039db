"""What each statement reads of months of calls: by which indexes, and how many rows at most."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from daemon.delivery.pending_reader import FETCH
from daemon.ingest.columns import MIN_TIME
from daemon.ingest.reader import PAGE
from daemon.ledger.locks import ACTIVE_LOCK, DAEMON_LOCK, RETENTION_LOCK, UPGRADE_LOCK
from daemon.ledger.overview import LATELY
from daemon.ledger.sending import NEWEST_PAGE

CALLS = 200_000
DAYS = 100
PER_DAY = CALLS // DAYS
PER_HOUR = PER_DAY // 24
SKIPPED = 3000
BACKLOG = 20_000
BLOCKS = 4 * 32 * 60
"""Rows that a BRIN index may touch beside those asked for: of some ranges of 32 pages."""

FEED = "statistics"
BEFORE_ALL = (-(2**63), 0, 0, 0)
NOW = datetime.now(UTC)
READY = NOW - timedelta(minutes=2)
LARGE = {"statisticsparta", "acdstatisticspartb", "statisticspartb", "line",
         "acdstatisticstransactioncodes", "acdevents"}  # fmt: skip

CALL_IDS = list(range(CALLS // 2 + 1, CALLS // 2 + 2001))
WINDOW = (READY - timedelta(hours=1), READY)
PAGED = (*WINDOW, MIN_TIME, 0, None, PAGE)
STALE = NOW - timedelta(hours=12)
POLLED = (STALE - timedelta(seconds=6), STALE, MIN_TIME, 0, None, PAGE)
KEYS = [CALL_IDS[:64], [0] * 64, [0] * 64, [0] * 64]
HUNG_UP = list(range(CALLS // 2 + 18, CALLS // 2 + 1281, 20))
"""Calls whose one line has the key A-0-0-0."""
OLD_KEYS = [[call_id // 2 // 20 * 20 + 18 for call_id in HUNG_UP], [0] * 64, [0] * 64, [0] * 64]
CODED_KEYS = [HUNG_UP, [0] * 64, [7] * 64, [8] * 64]
SENT_KEYS = [HUNG_UP, [0] * 64, [0] * 64, [0] * 64]


@dataclass(frozen=True, slots=True)
class Look:
    """How a query shall look at large tables: by these indexes, touching so many rows at most."""

    indexes: frozenset[str]
    rows: int
    arguments: tuple[Any, ...] = ()
    also: frozenset[str] = frozenset()
    """Indexes that are as good beside them; which is chosen hangs on the statistics' sample."""


def by(*indexes: str, rows: int, given: Iterable[Any] = (), also: Iterable[str] = ()) -> Look:
    return Look(frozenset(indexes), rows, tuple(given), frozenset(also))


def small(*arguments: Any) -> Look:
    """Nothing but the ledger's own few rows, or the catalogues."""
    return Look(frozenset(), 0, arguments)


def entries(keys: list[list[int]], state: str) -> list[list[Any]]:
    """Lines to store, as parallel arrays."""
    count = len(keys[0])
    return [
        *keys, [1] * count, ["003000000000000"] * count, [None] * count, [NOW] * count,
        [state] * count, ["{}"] * count, [None] * count, [None] * count,
    ]  # fmt: skip


def outcomes(keys: list[list[int]]) -> list[list[Any]]:
    """Outcomes of lines that were sent, as parallel arrays."""
    count = len(keys[0])
    return [
        *keys, [0] * count, ["delivered"] * count, [True] * count, [False] * count,
        [False] * count, [200] * count, [None] * count, [0.1] * count, [None] * count,
    ]  # fmt: skip


FEW_KEYS = [column[:20] for column in OLD_KEYS]
"""Of a streak: one line of each record."""
LANE = (["003000000000000"], [1.0], [1], ["003000000000001"])
"""One lane to hold for a second after a try, one to free."""

PARTS = {"rows", "expansion", "records"}
"""Of source.sql: pieces of other statements, not statements."""

ROWS_OF_CALLS = (
    "statisticsparta_pkey",
    "acdstatisticspartb_statisticspartaid",
    "statisticspartb_statisticspartaid",
    "acdstatisticstransactioncodes_statisticspartaid",
)

READER = {
    "columns": small(["statisticsparta"]),
    "indexed": small(["statisticsparta"]),
    "views": small(["statisticsparta"]),
    "clock": small(),
    "encoding": small(),
}

SOURCE = {
    "newest_start": by("statisticsparta_dtcallstart", rows=1),
    "newest_clients": by("statisticsparta_dtcallstart", rows=100_000, given=(1,)),
    "group_names": small(),
    "ended": by("statisticsparta_dtcallend", rows=2 * PER_HOUR, given=PAGED),
    "count_ended": by(
        "statisticsparta_dtcallend", rows=PER_DAY + 10, given=(NOW - timedelta(days=1), NOW, None)
    ),
    "never_ended": by("statisticsparta_dtcallstart", rows=10, given=POLLED),
    "late_codes": by(
        "acdstatisticstransactioncodes_dtcreated",
        "statisticsparta_pkey",
        rows=4 * PER_HOUR,
        given=(*PAGED, READY, STALE, NOW - timedelta(days=365)),
    ),
    "about": by(*ROWS_OF_CALLS, rows=12, given=(100_014,)),
    "lines": by(*ROWS_OF_CALLS, rows=6 * len(CALL_IDS), given=(CALL_IDS,)),
    "keys": by(*ROWS_OF_CALLS, rows=6 * len(CALL_IDS), given=(CALL_IDS,)),
    "digest": by(*ROWS_OF_CALLS, rows=6 * len(CALL_IDS), given=(CALL_IDS,)),
    "lines_by_key": by(*ROWS_OF_CALLS, rows=6 * 64, given=(KEYS[0], *KEYS)),
}

EVENTS = CALLS
EVENT_IDS = list(range(EVENTS // 2, EVENTS // 2 + 50))
WAITED = NOW - timedelta(minutes=30)
CALLBACKS = {
    # A day and two hours, as the frequent sweep has it; one event in seven is a request.
    "ready": by(
        "acdevents_dtcreated",
        "statisticsparta_pkey",
        rows=PER_DAY * 26 // 24 * 2,
        given=(NOW - timedelta(hours=26), READY, MIN_TIME, 0, None, PAGE, WAITED),
    ),
    "requests": by(
        "acdevents_pkey", "statisticsparta_pkey", rows=2 * 50, given=(EVENT_IDS, 1024 * 1024)
    ),
    "service_numbers": small(),
    "digest": small(EVENT_IDS),
    "created": by("acdevents_pkey", rows=50, given=(EVENT_IDS,)),
    "about": by("acdevents_pkey", "statisticsparta_pkey", rows=2, given=(EVENT_IDS[0],)),
}

LEDGER = {
    "version": small(),
    "migrated": small(),
    "encoding": small(),
    "lacking_rights": small(),
    "may_create": small("callstatsd"),
    "binding": small(),
    "bind": small(None, "acd", ["jtelstats"], True),
    "progress": small(FEED),
    "start": small(FEED, NOW, NOW),
    "in_bulk": small(),
    # What the calls have is looked at, and where the new lines go.
    "take": by(
        "line_pkey", rows=3 * 64, given=(*entries(CODED_KEYS, "pending"), False, None, FEED)
    ),
    "advance": small(FEED, NOW + timedelta(days=1), NOW),
    "swept": small(FEED, NOW),
    # Without an id of its own choice: the window's lines, found by their place in the table.
    "without_id": by(
        "line_call_ended",
        "line_settled_at",
        rows=6 * PER_DAY + 2 * BLOCKS,
        given=(NOW - timedelta(hours=26), "no_id", *BEFORE_ALL, PAGE, NOW - timedelta(99), FEED),
    ),
    "identify": by("line_pkey", rows=64, given=(*entries(OLD_KEYS, "pending"), "no_id", FEED)),
    "pull_back": small(FEED, NOW, NOW),
    "in_order": small(),
    "pending": by(
        "line_pending", rows=FETCH + 64 + 16, given=(FETCH + 64, ["003000000000000"], FEED)
    ),
    # All of the page, and the lines of each record in it: none is the first of its record.
    "newest": by(
        "line_pending",
        "line_lane",
        rows=NEWEST_PAGE * 100,
        given=(False, NEWEST_PAGE, None, None, None, FEED),
        also=["line_pkey"],
    ),
    "streak_began": by("line_failed", rows=64 + 1000, given=(*FEW_KEYS, FEED), also=["line_pkey"]),
    "streak_ended": by("line_failed", rows=1000, given=(FEED,)),
    "streak_lasts": small(FEED),
    "probe_failed": by("line_pkey", rows=1, given=(100_014, 0, 0, 0, FEED)),
    "refused_last": by("line_failed", rows=100, given=(100, FEED)),
    "prune_streaks": by("line_failed", rows=1000),
    "settle": by(
        "line_pkey", rows=64, given=(*outcomes(SENT_KEYS), [0] * 64, [], 3600.0, FEED, False)
    ),
    "settle_lanes": small(*LANE),
    "settle_void": by(
        "line_pkey",
        rows=64,
        given=(*OLD_KEYS, [0] * 64, [False] * 64, [200] * 64, FEED),
    ),
    "pause_began": small(FEED),
    "count_pending": by("line_pending", rows=60_000, given=(FEED,)),
    "pause_ended": small(FEED),
    "proven": small(FEED),
    "endpoint_proven": small(FEED),
    "succeed": small("a-2", 16400, "a-1"),
    "write_heartbeat": small("host", 1, "0", 1.0, "sending", None, None, False, "a-2", 16400, None),
    "write_feed_pauses": small(["callbacks"], ["unanswered"], [1.0]),
    "wishes": small(UPGRADE_LOCK + 1, UPGRADE_LOCK + 9999),
    "lock": small(ACTIVE_LOCK),
    "last_holder": small(),
    "end_silent_holder": small(ACTIVE_LOCK, 8.0),
    "lock_patiently": small(ACTIVE_LOCK),
    "announce_upgrade": small(UPGRADE_LOCK + 1),
    "instance": small(),
    "ping": small(),
    "lock_retention": small(RETENTION_LOCK),
    "may_prune": small(RETENTION_LOCK),
    "prune": by("line_listed", rows=2 * 1000, given=(95 * 86400.0, 1000, FEED)),
    "drop_records": by("line_listed", rows=100, given=(30 * 86400.0, 1000, FEED)),
    # Two acts that lines name, and as many as there are that no line does.
    "prune_acts": by("line_act", rows=2, given=(95 * 86400.0, 1000)),
    "prune_lanes": by("line_lane", rows=10, given=(1000,)),
    "prune_alerts": small(95 * 86400.0, 1000),
    "begin_alerts": small(3600.0),
    "open_alert": small(30.0),
    "alert_due": by("line_unalerted", rows=BACKLOG, given=(3600.0, 5.0)),
    "number_alert": by(
        rows=BACKLOG,
        given=(1,),
        also=("line_unalerted", "line_alerted", "line_kept", "line_failed"),
    ),
    "withdraw_alert": small(1),
    "alert_raised": small(1, 102039),
    "alert_failed": small(1, "no response from the ACD", 1.0, 1),
    "give_up_alert": by("line_alerted", rows=BACKLOG, given=(1, "no response from the ACD")),
    "alert_status": by("line_unalerted", "line_alerted", rows=BACKLOG),
    "channel": small(),
    "announce_daemon": small(DAEMON_LOCK),
    "daemon_waiting": small(DAEMON_LOCK),
    "digest": by("line_pkey", rows=2 * len(CALL_IDS), given=(CALL_IDS, FEED)),
    "known": by("line_pkey", rows=2 * len(CALL_IDS), given=(CALL_IDS, FEED)),
    "filtered": by("line_pkey", rows=2 * len(CALL_IDS), given=(CALL_IDS, FEED, "filtered")),
    "settled_keys": by("line_pkey", rows=2 * len(CALL_IDS), given=(CALL_IDS, FEED)),
}

CHOICE = (["rejected"], None, None, None, False, None, None, None)
AN_HOUR = (NOW - timedelta(days=2), NOW - timedelta(days=2) + timedelta(hours=1))
SETTLED = (["delivered"], None, None, None, False, *AN_HOUR, FEED)
PLANNED = {"pending": "in_order", "newest": "in_order", "take": "in_bulk"}
"""Statements before which another one tells the planner what it cannot know."""

DESK = {
    # An operator's question about everything: it may read everything where lines are narrow.
    "counts": by(rows=10**9, also=["line_listed", "line_pending"]),
    "waiting": by(
        "line_pending",
        "line_kept",
        rows=2 * BACKLOG,
        given=(FEED, LATELY),
        also=["line_failed", "line_listed"],
    ),
    "settled_lately": by("line_settled_at", rows=PER_HOUR + BLOCKS, given=(FEED, LATELY)),
    "oldest": by("line_pending", rows=BACKLOG + 1, given=(FEED,)),
    "status": small(FEED),
    "streaks": by("line_failed", rows=1000, given=(50, FEED)),
    "pace": by(
        "line_pending",
        "line_settled_at",
        rows=BACKLOG + PER_HOUR + BLOCKS,
        given=(FEED, NOW - timedelta(minutes=1)),
    ),
    "active": small(ACTIVE_LOCK),
    "pause": small("maintenance"),
    "resume": small(1),
    "allow_probe": by("line_pending", "line_pkey", rows=4, given=(FEED,)),
    "any_pending": by("line_pending", rows=1),
    "begin_act": small(
        *("requeue", "alice@acd1", ["rejected"], None, None, None, None, None, False, False),
        *(None, False, None),
    ),
    "end_act": small(1),
    "latest_acts": small(2, None),
    "select_lines": by(
        "line_kept", rows=SKIPPED, given=(*CHOICE, *BEFORE_ALL, "", 1000), also=["line_failed"]
    ),
    "count_lines": by("line_kept", rows=SKIPPED, given=CHOICE, also=["line_failed"]),
    "lock_lines": by("line_pkey", rows=64, given=(*OLD_KEYS, FEED)),
    "requeue": by("line_pkey", rows=64, given=(*OLD_KEYS, FEED, ["delivered"] * 64, 1)),
    "discard": by("line_pkey", rows=64, given=(*OLD_KEYS, FEED, ["delivered"] * 64, 1)),
    "renew": by(
        "line_pkey",
        rows=64,
        given=(*entries(OLD_KEYS, "pending"), None, ["delivered"], 1, FEED, None),
    ),
    "window": by(
        "line_call_ended",
        rows=3 * PER_DAY + BLOCKS,
        given=(NOW - timedelta(days=2), NOW - timedelta(days=1), FEED),
    ),
    "window_pending": by(
        "line_pending", rows=BACKLOG, given=(NOW - timedelta(days=2), NOW - timedelta(days=1), FEED)
    ),
    "pruned": small(FEED),
    "of_call": by("line_pkey", rows=4, given=(100_014, None, FEED)),
    "subjects_of_lane": by("line_lane", rows=200, given=("003000000000000", 10)),
    "now": small(),
    "count_act": small(1, 64),
    "notify": small(),
    "oldest_pending": by("line_pending", rows=20, given=(5, FEED)),
    "latest_failed": by("line_failed", rows=100, given=(10, FEED)),
    "settled_by_hour": by(
        "line_settled_at", rows=2 * PER_DAY + BLOCKS, given=(NOW - timedelta(days=1), FEED)
    ),
}


FEEDS = ["statistics", "callbacks"]
ANYWHERE = (None,) * 9
"""The place before all lines of a list."""
MIDDLE = (NOW - timedelta(days=50), False, NOW - timedelta(days=50), CALLS // 2, 1, 0, 0, 0, FEED)
A_DAY = (NOW - timedelta(days=40), NOW - timedelta(days=39))
PENDING_DAY = (NOW - timedelta(days=50), NOW - timedelta(days=49))
LISTED = ("delivered", None, None)
LISTING = {
    "for_values": small(),
    "place": by("line_pkey", rows=1, given=(100_014, 0, 0, 0, FEED)),
    "list_pending": by("line_pending", rows=110, given=(FEEDS, 101, *ANYWHERE[1:], None, None)),
    "list_settled": by("line_listed", rows=110, given=(FEEDS, 101, *LISTED, *ANYWHERE)),
    "list_chosen": by(
        "line_call_ended",
        rows=3 * PER_DAY + BLOCKS,
        given=(FEEDS, 101, *LISTED, *ANYWHERE, *A_DAY, None),
    ),
}
LISTS = [
    (
        "list_pending",
        by("line_pending", rows=110, given=(FEEDS, 101, *MIDDLE[1:], None, None)),
    ),
    (
        "list_pending",
        by("line_pending", rows=110, given=(FEEDS, 101, *ANYWHERE[1:], *PENDING_DAY)),
    ),
    ("list_settled", by("line_listed", rows=110, given=(FEEDS, 101, *LISTED, *MIDDLE))),
    # One in a thousand, or none: as few rows are read as there are.
    (
        "list_settled",
        by("line_listed", rows=110, given=(FEEDS, 101, "rejected", None, None, *ANYWHERE)),
    ),
    (
        "list_settled",
        by("line_listed", rows=0, given=(["callbacks"], 101, *LISTED, *ANYWHERE)),
    ),
    (
        "list_settled",
        by("line_listed", rows=110, given=(FEEDS, 101, "delivered", *A_DAY, *ANYWHERE)),
    ),
    (
        "list_chosen",
        by(
            "line_lane",
            rows=100,
            given=(FEEDS, 101, *LISTED, *ANYWHERE, None, None, "003000000000000"),
        ),
    ),
]
