# ruff: noqa: RUF001 - a ratio is written with its sign
"""What a measurement says, and how it is shown."""

import platform
from dataclasses import dataclass, field
from importlib.metadata import version
from os import cpu_count, getloadavg
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table


class SkippedError(Exception):
    """A scenario cannot be measured here, and why."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much of the full size is measured, and how often."""

    scale: float = 1.0
    rounds: int = 3

    def of(self, full: int, least: int) -> int:
        """So much of the full size, but at least enough to mean something."""
        return max(least, round(full * self.scale))


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound: at least it, or at most; `unit` follows the figure."""

    bound: float
    at_least: bool
    unit: str = "×"

    def met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {figure(self.bound, self.unit)}"


def at_least(bound: float, unit: str = "×") -> Goal:
    return Goal(bound, at_least=True, unit=unit)


def at_most(bound: float, unit: str = "×") -> Goal:
    return Goal(bound, at_least=False, unit=unit)


@dataclass(frozen=True, slots=True)
class Result:
    """A scenario's outcome: the median of `values` counts, one for each run."""

    scenario: str
    ours: str
    against: str
    values: list[float]
    goal: Goal
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def value(self) -> float:
        return median(self.values)

    @property
    def met(self) -> bool:
        return self.goal.met(self.value)

    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        spread = ""
        if len(self.values) > 1:
            low, high = (figure(v, self.goal.unit) for v in (min(self.values), max(self.values)))
            spread = f" ({low}–{high})"
        return (
            self.scenario,
            self.ours,
            self.against,
            figure(self.value, self.goal.unit) + spread,
            str(self.goal),
            "met" if self.met else "missed",
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "scenario": self.scenario,
            "ours": self.ours,
            "against": self.against,
            "value": self.value,
            "values": self.values,
            "unit": self.goal.unit,
            "goal": str(self.goal),
            "met": self.met,
            "details": self.details,
        }


HEADINGS = ("scenario", "measured", "against", "ratio or value", "goal", "")


def figure(value: float, unit: str) -> str:
    """Three figures, or all before the point, with the unit."""
    if unit == "×":
        return f"{value:.2f}"
    digits = f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
    return f"{digits} {unit}".rstrip()


def rate(lines: int, seconds: list[float]) -> str:
    """Lines per second, of the median run."""
    return f"{lines / median(seconds):,.0f} lines/s"


def show(results: list[Result], machine: dict[str, str]) -> None:
    """Print the table for a terminal."""
    table = Table(*HEADINGS, title="callstatsd on this machine")
    for result in results:
        table.add_row(*result.cells(), style=None if result.met else "yellow")
    console = Console()
    console.print(table)
    console.print(described(machine), soft_wrap=True, highlight=False)


def markdown(results: list[Result], machine: dict[str, str]) -> str:
    """The same table for docs/benchmark.md."""
    rows = [HEADINGS, ("---",) * len(HEADINGS), *(result.cells() for result in results)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{table}\n\n{described(machine)}"


def described(machine: dict[str, str]) -> str:
    return "; ".join(f"{name} {value}" if name else value for name, value in machine.items())


def this_machine(postgres: str) -> dict[str, str]:
    """What the figures depend on."""
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return {
        "": f"{cpu_count()} cores, {model}",
        "load before": f"{getloadavg()[0]:.1f}",
        "Python": platform.python_version(),
        "Postgres": f"{postgres} (fsync off, for both sides)",
        "aiohttp": version("aiohttp"),
        "uvloop": version("uvloop"),
    }
