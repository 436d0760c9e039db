"""The page's sentences about the daemon, for people who run a call centre. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from daemon.ledger.acts import RecordedAct, command_line, outcome
from daemon.ledger.overview import (
    AlertStatus,
    LedgerStatus,
    LineDetail,
    LineFilter,
    ListedLine,
)
from daemon.lines import FeedName, PauseReason, State
from daemon.reports.alerts import alert_sentences
from daemon.reports.formats import local_time, plural, rough_duration
from daemon.reports.gaps import gap_sentence, receiver_sentence
from daemon.reports.lists import selected_again
from daemon.reports.meanings import (
    NEED_ACTION,
    PAUSES_OF,
    RESUME,
    Severity,
    StatusCard,
    remedy,
    requeue_command,
)
from daemon.reports.telegra import TelegraReport
from daemon.web.chart import HOUR, Bar, Chart
from daemon.web.list_query import ListQuery
from daemon.web.masking import masked

BEHIND = timedelta(minutes=5)
"""If the watermark is older than this, the page reports that calls are being caught up with."""


@dataclass(frozen=True, slots=True)
class PageContext:
    """What the page knows apart from the ledger's contents; `now` is the ledger's time."""

    now: datetime
    zone: ZoneInfo
    settle_delay: timedelta
    active: bool
    source_away: bool
    callback_delay: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class Failure:
    """Lines of one call with the same outcome, or a callback."""

    line: LineDetail
    lines: int

    @property
    def command(self) -> str | None:
        """The command that sends them again, if that may help."""
        return requeue_command(self.line.state, self.line.key)


@dataclass(frozen=True, slots=True)
class Operation:
    """A command that an operator ran; `who` is None if people are not named."""

    when: str
    who: str | None
    command: str
    outcome: str


@dataclass(frozen=True, slots=True)
class KeptLines:
    """Lines of a state that need action, and what to do about them."""

    state: State
    lines: int
    remedy: str


@dataclass(frozen=True, slots=True)
class Kept:
    """All lines that need action, of one feed or all, and the command that sends them again."""

    feed: FeedName | None
    heading: str
    states: Sequence[KeptLines]
    command: str


LEDGER_AWAY = StatusCard(
    Severity.BAD,
    "The ledger's database cannot be used",
    "Until it can be used again nothing is taken or sent, and nothing is lost.",
    "`callstatsd check` reports the cause and what to do.",
)
NOT_READ_YET = StatusCard(Severity.CALM, "One moment", "The ledger has not been read yet.")

KIND_NAMES = {
    "delivered": "Delivered",
    "skipped": "Skipped",
    "refused": "Refused for good",
    "kept": "Needing action",
}

ANSWERS: dict[int | None, str] = {
    None: "no response",
    423: "its record was locked in Salesforce (423)",
    500: "Salesforce failed (500)",
}


def taking(status: LedgerStatus, view: PageContext) -> StatusCard:
    """Return what the poller does."""
    if not view.active:
        if status.active:
            return StatusCard(
                Severity.CALM,
                "Standing by",
                f"{_other(status)} is active; this one takes over when that one ends.",
            )
        return StatusCard(Severity.CALM, "Starting", "This instance is about to become active.")
    if view.source_away:
        return StatusCard(
            Severity.BAD,
            "The ACD's database cannot be used",
            f"{_taken_up_to(status, view)} Later calls are taken when it can be used again; "
            "nothing is lost.",
            "`callstatsd check` reports the cause and what to do.",
        )
    if status.watermark is None:
        return StatusCard(Severity.CALM, "Starting", "No poll has been made yet.")
    if status.watermark < view.now - view.settle_delay - BEHIND:
        return StatusCard(
            Severity.CALM,
            "Catching up with calls",
            f"{_taken_up_to(status, view)} Later calls follow: the daemon was stopped for a while, "
            "or a read-only replica is behind.",
        )
    return StatusCard(Severity.GOOD, "Taking calls", _taken_up_to(status, view))


def receiving(report: TelegraReport, view: PageContext) -> StatusCard:
    """Return how the receiver of a Telegra ACD's notifications is doing."""
    said = [receiver_sentence(report.overview, view.zone)]
    said += [gap_sentence(gap, view.zone) for gap in report.gaps]
    heading, severity = "Receiving notifications", Severity.GOOD
    remedy = None
    if report.overview is None:
        heading, severity = "Notifications are refused", Severity.BAD
        remedy = "`callstatsd check` reports the cause and what to do."
    elif report.gaps:
        heading, severity = "Notifications were refused", Severity.WARN
        remedy = "Have the ACD repeat what it told in that time, if it can."
    return StatusCard(severity, heading, " ".join(said), remedy)


