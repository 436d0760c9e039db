"""How slow this machine is at the moment, so that no test depends on an idle one."""

import os
import time

SPIN = 0.05
"""Seconds of the processor that a measurement takes."""


def slowness() -> float:
    """Return how many times longer things may take here and now than on an idle machine.

    By how long this process waits for its processor, and how many wait for one on average.
    """
    began, used = time.monotonic(), time.thread_time()
    while time.thread_time() - used < SPIN:
        pass
    waited = (time.monotonic() - began) / SPIN
    queued = os.getloadavg()[0] / (os.cpu_count() or 1)
    return max(1.0, 2 * waited - 1, 2 * queued)


def stretched(seconds: float) -> float:
    """Return a time limit that an idle machine keeps, as this machine can keep it now."""
    return seconds * slowness()
