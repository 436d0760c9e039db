"""How long to wait before the next try. Pure; tenacity does the arithmetic (contract 5)."""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from tenacity import RetryCallState, Retrying
from tenacity.wait import wait_exponential_jitter

MAX_DIGITS = 15
MAX_DATE = 64
"""Characters of a date in a header; the longest form of one has half as many."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """RETRY_INITIAL and RETRY_MAX, in seconds."""

    initial: float
    maximum: float

    def delay(self, tries: int, retry_after: float | None = None) -> float:
        """Return seconds to wait after `tries` failures (1 for the first).

        min(maximum, initial · 2^(tries-1) + random(0 … initial)); a Retry-After replaces it,
        never beyond the maximum. One of 0 says nothing, or the sender would try without a pause.
        """
        if retry_after and retry_after > 0:
            return min(retry_after, self.maximum)
        wait = wait_exponential_jitter(
            multiplier=self.initial, max=self.maximum, exp_base=2, jitter=self.initial
        )
        state = RetryCallState(Retrying(), None, (), {})
        state.attempt_number = tries
        return wait(state)


def retry_after_seconds(header: str | None, now: datetime) -> float | None:
    """Read a Retry-After header, seconds or HTTP date; None where it is absent or unreadable.

    Seconds of more digits than any wait has are for ever: the caller bounds what it waits.
    """
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return float(text) if len(text) <= MAX_DIGITS else float("inf")
    if not text or len(text) > MAX_DATE:
        return None
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(0.0, (moment - now).total_seconds())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
