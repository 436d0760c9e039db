"""Limits requests in flight: closed during a pause, then opened step by step. Pure.

Contract 5: a pause, after it one request, then twice as many for each success. One gate stands
before the org, and one before the endpoint of each feed.
"""

from dataclasses import dataclass, replace

from daemon.lines import PauseReason


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause: why, until when (the clock given in), after how many failed tries, by which lane."""

    reason: PauseReason
    until: float
    tries: int
    lane: str | None


class Gate:
    """Admits so many requests at once, one at a time while a pause is being probed.

    `epoch` counts the pauses; responses to requests that started before the newest do not count.
    """

    def __init__(self, concurrency: int, pause: Pause | None = None) -> None:
        self._concurrency = concurrency
        self._window = 1 if pause else concurrency
        self.pause = pause
        self.epoch = 0

    @property
    def is_open(self) -> bool:
        """Whether it neither pauses nor has just done so."""
        return self.pause is None and self._window == self._concurrency

    def may_start(self, in_flight: int, now: float) -> bool:
        """Whether a request may pass beside those in flight behind this gate."""
        if self.pause is not None:
            return in_flight == 0 and now >= self.pause.until
        return in_flight < self._window

    def close(self, pause: Pause) -> None:
        """Begin a pause, or lengthen the one that lasts."""
        self.pause = pause
        self.epoch += 1
        self._window = 1

    def drop_pause(self) -> None:
        """End a pause in favour of another gate's; requests still begin one at a time."""
        self.pause = None

    def record_success(self) -> None:
        """End a pause, or admit twice as many as before."""
        self._window = min(self._window * 2 if self.pause is None else 2, self._concurrency)
        self.pause = None

    def probe(self, now: float) -> None:
        """Let the next probe of a pause start now."""
        if self.pause is not None:
            self.pause = replace(self.pause, until=min(self.pause.until, now))


class OrgGate(Gate):
    """The gate before the org, with the share of its daily calls that may be used."""

    def __init__(self, concurrency: int, api_budget: float = 1.0) -> None:
        """`api_budget` is a share of the org's daily calls; 1 sets no bound."""
        super().__init__(concurrency)
        self._api_budget = api_budget
        self._api_usage = 0.0
        self._api_seen = float("-inf")

    def note_usage(self, api_usage: float | None, now: float) -> bool:
        """Note how much of the org's calls is used; True past the budget."""
        if api_usage is None or self._api_budget >= 1:
            return False
        self._api_usage, self._api_seen = api_usage, now
        return api_usage > self._api_budget

    def is_half_used(self, now: float, fresh_for: float) -> bool:
        """Whether half of the budget is used, as noted within the last `fresh_for` seconds."""
        return now - self._api_seen < fresh_for and self._api_usage > self._api_budget / 2
