"""What goes wrong in a soak, and when: drawn from a seed."""

import random
from dataclasses import dataclass
from enum import StrEnum

GAP = 20.0, 50.0
"""Seconds from the end of a fault to the next one: at least, at most."""
QUIET = 30.0
"""Seconds at the beginning and at the end without a fault; a tenth of a short soak."""
RESTARTS_UNTIL = 1 / 3
"""The part of a soak in which processes end. The last one lives long enough to show growth."""


class Fault(StrEnum):
    """A kind of fault, in the words of the report."""

    FAILED = "500 to some requests"
    ALL_FAILED = "500 to all requests"
    LOCKED = "423 to some requests"
    THROTTLED = "429 to all requests"
    SILENT = "no answer in time to some requests"
    CLOSED = "connections closed before or after a line was written"
    TOKEN_REFUSED = "tokens and logins refused"
    LEDGER_CUT = "connections to the ledger cut"
    LEDGER_AWAY = "ledger away"
    SOURCE_AWAY = "source away"
    KILLED = "kill -9 and restart"
    RESTARTED = "SIGTERM and restart"
    TAKEN_OVER = "kill -9 beside a standby, which takes over"


RESTARTS = {Fault.KILLED, Fault.RESTARTED, Fault.TAKEN_OVER}
SECONDS = {
    Fault.FAILED: (5.0, 15.0),
    Fault.ALL_FAILED: (3.0, 10.0),
    Fault.LOCKED: (5.0, 15.0),
    Fault.THROTTLED: (2.0, 8.0),
    Fault.SILENT: (3.0, 8.0),
    Fault.CLOSED: (5.0, 10.0),
    Fault.TOKEN_REFUSED: (2.0, 8.0),
    Fault.LEDGER_AWAY: (1.0, 5.0),
    Fault.SOURCE_AWAY: (3.0, 15.0),
}
"""How long a fault lasts, at least and at most; the others are over at once."""
SHARES = {Fault.FAILED: 0.3, Fault.LOCKED: 0.3, Fault.SILENT: 0.02, Fault.CLOSED: 0.1}
"""The share of requests that a fault meets; all, if it is not here."""


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """A fault, the second at which it begins, and how long it lasts."""

    at: float
    kind: Fault
    seconds: float


def planned(seed: int, seconds: float) -> list[PlannedFault]:
    """Return the faults of a soak, one after another; each kind comes before any comes again."""
    chance = random.Random(seed)
    quiet = min(QUIET, seconds / 10)
    faults: list[PlannedFault] = []
    deck: list[Fault] = []
    at = quiet + chance.uniform(0, quiet)
    while at < seconds - quiet:
        late = at > seconds * RESTARTS_UNTIL
        deck = [kind for kind in deck if not late or kind not in RESTARTS]
        if not deck:
            deck = [kind for kind in Fault if not late or kind not in RESTARTS]
            chance.shuffle(deck)
        kind = deck.pop()
        lasting = min(chance.uniform(*SECONDS.get(kind, (0.0, 0.0))), seconds - quiet - at)
        faults.append(PlannedFault(at, kind, lasting))
        at += lasting + chance.uniform(*(min(bound, seconds / 20) for bound in GAP))
    return faults
