"""What happened to a call and its lines, and why a line is in its state. Pure."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from daemon.ingest.readiness import CallFacts, Clock, ReadinessRules
from daemon.ledger.acts import ActKind
from daemon.ledger.gaps import NotedGap
from daemon.ledger.overview import LedgerStatus, LineDetail
from daemon.lines import FeedName, LineKey, SkipReason, State, Streak, Subject, missing_keys
from daemon.reports.callback_history import CallbackHistory, source_sentences
from daemon.reports.formats import iso_time, local_time, plural
from daemon.reports.gaps import call_sentences
from daemon.reports.meanings import (
    FILTERED_REMEDY,
    MEANINGS,
    REMEDIES,
    RESUME,
    requeue_command,
)


@dataclass(frozen=True, slots=True)
class CallHistory:
    """What both databases have about a call; source parts are None if it cannot be reached."""

    call_id: int
    lines: Sequence[LineDetail]
    status: LedgerStatus
    clock: Clock | None
    facts: CallFacts | None
    keys: Sequence[LineKey]
    gaps: Sequence[NotedGap] = ()

    @property
    def subject(self) -> Subject:
        """The call."""
        return Subject(FeedName.STATISTICS, self.call_id)


History = CallHistory | CallbackHistory

SHOWN = 200
"""Lines of a call that are shown to people; JSON has all."""
NAMED = 20
"""Keys that one sentence lists."""


def streak_command(streak: Streak, zone: ZoneInfo) -> str:
    """Return the command that sends exactly the lines of a streak again.

    Its times are whole seconds of the ACD's local time. In the hour that is repeated when clocks
    go back, the window is an hour longer, because a local time is read as the earlier of two.
    """
    since = streak.since.astimezone(zone)
    ends = streak.until.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=1)
    until = ends.astimezone(zone).replace(fold=0)
    until += ends - until
    return (
        "callstatsd requeue --state rejected --state not_found "
        f"--settled-from {since:%Y-%m-%dT%H:%M:%S} --settled-to {until:%Y-%m-%dT%H:%M:%S} "
        f"--feed {streak.feed}"
    )


def streak_sentence(streak: Streak) -> str:
    """Return how many lines a failing endpoint has refused, and what to do about it."""
    refused = streak.rejected + streak.not_found
    lines = plural(refused, "line" if streak.feed is FeedName.STATISTICS else "callback")
    was = "was" if refused == 1 else "were"
    return (
        f"{lines} {was} refused while the endpoint was failing. Once it works, send "
        f"{'it' if was == 'was' else 'them'} again:"
    )


def as_json(history: History, rules: ReadinessRules) -> dict[str, Any]:
    """Return `show --json`; times are ISO 8601 with offset."""
    row = "call_id" if isinstance(history, CallHistory) else "callback_id"
    return {
        row: history.subject.row_id,
        "lines": [_line_json(line) for line in history.lines],
        "note": " ".join(
            [
                *sentences(history, rules),
                *_of_acts(history.lines, rules.zone),
                times_of(rules.zone),
            ]
        ),
    }


def _line_json(line: LineDetail) -> dict[str, Any]:
    shown = {
        "key": str(line.key),
        "state": line.state.value,
        "attempts": line.attempts,
        "unanswered": line.unanswered,
        "last_status": line.last_status,
        "last_error": line.last_error,
        "taken_at": iso_time(line.taken_at),
        "next_try_at": iso_time(line.next_try_at),
        "settled_at": iso_time(line.settled_at),
        "record": None if line.record is None else json.loads(line.record),
    }
    return shown | ({"answer": line.answer} if line.key.feed is FeedName.CALLBACKS else {})


def sentences(history: History, rules: ReadinessRules) -> list[str]:
    """Return what the source has about it, and why it or its lines are still waiting."""
    if isinstance(history, CallbackHistory):
        return [*source_sentences(history), *_of_pending(history, rules)]
    parts = _of_the_source(history, rules)
    if history.lines:
        parts += _of_pending(history, rules)
        missing = missing_keys(history.keys, [line.key for line in history.lines])
        if missing and history.facts is not None:
            named = ", ".join(map(str, sorted(missing)[:NAMED]))
            more = f" and {len(missing) - NAMED:,} more" if len(missing) > NAMED else ""
            parts.append(
                f"{len(missing)} of its {len(history.keys)} lines are not taken yet: {named}{more}."
            )
    elif history.facts is not None and history.clock is not None:
        parts.append(why_not_taken(history.facts, history.clock, history.status, rules))
    return [*parts, *call_sentences(history.gaps, rules.zone)]


def rest_sentence(lines: int, shown: int) -> str | None:
    """Return how many lines are not shown; None if all are."""
    if lines <= shown:
        return None
    return f"These are the first {shown} lines of {lines:,}; {lines - shown:,} are not shown."


def heading(subject: Subject) -> str:
    """Return what to call a call or an event."""
    return f"{'Call' if subject.feed is FeedName.STATISTICS else 'Callback'} {subject.row_id}"


def show_command(subject: Subject) -> str:
    """Return the command that shows a call or an event."""
    option = "" if subject.feed is FeedName.STATISTICS else "--callback "
    return f"callstatsd show {option}{subject.row_id}"


def line_sentence(line: LineDetail, zone: ZoneInfo) -> str:
    """Return the state of a line in words: its outcome, or what happens next."""
    if line.state is not State.PENDING:
        when = "" if line.settled_at is None else f" at {local_time(line.settled_at, zone)}"
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
        again = f", tried again at {local_time(line.next_try_at, zone)}" if line.next_try_at else ""
        said = "no response" if line.last_status is None else f"answered {line.last_status}"
        reason = f" ({line.last_error})" if line.last_error else ""
        text = f"pending: {said}{reason}{again}."
    if (act := _act(line, zone)) is not None and _by_whom(line, zone) not in text:
        text += f" {act}."
    return f"{text} {_attempts(line)}".rstrip()


def next_step(line: LineDetail) -> tuple[str, str | None] | None:
    """Return what to do about a line, and the command for it; None if nothing is to be done."""
    if line.skip_reason is SkipReason.FILTERED:
        return FILTERED_REMEDY, None
    if line.state is State.SKIPPED and line.skip_reason is not SkipReason.NO_ID:
        return None
    remedy = REMEDIES.get(line.state)
    return None if remedy is None else (remedy, requeue_command(line.state, line.key))


def times_of(zone: ZoneInfo) -> str:
    """Return in which time zone all times are."""
    return f"Times are in the time zone {zone.key}."


def _by_whom(line: LineDetail, zone: ZoneInfo) -> str:
    """Return who requeued, discarded or backfilled a line; `an operator` if that is unknown."""
    when = "" if line.act_at is None else f" at {local_time(line.act_at, zone)}"
    return f"{line.act_who or 'an operator'}{when}"


def _act(line: LineDetail, zone: ZoneInfo) -> str | None:
    """Return the last operator command that changed a line."""
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
    """Return the last operator commands that changed a call's lines, each once."""
    acts = Counter(act for line in lines if (act := _act(line, zone)) is not None)
    return [f"{act}: {plural(number, 'line')}." for act, number in acts.items()]


