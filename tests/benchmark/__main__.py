"""`python -m tests.benchmark`: measures, and prints one table."""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable

import asyncpg
import orjson
from rich.console import Console

from tests.benchmark.backfill import backfill
from tests.benchmark.click_to_dial import api
from tests.benchmark.drain import drain
from tests.benchmark.endpoints import hot, slow
from tests.benchmark.harness import PATIENCE, Harness, open_harness
from tests.benchmark.history import idle, sweep
from tests.benchmark.page import page
from tests.benchmark.prompt import latency, life
from tests.benchmark.queues import graphile_worker, pgqueuer
from tests.benchmark.result import Effort, Result, SkippedError, markdown, show, this_machine
from tests.benchmark.telegra import telegra
from tests.benchmark.two_feeds import callbacks

Scenario = Callable[[Harness, Effort], Awaitable[list[Result]]]

SCENARIOS: dict[str, Scenario] = {
    "drain": drain,
    "pgqueuer": pgqueuer,
    "graphile-worker": graphile_worker,
    "callbacks": callbacks,
    "api": api,
    "telegra": telegra,
    "slow": slow,
    "hot": hot,
    "idle": idle,
    "sweep": sweep,
    "backfill": backfill,
    "latency": latency,
    "life": life,
    "page": page,
}


async def measure(
    harness: Harness, names: list[str], effort: Effort
) -> tuple[list[Result], dict[str, str]]:
    """Run scenarios one after another; what they take meanwhile goes to stderr."""
    connection = await asyncpg.connect(harness.server)
    try:
        machine = this_machine(await connection.fetchval("SHOW server_version"))
    finally:
        await connection.close()
    await harness.prepare()
    console = Console(stderr=True)
    results: list[Result] = []
    for name in names:
        with console.status(f"measuring {name} …"):
            try:
                async with asyncio.timeout(PATIENCE):
                    results += await SCENARIOS[name](harness, effort)
            except SkippedError as reason:
                console.print(f"{name} skipped: {reason}")
    return results, machine


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark", description=__doc__)
    parser.add_argument(
        "scenarios", nargs="*", metavar="SCENARIO", help=f"{', '.join(SCENARIOS)}; all, if none"
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="a part of the full size, such as 0.1"
    )
    parser.add_argument("--rounds", type=int, default=3, help="runs of each side, taken in turns")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="everything measured, for programs")
    form.add_argument("--markdown", action="store_true", help="the table for docs/benchmark.md")
    chosen = parser.parse_args()
    effort = Effort(chosen.scale, chosen.rounds)
    names = chosen.scenarios or list(SCENARIOS)
    if unknown := set(names) - set(SCENARIOS):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    with open_harness() as harness:
        results, machine = asyncio.run(measure(harness, names, effort))
    if chosen.json:
        told = {"machine": machine, "results": [result.as_json() for result in results]}
        sys.stdout.buffer.write(orjson.dumps(told, option=orjson.OPT_INDENT_2) + b"\n")
    elif chosen.markdown:
        sys.stdout.write(markdown(results, machine) + "\n")
    else:
        show(results, machine)
    sys.exit(0 if all(result.met for result in results) else 1)


if __name__ == "__main__":
    main()
