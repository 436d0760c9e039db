"""What happened to a call and its lines, and why a line is in its state. Pure."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from daemon.ingest.readiness import CallFacts, Clock, ReadinessRules
from daemon.language import ENGLISH, _, grouped, mark, ngettext, use_language
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
    error_text,
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
    if streak.feed is FeedName.CALLBACKS:
        return ngettext(
            "{count} callback was refused while the endpoint was failing. Once it works, send it "
            "again:",
            "{count} callbacks were refused while the endpoint was failing. Once it works, send "
            "them again:",
            refused,
        )
    return ngettext(
        "{count} line was refused while the endpoint was failing. Once it works, send it again:",
        "{count} lines were refused while the endpoint was failing. Once it works, send them "
        "again:",
        refused,
    )


def as_json(history: History, rules: ReadinessRules) -> dict[str, Any]:
    """Return `show --json`, whose note is English; times are ISO 8601 with offset."""
    row = "call_id" if isinstance(history, CallHistory) else "callback_id"
    with use_language(ENGLISH):
        note = [
            *sentences(history, rules),
            *_of_acts(history.lines, rules.zone),
            times_of(rules.zone),
        ]
    return {
        row: history.subject.row_id,
        "lines": [_line_json(line) for line in history.lines],
        "note": " ".join(note),
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
            parts.append(_missing_sentence(missing, len(history.keys)))
    elif history.facts is not None and history.clock is not None:
        parts.append(why_not_taken(history.facts, history.clock, history.status, rules))
    return [*parts, *call_sentences(history.gaps, rules.zone)]


def _missing_sentence(missing: set[LineKey], lines: int) -> str:
    """Return which of a call's lines are not in the ledger; the first of them by name."""
    keys, more = ", ".join(map(str, sorted(missing)[:NAMED])), len(missing) - NAMED
    if more <= 0:
        return _(
            "{missing} of its {lines} lines are not taken yet: {keys}.",
            missing=len(missing),
            lines=lines,
            keys=keys,
        )
    return _(
        "{missing} of its {lines} lines are not taken yet: {keys} and {more} more.",
        missing=len(missing),
        lines=lines,
        keys=keys,
        more=grouped(more),
    )


def rest_sentence(lines: int, shown: int) -> str | None:
    """Return how many lines are not shown; None if all are."""
    if lines <= shown:
        return None
    return _(
        "These are the first {shown} lines of {lines}; {more} are not shown.",
        shown=shown,
        lines=grouped(lines),
        more=grouped(lines - shown),
    )


def heading(subject: Subject) -> str:
    """Return what to call a call or an event."""
    if subject.feed is FeedName.CALLBACKS:
        return _("Callback {event}", event=subject.row_id)
    return _("Call {call}", call=subject.row_id)


def show_command(subject: Subject) -> str:
    """Return the command that shows a call or an event."""
    option = "" if subject.feed is FeedName.STATISTICS else "--callback "
    return f"callstatsd show {option}{subject.row_id}"


def line_sentence(line: LineDetail, zone: ZoneInfo) -> str:
    """Return the state of a line in words: its outcome, or what happens next."""
    said = [_of_settled(line, zone) if line.state is not State.PENDING else _of_waiting(line, zone)]
    if (act := _act(line, zone)) is not None and _by_whom(line, zone) not in said[0]:
        said.append(f"{act}.")
    if line.attempts:
        said.append(_attempts(line))
    return " ".join(said)


def _of_settled(line: LineDetail, zone: ZoneInfo) -> str:
    meaning = _(MEANINGS[line.state])
    if line.state is State.SKIPPED:
        meaning = _("it is not sent again") if line.attempts else _("it was not sent")
    if line.skip_reason is SkipReason.DISCARDED:
        meaning = _("withdrawn by {whom}", whom=_by_whom(line, zone))
    elif line.last_error:
        meaning += f": {error_text(line.last_error)}"
    if line.settled_at is None:
        return f"{line.state}: {meaning}."
    time = local_time(line.settled_at, zone)
    return _("{state} at {time}: {meaning}.", state=line.state, time=time, meaning=meaning)