def sending(
    status: LedgerStatus,
    view: PageContext,
    counts: Mapping[str, int] | None,
    feed: FeedName = FeedName.STATISTICS,
) -> StatusCard:
    """Return what the sender does for a feed, in this instance or in the active one.

    `counts` are the lines per state that are pending or need action; None while unknown.
    """
    rows = "Calls" if feed is FeedName.STATISTICS else "Requests"
    if status.operator_pause is not None:
        reason = (
            f": “{masked(status.operator_pause.reason)}”" if status.operator_pause.reason else ""
        )
        return StatusCard(
            Severity.WARN,
            "Paused by an operator",
            f"Since {moment(status.operator_pause.since, view)}{reason}. {rows} are still taken.",
            RESUME,
        )
    if not status.active:
        return StatusCard(
            Severity.WARN,
            "Not sending",
            "No instance is active at this moment.",
            "Usually nothing: one takes over within seconds.",
        )
    last = "Nothing has been delivered yet."
    if status.last_delivered_at is not None:
        last = f"Last delivery: {moment(status.last_delivered_at, view)}."
    if status.state == "paused" and status.reason in PAUSES_OF[feed]:
        pause = PAUSES_OF[feed][status.reason]
        again = ""
        if status.retry_at is not None:
            again = f" Next try: {moment(status.retry_at, view)}."
        lost = "No line is lost."
        if status.reason == PauseReason.ENDPOINT_FAILING:
            lost = "Lines that were refused before the pause, if any, are listed below."
        return replace(pause, text=f"{pause.text} {lost}{again}")
    if status.state == "stopped":
        return StatusCard(Severity.WARN, "Not sending", f"The daemon is stopping. {last}")
    where = "" if view.active else f"{_other(status)} is sending. "
    if counts is not None and not counts[State.PENDING]:
        if lines := need_action(counts):
            need = f"{plural(lines, 'line')} {'needs' if lines == 1 else 'need'} your action"
            return StatusCard(Severity.CALM, "Nothing is pending", f"{where}{need}. {last}")
        return StatusCard(Severity.GOOD, "All is sent", f"{where}Nothing is pending. {last}")
    return StatusCard(Severity.GOOD, "Sending", f"{where}{last}")


def callbacks(
    status: LedgerStatus, view: PageContext, counts: Mapping[str, int] | None
) -> StatusCard:
    """Return what is done with callback requests; `counts` as for `sending`."""
    card = sending(status, view, counts, FeedName.CALLBACKS)
    taken = "No poll for requests has been made yet."
    if status.watermark is not None:
        taken = _up_to(
            "Requests that were created", status.watermark, view.callback_delay, "that", view
        )
    return replace(card, heading=f"Callbacks: {_in_a_sentence(card)}", text=f"{taken} {card.text}")


def headline(taken: StatusCard, sent: StatusCard, callbacks: StatusCard | None = None) -> str:
    """Return them in a few words, the worst first; callbacks only if nothing else is as bad."""
    order = list(Severity)
    cards = [sent, taken, *([] if callbacks is None else [callbacks])]
    worst, other, *_ = sorted(cards, key=lambda card: -order.index(card.severity))
    if worst.severity is Severity.GOOD:
        return f"{taken.heading}, {_in_a_sentence(sent)}"
    return worst.heading if worst.heading != "Starting" else other.heading


def failures(lines: list[LineDetail], limit: int) -> list[Failure]:
    """Group lines of one call with the same outcome, newest first."""
    alike: dict[tuple[object, ...], list[LineDetail]] = {}
    for line in lines:
        kind = (line.key.subject, line.state, line.last_status, line.last_error)
        alike.setdefault(kind, []).append(line)
    return [Failure(found[0], len(found)) for found in list(alike.values())[:limit]]


def need_action(counts: Mapping[str, int]) -> int:
    """Return how many lines need action, of counts per state."""
    return sum(counts[state] for state in NEED_ACTION)


def kept(
    backlogs: Iterable[Mapping[str, int]], feed: FeedName | None, zone: ZoneInfo
) -> Kept | None:
    """Return what needs action in these counts per state; None if nothing does.

    `feed` is that of the counts, if there are others.
    """
    lines = sum(map(Counter, backlogs), Counter[str]())
    states = [state for state in NEED_ACTION if lines[state]]
    if not states:
        return None
    total = need_action(lines)
    return Kept(
        feed,
        "1 line needs your action" if total == 1 else f"{total:,} lines need your action",
        [KeptLines(state, lines[state], remedy(state)) for state in states],
        selected_again(LineFilter(tuple(states), feed=feed), zone),
    )


def operation(recorded: RecordedAct, zone: ZoneInfo, *, with_people: bool) -> Operation:
    """Return an operator's command, its reason masked; who ran it only `with_people`."""
    act = recorded.act
    if act.reason is not None:
        act = replace(act, reason=masked(act.reason))
    return Operation(
        local_time(recorded.began_at, zone),
        act.who if with_people else None,
        f"callstatsd {command_line(act, zone)}",
        outcome(recorded),
    )


def alert(status: AlertStatus, view: PageContext) -> str:
    """Return when the last alert was raised, and what waits for the next."""
    return alert_sentences(status, lambda when: moment(when, view))


