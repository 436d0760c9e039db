"""What keeps strangers from filling the log, and from measuring how much of a secret is right."""

import hashlib
import time
from collections import OrderedDict

MAX_KEYS = 1000
"""Keys that are remembered."""


class Rarely:
    """Allows one log event for each key in so many seconds."""

    def __init__(self, every: float) -> None:
        self._every = every
        self._allowed: OrderedDict[str, float] = OrderedDict()

    def allows(self, key: str) -> bool:
        """Whether an event may be logged now; it then counts as logged."""
        now = time.monotonic()
        if now - self._allowed.get(key, float("-inf")) < self._every:
            return False
        self._allowed[key] = now
        self._allowed.move_to_end(key)
        if len(self._allowed) > MAX_KEYS:
            self._allowed.popitem(last=False)
        return True


def digest(secret: bytes) -> bytes:
    """Return what secrets are compared by: of one length, whatever theirs is."""
    return hashlib.sha256(secret).digest()
