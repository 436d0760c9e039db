"""The data line in each of its forms: as read, as taken, as to be sent, as settled. Pure."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple, Self

from daemon.language import mark

MICROSECOND = timedelta(microseconds=1)
"""The least difference of two times in Postgres."""
BIGINT_MIN = -(2**63)
BIGINT_MAX = 2**63 - 1


class FeedName(StrEnum):
    """Kinds of rows in the source that become lines; each is taken and paused for itself."""

    STATISTICS = "statistics"
    CALLBACKS = "callbacks"


class Subject(NamedTuple):
    """A call, or an event that asks for a callback: the row that lines are made of."""

    feed: FeedName
    row_id: int

    def __str__(self) -> str:
        """Return the form that people see and search for."""
        return f"callback-{self.row_id}" if self.feed is FeedName.CALLBACKS else str(self.row_id)


class SkipReason(StrEnum):
    """Why a line is skipped; the line's `error` has it as a sentence."""

    NO_ID = "no_id"
    DISCARDED = "discarded"
    FILTERED = "filtered"


NO_ID = mark("no Salesforce id in the code's or the call's UserData")
"""The `error` of a line skipped for `SkipReason.NO_ID`."""
KEPT_OUT = mark("kept out by {setting}")
"""The `error` of a line skipped for `SkipReason.FILTERED`."""
DISCARDED = mark("discarded by operator")
"""The `error` of a line skipped for `SkipReason.DISCARDED`, as the ledger's statement writes it."""


class State(StrEnum):
    """States of a line; all but `pending` are final."""

    PENDING = "pending"
    DELIVERED = "delivered"
    CONFLICT = "conflict"
    NOT_FOUND = "not_found"
    REJECTED = "rejected"
    EXPIRED = "expired"
    INVALID = "invalid"
    SKIPPED = "skipped"


class PauseReason(StrEnum):
    """Why the sender pauses, a feed or all of them."""

    UNAVAILABLE = "unavailable"
    UNANSWERED = "unanswered"
    UNAUTHORIZED = "unauthorized"
    API_LIMIT = "api_limit"
    CONFIGURATION = "configuration"
    ENDPOINT_MISSING = "endpoint_missing"
    ENDPOINT_FAILING = "endpoint_failing"
    OPERATOR = "operator"


ORG_REASONS = {PauseReason.UNAVAILABLE, PauseReason.UNAUTHORIZED, PauseReason.API_LIMIT}
"""Pauses of the whole org; the others, but for an operator's, are of one feed's endpoint."""


NON_NUMERIC_ID = -(2**62)
"""Keys have ids below this for source ids that are not whole numbers: one for each such id."""
NOT_AN_ID = "is not a whole number from -2^62 to 2^63-1"
"""What is wrong with a column that holds such an id, or a number that low."""
_ID = r"(-?\d{1,19})"
_KEY = re.compile(rf"{_ID}-{_ID}-{_ID}-{_ID}|callback-{_ID}", re.ASCII)


