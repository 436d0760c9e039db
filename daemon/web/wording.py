"""The page's sentences about the daemon, for people who run a call centre. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from daemon.language import _, grouped, mark, ngettext
from daemon.ledger.instance import OperatorPause
from daemon.ledger.overview import (
    AlertStatus,
    LedgerStatus,
    LineDetail,
    LineFilter,
    ListedLine,
)
from daemon.lines import FeedName, PauseReason, State
from daemon.reports.alerts import alert_sentences
from daemon.reports.formats import rough_duration
from daemon.reports.gaps import gap_sentence, receiver_sentence
from daemon.reports.lists import selected_again
from daemon.reports.meanings import (
    NEED_ACTION,
    PAUSES_OF,
    RESUME,
    SENDING_PAUSES,
    Severity,
    StatusCard,
    error_text,
    remedy,
    requeue_command,
)
from daemon.reports.telegra import TelegraReport
from daemon.web.chart import HOUR, Bar, Chart
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


SEE_CHECK = mark("`callstatsd check` reports the cause and what to do.")
LEDGER_AWAY = StatusCard(
    Severity.BAD,
    mark("The ledger's database cannot be used"),
    mark("Until it can be used again nothing is taken or sent, and nothing is lost."),
    SEE_CHECK,
)
NOT_READ_YET = StatusCard(
    Severity.CALM, mark("One moment"), mark("The ledger has not been read yet.")
)

STARTING = mark("Starting")
OPERATOR_PAUSE, NOT_SENDING = mark("Paused by an operator"), mark("Not sending")
NOTHING_PENDING, ALL_SENT = mark("Nothing is pending"), mark("All is sent")
SENDING = mark("Sending")
CALLBACK_HEADINGS = {
    OPERATOR_PAUSE: mark("Callbacks: paused by an operator"),
    NOT_SENDING: mark("Callbacks: not sending"),
    SENDING_PAUSES: mark("Callbacks: sending pauses"),
    NOTHING_PENDING: mark("Callbacks: nothing is pending"),
    ALL_SENT: mark("Callbacks: all is sent"),
    SENDING: mark("Callbacks: sending"),
}
"""What the sender's headings are for callbacks."""

KIND_NAMES = {
    "delivered": mark("Delivered"),
    "skipped": mark("Skipped"),
    "refused": mark("Refused for good"),
    "kept": mark("Needing action"),
}
KIND_COUNTS = {
    "delivered": mark("{count} delivered"),
    "skipped": mark("{count} skipped"),
    "refused": mark("{count} refused for good"),
    "kept": mark("{count} needing action"),
}

ANSWERS: dict[int | None, str] = {
    None: mark("no response"),
    423: mark("its record was locked in Salesforce (423)"),
    500: mark("Salesforce failed (500)"),
}


def taking(status: LedgerStatus, view: PageContext) -> StatusCard:
    """Return what the poller does."""
    if not view.active:
        if status.active:
            text = _(
                "The instance on {host} (process {pid}) is active; this one takes over when that "
                "one ends.",
                host=status.host,
                pid=status.pid,
            )
            return StatusCard(Severity.CALM, _("Standing by"), text)
        text = _("This instance is about to become active.")
        return StatusCard(Severity.CALM, _(STARTING), text)
    taken = _taken_up_to(status, view)
    if view.source_away:
        later = _("Later calls are taken when it can be used again; nothing is lost.")
        heading = _("The ACD's database cannot be used")
        return StatusCard(Severity.BAD, heading, f"{taken} {later}", _(SEE_CHECK))
    if status.watermark is None:
        return StatusCard(Severity.CALM, _(STARTING), _("No poll has been made yet."))
    if status.watermark < view.now - view.settle_delay - BEHIND:
        later = _(
            "Later calls follow: the daemon was stopped for a while, or a read-only replica is "
            "behind."
        )
        return StatusCard(Severity.CALM, _("Catching up with calls"), f"{taken} {later}")
    return StatusCard(Severity.GOOD, _("Taking calls"), taken)


