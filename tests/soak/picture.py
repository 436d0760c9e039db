"""A soak as a picture: what was measured over time, with the faults behind it."""

from collections.abc import Sequence
from pathlib import Path

from tests.soak.faults import RESTARTS, PlannedFault
from tests.soak.samples import Row

MINUTE = 60.0
LEAST_SECONDS = 2.0
"""How long a fault that is over at once looks."""


def draw(path: Path, measured: Sequence[Row], faults: Sequence[PlannedFault]) -> None:
    """Write an SVG; restarts of the process are behind it in another colour."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    size = (10, 1.2 * len(measured))
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "callstatsd", "font.size": 8}):
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(len(measured), sharex=True)
        for panel, row in zip(panels, measured, strict=True):
            for fault in faults:
                begin, length = fault.at / MINUTE, max(LEAST_SECONDS, fault.seconds) / MINUTE
                color = "tab:red" if fault.kind in RESTARTS else "tab:orange"
                panel.axvspan(begin, begin + length, color=color, alpha=0.25, linewidth=0)
            minutes, values = zip(*((at / MINUTE, value) for at, value in row.points), strict=True)
            panel.plot(minutes, values, color="tab:blue", linewidth=0.9)
            panel.set_title(row.name, loc="left", fontsize=8)
            panel.set_ylim(bottom=0)
            panel.grid(alpha=0.3, linewidth=0.5)
        panels[-1].set_xlabel("minutes; orange: faults, red: restarts of the process")
        figure.savefig(path, metadata={"Date": None})
