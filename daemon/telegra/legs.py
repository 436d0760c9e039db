"""The legs of a call: what each eventtype opens, connects and ends (telegra, section 6). Pure."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

CONNECTED, NO_ANSWER, BUSY, REFUSED, NOT_DIALLED = 1, 2, 3, 7, 0
"""CONNRES; the last is "ended before the destination was dialled"."""
NORMAL, USER_BUSY, UNANSWERED, INTERWORKING = 16, 17, 19, 111
"""Causes, as numbered by Q.850; the last is a protocol error."""

Result = tuple[int, int]
"""CONNRES and cause."""

ENDS_UNCONNECTED: dict[str, Result] = {
    "timeout": (NO_ANSWER, UNANSWERED),
    "busy": (BUSY, USER_BUSY),
    "rejected": (REFUSED, USER_BUSY),
    "badcall": (REFUSED, INTERWORKING),
}
HANDS_ON = {"forwardagent", "forwardgroup", "forwardhotline", "forwardnumber", "working"}
"""What ends the connected leg."""
CONNECTS_CONSULTED = {"confconnected", "confconnectedwithagent", "confconnectedwithnumber"}
ENDS_CONSULTED: dict[str, Result] = {
    "confbusy": (BUSY, USER_BUSY),
    "conftimeout": (NO_ANSWER, UNANSWERED),
}
ENDS_OUTBOUND: dict[str, Result] = {
    "btimeout": (NO_ANSWER, UNANSWERED),
    "bbusy": (BUSY, USER_BUSY),
    "timeout": (NOT_DIALLED, UNANSWERED),
    "busy": (NOT_DIALLED, USER_BUSY),
}


class Event(NamedTuple):
    """A callevent as legs need it; `kind` is the eventtype in lower case."""

    row_id: int
    at: datetime
    kind: str
    agent: int | None
    conf_agent: int | None
    visit: int | None


@dataclass(slots=True, eq=False)
class Leg:
    """An attempt to reach somebody; without `connres` it is open."""

    row_id: int
    visit: int | None
    agent: int | None
    started: datetime
    alerted: datetime | None = None
    connected: datetime | None = None
    ended: datetime | None = None
    connres: int | None = None
    cause: int | None = None
    consulted_by: "Leg | None" = None
    consulting: bool = False

    def end(self, at: datetime, result: Result) -> None:
        """End an open leg."""
        self.ended = at
        self.connres, self.cause = result


@dataclass(slots=True)
class Legs:
    """The legs of a call so far, in the order in which they were opened."""

    outbound: bool
    all: list[Leg] = field(default_factory=list)

    def apply(self, event: Event) -> None:
        """Take the next event of the call; one that means no leg does nothing."""
        if event.kind == "callend":
            for leg in self._open():
                leg.end(event.at, self._result_at_end(leg))
        elif self.outbound:
            self._outbound(event)
        else:
            self._inbound(event)

    def _inbound(self, event: Event) -> None:
        kind = event.kind
        if kind == "alerting":
            if event.agent is not None and not self._of(event.agent):
                self._start(event, event.agent, alerted=event.at)
        elif kind == "connected":
            self._connect(event)
        elif kind in ENDS_UNCONNECTED:
            self._end(event, ENDS_UNCONNECTED[kind], connected=False)
        elif kind in HANDS_ON:
            self._end(event, (CONNECTED, NORMAL), connected=True)
            if kind == "forwardnumber":
                self._start(event, None, connected=event.at)
        elif kind.startswith("conf"):
            self._consultation(event)

    def _connect(self, event: Event) -> None:
        if leg := self._meant(event, connected=False):
            leg.connected = event.at
        elif not self._of(event.agent):
            self._start(event, event.agent, connected=event.at)

    def _consultation(self, event: Event) -> None:
        kind = event.kind
        if kind in {"confagent", "confnumber"}:
            asking = self._meant(event, connected=True)
            target = self._start(event, event.conf_agent if kind == "confagent" else None)
            target.consulting, target.consulted_by = True, asking
        elif kind in CONNECTS_CONSULTED:
            if leg := self._consulted(event, lambda leg: leg.connected is None):
                leg.connected = event.at
        elif kind in ENDS_CONSULTED:
            if leg := self._consulted(event, lambda leg: leg.connected is None):
                leg.end(event.at, ENDS_CONSULTED[kind])
        elif kind == "confend":
            if leg := self._consulted(event):
                leg.end(event.at, self._result_at_end(leg))
        elif kind == "conftransfer":
            self._transfer(event)

    def _transfer(self, event: Event) -> None:
        """End the leg that consulted; the one that was consulted goes on."""
        consulted = self._consulted(event)
        asking = consulted.consulted_by if consulted else None
        if asking is None or asking.connres is not None:
            asking = self._meant(event, connected=True, but=consulted)
        if asking is not None:
            asking.end(event.at, (CONNECTED, NORMAL))
        if consulted is not None:
            consulted.consulting = False

    def _outbound(self, event: Event) -> None:
        kind = event.kind
        if kind in {"alerting", "aconnected"} and not self.all and event.agent is not None:
            self._start(event, event.agent)
        if kind in ENDS_OUTBOUND:
            self._end(event, ENDS_OUTBOUND[kind], connected=False)
        elif leg := self._meant(event):
            if kind == "aconnected":
                leg.alerted = leg.alerted or event.at
            elif kind in {"bconnected", "connected"}:
                leg.connected = leg.connected or event.at
            elif kind == "outworking":
                leg.end(event.at, self._result_at_end(leg))

    def _start(
        self,
        event: Event,
        agent: int | None,
        *,
        alerted: datetime | None = None,
        connected: datetime | None = None,
    ) -> Leg:
        leg = Leg(event.row_id, event.visit, agent, event.at, alerted, connected)
        self.all.append(leg)
        return leg

    def _end(self, event: Event, result: Result, *, connected: bool) -> None:
        if leg := self._meant(event, connected=connected):
            leg.end(event.at, result)

    def _open(self) -> list[Leg]:
        return [leg for leg in self.all if leg.connres is None]

    def _of(self, agent: int | None) -> list[Leg]:
        """Return the open legs of an agent; all of them where nobody is named."""
        return [leg for leg in self._open() if agent in (None, leg.agent)]

    def _meant(
        self, event: Event, *, connected: bool | None = None, but: Leg | None = None
    ) -> Leg | None:
        """Return the open leg of the event's agent, without an agent the latest it can mean."""
        found = [
            leg
            for leg in self._of(event.agent)
            if leg is not but and connected in (None, leg.connected is not None)
        ]
        return found[-1] if found else None

    def _consulted(self, event: Event, fits: Callable[[Leg], bool] = lambda _: True) -> Leg | None:
        """Return the leg that is consulted: that of `conf_agent` if it is named, else the latest.

        The event's own agent may be the one who consults.
        """
        found = [leg for leg in self._open() if leg.consulting and fits(leg)]
        if event.kind == "confconnectedwithagent":
            found = [leg for leg in found if leg.agent is not None]
        elif event.kind == "confconnectedwithnumber":
            found = [leg for leg in found if leg.agent is None]
        named = [
            leg for leg in found if event.conf_agent is not None and leg.agent == event.conf_agent
        ]
        return next(reversed(named or found), None)

    def _result_at_end(self, leg: Leg) -> Result:
        if leg.connected is not None:
            return CONNECTED, NORMAL
        dialled = not self.outbound or leg.alerted is not None
        return NO_ANSWER if dialled else NOT_DIALLED, NORMAL
