"""What `show` tells: the story of a call, and why a line is where it is. Pure."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from daemon.ingest.readiness import CallFacts, Clock, ReadinessRules
from daemon.ledger.acts import ActKind
from daemon.ledger.operator import LedgerStatus, LineDetail
from daemon.lines import LineKey, SkipReason, State, Streak, missing_keys
from daemon.reports.meanings import MEANINGS, REMEDIES, requeue_command


@dataclass(frozen=True, slots=True)
class CallHistory:
    """All that both databases know of a call; source parts are None while it is away."""

    call_id: int
    lines: Sequence[LineDetail]
    status: LedgerStatus
    clock: Clock | None
    facts: CallFacts | None
    keys: Sequence[LineKey]


SHOWN = 200
"""Lines of a call that people are shown; programs get all."""
NAMED = 20
"""Keys to name in a sentence."""


def streak_command(streak: Streak, zone: ZoneInfo) -> str:
    """Return the command that sends the lines of a streak again, and no others.

    Its times are whole seconds of the ACD's clocks; in the hour that these repeat, the window
    grows by that hour, as a local time is read as the earlier of two.
    """
    since = streak.since.astimezone(zone)
    ends = streak.until.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=1)
    until = ends.astimezone(zone).replace(fold=0)
    until += ends - until
    return (
        "callstatsd requeue --state rejected --state not_found "
        f"--settled-from {since:%Y-%m-%dT%H:%M:%S} --settled-to {until:%Y-%m-%dT%H:%M:%S}"
    )


def streak_sentence(streak: Streak) -> str:
    """Say what a failing endpoint has refused, and what to do about it."""
    lines = _count(streak.rejected + streak.not_found, "line")
    was = "was" if lines == "1 line" else "were"
    return (
        f"{lines} {was} refused while the endpoint was failing. Once it works, send "
        f"{'it' if was == 'was' else 'them'} again:"
    )


def as_json(history: CallHistory, rules: ReadinessRules) -> dict[str, Any]:
    """Return `show --json` (contract, section 8); times are ISO 8601 with offset."""
    return {
        "call_id": history.call_id,
        "lines": [
            {
                "key": str(line.key),
                "state": line.state.value,
                "attempts": line.attempts,
                "unanswered": line.unanswered,
                "last_status": line.last_status,
                "last_error": line.last_error,
                "taken_at": _iso(line.taken_at),
                "next_try_at": _iso(line.next_try_at),
                "settled_at": _iso(line.settled_at),
                "record": None if line.record is None else json.loads(line.record),
            }
            for line in history.lines
        ],
        "note": " ".join(
            [
                *sentences(history, rules),
                *_of_acts(history.lines, rules.zone),
                times_of(rules.zone),
            ]
        ),
    }


def sentences(history: CallHistory, rules: ReadinessRules) -> list[str]:
    """Tell the call: what the source has of it, and what holds it or its lines."""
    told = _of_the_source(history, rules)
    if history.lines:
        told += _of_pending(history, rules)
        missing = missing_keys(history.keys, [line.key for line in history.lines])
        if missing and history.facts is not None:
            named = ", ".join(map(str, sorted(missing)[:NAMED]))
            more = f" and {len(missing) - NAMED:,} more" if len(missing) > NAMED else ""
            told.append(
                f"{len(missing)} of its {len(history.keys)} lines are not taken yet: {named}{more}."
            )
    elif history.facts is not None and history.clock is not None:
        told.append(why_not_taken(history.facts, history.clock, history.status, rules))
    return told


def rest_sentence(lines: int, shown: int) -> str | None:
    """Say how many lines are not shown; None if all are."""
    if lines <= shown:
        return None
    return f"These are the first {shown} lines of {lines:,}; {lines - shown:,} are not shown."


def line_sentence(line: LineDetail, zone: ZoneInfo) -> str:
    """Tell one line: what came of it, and what happens next."""
    if line.state is not State.PENDING:
        when = "" if line.settled_at is None else f" at {_local(line.settled_at, zone)}"
        reason = f": {line.last_error}" if line.last_error else ""
        ending = MEANINGS[line.state]
        if line.skip_reason is SkipReason.DISCARDED:
            ending, reason = f"withdrawn by {_by_whom(line, zone)}", ""
        elif line.state is State.SKIPPED:
            ending = "it is not sent again" if line.attempts else "it was not sent"
        text = f"{line.state}{when}: {ending}{reason}."
    elif line.generation and line.next_try_at is None and line.last_error is None:
        text = f"pending: put back by {_by_whom(line, zone)}, to be sent next."
    elif line.attempts == 0:
        reason = f" ({line.last_error})" if line.last_error else ""
        text = f"pending: not sent yet{reason}."
    else:
        again = f", tried again at {_local(line.next_try_at, zone)}" if line.next_try_at else ""
        said = "no answer came" if line.last_status is None else f"answered {line.last_status}"
        reason = f" ({line.last_error})" if line.last_error else ""
        text = f"pending: {said}{reason}{again}."
    if (act := _act(line, zone)) is not None and _by_whom(line, zone) not in text:
        text += f" {act}."
    return f"{text} {_attempts(line)}".rstrip()


def next_step(line: LineDetail) -> tuple[str, str | None] | None:
    """Return what to do about a line and the command for it; None where nothing is to be said."""
    if line.state is State.SKIPPED and line.skip_reason is not SkipReason.NO_ID:
        return None
    remedy = REMEDIES.get(line.state)
    return None if remedy is None else (remedy, requeue_command(line.state, line.key.call_id))


def times_of(zone: ZoneInfo) -> str:
    """Name the zone, once for all times."""
    return f"Times are those of {zone.key}."


def _by_whom(line: LineDetail, zone: ZoneInfo) -> str:
    """Name who put a line back, withdrew it or took it; `an operator` where that is not known."""
    when = "" if line.act_at is None else f" at {_local(line.act_at, zone)}"
    return f"{line.act_who or 'an operator'}{when}"


def _act(line: LineDetail, zone: ZoneInfo) -> str | None:
    """Tell the last act on a line."""
    if line.act is None:
        return None
    done = {
        ActKind.REQUEUE: "Put back",
        ActKind.DISCARD: "Withdrawn",
        ActKind.BACKFILL: "Sent again with a backfill"
        if line.generation
        else "Taken by a backfill",
    }
    return f"{done[ActKind(line.act)]} by {_by_whom(line, zone)}"


def _of_acts(lines: Sequence[LineDetail], zone: ZoneInfo) -> list[str]:
    """Tell the last acts on a call's lines, each once."""
    acts = Counter(act for line in lines if (act := _act(line, zone)) is not None)
    return [f"{act}: {_count(number, 'line')}." for act, number in acts.items()]


