"""The audit: source, ledger and what Salesforce received, compared line by line."""

import math
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

import asyncpg

from daemon.demo.standin import Received, StandIn
from tests.support.call_centre import CallCentre

UNSETTLED = 64
"""Answered lines that a crash may repeat, beside those in flight."""
SAME_MOMENT = 0.005
"""Seconds by which two clocks of one machine may differ here."""
SEEN_LATE = 1.0
"""Seconds after a break in which the stand-in may still read what was written before it."""
MOST_SHOWN = 30

EXPECTED = """
SELECT a.ID, coalesce(g.ID, 0), coalesce(l.ID, 0), coalesce(c.ID, 0)
FROM StatisticsPartA a
JOIN AcdStatisticsPartB g ON g.StatisticsPartAID = a.ID
LEFT JOIN StatisticsPartB l ON l.StatisticsPartAID = a.ID AND l.AcdStatisticsPartBID = g.ID
LEFT JOIN AcdStatisticsTransactionCodes c
    ON c.StatisticsPartAID = a.ID AND c.StatisticsPartBID = l.ID
WHERE a.dtCallEnd IS NOT NULL
UNION ALL
SELECT a.ID, coalesce(l.AcdStatisticsPartBID, 0), l.ID, coalesce(c.ID, 0)
FROM StatisticsPartA a
JOIN StatisticsPartB l ON l.StatisticsPartAID = a.ID
LEFT JOIN AcdStatisticsTransactionCodes c
    ON c.StatisticsPartAID = a.ID AND c.StatisticsPartBID = l.ID
WHERE a.dtCallEnd IS NOT NULL AND NOT EXISTS (
    SELECT FROM AcdStatisticsPartB g
    WHERE g.StatisticsPartAID = a.ID AND g.ID = l.AcdStatisticsPartBID)
UNION ALL
SELECT a.ID, coalesce(c.AcdStatisticsPartBID, 0), coalesce(c.StatisticsPartBID, 0), c.ID
FROM StatisticsPartA a
JOIN AcdStatisticsTransactionCodes c ON c.StatisticsPartAID = a.ID
WHERE a.dtCallEnd IS NOT NULL AND NOT EXISTS (
    SELECT FROM StatisticsPartB l
    WHERE l.StatisticsPartAID = a.ID AND l.ID = c.StatisticsPartBID)
UNION ALL
SELECT a.ID, 0, 0, 0
FROM StatisticsPartA a
WHERE a.dtCallEnd IS NOT NULL
  AND NOT EXISTS (SELECT FROM AcdStatisticsPartB g WHERE g.StatisticsPartAID = a.ID)
  AND NOT EXISTS (SELECT FROM StatisticsPartB l WHERE l.StatisticsPartAID = a.ID)
"""
"""Section 3 of the contract, written down once more: the keys of all lines of ended calls."""

LINES = """
SELECT feed, call_id, group_id, leg_id, code_id, ordinal, state, generation, backfill, call_ended,
       taken_at, settled_at, unanswered, last_error
FROM line
"""

REQUESTED = "SELECT ID FROM AcdEvents WHERE AcdEventTypesID = 3"
"""The callback requests; none of them names a call."""


@dataclass(frozen=True, slots=True)
class Break:
    """A moment from which answers may be lost: an instance died, froze or lost its lock.

    By `time.monotonic`. `repeats` bounds how many answered lines may be sent again for it, `within`
    how many seconds before it they were answered.
    """

    at: float
    repeats: int
    within: float = math.inf

    def may_lose(self, one: "Sent") -> bool:
        """Whether the request was written before the break, as far as the stand-in can tell."""
        return one.started <= self.at + SEEN_LATE and one.ended >= self.at - self.within


@dataclass(frozen=True, slots=True)
class Audit:
    """What the comparison counted; a fault is in none of the counts but in the list raised."""

    lines: int
    requests: int
    pending: int
    lost: int
    repeated_unanswered: int
    repeated_after_breaks: int
    overlaps_with_orphans: int
    unexplained: int

    @property
    def repeated(self) -> int:
        return self.repeated_unanswered + self.repeated_after_breaks