def _of_waiting(line: LineDetail, zone: ZoneInfo) -> str:
    if line.generation and line.next_try_at is None and line.last_error is None:
        return _("pending: put back by {whom}, to be sent next.", whom=_by_whom(line, zone))
    if not line.attempts:
        answer = _("not sent yet")
    elif line.last_status is None:
        answer = _("no response")
    else:
        answer = _("answered {status}", status=line.last_status)
    if line.last_error:
        answer += f" ({error_text(line.last_error)})"
    if not line.attempts or not line.next_try_at:
        return f"{State.PENDING}: {answer}."
    time = local_time(line.next_try_at, zone)
    return _("pending: {answer}, tried again at {time}.", answer=answer, time=time)


def next_step(line: LineDetail) -> tuple[str, str | None] | None:
    """Return what to do about a line, and the command for it; None if nothing is to be done."""
    if line.skip_reason is SkipReason.FILTERED:
        return _(FILTERED_REMEDY), None
    if line.state is State.SKIPPED and line.skip_reason is not SkipReason.NO_ID:
        return None
    remedy = REMEDIES.get(line.state)
    return None if remedy is None else (_(remedy), requeue_command(line.state, line.key))


def times_of(zone: ZoneInfo) -> str:
    """Return in which time zone all times are."""
    return _("Times are in the time zone {zone}.", zone=zone.key)


def _by_whom(line: LineDetail, zone: ZoneInfo) -> str:
    """Return who requeued, discarded or backfilled a line, and when, as it follows `by`."""
    who = line.act_who or _("an operator")
    if line.act_at is None:
        return who
    return _("{who} at {time}", who=who, time=local_time(line.act_at, zone))


def _act(line: LineDetail, zone: ZoneInfo) -> str | None:
    """Return the last operator command that changed a line."""
    if line.act is None:
        return None
    done = {
        ActKind.REQUEUE: mark("Put back by {whom}"),
        ActKind.DISCARD: mark("Withdrawn by {whom}"),
        ActKind.BACKFILL: mark("Sent again with a backfill by {whom}")
        if line.generation
        else mark("Taken by a backfill by {whom}"),
    }
    return _(done[ActKind(line.act)], whom=_by_whom(line, zone))


def _of_acts(lines: Sequence[LineDetail], zone: ZoneInfo) -> list[str]:
    """Return the last operator commands that changed a call's lines, each once, in English."""
    acts = Counter(act for line in lines if (act := _act(line, zone)) is not None)
    return [f"{act}: {plural(number, 'line')}." for act, number in acts.items()]


def _attempts(line: LineDetail) -> str:
    """Return how often a line was sent, and what unanswered requests may mean."""
    if not line.unanswered:
        return ngettext("Sent once.", "Sent {count} times.", line.attempts)
    said = {
        State.DELIVERED: mark(
            "Sent {attempts} times, {unanswered} of them unanswered, one of which may have been "
            "written too."
        ),
        State.CONFLICT: mark(
            "Sent {attempts} times, {unanswered} of them unanswered, so it was probably written "
            "the first time."
        ),
    }.get(
        line.state,
        mark("Sent {attempts} times, {unanswered} of them unanswered, so it may have arrived."),
    )
    if line.attempts == 1:
        said = mark("Sent once, unanswered, so it may have arrived.")
    return _(said, attempts=line.attempts, unanswered=line.unanswered)