def receiving(report: TelegraReport, view: PageContext) -> StatusCard:
    """Return how the receiver of a Telegra ACD's notifications is doing."""
    said = [receiver_sentence(report.overview, view.zone)]
    said += [gap_sentence(gap, view.zone) for gap in report.gaps]
    text = " ".join(said)
    if report.overview is None:
        return StatusCard(Severity.BAD, _("Notifications are refused"), text, _(SEE_CHECK))
    if report.gaps:
        repeat = _("Have the ACD repeat what it told in that time, if it can.")
        return StatusCard(Severity.WARN, _("Notifications were refused"), text, repeat)
    return StatusCard(Severity.GOOD, _("Receiving notifications"), text)


def sending(
    status: LedgerStatus,
    view: PageContext,
    counts: Mapping[str, int] | None,
    feed: FeedName = FeedName.STATISTICS,
) -> StatusCard:
    """Return what the sender does for a feed, in this instance or in the active one.

    `counts` are the lines per state that are pending or need action; None while unknown.
    """
    if status.operator_pause is not None:
        text = f"{_paused_since(status.operator_pause, view)} {_still_taken(feed)}"
        return _card(feed, Severity.WARN, OPERATOR_PAUSE, text, _(RESUME))
    if not status.active:
        text = _("No instance is active at this moment.")
        remedy = _("Usually nothing: one takes over within seconds.")
        return _card(feed, Severity.WARN, NOT_SENDING, text, remedy)
    if status.state == "paused" and status.reason in PAUSES_OF[feed]:
        pause = PAUSES_OF[feed][status.reason]
        card = pause.translated()
        text = " ".join([card.text, *_after_pause(status, view)])
        return _card(feed, card.severity, pause.heading, text, card.remedy)
    last = _("Nothing has been delivered yet.")
    if status.last_delivered_at is not None:
        last = _("Last delivery: {time}.", time=moment(status.last_delivered_at, view))
    if status.state == "stopped":
        stopping = _("The daemon is stopping.")
        return _card(feed, Severity.WARN, NOT_SENDING, f"{stopping} {last}")
    where = "" if view.active else _sent_elsewhere(status) + " "
    if counts is not None and not counts[State.PENDING]:
        if lines := need_action(counts):
            text = f"{where}{_need_action(lines)}. {last}"
            return _card(feed, Severity.CALM, NOTHING_PENDING, text)
        return _card(feed, Severity.GOOD, ALL_SENT, f"{where}{_(NOTHING_PENDING)}. {last}")
    return _card(feed, Severity.GOOD, SENDING, f"{where}{last}")


def callbacks(
    status: LedgerStatus, view: PageContext, counts: Mapping[str, int] | None
) -> StatusCard:
    """Return what is done with callback requests; `counts` as for `sending`."""
    card = sending(status, view, counts, FeedName.CALLBACKS)
    return replace(card, text=f"{_requests_taken(status, view)} {card.text}")


def headline(taken: StatusCard, sent: StatusCard, callbacks: StatusCard | None = None) -> str:
    """Return them in a few words, the worst first; callbacks only if nothing else is as bad."""
    order = list(Severity)
    cards = [sent, taken, *([] if callbacks is None else [callbacks])]
    worst, other, *_rest = sorted(cards, key=lambda card: -order.index(card.severity))
    if worst.severity is Severity.GOOD:
        all_sent = sent.heading == _(ALL_SENT)
        return _("Taking calls, all is sent") if all_sent else _("Taking calls, sending")
    return worst.heading if worst.heading != _(STARTING) else other.heading


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
        _need_action(total),
        [KeptLines(state, lines[state], remedy(state)) for state in states],
        selected_again(LineFilter(tuple(states), feed=feed), zone),
    )


def alert(status: AlertStatus, view: PageContext) -> str:
    """Return when the last alert was raised, and what waits for the next."""
    return alert_sentences(status, lambda when: moment(when, view))


def why_waiting(line: LineDetail, view: PageContext) -> str:
    """Return why a line is still pending."""
    later = line.next_try_at is not None and line.next_try_at > view.now
    again = []
    if later and line.next_try_at is not None:
        again = [_("next try {time}", time=moment(line.next_try_at, view))]
    if line.attempts == 0:
        waits = _("not sent yet")
        return ", ".join([f"{waits} ({line.last_error})" if line.last_error else waits, *again])
    tries = ngettext("tried once", "tried {count} times", line.attempts)
    answer = _("Salesforce answered {status}", status=line.last_status)
    if line.last_status in ANSWERS:
        answer = _(ANSWERS[line.last_status])
    detail = f": {line.last_error}" if line.last_error else ""
    return f"{', '.join([tries, *again])}; {answer}{detail}"