def why_waiting(line: LineDetail, view: PageContext) -> str:
    """Return why a line is still pending."""
    later = line.next_try_at is not None and line.next_try_at > view.now
    again = f", next try {moment(line.next_try_at, view)}" if later and line.next_try_at else ""
    if line.attempts == 0:
        reason = f"not sent yet ({line.last_error})" if line.last_error else "not sent yet"
        return f"{reason}{again}"
    tries = "tried once" if line.attempts == 1 else f"tried {line.attempts} times"
    answer = ANSWERS.get(line.last_status, f"Salesforce answered {line.last_status}")
    detail = f": {line.last_error}" if line.last_error else ""
    return f"{tries}{again}; {answer}{detail}"


def list_heading(state: State | None) -> str:
    """Return the heading of a list of lines."""
    return "Lines" if state is None else f"Lines: {state}"


def next_try(when: datetime, zone: ZoneInfo) -> str:
    """Return when a line is tried again, or was to be."""
    return f"next try {local_time(when, zone)}"


def times_sent(attempts: int) -> str:
    """Return how often a line was sent."""
    return {0: "never", 1: "once"}.get(attempts, f"{attempts:,} times")


def who_is_shown(*, with_people: bool) -> str:
    """Return why the names of those who ran commands are shown, or not."""
    if with_people:
        return (
            "Who ran them is shown because `CALLSTATSD_LOG_PERSONAL_DATA` is true. Commands are "
            "kept as long as settled lines."
        )
    return (
        "Who ran them is kept in the ledger, but hidden here: names of people are shown only with "
        "`CALLSTATSD_LOG_PERSONAL_DATA=true`. Commands are kept as long as settled lines."
    )


def list_order(state: State) -> str:
    """Return how a list of lines is sorted."""
    if state is State.PENDING:
        return "In the order in which they are sent: live lines before backfill, oldest first."
    return "Those settled last come first."


def day_meaning(state: State | None, zone: ZoneInfo) -> str:
    """Return what the day of a list is, on the ACD's clocks."""
    if state is None:
        return f"Days are those of the time zone {zone.key}."
    if state is State.PENDING:
        return (
            "The day is the one on which the call ended, or the callback was requested, in the "
            f"time zone {zone.key}."
        )
    return f"The day is the one on which the line was settled, in the time zone {zone.key}."


def left_the_list(query: ListQuery) -> str:
    """Return why a page of a list cannot be shown: the line that it follows is not in it."""
    return (
        f"The line {query.after} is not {query.state} any more, so nobody can tell which lines "
        "come next: begin again with the first page."
    )


def reason(line: LineDetail | ListedLine) -> str:
    """Return why a line failed: the response's status and error."""
    parts = [str(line.last_status)] if line.last_status is not None else []
    if line.last_error:
        parts.append(line.last_error)
    return ": ".join(parts)


def day(drawn: Chart, view: PageContext) -> str:
    """Return the chart in a sentence or two."""
    counts = ", ".join(f"{drawn.of(kind):,} {name.lower()}" for kind, name in KIND_NAMES.items())
    busiest = drawn.busiest
    most = f"{clock(busiest.begins, view)}, with {plural(busiest.total, 'line')}"
    return f"{counts}. The busiest hour began at {most}."


def hour(bar: Bar, view: PageContext) -> str:
    """Return one bar of the chart in words."""
    ends = clock(bar.begins + HOUR, view)
    counts = [
        f"{bar.of(kind):,} {name.lower()}" for kind, name in KIND_NAMES.items() if bar.of(kind)
    ]
    return f"{clock(bar.begins, view)}-{ends}: {', '.join(counts) or 'nothing'}"


def labelled(bar: Bar, view: PageContext) -> bool:
    """Whether the hour has a label below the chart: every third has."""
    return bar.begins.astimezone(view.zone).hour % 3 == 0


def clock(when: datetime, view: PageContext) -> str:
    """Return hours and minutes in the ACD's local time."""
    return when.astimezone(view.zone).strftime("%H:%M")


def moment(when: datetime, view: PageContext) -> str:
    """Return a time in the ACD's local time, with the date unless it is today."""
    local = when.astimezone(view.zone)
    today = local.date() == view.now.astimezone(view.zone).date()
    return local.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M")


def duration(since: datetime, view: PageContext) -> str:
    """Return the time since then, roughly."""
    return rough_duration(max(0.0, (view.now - since).total_seconds()))


def _other(status: LedgerStatus) -> str:
    return f"The instance on {status.host} (process {status.pid})"


def _taken_up_to(status: LedgerStatus, view: PageContext) -> str:
    if status.watermark is None:
        return "No call has been taken yet."
    return _up_to("Calls that ended", status.watermark, view.settle_delay, "their end", view)


def _up_to(which: str, watermark: datetime, delay: timedelta, since: str, view: PageContext) -> str:
    """Return up to when rows are taken, and how long after what they are `since`."""
    seconds = delay.total_seconds()
    wait = f" ({plural(round(seconds), 'second')} after {since})" if seconds >= 1 else ""
    return f"{which} by {moment(watermark, view)} are taken{wait}."


def _in_a_sentence(card: StatusCard) -> str:
    return f"{card.heading[0].lower()}{card.heading[1:]}"
