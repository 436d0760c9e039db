"""Lines as lanes know them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Line:
    """The least that lanes need to know of a line."""

    key: int
    lane: str
    ended: int = 0
    backfill: bool = False

    @property
    def order(self) -> tuple[bool, int, int]:
        return (self.backfill, self.ended, self.key)
