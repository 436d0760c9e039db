"""How commands print results: tables on a terminal, plain text when piped, JSON on request."""

import json
import sys
from datetime import datetime
from typing import Any, NotRequired, TypedDict, assert_never
from zoneinfo import ZoneInfo

from rich.table import Table

from daemon.cli import operations
from daemon.command_text import printable
from daemon.ingest.readiness import ReadinessRules
from daemon.language import _, grouped, mark
from daemon.ledger.acts import command_line, outcome
from daemon.ledger.overview import AlertStatus, FeedReport, LedgerStatus, StatusReport
from daemon.lines import ORG_REASONS, FeedName, State
from daemon.reports import explain
from daemon.reports.alerts import alert_sentences
from daemon.reports.formats import exact_duration, iso_time, local_time
from daemon.reports.gaps import gap_sentence, receiver_sentence
from daemon.reports.meanings import (
    CALLBACK_PAUSES,
    MEANINGS,
    NEED_ACTION,
    PAUSES,
    PAUSES_OF,
    REMEDIES,
    RESUME,
    requeue_command,
)
from daemon.reports.telegra import TelegraReport
from daemon.terminal import columns, console, say, say_command, wrap

SENDER, TO_DO, OLDEST = mark("sender"), mark("what to do"), mark("oldest pending")
TAKEN, DELIVERED, ALERTS = mark("taken up to"), mark("last delivered"), mark("alerts")
REFUSED, COMMANDS = mark("refused"), mark("last commands")
LABELS = (SENDER, TO_DO, OLDEST, TAKEN, DELIVERED, ALERTS, REFUSED, COMMANDS)
"""What is said of a feed, and of all, in `status`; each text begins in the same column."""
DOING = {"sending": mark("sending"), "paused": mark("paused"), "stopped": mark("stopped")}
"""What the sender does, by its state in JSON."""


class SenderStatus(TypedDict):
    """The sender: `sending`, `paused`, or `stopped` if no instance is active."""

    state: str
    reason: str | None
    retry_at: str | None


class StreakStatus(TypedDict):
    """Lines refused while the endpoint was failing, and the command that sends them again."""

    since: str
    until: str
    rejected: int
    not_found: int
    requeue: str


class FeedStatus(TypedDict):
    """What `status --json` has of one feed; times are ISO 8601 with offset."""

    lines: dict[str, int]
    oldest_pending_seconds: float | None
    watermark: str | None
    last_delivered_at: str | None
    sender: SenderStatus
    streaks: NotRequired[list[StreakStatus]]


class AlertJson(TypedDict):
    """The last alert, and how many lines are not in a raised one yet."""

    waiting: int
    raised_at: str | None
    acd_events_id: int | None
    lines: int | None
    error: str | None


class TelegraStatus(TypedDict):
    """How the receiver of notifications is doing; all null while the source is away."""

    last_notification_at: str | None
    open_calls: int | None
    waiting_codes: int | None


class Status(FeedStatus):
    """`status --json`: call statistics, and what else is on."""

    callbacks: FeedStatus | None
    alert: AlertJson | None
    telegra: TelegraStatus | None


def status_json(
    overview: StatusReport, zone: ZoneInfo, telegra: TelegraReport | None = None
) -> Status:
    """Return `status --json`."""
    callbacks, alert = overview.callbacks, overview.alert
    return {
        **_feed_json(overview, zone),
        "callbacks": None if callbacks is None else _feed_json(callbacks, zone),
        "alert": None if alert is None else _alert_json(alert),
        "telegra": None if telegra is None else _telegra_json(telegra),
    }


def _alert_json(alert: AlertStatus) -> AlertJson:
    return {
        "waiting": alert.waiting,
        "raised_at": iso_time(alert.raised_at),
        "acd_events_id": alert.acd_events_id,
        "lines": alert.lines,
        "error": alert.error,
    }


def _telegra_json(report: TelegraReport) -> TelegraStatus:
    found = report.overview
    return {
        "last_notification_at": iso_time(found.last_notification_at) if found else None,
        "open_calls": found.open_calls if found else None,
        "waiting_codes": found.waiting_codes if found else None,
    }


def _feed_json(report: FeedReport, zone: ZoneInfo) -> FeedStatus:
    """Return the status of a feed; `streaks` is left out if there are none."""
    status: FeedStatus = {
        "lines": report.lines,
        "oldest_pending_seconds": report.oldest_pending_seconds,
        "watermark": iso_time(report.status.watermark),
        "last_delivered_at": iso_time(report.status.last_delivered_at),
        "sender": _sender(report),
    }
    if report.streaks:
        status["streaks"] = [
            {
                "since": streak.since.isoformat(),
                "until": streak.until.isoformat(),
                "rejected": streak.rejected,
                "not_found": streak.not_found,
                "requeue": printable(explain.streak_command(streak, zone)),
            }
            for streak in report.streaks
        ]
    return status