@dataclass(frozen=True, slots=True)
class Sent:
    """One request by the wall clock's monotonic times, freed of what the audit does not need."""

    key: str
    lane: str
    status: int
    started: float
    ended: float

    @property
    def judged(self) -> bool:
        """Whether the answer is one after which the line is settled."""
        return 200 <= self.status < 300 or self.status in {404, 409, 418, 422}


class AuditError(AssertionError):
    """What is wrong, one sentence for each line."""

    def __init__(self, faults: Sequence[str], audit: Audit) -> None:
        more = len(faults) - MOST_SHOWN
        shown = "\n  ".join([*faults[:MOST_SHOWN], *([f"and {more} more"] if more > 0 else [])])
        super().__init__(f"{len(faults)} faults:\n  {shown}\n{audit}")
        self.faults = list(faults)
        self.audit = audit


async def audit(
    centre: CallCentre,
    *,
    breaks: Iterable[Break] = (),
    source: asyncpg.Connection | None = None,
    all_settled: bool = True,
    request_timeout: float = 60.0,
    callbacks: bool = False,
) -> Audit:
    """Compare, and return the counts; raise `AuditError` with a list if anything is wrong.

    `centre.db` must see the ledger, and the source too unless another connection is given.
    """
    return await examine(
        centre.db,
        received(centre.salesforce),
        breaks=breaks,
        source=source,
        all_settled=all_settled,
        request_timeout=request_timeout,
        callbacks=callbacks,
    )


async def examine(
    db: asyncpg.Connection,
    requests: Sequence["Sent"],
    *,
    breaks: Iterable[Break],
    source: asyncpg.Connection | None = None,
    all_settled: bool = True,
    request_timeout: float,
    callbacks: bool = False,
) -> Audit:
    """Do the same with a connection that sees the ledger, and what was received."""
    acd = source or db
    expected = {"-".join(str(part) for part in row) for row in await acd.fetch(EXPECTED)}
    lines = {_key(row): row for row in await db.fetch(LINES)}
    if callbacks:
        expected |= {f"callback-{row[0]}" for row in await acd.fetch(REQUESTED)}
    return judge(
        expected,
        lines,
        requests,
        breaks=sorted(breaks, key=lambda one: one.at),
        all_settled=all_settled,
        request_timeout=request_timeout,
        skew=time.time() - time.monotonic(),
    )


def _key(row: Any) -> str:
    """The line's key as it is sent, written down once more."""
    if row["feed"] == "callbacks":
        return f"callback-{row['call_id']}"
    return f"{row['call_id']}-{row['group_id']}-{row['leg_id']}-{row['code_id']}"


def received(salesforce: StandIn) -> list[Sent]:
    """All requests in the order in which they came."""
    found: Iterable[Received] = sorted(salesforce.requests, key=lambda one: one.started)
    return [Sent(one.key, one.lane, one.status, one.started, one.ended) for one in found]


