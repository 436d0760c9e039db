"""What may be sent next: one line in flight per lane, lanes by their first line's order. Pure.

A lane is a Salesforce record (its 15-character form), or a single line that has no record.
"""

from bisect import insort
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import inf
from typing import Any, Generic, Protocol, TypeVar


class Sendable(Protocol):
    """What lanes need to know of a line."""

    @property
    def key(self) -> Hashable:
        """Identifies the line."""

    @property
    def lane(self) -> str:
        """Lines of one lane are sent one at a time, in order."""

    @property
    def order(self) -> Any:
        """Compares with other lines' order."""


Line = TypeVar("Line", bound=Sendable)


@dataclass(slots=True)
class _Lane(Generic[Line]):
    waiting: list[tuple[Any, Line]] = field(default_factory=list)
    """Lines with their order, sorted."""
    busy: bool = False
    truncated: bool = False


class LaneLocks:
    """Which lanes have a line out, over the lines of all feeds: two never have one at once."""

    def __init__(self) -> None:
        self._out: dict[str, Lanes[Any]] = {}
        self._members: list[Lanes[Any]] = []

    def join(self, lanes: "Lanes[Any]") -> None:
        """Let these lanes share the locks."""
        self._members.append(lanes)

    def is_free(self, name: str) -> bool:
        """Whether no line of the lane is out."""
        return name not in self._out

    def lock(self, name: str, lanes: "Lanes[Any]") -> None:
        """Note that a line of the lane is out, of these lanes."""
        self._out[name] = lanes
        for others in self._members:
            if others is not lanes:
                others.locked(name)

    def free(self, name: str) -> None:
        """Note that none is out any more; other feeds may have waited for it."""
        holder = self._out.pop(name)
        for lanes in self._members:
            if lanes is not holder:
                lanes.unlocked(name)

    def drop_waiting(self, name: str) -> None:
        """Forget the lane's waiting lines of all feeds."""
        for lanes in self._members:
            lanes.drop_waiting(name)


