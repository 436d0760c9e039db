"""What happened to a callback request, and why it has no line yet. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from daemon.ingest.readiness import Clock, EventFacts, ReadinessRules
from daemon.language import _, mark
from daemon.ledger.overview import LedgerStatus, LineDetail
from daemon.lines import FeedName, Subject
from daemon.reports.formats import local_time

CALLBACK = 3
"""AcdEventTypesID of callback requests."""
OFF = mark("Callbacks are off: CALLSTATSD_CALLBACK_URL is not set, so none is taken or sent.")

UNREAD = mark(
    "The source's AcdEvents cannot be read (`callstatsd check` says why), so this is only what the "
    "ledger has."
)


@dataclass(frozen=True, slots=True)
class CallbackHistory:
    """What both databases have about an event; source parts are None if it cannot be reached.

    `rules` say when it is taken, and are None while callbacks are off.
    """

    event_id: int
    lines: Sequence[LineDetail]
    status: LedgerStatus
    rules: ReadinessRules | None
    clock: Clock | None
    facts: EventFacts | None

    @property
    def subject(self) -> Subject:
        """The event."""
        return Subject(FeedName.CALLBACKS, self.event_id)


def source_sentences(history: CallbackHistory) -> list[str]:
    """Return what the source has about the event, and why it has no line."""
    if history.rules is None:
        return [_(OFF), *([] if history.lines else [_("The ledger has no line of this event.")])]
    if history.clock is None:
        return [_(UNREAD)]
    if history.facts is None:
        return [_gone(history)]
    said = [_created(history.event_id, history.facts, history.rules.zone)]
    if not history.lines:
        said.append(why_not_taken(history.facts, history.clock, history.status, history.rules))
    return said


def _gone(history: CallbackHistory) -> str:
    event = history.event_id
    if history.lines:
        return _("Event {event} is no longer in the source's AcdEvents.", event=event)
    return _("Event {event} is not in the source's AcdEvents.", event=event)


def _created(event: int, facts: EventFacts, zone: ZoneInfo) -> str:
    """Return when an event was created, and when its call ended."""
    said = _("Event {event} was created at an unknown time.", event=event)
    if facts.created is not None:
        created = local_time(facts.created, zone)
        said = _("Event {event} was created {created}.", event=event, created=created)
    if facts.call_id is None:
        return said
    call = _("Its call {call} has no end.", call=facts.call_id)
    if facts.call_ended is not None:
        ended = local_time(facts.call_ended, zone)
        call = _("Its call {call} ended {ended}.", call=facts.call_id, ended=ended)
    return f"{said} {call}"


def why_not_taken(
    facts: EventFacts, clock: Clock, status: LedgerStatus, rules: ReadinessRules
) -> str:
    """Return why an event of the source has no line in the ledger."""
    never = _why_never(facts, rules)
    if never is not None:
        return never
    created = facts.created or clock.now
    due = created + rules.settle_delay
    if clock.now < due:
        return _(
            "It is taken after CALLSTATSD_CALLBACK_DELAY, at {time}.",
            time=local_time(due, rules.zone),
        )
    latest = created + rules.stale_call_after
    if facts.call_id is not None and facts.call_ended is None and clock.now < latest:
        return _(
            "It waits for the end of its call, and is taken at the latest at {time}.",
            time=local_time(latest, rules.zone),
        )
    if status.start_from is None:
        return _("No callback request has been looked for yet: start `callstatsd run`.")
    if created < status.start_from:
        return _(
            "It was created before {time}, from when on callback requests are taken, so only "
            "`callstatsd backfill --feed callbacks` takes it.",
            time=local_time(status.start_from, rules.zone),
        )
    if not status.active:
        return _("It is ready to be taken, but no daemon is running: start `callstatsd run`.")
    return _("It is ready and will be taken by the next poll or sweep, within two minutes.")


def _why_never(facts: EventFacts, rules: ReadinessRules) -> str | None:
    """Return why it is never taken; None if it may be."""
    if facts.type_id != CALLBACK:
        return _(
            "It is not a callback request: its AcdEventTypesID is {type}, not {callback}.",
            type=facts.type_id,
            callback=CALLBACK,
        )
    if facts.is_alert:
        return _("It is an alert of callstatsd's own, which is never sent to Salesforce.")
    if facts.created is None:
        return _("It has no dtCreated, so it is never taken.")
    if rules.clients_id is None or facts.clients_id == rules.clients_id:
        return None
    if facts.clients_id is None:
        return _(
            "Nobody knows whose it is: neither the event nor its call has a ClientsID, and this "
            "ledger takes requests of client {client} only.",
            client=rules.clients_id,
        )
    return _(
        "It belongs to client {other}; this ledger takes requests of client {client}.",
        other=facts.clients_id,
        client=rules.clients_id,
    )