def _sender(report: FeedReport) -> SenderStatus:
    """Return what the sender does; the last report of a dead instance does not count."""
    status = report.status
    if not report.on:
        return {"state": "stopped", "reason": "off", "retry_at": None}
    if not status.active:
        reason = "operator" if status.operator_pause else None
        return {"state": "stopped", "reason": reason, "retry_at": None}
    if status.operator_pause is not None:
        return {"state": "paused", "reason": "operator", "retry_at": None}
    if status.state == "paused":
        return {"state": "paused", "reason": status.reason, "retry_at": iso_time(status.retry_at)}
    return {"state": "sending", "reason": None, "retry_at": None}


def show_status(
    overview: StatusReport, zone: ZoneInfo, telegra: TelegraReport | None = None
) -> None:
    """Print `status` for people, in the ACD's local time."""
    callbacks = overview.callbacks
    _show_feed(overview, zone, FeedName.STATISTICS, alone=callbacks is None)
    if callbacks is not None:
        console().print("\ncallbacks", style="bold")
        _show_feed(callbacks, zone, FeedName.CALLBACKS, alone=False)
        say("")
    if overview.alert is not None:
        said = alert_sentences(overview.alert, lambda when: local_time(when, zone))
        say_labelled(_(ALERTS), said)
    if telegra is not None:
        _show_telegra(telegra, zone)
    for number, recorded in enumerate(overview.acts):
        act = recorded.act
        said = ", ".join(filter(None, (command_line(act, zone), outcome(recorded))))
        said = f"{local_time(recorded.began_at, zone)}  {act.who}: {said}"
        say_labelled("" if number else _(COMMANDS), said)
    for streak in (*overview.streaks, *(callbacks.streaks if callbacks else ())):
        say(f"\n{explain.streak_sentence(streak)}")
        say_command(explain.streak_command(streak, zone))
    say(explain.times_of(zone))


def _show_telegra(report: TelegraReport, zone: ZoneInfo) -> None:
    say_labelled("telegra", receiver_sentence(report.overview, zone))
    for number, gap in enumerate(report.gaps):
        say_labelled("" if number else _(REFUSED), gap_sentence(gap, zone))