def _attempts(line: LineDetail) -> str:
    """Tell how often a line was sent, and what the unanswered times may mean."""
    if not line.attempts:
        return ""
    text = "Sent once" if line.attempts == 1 else f"Sent {line.attempts} times"
    if not line.unanswered:
        return f"{text}."
    some = "unanswered" if line.attempts == 1 else f"{line.unanswered} of them unanswered"
    meaning = {
        State.DELIVERED: "one of which may have been written too",
        State.CONFLICT: "so probably it was written that first time",
    }.get(line.state, "so it may have arrived")
    return f"{text}, {some}, {meaning}."


def why_not_taken(
    facts: CallFacts, clock: Clock, status: LedgerStatus, rules: ReadinessRules
) -> str:
    """Say why a call of the source has no line in the ledger."""
    ended = facts.ended
    if rules.clients_id is not None and facts.clients_id != rules.clients_id:
        return f"It is client {facts.clients_id}'s; this ledger takes client {rules.clients_id}'s."
    if ended is None and facts.started is None:
        return "It has neither start nor end, so it is never taken."
    moment = ended or facts.started or clock.now
    if ended is None:
        due = moment + rules.stale_call_after
        waiting = f"It has no end yet; without one it is taken at {_local(due, rules.zone)}."
    else:
        due = moment + rules.settle_delay
        waiting = f"It is taken after the settle delay, at {_local(due, rules.zone)}."
    if clock.now < due:
        return waiting
    if status.start_from is None:
        return "Nothing was ever taken: start `callstatsd run`."
    if moment < status.start_from:
        start_from = _local(status.start_from, rules.zone)
        return (
            f"It was over before CALLSTATSD_START_FROM ({start_from}), "
            "so it is left to `callstatsd backfill`."
        )
    if not status.active:
        return "It is ready to be taken, but no daemon runs: `callstatsd run`."
    # A call without an end is ready by its start, so much later than that.
    passed = None if status.watermark is None else status.watermark + rules.settle_delay
    if passed is None or passed < due:
        return "It is ready, and taken with the next poll."
    return (
        "It should have been taken: its rows appeared late. The next sweep brings it in, if it "
        "lies inside CALLSTATSD_LOOKBACK; else `callstatsd backfill` does."
    )


def _of_the_source(history: CallHistory, rules: ReadinessRules) -> list[str]:
    facts = history.facts
    if history.clock is None:
        return ["The source database is away, so this is only what the ledger has."]
    if facts is None:
        gone = "no longer in" if history.lines else "not in"
        return [f"Call {history.call_id} is {gone} the source's StatisticsPartA."]
    started = _local(facts.started, rules.zone) if facts.started else "at an unknown time"
    ended = f"ended {_local(facts.ended, rules.zone)}" if facts.ended else "has no end"
    rows = (
        f"{_count(facts.visits, 'group visit')}, {_count(facts.legs, 'attempt')} and "
        f"{_count(facts.codes, 'transaction code')}"
    )
    lines = _count(len(history.keys), "line")
    return [
        f"Call {history.call_id} started {started} and {ended}.",
        f"The source has {rows} for it, which give {lines}.",
    ]


def _of_pending(history: CallHistory, rules: ReadinessRules) -> list[str]:
    status = history.status
    pending = [line for line in history.lines if line.state is State.PENDING]
    told: list[str] = []
    if not pending:
        return told
    if status.operator_pause is not None:
        told.append("Sending is paused by an operator: `callstatsd resume` lets it go on.")
    elif not status.active:
        told.append("No daemon runs: `callstatsd run` will send what is pending.")
    elif status.state == "paused":
        told.append(f"The sender is paused ({status.reason}).")
        if status.retry_at:
            told.append(f"It tries again at {_local(status.retry_at, rules.zone)}.")
    killed = not status.active and status.started_at is not None and status.stopped_at is None
    unclean = status.unclean_at
    if killed or (unclean is not None and any(line.pending_since <= unclean for line in pending)):
        told.append(
            "The daemon was killed while this was pending: it may have arrived, and is sent again "
            "under the same key."
        )
    return told


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _local(moment: datetime, zone: ZoneInfo) -> str:
    return moment.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
