"""The rows of Telegra calls, computed a second time from their contract's words alone.

Nothing of `daemon.telegra` is used: what was told in, sections 4 to 7 by hand, rows out. Times told
are milliseconds since 1970, numbers `+…`, `00…` or `0…`; other forms have tables of their own.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from daemon.demo.rows import Call, Code, Event, Leg, Sample, ServiceNumber, Visit
from tests.support.expected import salesforce_id

Told = Mapping[str, str]
CAUSES = {"Rejected": 17, "BadCall": 111}
INBOUND_ENDS = {"Timeout": (2, 19), "Busy": (3, 17), "Rejected": (7, 17), "BadCall": (7, 111)}
OUTBOUND_ENDS = {"BTimeout": (2, 19), "BBusy": (3, 17), "Timeout": (0, 19), "Busy": (0, 17)}
PASSED_ON = ("ForwardAgent", "ForwardGroup", "ForwardHotline", "ForwardNumber", "Working")
CONSULTS = ("ConfConnected", "ConfConnectedWithAgent", "ConfConnectedWithNumber")


@dataclass
class Ids:
    """The ids that rows have: of calls by taskid, of notifications, of codes."""

    calls: Mapping[str, int]
    events: Callable[[Told], int]
    codes: Mapping[tuple[str, str], int]


@dataclass
class Attempt:
    """A leg while the events of its call are gone through."""

    row: int
    visit: int | None
    user: int | None
    start: datetime
    alert: datetime | None = None
    connect: datetime | None = None
    end: datetime | None = None
    result: tuple[int | None, int | None] = (None, None)
    asked_by: "Attempt | None" = None
    consulted: bool = False

    @property
    def open(self) -> bool:
        return self.end is None

    def finish(self, at: datetime, result: tuple[int, int]) -> None:
        self.end, self.result = at, result


@dataclass
class Walk:
    """A call as far as it was gone through."""

    visits: list[Visit] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)

    def latest(self, fits: Callable[[Attempt], bool]) -> Attempt | None:
        return next((one for one in reversed(self.attempts) if one.open and fits(one)), None)


def time_of(told: Told, name: str = "eventtime") -> datetime:
    """Read milliseconds."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=int(told[name]))


def number(text: str | None) -> str | None:
    """Apply the number rule of section 4, for Germany."""
    if not text or re.search("xxx$", text, re.IGNORECASE) or not re.search("[0-9]", text):
        return None
    return re.sub("^0", "49", re.sub(r"^(\+|00)", "", text)) if text[0] in "0+" else text


def user(text: str | None) -> int | None:
    """Read an agent's number."""
    return int(text) if text else None


def rows_of(day: Iterable[Told], ids: Ids) -> Sample:
    """Return all rows that a day's notifications must give."""
    sample, told = Sample(service_numbers=(), users=(), groups=(), transaction_codes=()), list(day)
    by_task: dict[str, list[Told]] = {}
    for one in told:
        if one["cmd"] == "callevent":
            by_task.setdefault(one["taskid"].lower(), []).append(one)
    for task, events in by_task.items():
        add_call(sample, task, events, told, ids)
    for one in told:
        if one["cmd"] == "schedulecallevent":
            sample.events.append(planned(one, ids))
    return masters(sample, told, ids)


