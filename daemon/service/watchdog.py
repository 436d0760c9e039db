"""When systemd may be told that the daemon gets around. Pure: the clock is an argument."""

from enum import Enum, auto
from math import inf


class Loop(Enum):
    """What must get around for the daemon to be of use."""

    TAKING = auto()
    SENDING = auto()


class ProgressWatchdog:
    """Hears when a part has finished a turn, and says when all of them have.

    A turn is a poll or one page of it, or a look of the sender into the ledger; one that failed
    counts, because a restart brings no database back. Whoever waits for a database, or for the
    ledger's lock, does so for all parts.
    """

    def __init__(self) -> None:
        """Begin with no turn at all."""
        self._progressed: set[Loop] = set()
        self._rest: dict[Loop, float] = {}

    def progressed(self, *parts: Loop, rest_until: float = -inf) -> None:
        """Hear that these have finished a turn, and need not begin another before that time."""
        self._progressed.update(parts)
        self._rest.update(dict.fromkeys(parts, rest_until))

    def all_progressed(self, now: float) -> bool:
        """Whether each part has finished a turn since the last time that all had, or rests."""
        if any(part not in self._progressed and now >= self._rest.get(part, -inf) for part in Loop):
            return False
        self._progressed.clear()
        return True
