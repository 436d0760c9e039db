"""How long to wait before the next try: exponential, with jitter, bounded. Pure."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field


def exponential(tries: int, initial: float, jitter: float, maximum: float) -> float:
    """Return min(maximum, initial · 2^(tries-1) + jitter); `tries` is 1 after the first failure."""
    try:
        return min(maximum, initial * 2.0 ** (tries - 1) + jitter)
    except OverflowError:
        return maximum


def _jitter(initial: float) -> float:
    return random.uniform(0, initial)  # noqa: S311 - it only spreads the tries of many lines


@dataclass(frozen=True, slots=True)
class Backoff:
    """RETRY_INITIAL and RETRY_MAX, in seconds; `jitter` gives a random part of the former."""

    initial: float
    maximum: float
    jitter: Callable[[float], float] = field(default=_jitter, repr=False)

    def delay(self, tries: int, retry_after: float | None = None) -> float:
        """Return seconds to wait after `tries` failures.

        A Retry-After replaces the formula, but not the maximum. One of 0 is ignored, or the sender
        would try without a pause.
        """
        if retry_after and retry_after > 0:
            return min(retry_after, self.maximum)
        return exponential(tries, self.initial, self.jitter(self.initial), self.maximum)
