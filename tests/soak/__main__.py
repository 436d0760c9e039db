"""`python -m tests.soak`: runs the daemon under load and faults, and prints what came of it."""

import argparse
import sys
from pathlib import Path

import uvloop

from tests.benchmark.harness import open_harness
from tests.soak.picture import draw
from tests.soak.report import markdown
from tests.soak.run import soak
from tests.soak.samples import rows

MINUTE = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, required=True, help="how long lines arrive")
    parser.add_argument("--rate", type=float, default=200.0, help="data lines a second")
    parser.add_argument("--seed", type=int, default=1, help="another seed draws other faults")
    parser.add_argument("--svg", type=Path, help="also draw a picture; needs matplotlib")
    chosen = parser.parse_args()
    with open_harness() as harness:
        found = uvloop.run(
            soak(harness, seconds=chosen.minutes * MINUTE, rate=chosen.rate, seed=chosen.seed)
        )
    sys.stdout.write(markdown(found) + "\n")
    if chosen.svg is not None:
        draw(chosen.svg, rows(found.samples), found.met)
    sys.exit(0 if found.passed else 1)


if __name__ == "__main__":
    main()
