"""Decides when a database is lost and when it is back, once per outage. Pure."""

from dataclasses import dataclass

CONNECT = "connect"
"""The use that opens a connection."""
QUIET = 3.0
"""Seconds without a fault after which what the server itself refused counts as over."""
SHORT = 1.0
"""The same for a server that could not be reached: at first it may refuse."""
UNTRIED = 15.0
"""Seconds after which a use that failed and was not tried again no longer counts."""

_GONE = ""


@dataclass(slots=True)
class _Fault:
    failed_at: float
    answered: bool
    works_again: bool = False


class Outages:
    """Faults by the use that met them: `settle` may fail for lack of space while reads work.

    An outage is over when every use that failed works again, and none has failed for `SHORT` or
    `QUIET` seconds: where the server itself refused (its disk is full, a statement takes too
    long), the same use may well succeed between two refusals. While a server is gone all uses
    fail alike, so that any that works will do. Times are seconds of any steady clock.
    """

    def __init__(self) -> None:
        self._faults: dict[str, _Fault] = {}

    @property
    def failing(self) -> bool:
        """Whether some use failed and has not worked since."""
        return any(not fault.works_again for fault in self._faults.values())

    def failed(self, use: str, now: float, *, answered: bool) -> bool:
        """Note a fault, `answered` by the server itself or not; True if it begins an outage."""
        begins = not self._faults
        self._faults[use if answered or use == CONNECT else _GONE] = _Fault(now, answered)
        return begins

    def worked(self, use: str, now: float) -> bool:
        """Note a use that worked; True if it ends an outage."""
        if not self._faults:
            return False
        if use in self._faults:
            self._faults[use].works_again = True
        if _GONE in self._faults:
            self._faults[_GONE].works_again = True
        faults = self._faults.values()
        for name in [n for n, fault in self._faults.items() if now - fault.failed_at >= UNTRIED]:
            self._faults[name].works_again = True
        quiet = QUIET if any(fault.answered for fault in faults) else SHORT
        if self.failing or now - max(fault.failed_at for fault in faults) < quiet:
            return False
        self._faults.clear()
        return True

    def closed(self) -> bool:
        """Forget all faults; True if every use worked again and only the quiet time was left."""
        over = bool(self._faults) and not self.failing
        self._faults.clear()
        return over