def add_call(sample: Sample, task: str, events: list[Told], told: list[Told], ids: Ids) -> None:
    """Add the rows of one call."""
    events = sorted(events, key=lambda one: (time_of(one), int(one["id"])))
    outbound = events[0]["mode"] == "1"
    walk, call = Walk(), ids.calls[task]
    for one in events:
        group = one.get("groupid")
        if group and (not walk.visits or walk.visits[-1].acdgroupsid != int(group)):
            row = Visit(ids.events(one), call, int(group), None, None, time_of(one))
            walk.visits.append(row)
        (go_outbound if outbound else go_inbound)(walk, one, ids)
    legs = [
        Leg(one.row, call, one.visit, one.user, one.start, one.alert, one.connect, one.end,
            *one.result)
        for one in walk.attempts
    ]  # fmt: skip
    sample.visits.extend(walk.visits)
    sample.legs.extend(legs)
    first = {name: first_of(events, name) for name in ("callingnumber", "callednumber")}
    service = first_of(events, "mandatorid" if outbound else "hotlineid")
    answered = "BConnected" if outbound else "Connected"
    sample.calls.append(
        Call(
            call, int(events[0]["customerNumber"]),
            None if service is None else -int(service) if outbound else int(service),
            outbound, number(first["callingnumber"]), number(first["callednumber"]),
            first_time(events, "CallStart") or time_of(events[0]), first_time(events, "Alerting"),
            first_time(events, answered), first_time(events, "CallEnd"),
            next((CAUSES[one["eventtype"]] for one in events if one["eventtype"] in CAUSES), 16),
            next(filter(None, (record_of(one, task) for one in told)), None),
        )
    )  # fmt: skip
    sample.codes.extend(code_rows(task, legs, told, ids))


def go_inbound(walk: Walk, told: Told, ids: Ids) -> None:
    """Apply one line of the inbound table."""
    kind, at, agent = told["eventtype"], time_of(told), user(told.get("agentid"))
    visit = walk.visits[-1].id if walk.visits else None

    def his(one: Attempt) -> bool:
        return agent is None or one.user == agent

    def begin(
        who: int | None, alert: datetime | None = None, connect: datetime | None = None
    ) -> Attempt:
        walk.attempts.append(Attempt(ids.events(told), visit, who, at, alert, connect))
        return walk.attempts[-1]

    ringing = walk.latest(lambda one: his(one) and one.connect is None)
    talking = walk.latest(lambda one: his(one) and one.connect is not None)
    conf_agent = user(told.get("conf_agent"))
    consulted = walk.latest(
        lambda one: one.consulted and (conf_agent is None or one.user == conf_agent)
    )
    if kind == "Alerting" and agent is not None and not walk.latest(his):
        begin(agent, alert=at)
    elif kind == "Connected" and ringing:
        ringing.connect = at
    elif kind == "Connected" and not talking:
        begin(agent, connect=at)
    elif kind in INBOUND_ENDS and ringing:
        ringing.finish(at, INBOUND_ENDS[kind])
    elif kind in PASSED_ON:
        if talking:
            talking.finish(at, (1, 16))
        if kind == "ForwardNumber":
            begin(None, connect=at)
    elif kind in ("ConfAgent", "ConfNumber"):
        one = begin(conf_agent if kind == "ConfAgent" else None)
        one.consulted, one.asked_by = True, talking
    elif kind in CONSULTS and consulted:
        consulted.connect = consulted.connect or at
    elif kind == "ConfBusy" and consulted:
        consulted.finish(at, (3, 17))
    elif kind == "ConfTimeout" and consulted:
        consulted.finish(at, (2, 19))
    elif kind == "ConfEnd" and consulted:
        consulted.finish(at, (1 if consulted.connect else 2, 16))
    elif kind == "ConfTransfer" and consulted:
        consulted.consulted = False
        if consulted.asked_by and consulted.asked_by.open:
            consulted.asked_by.finish(at, (1, 16))
    elif kind == "CallEnd":
        for one in filter(lambda each: each.open, walk.attempts):
            one.finish(at, (1 if one.connect else 2, 16))


def go_outbound(walk: Walk, told: Told, ids: Ids) -> None:
    """Apply one line of the outbound table."""
    kind, at, agent = told["eventtype"], time_of(told), user(told.get("agentid"))
    visit = walk.visits[-1].id if walk.visits else None
    if kind in ("Alerting", "AConnected") and not walk.attempts and agent is not None:
        walk.attempts.append(Attempt(ids.events(told), visit, agent, at))
    if not walk.attempts or not walk.attempts[0].open:
        return
    (leg,) = walk.attempts
    if kind == "AConnected":
        leg.alert = leg.alert or at
    elif kind in ("BConnected", "Connected"):
        leg.connect = leg.connect or at
    elif kind in OUTBOUND_ENDS:
        leg.finish(at, OUTBOUND_ENDS[kind])
    elif kind in ("OutWorking", "CallEnd"):
        leg.finish(at, (1 if leg.connect else 2 if leg.alert else 0, 16))


