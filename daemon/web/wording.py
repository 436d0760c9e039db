"""What the page says of the daemon, in words for people who run a call centre. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from daemon.ledger.acts import RecordedAct, command_line, outcome
from daemon.ledger.operator import LedgerStatus, LineDetail
from daemon.lines import PauseReason, State
from daemon.reports.meanings import NEED_ACTION, PAUSES, Severity, StatusCard, requeue_command
from daemon.web.chart import HOUR, Bar, Chart
from daemon.web.masking import masked

BEHIND = timedelta(minutes=5)
"""More than this behind, the poller is said to catch up."""


@dataclass(frozen=True, slots=True)
class PageContext:
    """What is known at the moment, beside what the ledger says."""

    now: datetime
    zone: ZoneInfo
    settle_delay: timedelta
    active: bool
    source_away: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """Lines of one call that ended alike."""

    line: LineDetail
    lines: int

    @property
    def command(self) -> str | None:
        """What sends them again, where that may help."""
        return requeue_command(self.line.state, self.line.key.call_id)


@dataclass(frozen=True, slots=True)
class Operation:
    """What somebody did with a command; `who` is None where people are not named."""

    when: datetime
    who: str | None
    command: str
    outcome: str


LEDGER_AWAY = StatusCard(
    Severity.BAD,
    "The ledger's database cannot be used",
    "Nothing is taken or sent meanwhile, and nothing is lost: it goes on when this is over.",
    "`callstatsd check` says whether it is away or refuses, and what to do.",
)
NOT_READ_YET = StatusCard(Severity.CALM, "One moment", "The ledger has not been read yet.")

KIND_NAMES = {
    "delivered": "Delivered",
    "skipped": "Skipped",
    "refused": "Refused for good",
    "kept": "Needing action",
}

ANSWERS: dict[int | None, str] = {
    None: "no answer came",
    423: "its record was locked in Salesforce (423)",
    500: "Salesforce failed (500)",
}


def taking(status: LedgerStatus, view: PageContext) -> StatusCard:
    """Tell what the poller does."""
    if not view.active:
        if status.active:
            return StatusCard(
                Severity.CALM,
                "Standing by",
                f"{_other(status)} has the ledger; this one takes over when that one ends.",
            )
        return StatusCard(
            Severity.CALM, "Starting", "This instance is about to take the ledger over."
        )
    if view.source_away:
        return StatusCard(
            Severity.BAD,
            "The ACD's database cannot be used",
            f"{_taken_up_to(status, view)} The rest follows when this is over; nothing is lost.",
            "`callstatsd check` says whether it is away or refuses, and what to do.",
        )
    if status.watermark is None:
        return StatusCard(Severity.CALM, "Starting", "No call has been looked for yet.")
    if status.watermark < view.now - view.settle_delay - BEHIND:
        return StatusCard(
            Severity.CALM,
            "Catching up with calls",
            f"{_taken_up_to(status, view)} The rest follows: after a standstill, or as fast as "
            "a read-only replica gets them.",
        )
    return StatusCard(Severity.GOOD, "Taking calls", _taken_up_to(status, view))


def sending(
    status: LedgerStatus, view: PageContext, counts: Mapping[str, int] | None
) -> StatusCard:
    """Tell what the sender does, here or in the instance that has the ledger.

    `counts` are the lines per state that wait for somebody, None while they are not known.
    """
    if status.operator_pause is not None:
        reason = (
            f": “{masked(status.operator_pause.reason)}”" if status.operator_pause.reason else ""
        )
        return StatusCard(
            Severity.WARN,
            "Paused by an operator",
            f"Since {moment(status.operator_pause.since, view)}{reason}. "
            "Calls are taken all the same.",
            "`callstatsd resume` lets sending go on.",
        )
    if not status.active:
        return StatusCard(
            Severity.WARN,
            "Not sending",
            "No instance has the ledger at this moment.",
            "Usually nothing: one takes over within seconds.",
        )
    last = "Nothing was delivered yet."
    if status.last_delivered_at is not None:
        last = f"Last delivery: {moment(status.last_delivered_at, view)}."
    if status.state == "paused" and status.reason in PAUSES:
        said = PAUSES[status.reason]
        again = ""
        if status.retry_at is not None:
            again = f" Next try: {moment(status.retry_at, view)}."
        lost = "No line is lost by it."
        if status.reason == PauseReason.ENDPOINT_FAILING:
            lost = "Lines that were refused before that was clear, if any, are named below."
        return replace(said, text=f"{said.text} {lost}{again}")
    if status.state == "stopped":
        return StatusCard(Severity.WARN, "Not sending", f"The daemon is stopping. {last}")
    where = "" if view.active else f"{_other(status)} sends. "
    if counts is not None and not counts[State.PENDING]:
        if kept := sum(counts[state] for state in NEED_ACTION):
            need = f"{_count(kept, 'line')} {'needs' if kept == 1 else 'need'} your action"
            return StatusCard(Severity.CALM, "Nothing waits to be sent", f"{where}{need}. {last}")
        return StatusCard(Severity.GOOD, "All is sent", f"{where}Nothing waits. {last}")
    return StatusCard(Severity.GOOD, "Sending", f"{where}{last}")


def headline(taken: StatusCard, sent: StatusCard) -> str:
    """Tell both in a few words, the worse first."""
    order = list(Severity)
    worse, other = sorted((sent, taken), key=lambda say: -order.index(say.severity))
    if worse.severity is Severity.GOOD:
        return f"{taken.heading}, {sent.heading[0].lower()}{sent.heading[1:]}"
    return worse.heading if worse.heading != "Starting" else other.heading


def severity_of(*sayings: StatusCard) -> Severity:
    """Return the worst tone."""
    order = list(Severity)
    return max((saying.severity for saying in sayings), key=order.index)


def failures(lines: list[LineDetail], limit: int) -> list[Failure]:
    """Gather lines of one call that ended alike, newest first."""
    alike: dict[tuple[object, ...], list[LineDetail]] = {}
    for line in lines:
        kind = (line.key.call_id, line.state, line.last_status, line.last_error)
        alike.setdefault(kind, []).append(line)
    return [Failure(found[0], len(found)) for found in list(alike.values())[:limit]]


def operation(recorded: RecordedAct, view: PageContext, *, with_people: bool) -> Operation:
    """Tell an act; who it was only `with_people`, and never a number or address in its reason."""
    act = recorded.act
    if act.reason is not None:
        act = replace(act, reason=masked(act.reason))
    return Operation(
        recorded.began_at,
        act.who if with_people else None,
        f"callstatsd {command_line(act, view.zone)}",
        outcome(recorded),
    )


def why_waiting(line: LineDetail, view: PageContext) -> str:
    """Say why a line is still to be sent."""
    later = line.next_try_at is not None and line.next_try_at > view.now
    again = f", next try {moment(line.next_try_at, view)}" if later and line.next_try_at else ""
    if line.attempts == 0:
        reason = f"not sent yet ({line.last_error})" if line.last_error else "not sent yet"
        return f"{reason}{again}"
    tries = "tried once" if line.attempts == 1 else f"tried {line.attempts} times"
    said = ANSWERS.get(line.last_status, f"Salesforce answered {line.last_status}")
    detail = f": {line.last_error}" if line.last_error else ""
    return f"{tries}{again}; {said}{detail}"


def reason(line: LineDetail) -> str:
    """Say why a line failed: the answer's status and what came with it."""
    parts = [str(line.last_status)] if line.last_status is not None else []
    if line.last_error:
        parts.append(line.last_error)
    return ": ".join(parts)