def reason(line: LineDetail | ListedLine) -> str:
    """Return why a line failed: the response's status and error."""
    parts = [str(line.last_status)] if line.last_status is not None else []
    if line.last_error:
        parts.append(error_text(line.last_error))
    return ": ".join(parts)


def day(drawn: Chart, view: PageContext) -> str:
    """Return the chart in a sentence or two."""
    most = ngettext(
        "The busiest hour began at {time}, with {count} line.",
        "The busiest hour began at {time}, with {count} lines.",
        drawn.busiest.total,
        time=clock(drawn.busiest.begins, view),
    )
    return f"{', '.join(_kind_count(kind, drawn.of(kind)) for kind in KIND_COUNTS)}. {most}"


def hour(bar: Bar, view: PageContext) -> str:
    """Return one bar of the chart in words."""
    ends = clock(bar.begins + HOUR, view)
    counts = [_kind_count(kind, bar.of(kind)) for kind in KIND_COUNTS if bar.of(kind)]
    said = ", ".join(counts) if counts else _("nothing")
    return f"{clock(bar.begins, view)}-{ends}: {said}"


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


def _kind_count(kind: str, lines: int) -> str:
    return _(KIND_COUNTS[kind], count=grouped(lines))


def _card(
    feed: FeedName, severity: Severity, heading: str, text: str, remedy: str | None = None
) -> StatusCard:
    """Return a card about sending a feed; the heading is not translated yet."""
    if feed is FeedName.CALLBACKS:
        heading = CALLBACK_HEADINGS[heading]
    return StatusCard(severity, _(heading), text, remedy)


def _paused_since(pause: OperatorPause, view: PageContext) -> str:
    since = moment(pause.since, view)
    if not pause.reason:
        return _("Since {time}.", time=since)
    return _("Since {time}: “{reason}”.", time=since, reason=masked(pause.reason))


def _still_taken(feed: FeedName) -> str:
    if feed is FeedName.CALLBACKS:
        return _("Requests are still taken.")
    return _("Calls are still taken.")


def _after_pause(status: LedgerStatus, view: PageContext) -> list[str]:
    """Return what a pause means for lines, and when the next try is."""
    said = [_("No line is lost.")]
    if status.reason == PauseReason.ENDPOINT_FAILING:
        said = [_("Lines that were refused before the pause, if any, are listed below.")]
    if status.retry_at is not None:
        said.append(_("Next try: {time}.", time=moment(status.retry_at, view)))
    return said


def _sent_elsewhere(status: LedgerStatus) -> str:
    return _("The instance on {host} (process {pid}) is sending.", host=status.host, pid=status.pid)


def _need_action(lines: int) -> str:
    return ngettext("{count} line needs your action", "{count} lines need your action", lines)


def _taken_up_to(status: LedgerStatus, view: PageContext) -> str:
    """Return up to when calls are taken, and how long after their end."""
    if status.watermark is None:
        return _("No call has been taken yet.")
    time, seconds = moment(status.watermark, view), view.settle_delay.total_seconds()
    if seconds < 1:
        return _("Calls that ended by {time} are taken.", time=time)
    return ngettext(
        "Calls that ended by {time} are taken ({count} second after their end).",
        "Calls that ended by {time} are taken ({count} seconds after their end).",
        round(seconds),
        time=time,
    )


def _requests_taken(status: LedgerStatus, view: PageContext) -> str:
    """Return up to when requests are taken, and how long after they were created."""
    if status.watermark is None:
        return _("No poll for requests has been made yet.")
    time, seconds = moment(status.watermark, view), view.callback_delay.total_seconds()
    if seconds < 1:
        return _("Requests that were created by {time} are taken.", time=time)
    return ngettext(
        "Requests that were created by {time} are taken ({count} second after that).",
        "Requests that were created by {time} are taken ({count} seconds after that).",
        round(seconds),
        time=time,
    )
