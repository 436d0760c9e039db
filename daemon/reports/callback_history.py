"""What happened to a callback request, and why it has no line yet. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from daemon.ingest.readiness import Clock, EventFacts, ReadinessRules
from daemon.ledger.overview import LedgerStatus, LineDetail
from daemon.lines import FeedName, Subject
from daemon.reports.formats import local_time

CALLBACK = 3
"""AcdEventTypesID of callback requests."""
OFF = "Callbacks are off: CALLSTATSD_CALLBACK_URL is not set, so none is taken or sent."

UNREAD = (
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
        return [OFF, *([] if history.lines else ["The ledger has no line of this event."])]
    if history.clock is None:
        return [UNREAD]
    if history.facts is None:
        gone = "no longer in" if history.lines else "not in"
        return [f"Event {history.event_id} is {gone} the source's AcdEvents."]
    facts, zone = history.facts, history.rules.zone
    created = local_time(facts.created, zone) if facts.created else "at an unknown time"
    of_call = ""
    if facts.call_id is not None:
        ended = f"ended {local_time(facts.call_ended, zone)}" if facts.call_ended else "has no end"
        of_call = f"; its call {facts.call_id} {ended}"
    said = [f"Event {history.event_id} was created {created}{of_call}."]
    if not history.lines:
        said.append(why_not_taken(facts, history.clock, history.status, history.rules))
    return said


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
        return f"It is taken after CALLSTATSD_CALLBACK_DELAY, at {local_time(due, rules.zone)}."
    latest = created + rules.stale_call_after
    if facts.call_id is not None and facts.call_ended is None and clock.now < latest:
        return (
            "It waits for the end of its call, and is taken at the latest at "
            f"{local_time(latest, rules.zone)}."
        )
    if status.start_from is None:
        return "No callback request has been looked for yet: start `callstatsd run`."
    if created < status.start_from:
        return (
            f"It was created before {local_time(status.start_from, rules.zone)}, from when on "
            "callback requests are taken, so only `callstatsd backfill --feed callbacks` takes it."
        )
    if not status.active:
        return "It is ready to be taken, but no daemon is running: start `callstatsd run`."
    return "It is ready and will be taken by the next poll or sweep, within two minutes."


def _why_never(facts: EventFacts, rules: ReadinessRules) -> str | None:
    """Return why it is never taken; None if it may be."""
    if facts.type_id != CALLBACK:
        return (
            f"It is not a callback request: its AcdEventTypesID is {facts.type_id}, not {CALLBACK}."
        )
    if facts.is_alert:
        return "It is an alert of callstatsd's own, which is never sent to Salesforce."
    if facts.created is None:
        return "It has no dtCreated, so it is never taken."
    if rules.clients_id is None or facts.clients_id == rules.clients_id:
        return None
    if facts.clients_id is None:
        return (
            "Nobody knows whose it is: neither the event nor its call has a ClientsID, and this "
            f"ledger takes requests of client {rules.clients_id} only."
        )
    return (
        f"It belongs to client {facts.clients_id}; this ledger takes requests of client "
        f"{rules.clients_id}."
    )