def code_rows(task: str, legs: list[Leg], told: list[Told], ids: Ids) -> list[Code]:
    """Return the rows of a call's classifications, which are told when the call is over."""
    rows = []
    for one in told:
        if one["cmd"] != "classificationevent" or not means(one["callid"], task):
            continue
        agent = user(one.get("agent"))
        own = sorted(
            (leg for leg in legs if leg.usersid == agent),
            key=lambda leg: (leg.dtcallconnect is not None, leg.dtcallstart, leg.id),
        )
        leg = own[-1] if own else None
        key = (one.get("classificationcategoryid", ""), one["classificationreason"])
        rows.append(
            Code(ids.events(one), ids.calls[task], leg.acdstatisticspartbid if leg else None,
                 leg.id if leg else None, ids.codes[key], agent, time_of(one), None)
        )  # fmt: skip
    return rows


def means(call_id: str, task: str) -> bool:
    """Whether a callid is a taskid: as text without case and leading zeros, or as a number."""
    as_text = call_id.lower().lstrip("0") == task.lstrip("0")
    return as_text or (call_id.isdecimal() and int(call_id) == int(task, 16))


def planned(told: Told, ids: Ids) -> Event:
    """Return the callback request of a planned call."""
    agent = user(told.get("agentid"))
    return Event(
        ids.events(told), int(told["customerNumber"]), 3, None, None, None,
        agent if told.get("agenttype") == "ONLY_AGENT" else None, agent, None,
        number(told["callednumber"]), None,
        f"Scheduled call {told['nextretrystartdate']} - {told['nextretryenddate']}",
        told.get("requesttext"), record_in(told.get("requesttext")), None, time_of(told),
    )  # fmt: skip


def masters(sample: Sample, told: list[Told], ids: Ids) -> Sample:
    """Return the sample with the master rows that were told of."""
    users: dict[int, str] = {}
    groups: dict[int, dict[str, Any]] = {}
    services: dict[int, dict[str, Any]] = {}
    for one in told:
        for name in ("agentid", "conf_agent", "agent"):
            if one.get(name):
                users[int(one[name])] = one[name]
        for kind in ("group", "hotline", "mandator"):
            if not one.get(f"{kind}id"):
                continue
            row = int(one[f"{kind}id"]) * (-1 if kind == "mandator" else 1)
            known = (groups if kind == "group" else services).setdefault(row, {})
            if one["cmd"] == "agentstate" and one.get(kind):
                known.setdefault("name", one[kind])
            if kind == "hotline" and one["cmd"] == "callevent" and number(one.get("callednumber")):
                known.setdefault("number", number(one["callednumber"]))
    return Sample(
        sample.calls, sample.visits, sample.legs, sample.codes, sample.events,
        tuple(ServiceNumber(row, one.get("number"), one.get("name"))
              for row, one in services.items()),
        tuple(users.items()), tuple((row, one.get("name")) for row, one in groups.items()),
        tuple((row, reason) for (_, reason), row in ids.codes.items()),
    )  # fmt: skip


def record_of(told: Told, task: str) -> str | None:
    """Return the Salesforce id that an agentstate has for a call."""
    if told["cmd"] != "agentstate" or told.get("taskid", "").lower() != task:
        return None
    return record_in(told.get("requesttext"))


def record_in(text: str | None) -> str | None:
    """Return an id of 18 characters anywhere, or of 15 that are all."""
    words = [text or "", *re.findall(r"\b[0-9A-Za-z]{18}\b", text or "")]
    return next(filter(None, map(salesforce_id, words)), None)


def first_of(events: list[Told], name: str) -> str | None:
    """Return the parameter of the first event that has one."""
    return next((one[name] for one in events if one.get(name)), None)


def first_time(events: list[Told], kind: str) -> datetime | None:
    """Return the time of the first event of a kind."""
    return next((time_of(one) for one in events if one["eventtype"] == kind), None)
