"""The rows of a call as a function of the set of its notifications (telegra, 5 to 7). Pure."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from daemon.telegra.legs import INTERWORKING, NORMAL, USER_BUSY, Event, Legs
from daemon.telegra.notifications import Command, Notification, names_in
from daemon.telegra.parameters import Parameters
from daemon.telegra.values import number_of, record_id_in, whole

CALL_CAUSES = {"rejected": USER_BUSY, "badcall": INTERWORKING}
CALLBACK = 3
"""AcdEventTypesID of a callback request."""


class CallRow(NamedTuple):
    """A row of StatisticsPartA but for its end, which is written when no more is to come."""

    id: int
    clients_id: int
    service_numbers_id: int | None
    outbound: bool
    a_number: str | None
    b_number: str | None
    started: datetime
    alerted: datetime | None
    connected: datetime | None
    cause: int
    user_data: str | None


class VisitRow(NamedTuple):
    """A row of AcdStatisticsPartB."""

    id: int
    call_id: int
    group_id: int
    started: datetime


class LegRow(NamedTuple):
    """A row of StatisticsPartB."""

    id: int
    call_id: int
    visit_id: int | None
    agent: int | None
    started: datetime
    alerted: datetime | None
    connected: datetime | None
    ended: datetime | None
    connres: int | None
    cause: int | None


class CodeRow(NamedTuple):
    """A row of AcdStatisticsTransactionCodes; category and reason name its TransactionCodes row."""

    id: int
    call_id: int
    visit_id: int | None
    leg_id: int | None
    category: str
    reason: str
    agent: int | None
    created: datetime


class ScheduledCall(NamedTuple):
    """A row of AcdEvents: a planned callback."""

    id: int
    clients_id: int
    agent: int | None
    creator: int | None
    sender: str | None
    subject: str
    event_data: str | None
    user_data: str | None
    created: datetime


class Masters(NamedTuple):
    """What is known of master rows, by id; a name may still be None."""

    users: dict[int, str]
    groups: dict[int, str | None]
    service_numbers: dict[int, tuple[str | None, str | None]]


class CallRows(NamedTuple):
    """All rows of a call; `ended` is when it did, `incomplete` where a connected leg is missing."""

    call: CallRow
    visits: Sequence[VisitRow]
    legs: Sequence[LegRow]
    codes: Sequence[CodeRow]
    ended: datetime | None
    incomplete: bool


def call_rows(
    call_id: int, customer: int, kept: Iterable[Notification], country_code: str
) -> CallRows | None:
    """Return the rows of a call; None while it has no callevent."""
    notifications = sorted(kept, key=lambda notification: notification.order)
    events = [one for one in notifications if one.command == Command.CALLEVENT]
    if not events:
        return None
    mode = _first(events, "mode")
    outbound = mode is not None and mode.strip() == "1"
    visits, legs = _visits_and_legs(call_id, events, outbound=outbound)
    end = next((one for one in events if kind_of(one) == "callend"), None)
    codes = [
        code_row(call_id, one, legs)
        for one in notifications
        if one.command == Command.CLASSIFICATIONEVENT
    ]
    asked = [one for one in notifications if one.command == Command.AGENTSTATE]
    call = CallRow(
        call_id,
        customer,
        _service(events, outbound=outbound),
        outbound,
        number_of(_first(events, "callingnumber"), country_code),
        number_of(_first(events, "callednumber"), country_code),
        _time_of(events, "callstart") or events[0].at,
        _time_of(events, "alerting"),
        _time_of(events, "bconnected" if outbound else "connected"),
        next((cause for one in events if (cause := CALL_CAUSES.get(kind_of(one)))), NORMAL),
        next((found for one in asked if (found := _record_id(one))), None),
    )
    said_connected = end is not None and end.parameters.get("connected", "").strip() == "1"
    incomplete = said_connected and not any(leg.connected for leg in legs)
    return CallRows(call, visits, legs, codes, end and end.at, incomplete)


def code_row(call_id: int, classification: Notification, legs: Sequence[LegRow]) -> CodeRow:
    """Return the row of a classification, on the leg of its agent that it is about.

    That is the latest connected one by then, else his latest by then, else his next one.
    """
    said = classification.parameters
    agent = whole(said.get("agent"))
    own = [leg for leg in legs if leg.agent == agent] if agent is not None else []
    before = [leg for leg in own if leg.started <= classification.at]
    connected = [leg for leg in before if leg.connected and leg.connected <= classification.at]
    leg = next(reversed(connected or before or own[:1]), None)
    return CodeRow(
        classification.row_id,
        call_id,
        leg.visit_id if leg else None,
        leg.id if leg else None,
        said.get("classificationcategoryid", "").strip(),
        said["classificationreason"].strip(),
        agent,
        classification.at,
    )


def scheduled_call(
    row_id: int, customer: int, said: Parameters, created: datetime, country_code: str
) -> ScheduledCall:
    """Return the callback request that a schedulecallevent is."""
    agent = whole(said.get("agentid"))
    bound = said.get("agenttype", "").strip().upper() == "ONLY_AGENT"
    starts, ends = (said.get(f"nextretry{end}date", "").strip() for end in ("start", "end"))
    text = said.get("requesttext") or None
    return ScheduledCall(
        row_id,
        customer,
        agent if bound else None,
        agent,
        number_of(said["callednumber"], country_code),
        f"Scheduled call {starts} - {ends}",
        text,
        record_id_in(text),
        created,
    )


def masters_of(kept: Iterable[Notification], country_code: str) -> Masters:
    """Return the master rows that notifications speak of, with what they tell of them."""
    known = Masters({}, {}, {})
    for one in sorted(kept, key=lambda notification: notification.order):
        said = one.parameters
        for parameter in ("agentid", "conf_agent", "agent"):
            agent = whole(said.get(parameter))
            if agent is not None:
                known.users.setdefault(agent, said[parameter].strip())
        if one.command == Command.AGENTSTATE:
            _learn_names(known, said)
        elif one.command == Command.CALLEVENT:
            _learn_ids(known, said, country_code)
    return known


def kind_of(call_event: Notification) -> str:
    """Return the eventtype in lower case."""
    return call_event.parameters["eventtype"].strip().lower()


def _visits_and_legs(
    call_id: int, events: Sequence[Notification], *, outbound: bool
) -> tuple[list[VisitRow], list[LegRow]]:
    visits: list[VisitRow] = []
    legs = Legs(outbound)
    for event in events:
        group = whole(event.parameters.get("groupid"))
        if group is not None and (not visits or visits[-1].group_id != group):
            visits.append(VisitRow(event.row_id, call_id, group, event.at))
        legs.apply(
            Event(
                event.row_id,
                event.at,
                kind_of(event),
                whole(event.parameters.get("agentid")),
                whole(event.parameters.get("conf_agent")),
                visits[-1].id if visits else None,
            )
        )
    rows = [
        LegRow(leg.row_id, call_id, leg.visit, leg.agent, leg.started, leg.alerted, leg.connected,
               leg.ended, leg.connres, leg.cause)
        for leg in legs.all
    ]  # fmt: skip
    return visits, rows


def _first(events: Iterable[Notification], parameter: str) -> str | None:
    """Return the parameter of the first event that has one."""
    values = (event.parameters.get(parameter) for event in events)
    return next((value for value in values if value and value.strip()), None)


def _time_of(events: Iterable[Notification], kind: str) -> datetime | None:
    return next((event.at for event in events if kind_of(event) == kind), None)


def _service(events: Iterable[Notification], *, outbound: bool) -> int | None:
    """Return the row of the hotline; a mandator's is the negative of its id."""
    row_id = whole(_first(events, "mandatorid" if outbound else "hotlineid"))
    return -row_id if outbound and row_id is not None else row_id


def _record_id(agent_state: Notification) -> str | None:
    return record_id_in(agent_state.parameters.get("requesttext"))


def _learn_names(known: Masters, said: Parameters) -> None:
    for (kind, row_id), name in names_in(said).items():
        if kind == "group":
            known.groups[row_id] = known.groups.get(row_id) or name
        else:
            service = row_id if kind == "hotline" else -row_id
            number, known_name = known.service_numbers.get(service, (None, None))
            known.service_numbers[service] = (number, known_name or name)


def _learn_ids(known: Masters, said: Parameters, country_code: str) -> None:
    group, hotline = whole(said.get("groupid")), whole(said.get("hotlineid"))
    mandator = whole(said.get("mandatorid"))
    if group is not None:
        known.groups.setdefault(group, None)
    if hotline is not None and said.get("mode", "").strip() != "1":
        number, name = known.service_numbers.get(hotline, (None, None))
        called = number_of(said.get("callednumber"), country_code)
        known.service_numbers[hotline] = (number or called, name)
    if mandator is not None:
        known.service_numbers.setdefault(-mandator, (None, None))
