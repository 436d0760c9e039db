"""Decides when a database counts as lost and as back: once per outage, whoever notices. Pure."""

from dataclasses import dataclass

CONNECT = "connect"
"""The use that opens a connection."""
QUIET = 3.0
"""Seconds without a refusal after which what the server itself refused counts as over."""
UNTRIED = 60.0
"""Seconds after which a use that failed and was not tried again no longer counts."""

_GONE = ""


@dataclass(slots=True)
class _Fault:
    failed_at: float
    answered: bool
    works_again: bool = False


class Outages:
    """Faults by the use that met them: `settle` may fail for want of space while reads work.

    A server that is gone is back as soon as anything works. Where the server itself said no (its
    disk is full, a statement takes too long) every use that failed must work again, and none may
    have failed for `QUIET` seconds: between two refusals the same use may well succeed. Times are
    seconds of any steady clock.
    """

    def __init__(self) -> None:
        """Start without an outage."""
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
        answered = [fault.failed_at for fault in self._faults.values() if fault.answered]
        quiet = not answered or now - max(answered) >= QUIET
        for name, fault in list(self._faults.items()):
            over = fault.works_again and (quiet or not fault.answered)
            if over or now - fault.failed_at >= UNTRIED:
                del self._faults[name]
        return not self._faults

    def closed(self) -> bool:
        """Forget everything; True if an outage was over but for the quiet time."""
        over = bool(self._faults) and not self.failing
        self._faults.clear()
        return over
