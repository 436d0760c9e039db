"""What the demo prints: the daemon's log, an example, then the outcome of the lines."""

import json
import sys
from asyncio import StreamReader
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from daemon.demo import telegra
from daemon.demo.faults import FaultInjector
from daemon.demo.standin import StandIn
from daemon.ledger.overview import LineDetail, StatusReport
from daemon.lines import State
from daemon.reports.formats import plural
from daemon.reports.meanings import MEANINGS
from daemon.terminal import NARROW, columns, console, say, say_command, wrap

FIRST_FEW = 3
"""Events of a kind that are printed where there are many."""

NEXT = {
    "callstatsd demo --stay": "the same, with its status page, until Ctrl-C",
    "callstatsd demo --calls 5000 --seed 7": "more and different calls",
    "callstatsd demo --faults": "with simulated faults of Salesforce",
    "callstatsd demo --serve-only --port 8080": "only the stand-ins, for your own daemon",
    "cp .env.example .env": "the settings, to connect your own ACD",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of the demo; `seconds` from the daemon's start to the last settled line.

    `alerts` are the events of the ACD that it raised, `dials` counts the answers to click to dial,
    `telegra` the lines of the second instance by state.
    """

    overview: StatusReport
    salesforce: StandIn
    example: Sequence[LineDetail]
    faults: FaultInjector | None
    seconds: float
    alerts: list[dict[str, Any]] = field(default_factory=list)
    dials: Counter[str] = field(default_factory=Counter)
    telegra: Counter[str] = field(default_factory=Counter)


class EventPrinter:
    """Prints the daemon's log: only the first few of each event in `counted`, all others."""

    def __init__(self, shown: Console, counted: Collection[str]) -> None:
        self._console = shown
        self._counted = counted
        self._seen: Counter[str] = Counter()

    def reset_counts(self) -> None:
        """Print the first few of each event again."""
        self._seen.clear()

    async def follow(self, log: StreamReader) -> None:
        """Print the log until it ends."""
        async for raw in log:
            try:
                event = orjson.loads(raw)
            except orjson.JSONDecodeError:
                self._print(raw.decode(errors="replace").rstrip())
                continue
            name = event.pop("event")
            self._seen[name] += 1
            if name in self._counted and self._seen[name] > FIRST_FEW:
                if self._seen[name] == FIRST_FEW + 1:
                    self._print(f"            {name:16} … more of these are not printed")
                continue
            clock = event.pop("timestamp")[11:19]
            event.pop("level")
            fields = " ".join(f"{key}={value}" for key, value in event.items() if value is not None)
            self._print(f"  {clock}  {name:16} {fields}".rstrip())

    def _print(self, text: str) -> None:
        width = columns(sys.stdout)
        hanging = 12 if width is None or width >= NARROW else 4
        self._console.print(wrap(text, width, hanging), markup=False, soft_wrap=True)


def show(outcome: Outcome) -> None:
    """Print one call as an example, and the outcome of the lines."""
    shown = console()
    if outcome.faults is not None:
        _show_faults(shown, outcome.faults)
    _show_example(shown, outcome.example)
    shown.print()
    _show_states(shown, outcome)
    total = sum(outcome.overview.lines.values())
    counts = outcome.salesforce.counts()
    locked = counts["by_status"].get("423", 0) if outcome.faults is None else outcome.faults.locks
    times = "once" if locked == 1 else f"{locked:,} times"
    say(
        f"\n{total:,} lines settled in {outcome.seconds:.1f} s "
        f"({total / outcome.seconds:,.0f} lines/s, most of it the stand-in's own time). "
        f"The stand-in received {counts['requests']:,} requests: {counts['written']:,} written, "
        f"a record locked {times}, {counts['violations']} malformed."
    )
    for violation in outcome.salesforce.violations[:5]:
        say(f"  malformed: {violation}", hanging=4)


def show_what_next() -> None:
    """Print commands to try after the demo."""
    say("\nTry next:")
    for command, purpose in NEXT.items():
        say_command(command)
        say(f"      {purpose}", hanging=6)


def _show_states(shown: Console, outcome: Outcome) -> None:
    overview, dials = outcome.overview, outcome.dials
    table = Table("outcome", "lines", "meaning", title="Outcome of the data lines")
    table.columns[1].justify = "right"
    for state, meaning in MEANINGS.items():
        if overview.lines[state]:
            table.add_row(state, f"{overview.lines[state]:,}", meaning)
    if overview.callbacks is not None:
        ended = {state: lines for state, lines in overview.callbacks.lines.items() if lines}
        table.add_section()
        table.add_row(
            "callbacks",
            f"{sum(ended.values()):,}",
            ", ".join(f"{lines:,} {state}" for state, lines in ended.items()),
        )
    if overview.alert is not None:
        raised = f"ACD events: {plural(len(outcome.alerts), 'alert')} raised"
        table.add_row("alerts", f"{overview.alert.lines or 0:,}", raised)
    if dials:
        table.add_section()
        answers = ", ".join(f"{count} {answer}" for answer, count in dials.items())
        table.add_row("click to dial", f"{dials.total()}", f"questions, no lines: {answers}")
    if outcome.telegra:
        table.add_section()
        table.add_row(*telegra.cells(outcome.telegra))
    shown.print(table)
    if overview.lines[State.CONFLICT] or overview.lines[State.NOT_FOUND]:
        say(
            "These refusals are intended: the stand-in lacks some of the records (404) and refuses "
            "others (409, and one callback with 400)."
        )


def _show_example(shown: Console, lines: Sequence[LineDetail]) -> None:
    """Print a call: two groups, four attempts and three codes make five lines; one in full."""
    sent = [(line, json.loads(line.record)) for line in lines if line.record]
    if not sent:
        return
    names = {
        "agent": "AgentUID", "group": "AcdAgentGroupsName", "start": "dtCallStart",
        "seconds": "nDuration", "CONNRES": "CONNRES", "code": "TransactionCodeExportKey",
    }  # fmt: skip
    if shown.width < NARROW:
        names = {name: names[name] for name in ("agent", "seconds", "code")}
    table = Table(
        "key", *names, title=f"Call {lines[0].key.call_id} as it was sent",
        box=None, padding=(0, 2, 0, 0), pad_edge=False,
    )  # fmt: skip
    for line, record in sent:
        cells = [str("" if record[key] is None else record[key]) for key in names.values()]
        table.add_row(str(line.key), *(cell.rpartition("T")[2] for cell in cells))
    shown.print()
    shown.print(table)
    line, record = next(((line, record) for line, record in sent if line.key.code_id), sent[0])
    say(f"\nThe full record of the line {line.key}:")
    say(json.dumps(record, ensure_ascii=False, indent=2), hanging=4)


def _show_faults(shown: Console, faults: FaultInjector) -> None:
    """Print how often each fault occurred."""
    table = Table("fault", "requests", title="Simulated faults of Salesforce")
    table.columns[1].justify = "right"
    for name, times in sorted(faults.counts.items()):
        table.add_row(name, f"{times:,}")
    shown.print(table)
