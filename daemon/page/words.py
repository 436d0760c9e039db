"""What the page says of the daemon, in words for people who run a call centre. Pure."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from daemon.desk import Standing, Told
from daemon.lines import State
from daemon.outcome import Reason
from daemon.page.chart import HOUR, Bar, Chart
from daemon.page.masking import masked

BEHIND = timedelta(minutes=5)
"""More than this behind, the poller is said to catch up."""


class Tone(StrEnum):
    """How much somebody should care."""

    GOOD = "good"
    CALM = "calm"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Saying:
    """A state in words: a heading, a sentence or two, and what to do about it, if anything."""

    tone: Tone
    heading: str
    text: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class View:
    """What is known at the moment, beside what the ledger says."""

    now: datetime
    zone: ZoneInfo
    settle_delay: timedelta
    active: bool
    source_away: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """Lines of one call that ended alike."""

    line: Told
    lines: int

    @property
    def command(self) -> str | None:
        """What sends them again, where that may help."""
        if self.line.state not in {State.REJECTED, State.EXPIRED, State.INVALID}:
            return None
        return f"callstatsd requeue --state {self.line.state} --call-id {self.line.key.call_id}"


LEDGER_AWAY = Saying(
    Tone.BAD,
    "The ledger's database does not answer",
    "Nothing is taken or sent meanwhile, and nothing is lost: work goes on as soon as it is back.",
    "See to that Postgres; `callstatsd check` names what is wrong.",
)
NOT_READ_YET = Saying(Tone.CALM, "One moment", "The ledger has not been read yet.")

MEANINGS = {
    State.PENDING: "to be sent, or to be tried again",
    State.DELIVERED: "written in Salesforce",
    State.SKIPPED: "not sent: the ACD has no Salesforce id for it, or an operator withdrew it",
    State.CONFLICT: "Salesforce refused it for good (409); it is not sent again",
    State.NOT_FOUND: "Salesforce has no such record (404); it is not sent again",
    State.REJECTED: "Salesforce refused it in another way (4xx); kept for you",
    State.EXPIRED: "it failed for too long; kept for you",
    State.INVALID: "the ACD's data cannot become a record; kept for you",
}
KIND_NAMES = {
    "delivered": "Delivered",
    "skipped": "Skipped",
    "refused": "Refused for good",
    "kept": "Kept for you",
}

REMEDIES = {
    State.CONFLICT: "Nothing; by agreement with Salesforce it is not sent again.",
    State.NOT_FOUND: "Nothing; the record is gone, or hidden from the integration user.",
    State.REJECTED: "Mend what the reason names, then send it again:",
    State.EXPIRED: "See why Salesforce kept failing, then send it again:",
    State.INVALID: "Mend the row in the ACD's tables, then send it again:",
}

ANSWERS: dict[int | None, str] = {
    None: "no answer came",
    423: "its record was locked in Salesforce (423)",
    500: "Salesforce failed (500)",
}

PAUSES: dict[str, Saying] = {
    Reason.UNAVAILABLE: Saying(
        Tone.WARN,
        "Sending pauses",
        "Salesforce cannot be reached, or asks to try later.",
        "Usually nothing: this passes. If it lasts, look at the network between this machine and "
        "Salesforce, and at status.salesforce.com.",
    ),
    Reason.UNANSWERED: Saying(
        Tone.WARN,
        "Sending pauses",
        "Two records in a row got no answer in time.",
        "Usually nothing: this passes. If it lasts, Salesforce or the Apex class is too slow, or "
        "something on the way cuts connections.",
    ),
    Reason.UNAUTHORIZED: Saying(
        Tone.BAD,
        "Sending pauses",
        "Salesforce does not accept the login.",
        "`callstatsd check` asks for a token and says what is wrong; look at the connected app, "
        "its secret and the integration user.",
    ),
    Reason.API_LIMIT: Saying(
        Tone.WARN,
        "Sending pauses",
        "The day's API calls of the Salesforce org are used up, or the share of them that "
        "CALLSTATSD_API_BUDGET allows.",
        "Nothing, or find out what else uses them: Setup, Company Information, API Requests.",
    ),
    Reason.CONFIGURATION: Saying(
        Tone.BAD,
        "Sending pauses",
        "Salesforce refuses the requests as such, not single lines.",
        "Check CALLSTATSD_ENDPOINT_URL and the rights of the integration user (API Enabled, "
        "access to the Apex class).",
    ),
    Reason.ENDPOINT_MISSING: Saying(
        Tone.BAD,
        "Sending pauses",
        "At the endpoint's address Salesforce has no Apex class.",
        "Deploy writeCallStatistics, or correct CALLSTATSD_ENDPOINT_URL.",
    ),
    Reason.ENDPOINT_FAILING: Saying(
        Tone.BAD,
        "Sending pauses",
        "Many records in a row were answered with an error, so the fault is not in the records.",
        "Look at the Apex class and at what was deployed last; a debug log in Salesforce shows "
        "the error.",
    ),
}
"""Every pause but the operator's: how bad, why, and what to do."""


def taking(standing: Standing, view: View) -> Saying:
    """Tell what the poller does."""
    if not view.active:
        if standing.active:
            return Saying(
                Tone.CALM,
                "Standing by",
                f"{_other(standing)} has the ledger; this one takes over when that one ends.",
            )
        return Saying(Tone.CALM, "Starting", "This instance is about to take the ledger over.")
    if view.source_away:
        return Saying(
            Tone.BAD,
            "The ACD's database does not answer",
            f"{_taken_up_to(standing, view)} The rest follows when it is back; nothing is lost.",
            "See to that database; `callstatsd check` names what is wrong.",
        )
    if standing.watermark is None:
        return Saying(Tone.CALM, "Starting", "No call has been looked for yet.")
    if standing.watermark < view.now - view.settle_delay - BEHIND:
        return Saying(
            Tone.CALM,
            "Catching up with calls",
            f"{_taken_up_to(standing, view)} The rest follows: after a standstill, or as fast as "
            "a read-only replica gets them.",
        )
    return Saying(Tone.GOOD, "Taking calls", _taken_up_to(standing, view))