def judge(
    expected: Collection[str],
    lines: Mapping[str, Mapping[str, Any]],
    requests: Sequence[Sent],
    *,
    breaks: Sequence[Break],
    all_settled: bool,
    request_timeout: float,
    skew: float,
) -> Audit:
    """Compare without looking anything up; `skew` takes monotonic times to the wall clock."""
    faults: list[str] = []
    lost = sorted(set(expected) - set(lines))
    faults += [f"{key}: in the source, not in the ledger" for key in lost]
    faults += [f"{key}: in the ledger, not in the source" for key in set(lines) - set(expected)]

    by_key: defaultdict[str, list[Sent]] = defaultdict(list)
    by_lane: defaultdict[str, list[Sent]] = defaultdict(list)
    for one in requests:
        by_key[one.key].append(one)
        by_lane[one.lane].append(one)
    faults += [f"{key}: sent, not in the ledger" for key in set(by_key) - set(lines)]

    unanswered = after_breaks = unexplained = pending = 0
    repeats_of: defaultdict[int, int] = defaultdict(int)
    for key, line in lines.items():
        sent = by_key[key]
        pending += line["state"] == "pending"
        if line["state"] == "pending" and all_settled:
            faults.append(f"{key}: still pending, {line['last_error']}")
        if line["state"] in {"delivered", "conflict", "not_found"} and not any(
            one.judged for one in sent
        ):
            faults.append(f"{key}: {line['state']}, but Salesforce never judged it")
            lost.append(key)
        if line["settled_at"] is not None:
            settled = line["settled_at"].timestamp() - skew
            faults += [
                f"{key}: sent {one.started - settled:.3f} s after it was {line['state']}"
                for one in sent
                if one.started > settled + SAME_MOMENT
                and not any(each.at <= one.started and each.may_lose(one) for each in breaks)
            ]
        left = line["unanswered"]
        answered = [one for one in sent if one.judged]
        for earlier, later in pairwise(answered):
            broke = [
                place
                for place, one in enumerate(breaks)
                if one.may_lose(earlier) and one.at <= later.ended
            ]
            if broke:
                after_breaks += 1
                repeats_of[broke[0]] += 1
            elif left > 0:
                left -= 1
                unanswered += 1
            else:
                unexplained += 1
                faults.append(
                    f"{key}: answered {earlier.status} and sent again "
                    f"{later.started - earlier.ended:.3f} s later, for no reason"
                )
    for place, count in repeats_of.items():
        if count > breaks[place].repeats:
            faults.append(
                f"break {place + 1} repeated {count} answered lines, more than its "
                f"{breaks[place].repeats}"
            )

    orphaned = 0
    for lane, sent in by_lane.items():
        orphans, wrong = overlaps(sent, breaks, request_timeout)
        orphaned += orphans
        faults += [f"record {lane}: {first} and {second} overlapped" for first, second in wrong]
        faults += inversions(lane, sent, lines)

    result = Audit(
        lines=len(lines),
        requests=len(requests),
        pending=pending,
        lost=len(lost),
        repeated_unanswered=unanswered,
        repeated_after_breaks=after_breaks,
        overlaps_with_orphans=orphaned,
        unexplained=unexplained,
    )
    if faults:
        raise AuditError(faults, result)
    return result


def overlaps(
    sent: Sequence[Sent], breaks: Sequence[Break], request_timeout: float
) -> tuple[int, list[tuple[str, str]]]:
    """Count overlaps with requests whose sender had gone, and list those nobody can excuse."""
    excused, wrong = 0, []
    for place, one in enumerate(sent):
        orphan = one.ended - one.started > request_timeout - SAME_MOMENT or any(
            one.started <= each.at <= one.ended for each in breaks
        )
        for later in sent[place + 1 :]:
            if later.started >= one.ended:
                break
            if orphan:
                excused += 1
            else:
                wrong.append((one.key, later.key))
    return excused, wrong


def inversions(
    lane: str, sent: Sequence[Sent], lines: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """List lines of a record that were first sent after a later one that the ledger got with them.

    A line that came into the ledger later may be sent later, whatever its order. Lines of two feeds
    have no order.
    """
    first: dict[str, float] = {}
    for one in sent:
        first.setdefault(one.key, one.started)

    def order(key: str) -> tuple[bool, datetime, int, int]:
        line = lines[key]
        return (line["backfill"], line["call_ended"], line["call_id"], line["ordinal"])

    keys = sorted((key for key in first if key in lines), key=order)
    found = []
    for place, key in enumerate(keys):
        found += [
            f"record {lane}: {later} was first sent {first[key] - first[later]:.3f} s before {key}"
            for later in keys[place + 1 :]
            if first[later] < first[key]
            and lines[key].get("feed") == lines[later].get("feed")
            and lines[key]["taken_at"] <= lines[later]["taken_at"]
            and not lines[key]["generation"]
        ][:1]
    return found
