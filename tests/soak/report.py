"""What a soak says: tables in markdown, and whether it is passed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.soak.faults import PlannedFault
from tests.soak.samples import (
    MOST_DESCRIPTORS,
    MOST_MEMORY,
    WINDOW,
    Growth,
    Sample,
    cells,
    growth,
    rows,
)
from tests.support.audit import Audit

HEADINGS = (
    "",
    f"first {WINDOW / 60:.0f} min, median",
    f"last {WINDOW / 60:.0f} min, median",
    "median",
    "most",
    "slope per hour",
)


@dataclass(frozen=True, slots=True)
class Soak:
    """What a soak measured, what happened meanwhile, and what the audit found in the end.

    `violations` are requests that differed from the contract; `faults` what the audit found wrong.
    """

    seed: int
    samples: Sequence[Sample]
    met: Sequence[PlannedFault]
    lives: int
    repeated: int
    audit: Audit
    faults: Sequence[str]
    violations: Sequence[str]
    machine: str

    @property
    def growth(self) -> Growth | None:
        return growth(self.samples)

    @property
    def unanswered(self) -> int:
        """Lines written again because the endpoint had closed the connection unanswered."""
        return self.repeated - self.audit.repeated

    @property
    def passed(self) -> bool:
        bounded = self.growth is None or self.growth.bounded
        return bounded and not self.faults and not self.violations


def markdown(soak: Soak) -> str:
    """The report for docs/capacity.md."""
    return "\n\n".join(
        [
            table(HEADINGS, [cells(row) for row in rows(soak.samples)]),
            "\n".join(f"- {sentence}" for sentence in sentences(soak)),
            table(
                ("second", "fault", "seconds"),
                [(f"{each.at:.0f}", each.kind, f"{each.seconds:.1f}") for each in soak.met],
            ),
            soak.machine,
        ]
    )


def sentences(soak: Soak) -> Iterator[str]:
    """What the table does not say."""
    found, audit = soak.growth, soak.audit
    yield (
        f"{audit.lines:,} lines arrived, {audit.requests:,} requests were made; {audit.lost} lines "
        f"were lost, {audit.pending} are still pending."
    )
    yield (
        f"{soak.repeated:,} lines were written more than once: {soak.unanswered:,} after the "
        f"endpoint had closed the connection, {audit.repeated_unanswered:,} after it had not "
        f"answered in time, {audit.repeated_after_breaks:,} after a kill or a cut to the ledger, "
        f"{audit.unexplained} for no reason."
    )
    yield f"{soak.lives} processes one after another; {len(soak.met)} faults, seed {soak.seed}."
    if found is None:
        yield "No process lived long enough to show growth."
    else:
        yield (
            f"The one that lived longest, {found.minutes:.0f} minutes: {found.memory:.3f} times "
            f"the memory (at most {MOST_MEMORY}) and {found.descriptors:+.0f} descriptors (at "
            f"most +{MOST_DESCRIPTORS}) in its last quarter, compared with its second."
        )
    for fault in (*soak.faults, *soak.violations):
        yield f"WRONG: {fault}"


def table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in markdown."""
    made = [headings, ("---",) * len(headings), *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in made)
