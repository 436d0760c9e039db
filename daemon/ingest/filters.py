"""Which lines of call statistics the settings keep out. Pure."""

import re
from collections.abc import Collection, Iterable

from daemon.ingest.record import outbound_flag
from daemon.lines import DataLine

SERVICE_NUMBERS = "CALLSTATSD_SERVICE_NUMBERS"
GROUPS = "CALLSTATSD_GROUPS"
DIRECTION = "CALLSTATSD_DIRECTION"


class Filters:
    """Lets the calls and groups pass that are named; `*` in a name is any characters.

    A line without a group passes. A call without a service number has an empty name there, so that
    only `*` lets it pass.
    """

    def __init__(
        self, service_numbers: Collection[str], groups: Collection[str], *, outbound: bool | None
    ) -> None:
        """Without names all pass, and where `outbound` is None both directions."""
        self._service_numbers = _pattern(service_numbers) if service_numbers else None
        self._groups = _pattern(groups) if groups else None
        self._outbound = outbound

    def keeping_out(self, line: DataLine) -> str | None:
        """Return the setting that keeps a line out; None if it passes.

        Raises InvalidLineError if the direction counts and the call's is wrong.
        """
        if self._service_numbers is not None:
            names = _present(line.service_number, line.service_name) or [""]
            if not any(map(self._service_numbers.fullmatch, names)):
                return SERVICE_NUMBERS
        if self._outbound is not None and outbound_flag(line.outbound) != self._outbound:
            return DIRECTION
        if self._groups is not None:
            names = _present(line.agent_group, line.configuration_group)
            if names and not any(map(self._groups.fullmatch, names)):
                return GROUPS
        return None


def without_match(names: Iterable[str], existing: Iterable[str | None]) -> list[str]:
    """Return those names of a filter that match nothing of what exists; `*` always does."""
    found = [*_present(*existing), ""]
    return [name for name in names if not any(map(_pattern([name]).fullmatch, found))]


def _present(*names: str | None) -> list[str]:
    return [trimmed for name in names if name is not None and (trimmed := name.strip())]


def _pattern(names: Iterable[str]) -> re.Pattern[str]:
    parts = (".*".join(map(re.escape, re.split(r"\*+", name))) for name in names)
    return re.compile("|".join(parts), re.DOTALL)