class Lanes(Generic[Line]):
    """The lines in memory: those waiting, and those handed out and not yet forgotten.

    Invariants: no two lines of a lane are out at once; a lane hands out its lines in order; a
    lane holds at most `depth` waiting lines, and only one while `max_waiting` wait in all; once it
    had to leave one out, or another feed has a line of it out, it is truncated, and accepts no
    later ones until it is empty, so that none can overtake. `waiting` counts the waiting lines,
    `untruncated` those of other lanes.
    """

    def __init__(
        self, depth: int, max_waiting: float = inf, locks: LaneLocks | None = None
    ) -> None:
        """`locks` are shared by the lanes of several feeds."""
        self._locks = locks or LaneLocks()
        self._locks.join(self)
        self._depth = depth
        self._max_waiting = max_waiting
        self._lanes: dict[str, _Lane[Line]] = {}
        self._ready: list[tuple[Any, str]] = []
        self._keys: set[Hashable] = set()
        self.waiting = 0
        self.untruncated = 0

    def __contains__(self, key: Hashable) -> bool:
        """Whether the line is here, waiting or out."""
        return key in self._keys

    @property
    def full(self) -> list[str]:
        """Lanes that accept no more lines now."""
        return [name for name, lane in self._lanes.items() if lane.truncated and lane.waiting]

    @property
    def needs_refill(self) -> bool:
        """Whether a lane that had to leave lines out has none left."""
        return any(lane.truncated and not lane.waiting for lane in self._lanes.values())

    def add(self, lines: Iterable[Line]) -> int:
        """Add lines, given in order; returns how many were new and fitted."""
        added = 0
        for line in lines:
            if line.key in self._keys:
                continue
            lane = self._lanes.setdefault(line.lane, _Lane())
            if lane.truncated and not lane.waiting:
                lane.truncated = False
            if lane.truncated:
                continue
            if len(lane.waiting) >= (self._depth if self.waiting < self._max_waiting else 1):
                lane.truncated = True
                self.untruncated -= len(lane.waiting)
                continue
            order = line.order
            insort(lane.waiting, (order, line))
            self._keys.add(line.key)
            self.waiting += 1
            self.untruncated += 1
            added += 1
            if not lane.busy and lane.waiting[0][1] is line:
                heappush(self._ready, (order, line.lane))
            if not lane.busy and not self._locks.is_free(line.lane):
                self.locked(line.lane)  # one is enough until it is free
        return added

    def next(self, avoid: Mapping[str, int] | None = None, before: Any = None) -> Line | None:
        """Hand out the first line that may be sent, or None.

        `avoid` has lanes to pass over while another one is ready: after a pause the line that
        caused it must not be the first again. Of these alone, the one with the lowest number is
        chosen. `before` leaves out lines of that order or later.
        """
        passed: list[tuple[Any, str]] = []
        found: Line | None = None
        while self._ready and found is None:
            if before is not None and self._ready[0][0] >= before:
                break
            entry = heappop(self._ready)
            order, name = entry
            lane = self._lanes.get(name)
            if lane is None or lane.busy or not lane.waiting or lane.waiting[0][0] != order:
                continue  # an entry that a newer one replaced
            if not self._locks.is_free(name):
                continue  # `unlocked` brings it back
            if avoid and name in avoid:
                passed.append(entry)
                continue
            found = self._hand_out(lane)
        if avoid and passed and found is None:
            chosen = min(passed, key=lambda entry: avoid[entry[1]])
            passed.remove(chosen)
            found = self._hand_out(self._lanes[chosen[1]])
        for entry in passed:
            heappush(self._ready, entry)
        return found

    def claim(self, line: Line) -> bool:
        """Hand out this line, which the ledger has as the first of its lane; it may be new here.

        False if it may not be sent now: a line of its lane is in flight, or its own outcome is not
        written yet.
        """
        lane = self._lanes.get(line.lane) or _Lane()
        if lane.busy or not self._locks.is_free(line.lane):
            return False
        if lane.waiting and lane.waiting[0][1].key == line.key:
            self._hand_out(lane)
            return True
        if line.key in self._keys or (lane.waiting and lane.waiting[0][0] < line.order):
            return False
        self._lanes[line.lane] = lane
        self._keys.add(line.key)
        lane.busy = True
        self._locks.lock(line.lane, self)
        return True

    def release(self, line: Line, *, drop_waiting: bool = False) -> None:
        """Free the line's lane; with `drop_waiting` forget the lane's waiting lines as well.

        They are still in the ledger, and come back when the lane may go on.
        """
        if drop_waiting:
            self._locks.drop_waiting(line.lane)
        lane = self._lanes[line.lane]
        lane.busy = False
        self._locks.free(line.lane)
        if lane.waiting:
            heappush(self._ready, (lane.waiting[0][0], line.lane))
        elif not lane.truncated:
            del self._lanes[line.lane]

    def locked(self, name: str) -> None:
        """Count the lane's lines no more as ready: another feed's is out, and may be for long."""
        lane = self._lanes.get(name)
        if lane is not None and lane.waiting and not lane.truncated:
            lane.truncated = True
            self.untruncated -= len(lane.waiting)

    def unlocked(self, name: str) -> None:
        """Let the lane's first line be handed out: another feed's is no longer out."""
        lane = self._lanes.get(name)
        if lane is not None and lane.waiting:
            heappush(self._ready, (lane.waiting[0][0], name))

    def drop_waiting(self, name: str) -> None:
        """Forget the lane's waiting lines: they are in the ledger, and come back."""
        lane = self._lanes.get(name)
        if lane is None:
            return
        self._keys.difference_update(line.key for _, line in lane.waiting)
        self.waiting -= len(lane.waiting)
        self.untruncated -= 0 if lane.truncated else len(lane.waiting)
        lane.waiting.clear()
        lane.truncated = False
        if not lane.busy:
            del self._lanes[name]

    def reopen_truncated(self) -> None:
        """Let truncated lanes accept lines again: the ledger has none for them now."""
        for name, lane in list(self._lanes.items()):
            if lane.truncated and not lane.waiting:
                lane.truncated = False
                if not lane.busy:
                    del self._lanes[name]

    def forget(self, line: Line) -> None:
        """Forget the line: its outcome is in the ledger."""
        self._keys.discard(line.key)

    def clear(self) -> None:
        """Forget all waiting lines; those that are out stay known until settled."""
        for name, lane in list(self._lanes.items()):
            self._keys.difference_update(line.key for _, line in lane.waiting)
            lane.waiting.clear()
            lane.truncated = False
            if not lane.busy:
                del self._lanes[name]
        self._ready.clear()
        self.waiting = self.untruncated = 0

    def _hand_out(self, lane: _Lane[Line]) -> Line:
        _, line = lane.waiting.pop(0)
        lane.busy = True
        self._locks.lock(line.lane, self)
        self.waiting -= 1
        self.untruncated -= not lane.truncated
        return line