def sending(standing: Standing, view: View, waiting: int | None) -> Saying:
    """Tell what the sender does, here or in the instance that has the ledger."""
    if standing.held is not None:
        reason = f": “{masked(standing.held.reason)}”" if standing.held.reason else ""
        return Saying(
            Tone.WARN,
            "Paused by an operator",
            f"Since {moment(standing.held.since, view)}{reason}. Calls are taken all the same.",
            "`callstatsd resume` lets sending go on.",
        )
    if not standing.active:
        return Saying(
            Tone.WARN,
            "Not sending",
            "No instance has the ledger at this moment.",
            "Usually nothing: one takes over within seconds.",
        )
    last = "Nothing was delivered yet."
    if standing.last_delivered_at is not None:
        last = f"Last delivery: {moment(standing.last_delivered_at, view)}."
    if standing.state == "paused" and standing.reason in PAUSES:
        said = PAUSES[standing.reason]
        again = ""
        if standing.retry_at is not None:
            again = f" Next try: {moment(standing.retry_at, view)}."
        lost = "No line is lost by it."
        if standing.reason == Reason.ENDPOINT_FAILING:
            lost = "Lines that were refused before that was clear, if any, are named below."
        return replace(said, text=f"{said.text} {lost}{again}")
    if standing.state == "stopped":
        return Saying(Tone.WARN, "Not sending", f"The daemon is stopping. {last}")
    where = "" if view.active else f"{_other(standing)} sends. "
    if waiting == 0:
        return Saying(Tone.GOOD, "All is sent", f"{where}Nothing waits. {last}")
    return Saying(Tone.GOOD, "Sending", f"{where}{last}")


def headline(taken: Saying, sent: Saying) -> str:
    """Tell both in a few words, the worse first."""
    order = list(Tone)
    worse, other = sorted((sent, taken), key=lambda say: -order.index(say.tone))
    if worse.tone is Tone.GOOD:
        return f"{taken.heading}, {sent.heading[0].lower()}{sent.heading[1:]}"
    return worse.heading if worse.heading != "Starting" else other.heading


def tone_of(*sayings: Saying) -> Tone:
    """Return the worst tone."""
    order = list(Tone)
    return max((saying.tone for saying in sayings), key=order.index)


def failures(lines: list[Told], limit: int) -> list[Failure]:
    """Gather lines of one call that ended alike, newest first."""
    alike: dict[tuple[object, ...], list[Told]] = {}
    for line in lines:
        kind = (line.key.call_id, line.state, line.last_status, line.last_error)
        alike.setdefault(kind, []).append(line)
    return [Failure(found[0], len(found)) for found in list(alike.values())[:limit]]


def why_waiting(line: Told, view: View) -> str:
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


def reason(line: Told) -> str:
    """Say why a line failed: the answer's status and what came with it."""
    parts = [str(line.last_status)] if line.last_status is not None else []
    if line.last_error:
        parts.append(line.last_error)
    return ": ".join(parts)


def day(drawn: Chart, view: View) -> str:
    """Tell the chart in a sentence or two."""
    counts = ", ".join(f"{drawn.of(kind):,} {name.lower()}" for kind, name in KIND_NAMES.items())
    busiest = drawn.busiest
    most = f"{clock(busiest.begins, view)}, with {_count(busiest.total, 'line')}"
    return f"{counts}. The busiest hour began at {most}."


def hour(bar: Bar, view: View) -> str:
    """Tell one bar of the chart."""
    ends = clock(bar.begins + HOUR, view)
    counts = [
        f"{bar.of(kind):,} {name.lower()}" for kind, name in KIND_NAMES.items() if bar.of(kind)
    ]
    return f"{clock(bar.begins, view)}-{ends}: {', '.join(counts) or 'nothing'}"


def labelled(bar: Bar, view: View) -> bool:
    """Whether the hour is named below the chart: every third is."""
    return bar.begins.astimezone(view.zone).hour % 3 == 0


def clock(when: datetime, view: View) -> str:
    """Give hours and minutes on the ACD's clocks."""
    return when.astimezone(view.zone).strftime("%H:%M")


def moment(when: datetime, view: View) -> str:
    """Give a time on the ACD's clocks, with the day unless it is today."""
    local = when.astimezone(view.zone)
    today = local.date() == view.now.astimezone(view.zone).date()
    return local.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M")


def duration(since: datetime, view: View) -> str:
    """Give the time since then, roughly."""
    seconds = max(0.0, (view.now - since).total_seconds())
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * size or (seconds >= size and unit == "minute"):
            return _count(int(seconds // size), unit)
    return "less than a minute"


def _other(standing: Standing) -> str:
    return f"The instance on {standing.host} (process {standing.pid})"


def _taken_up_to(standing: Standing, view: View) -> str:
    if standing.watermark is None:
        return "No call has been taken yet."
    delay = view.settle_delay.total_seconds()
    wait = f" ({_count(round(delay), 'second')} after their end)" if delay >= 1 else ""
    return f"Calls that ended by {moment(standing.watermark, view)} are taken{wait}."


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