def _show_feed(report: FeedReport, zone: ZoneInfo, feed: FeedName, *, alone: bool) -> None:
    """Print a feed's counts, what to do about them, and what its sender does.

    Commands name the feed unless it is `alone`.
    """
    noun = _("lines") if feed is FeedName.STATISTICS else _("requests")
    table = Table(_("state"), noun, _("meaning"), box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for state, lines in report.lines.items():
        table.add_row(state, grouped(lines), _(MEANINGS[State(state)]) if lines else "")
    console().print(table)
    to_do = [state for state in NEED_ACTION if report.lines.get(state)]
    if to_do:
        say("\n" + _("what to do about"))
    for state in to_do:
        say(f"  {state:10} {_(REMEDIES[state])}", hanging=13)
        if command := requeue_command(state, feed=None if alone else feed):
            say_command(command, indent=13)
    status = report.status
    say("")
    say_labelled(_(SENDER), _sender_sentence(report, zone))
    if advice := _advice(report, feed):
        say_labelled(_(TO_DO), advice)
    oldest = report.oldest_pending_seconds
    waiting = _("nothing is pending") if oldest is None else exact_duration(oldest)
    say_labelled(_(OLDEST), waiting)
    say_labelled(_(TAKEN), _time(status.watermark, zone) or _("not started yet"))
    say_labelled(_(DELIVERED), _time(status.last_delivered_at, zone) or _("never"))


def say_labelled(label: str, text: str) -> None:
    """Print a text behind its label, which is in the current language."""
    width = max(len(_(each)) for each in LABELS) + 2
    say(f"{label:{width}}{text}", hanging=width)


def _sender_sentence(report: FeedReport, zone: ZoneInfo) -> str:
    status, sender = report.status, _sender(report)
    text = _(DOING[sender["state"]])
    if sender["reason"]:
        text += f" ({sender['reason']})"
    if not report.on:
        return text
    if status.operator_pause is not None and status.operator_pause.reason:
        text += f": {status.operator_pause.reason}"
    elif status.state == "paused" and status.retry_at is not None and sender["retry_at"]:
        next_try = _("next try {time}", time=local_time(status.retry_at, zone))
        text += f", {next_try}"
    if status.active:
        text += f", {status.host} pid {status.pid}"
    return text


def _advice(report: FeedReport, feed: FeedName) -> str | None:
    """Return what to do so that lines are sent; None if they are."""
    status = report.status
    if not report.on:
        return _("Set CALLSTATSD_CALLBACK_URL to take and send callback requests again.")
    if status.operator_pause is not None:
        return _(RESUME)
    if not status.active:
        return _("No daemon is running: start the service, or run `callstatsd run`.")
    pause = PAUSES_OF[feed].get(status.reason or "") if status.state == "paused" else None
    if pause is None:
        return None
    said = pause.translated()
    return f"{said.text} {said.remedy or ''}".rstrip()


def resume_sentence(result: operations.AfterResume, zone: ZoneInfo) -> str:
    """Return what happened after `resume`."""
    match result:
        case operations.Sends():
            return "Sending continues."
        case operations.Pauses(reason="operator"):
            return "Somebody has paused sending again; `callstatsd status` shows who."
        case operations.Pauses(reason, retry_at, tried, idle):
            why = PAUSES[reason]
            if idle:
                next_try = "Nothing is pending; the next line that is taken is sent at once."
            elif tried:
                at = _time(retry_at, zone)
                next_try = f"It has just tried again without success; next try at {at}."
            else:
                next_try = "It is trying again, but has no response yet: see `callstatsd status`."
            return f"Sending is still paused ({reason}): {why.text} {next_try} {why.remedy}"
        case operations.NotHeard(host, pid):
            return (
                f"The pause has ended, but the instance on {host} (pid {pid}) has not reported its "
                "state within 10 seconds: see `callstatsd status`."
            )
        case operations.StandsBy():
            return (
                "The pause has ended. No instance is active yet, but one stands by and takes over "
                "within seconds."
            )
        case operations.NobodyRuns():
            return (
                "The pause has ended, but no daemon is running: nothing is sent until "
                "`callstatsd run` is started."
            )
        case _:
            assert_never(result)


def callbacks_pause_sentence(status: LedgerStatus) -> str | None:
    """Return why callbacks alone are still paused; None if they are not."""
    pause = CALLBACK_PAUSES.get(status.reason or "")
    if not status.active or status.state != "paused" or status.reason in ORG_REASONS or not pause:
        return None
    return f"Callbacks are still paused ({status.reason}): {pause.text} {pause.remedy}"


def show_counts(counts: dict[str, int], heading: str) -> None:
    """Print lines per state."""
    if not counts:
        say(f"no lines {heading}")
        return
    table = Table("state", heading, box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for state, lines in counts.items():
        table.add_row(state, f"{lines:,}")
    console().print(table)


def show_history(history: explain.History, rules: ReadinessRules, *, verbose: bool) -> None:
    """Print what happened to a call or callback; `verbose` prints each field on its own line."""
    for sentence in explain.sentences(history, rules):
        say(sentence)
    say(explain.times_of(rules.zone))
    for line in history.lines[: explain.SHOWN]:
        console().print(f"\n{line.key}", markup=False, style="bold")
        say(f"  {explain.line_sentence(line, rules.zone)}", hanging=2)
        if step := explain.next_step(line):
            remedy, command = step
            say("  " + _("Next: {remedy}", remedy=remedy), hanging=2)
            if command:
                say_command(command, indent=4)
        if line.salesforce_id:
            say("  " + _("Salesforce record {id}", id=line.salesforce_id), hanging=2)
        if line.record:
            _show_record(line.record, verbose=verbose)
        if line.answer:
            say("  " + _("Answer: {answer}", answer=line.answer), hanging=2)
    if rest := explain.rest_sentence(len(history.lines), explain.SHOWN):
        command = f"{explain.show_command(history.subject)} --json"
        all_lines = _("`{command}` has all of them.", command=command)
        say(f"\n{rest} {all_lines}")


def _show_record(record: str, *, verbose: bool) -> None:
    """Print a record: its JSON in one line, which a terminal breaks between members, or a list."""
    members: dict[str, Any] = json.loads(record)
    if not verbose:
        broken = json.dumps(members, ensure_ascii=False, separators=(", ", ":"))
        say(f"  {record if columns(sys.stdout) is None else broken}", hanging=2)
        return
    names = max(map(len, members), default=0)
    for name, value in members.items():
        text = _("(empty)") if value is None or value == "" else value
        say(f"  {name:{names}}  {text}", hanging=names + 4)


def show_finding(verdict: str, name: str, text: str) -> None:
    """Print one check; the verdict is `ok`, `warn` or `fail`."""
    style = {"ok": "green", "warn": "yellow", "fail": "red"}[verdict]
    console().print(f"{verdict:5}", style=style, end="")
    # Wrapped together with the verdict, which is already printed, and then without it.
    line = printable(f"{' ' * 6}{name:9} {text}")
    say(wrap(line, columns(sys.stdout), 16)[5:])


def _time(moment: datetime | None, zone: ZoneInfo) -> str:
    return "" if moment is None else local_time(moment, zone)