def why_not_taken(
    facts: CallFacts, clock: Clock, status: LedgerStatus, rules: ReadinessRules
) -> str:
    """Return why a call of the source has no line in the ledger."""
    ended = facts.ended
    if rules.clients_id is not None and facts.clients_id != rules.clients_id:
        return _(
            "It belongs to client {other}; this ledger takes calls of client {client}.",
            other=facts.clients_id,
            client=rules.clients_id,
        )
    if ended is None and facts.started is None:
        return _("It has neither start nor end, so it is never taken.")
    moment = ended or facts.started or clock.now
    if ended is None:
        due = moment + rules.stale_call_after
        waiting = mark("It has no end yet; without one it is taken at {time}.")
    else:
        due = moment + rules.settle_delay
        waiting = mark("It is taken after the settle delay, at {time}.")
    if clock.now < due:
        return _(waiting, time=local_time(due, rules.zone))
    if status.start_from is None:
        return _("No call has ever been taken: start `callstatsd run`.")
    if moment < status.start_from:
        return _(
            "It ended before CALLSTATSD_START_FROM ({time}), so only `callstatsd backfill` takes "
            "it.",
            time=local_time(status.start_from, rules.zone),
        )
    if not status.active:
        return _("It is ready to be taken, but no daemon is running: start `callstatsd run`.")
    # A call without an end is ready by its start, so much later than that.
    passed = None if status.watermark is None else status.watermark + rules.settle_delay
    if passed is None or passed < due:
        return _("It is ready and will be taken by the next poll.")
    return _(
        "It should have been taken, but its rows appeared late. The next sweep takes it if it "
        "ended within CALLSTATSD_LOOKBACK; else use `callstatsd backfill`."
    )


def _of_the_source(history: CallHistory, rules: ReadinessRules) -> list[str]:
    call, facts = history.call_id, history.facts
    if history.clock is None:
        return [_("The source database cannot be reached, so this is only what the ledger has.")]
    if facts is None and history.lines:
        return [_("Call {call} is no longer in the source's StatisticsPartA.", call=call)]
    if facts is None:
        return [_("Call {call} is not in the source's StatisticsPartA.", call=call)]
    return [
        _started_and_ended(call, facts, rules.zone),
        _(
            "The source has {visits}, {attempts} and {codes} for it, which make {lines}.",
            visits=ngettext("{count} group visit", "{count} group visits", facts.visits),
            attempts=ngettext("{count} attempt", "{count} attempts", facts.legs),
            codes=ngettext("{count} transaction code", "{count} transaction codes", facts.codes),
            lines=ngettext("{count} line", "{count} lines", len(history.keys)),
        ),
    ]


def _started_and_ended(call: int, facts: CallFacts, zone: ZoneInfo) -> str:
    said = {
        (True, True): mark("Call {call} started {started} and ended {ended}."),
        (True, False): mark("Call {call} started {started} and has no end."),
        (False, True): mark("Call {call} started at an unknown time and ended {ended}."),
        (False, False): mark("Call {call} started at an unknown time and has no end."),
    }[facts.started is not None, facts.ended is not None]
    started, ended = (
        None if time is None else local_time(time, zone) for time in (facts.started, facts.ended)
    )
    return _(said, call=call, started=started, ended=ended)


def _of_pending(history: History, rules: ReadinessRules) -> list[str]:
    status = history.status
    pending = [line for line in history.lines if line.state is State.PENDING]
    parts: list[str] = []
    if not pending:
        return parts
    if status.operator_pause is not None:
        parts.append(_("Sending is paused by an operator: {resume}", resume=_(RESUME)))
    elif not status.active:
        parts.append(_("No daemon is running: `callstatsd run` sends what is pending."))
    elif status.state == "paused":
        parts.append(_("The sender is paused ({reason}).", reason=status.reason))
        if status.retry_at:
            again = local_time(status.retry_at, rules.zone)
            parts.append(_("It tries again at {time}.", time=again))
    killed = not status.active and status.started_at is not None and status.stopped_at is None
    unclean = status.unclean_at
    if killed or (unclean is not None and any(line.pending_since <= unclean for line in pending)):
        parts.append(
            _(
                "The daemon was killed while this was pending: it may have arrived, and will be "
                "sent again under the same key."
            )
        )
    return parts