def _attempts(line: LineDetail) -> str:
    """Return how often a line was sent, and what unanswered requests may mean."""
    if not line.attempts:
        return ""
    text = "Sent once" if line.attempts == 1 else f"Sent {line.attempts} times"
    if not line.unanswered:
        return f"{text}."
    some = "unanswered" if line.attempts == 1 else f"{line.unanswered} of them unanswered"
    meaning = {
        State.DELIVERED: "one of which may have been written too",
        State.CONFLICT: "so it was probably written the first time",
    }.get(line.state, "so it may have arrived")
    return f"{text}, {some}, {meaning}."


def why_not_taken(
    facts: CallFacts, clock: Clock, status: LedgerStatus, rules: ReadinessRules
) -> str:
    """Return why a call of the source has no line in the ledger."""
    ended = facts.ended
    if rules.clients_id is not None and facts.clients_id != rules.clients_id:
        return (
            f"It belongs to client {facts.clients_id}; this ledger takes calls of client "
            f"{rules.clients_id}."
        )
    if ended is None and facts.started is None:
        return "It has neither start nor end, so it is never taken."
    moment = ended or facts.started or clock.now
    if ended is None:
        due = moment + rules.stale_call_after
        waiting = f"It has no end yet; without one it is taken at {local_time(due, rules.zone)}."
    else:
        due = moment + rules.settle_delay
        waiting = f"It is taken after the settle delay, at {local_time(due, rules.zone)}."
    if clock.now < due:
        return waiting
    if status.start_from is None:
        return "No call has ever been taken: start `callstatsd run`."
    if moment < status.start_from:
        start_from = local_time(status.start_from, rules.zone)
        return (
            f"It ended before CALLSTATSD_START_FROM ({start_from}), "
            "so only `callstatsd backfill` takes it."
        )
    if not status.active:
        return "It is ready to be taken, but no daemon is running: start `callstatsd run`."
    # A call without an end is ready by its start, so much later than that.
    passed = None if status.watermark is None else status.watermark + rules.settle_delay
    if passed is None or passed < due:
        return "It is ready and will be taken by the next poll."
    return (
        "It should have been taken, but its rows appeared late. The next sweep takes it if it "
        "ended within CALLSTATSD_LOOKBACK; else use `callstatsd backfill`."
    )


def _of_the_source(history: CallHistory, rules: ReadinessRules) -> list[str]:
    facts = history.facts
    if history.clock is None:
        return ["The source database cannot be reached, so this is only what the ledger has."]
    if facts is None:
        gone = "no longer in" if history.lines else "not in"
        return [f"Call {history.call_id} is {gone} the source's StatisticsPartA."]
    started = local_time(facts.started, rules.zone) if facts.started else "at an unknown time"
    ended = f"ended {local_time(facts.ended, rules.zone)}" if facts.ended else "has no end"
    rows = (
        f"{plural(facts.visits, 'group visit')}, {plural(facts.legs, 'attempt')} and "
        f"{plural(facts.codes, 'transaction code')}"
    )
    lines = plural(len(history.keys), "line")
    return [
        f"Call {history.call_id} started {started} and {ended}.",
        f"The source has {rows} for it, which make {lines}.",
    ]


def _of_pending(history: History, rules: ReadinessRules) -> list[str]:
    status = history.status
    pending = [line for line in history.lines if line.state is State.PENDING]
    parts: list[str] = []
    if not pending:
        return parts
    if status.operator_pause is not None:
        parts.append(f"Sending is paused by an operator: {RESUME}")
    elif not status.active:
        parts.append("No daemon is running: `callstatsd run` sends what is pending.")
    elif status.state == "paused":
        parts.append(f"The sender is paused ({status.reason}).")
        if status.retry_at:
            parts.append(f"It tries again at {local_time(status.retry_at, rules.zone)}.")
    killed = not status.active and status.started_at is not None and status.stopped_at is None
    unclean = status.unclean_at
    if killed or (unclean is not None and any(line.pending_since <= unclean for line in pending)):
        parts.append(
            "The daemon was killed while this was pending: it may have arrived, and will be sent "
            "again under the same key."
        )
    return parts