def day(drawn: Chart, view: PageContext) -> str:
    """Tell the chart in a sentence or two."""
    counts = ", ".join(f"{drawn.of(kind):,} {name.lower()}" for kind, name in KIND_NAMES.items())
    busiest = drawn.busiest
    most = f"{clock(busiest.begins, view)}, with {_count(busiest.total, 'line')}"
    return f"{counts}. The busiest hour began at {most}."


def hour(bar: Bar, view: PageContext) -> str:
    """Tell one bar of the chart."""
    ends = clock(bar.begins + HOUR, view)
    counts = [
        f"{bar.of(kind):,} {name.lower()}" for kind, name in KIND_NAMES.items() if bar.of(kind)
    ]
    return f"{clock(bar.begins, view)}-{ends}: {', '.join(counts) or 'nothing'}"


def labelled(bar: Bar, view: PageContext) -> bool:
    """Whether the hour is named below the chart: every third is."""
    return bar.begins.astimezone(view.zone).hour % 3 == 0


def clock(when: datetime, view: PageContext) -> str:
    """Give hours and minutes on the ACD's clocks."""
    return when.astimezone(view.zone).strftime("%H:%M")


def moment(when: datetime, view: PageContext) -> str:
    """Give a time on the ACD's clocks, with the day unless it is today."""
    local = when.astimezone(view.zone)
    today = local.date() == view.now.astimezone(view.zone).date()
    return local.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M")


def duration(since: datetime, view: PageContext) -> str:
    """Give the time since then, roughly."""
    seconds = max(0.0, (view.now - since).total_seconds())
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * size or (seconds >= size and unit == "minute"):
            return _count(int(seconds // size), unit)
    return "less than a minute"


def _other(status: LedgerStatus) -> str:
    return f"The instance on {status.host} (process {status.pid})"


def _taken_up_to(status: LedgerStatus, view: PageContext) -> str:
    if status.watermark is None:
        return "No call has been taken yet."
    delay = view.settle_delay.total_seconds()
    wait = f" ({_count(round(delay), 'second')} after their end)" if delay >= 1 else ""
    return f"Calls that ended by {moment(status.watermark, view)} are taken{wait}."


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