class LineKey(NamedTuple):
    """Ids of StatisticsPartA, AcdStatisticsPartB, StatisticsPartB and the transaction code.

    Written `A-G-B-T`; 0 means that the line has no such row, and a dangling id is kept as
    stored. A callback has the id of AcdEvents first and no others, and is written `callback-ID`.
    """

    call_id: int
    group_id: int
    leg_id: int
    code_id: int
    feed: FeedName = FeedName.STATISTICS

    @classmethod
    def of_callback(cls, event_id: int) -> Self:
        """Return the key of the line of a callback request."""
        return cls(event_id, 0, 0, 0, FeedName.CALLBACKS)

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read the form that `str` writes; None for any other text."""
        match = _KEY.fullmatch(text)
        if match is None:
            return None
        ids = [int(part) for part in match.groups() if part]
        if not BIGINT_MIN <= min(ids) <= max(ids) <= BIGINT_MAX:
            return None
        return cls.of_callback(*ids) if match[5] else cls._make((*ids, FeedName.STATISTICS))

    @property
    def ids(self) -> tuple[int, int, int, int]:
        """The four ids."""
        return self[:4]

    @property
    def source_id(self) -> int:
        """The id of the row of the source that the line belongs to: a call's, or an event's."""
        return self[0]

    @property
    def subject(self) -> Subject:
        """The call or event that the line belongs to."""
        return Subject(self.feed, self.source_id)

    @property
    def log_fields(self) -> dict[str, str | int]:
        """What log events say of the line."""
        row = "callback_id" if self.feed is FeedName.CALLBACKS else "call_id"
        return {"key": str(self), row: self.source_id}

    def __str__(self) -> str:
        """Return the form that users, logs and the Idempotency-Key header see."""
        if self.feed is FeedName.CALLBACKS:
            return f"callback-{self.source_id}"
        return f"{self.call_id}-{self.group_id}-{self.leg_id}-{self.code_id}"


def missing_keys(keys: Iterable[LineKey], known: Collection[LineKey]) -> set[LineKey]:
    """Return the keys of lines that are not known, as `take` would insert them.

    Known is also a code that is on another leg by now, and a leg without a code that is in another
    group by now or whose codes were deleted.
    """
    legs = {(key.call_id, key.leg_id) for key in known}
    legs_of_code = defaultdict(set)
    for key in known:
        legs_of_code[key.call_id, key.code_id].add(key.leg_id)
    return {
        key
        for key in set(keys).difference(known)
        if not (
            legs_of_code.get((key.call_id, key.code_id), set()) - {key.leg_id}
            if key.code_id
            else key.leg_id and (key.call_id, key.leg_id) in legs
        )
    }


class Digest(NamedTuple):
    """A checksum of the lines of some calls: their number, and the sum of their keys' hashes.

    Equal digests mean equal keys. Postgres computes the hashes; should two
    servers ever do it differently, digests differ and the keys themselves are compared.
    """

    lines: int
    hashes: Decimal | None


class Covered(NamedTuple):
    """How far lines are in the ledger, by instants of the source's clock.

    All that ended up to the watermark; calls without an end that started up to `never_ended_until`.
    """

    watermark: datetime
    never_ended_until: datetime | None


class DataLine(NamedTuple):
    """One row of the expanded call, before it is a record; column values as the driver read them.

    `Any` marks numbers that a foreign view may have as another type; `record` validates them.
    Times are aware (UTC) where the column is `timestamptz`, naive ACD server time where it is
    `timestamp`. `call_ended` is the instant that orders calls: the call's end, or its start
    where the end was never determined.
    """

    key: LineKey
    ordinal: int
    call_ended: datetime
    call_number: Any
    outbound: Any
    a_number: str | None
    b_number: str | None
    call_user_data: str | None
    code_user_data: str | None
    agent_uid: str | None
    service_number: str | None
    service_name: str | None
    agent_group: str | None
    configuration_group: str | None
    call_start: datetime | None
    call_end: datetime | None
    call_cause: Any
    has_leg: bool
    leg_start: datetime | None
    leg_alert: datetime | None
    leg_connect: datetime | None
    leg_end: datetime | None
    leg_connres: Any
    leg_cause: Any
    export_key: str | None


class NewLine(NamedTuple):
    """A line to take: its record as it will be sent, or why there is none."""

    key: LineKey
    ordinal: int
    lane: str
    salesforce_id: str | None
    call_ended: datetime
    state: State
    record: str | None
    error: str | None = None
    skip_reason: SkipReason | None = None


class PendingLine(NamedTuple):
    """A line to send; the sender knows nothing of what its record means."""

    key: LineKey
    generation: int
    backfill: bool
    call_ended: datetime
    ordinal: int
    lane: str
    salesforce_id: str | None
    record: str
    attempts: int
    tries: int
    lane_tries: int

    @property
    def order(self) -> tuple[bool, datetime, int, int, LineKey]:
        """Live before backfill, then by (end of call, call, ordinal)."""
        return (self.backfill, self.call_ended, self.key.source_id, self.ordinal, self.key)


class Settlement(NamedTuple):
    """The result of one attempt. Seconds: `age` since it began, `wait` until the next.

    `sent` counts an attempt, `failed` one that may expire the line, `unanswered` one that may
    have arrived, `attempts` the number of earlier ones. `hold` makes the whole lane wait as well
    (after `lane_tries`), `free` ends that wait. `answer` is what was
    said of a delivered line.
    """

    key: LineKey
    generation: int
    lane: str
    state: State
    sent: bool
    age: float
    failed: bool = False
    unanswered: bool = False
    status: int | None = None
    error: str | None = None
    wait: float | None = None
    hold: bool = False
    free: bool = False
    lane_tries: int = 0
    attempts: int = 0
    answer: str | None = None


class FailingAnswers(NamedTuple):
    """What the ledger knows of an endpoint that fails (`endpoint_failing`).

    `paused` while such a pause lasts. `refused` has the first line of each record that was refused
    in the row that may lead to one.
    """

    paused: bool
    refused: Mapping[str, LineKey]


class Streak(NamedTuple):
    """Lines that were settled from `since` to `until` while the endpoint failed, and still are."""

    since: datetime
    until: datetime
    rejected: int
    not_found: int
    feed: FeedName = FeedName.STATISTICS
