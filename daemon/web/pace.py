"""A limit on how often something is done: what comes too soon waits for its turn."""

import asyncio
import time


class Pace:
    """So many turns a second, and `burst` of them at once after a rest."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._gap = 1 / per_second
        self._slack = (burst - 1) * self._gap
        self._next = float("-inf")

    def reserve(self, now: float) -> float:
        """Reserve the next turn; returns the seconds until it comes."""
        turn = max(self._next, now - self._slack)
        self._next = turn + self._gap
        return max(0.0, turn - now)

    async def turn(self) -> None:
        """Wait for the next turn."""
        seconds = self.reserve(time.monotonic())
        if seconds:
            await asyncio.sleep(seconds)
