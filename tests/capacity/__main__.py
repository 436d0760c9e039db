"""`python -m tests.capacity`: measures, and prints the tables of docs/capacity.md."""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable

import asyncpg

from tests.benchmark.harness import Harness, open_harness
from tests.benchmark.result import described, this_machine
from tests.capacity.clients import clients
from tests.capacity.ledger import SIZES, ledgers
from tests.capacity.life import DAYS
from tests.capacity.sending import sending
from tests.capacity.tables import Table


async def measure(harness: Harness, part: Callable[[Harness], Awaitable[list[Table]]]) -> str:
    """Measure a part, and return its tables and the machine."""
    connection = await asyncpg.connect(harness.server)
    try:
        machine = described(this_machine(await connection.fetchval("SHOW server_version")))
    finally:
        await connection.close()
    await harness.prepare()
    tables = await part(harness)
    return "\n\n".join([*(table.markdown() for table in tables), machine])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.capacity", description=__doc__)
    parser.add_argument("part", choices=["sending", "ledger", "clients"])
    parser.add_argument(
        "--lines", type=int, nargs="+", default=SIZES, help="of the ledgers; 10,000,000 need 10 GB"
    )
    parser.add_argument("--days", type=int, default=DAYS, help="for which the ledgers have lived")
    chosen = parser.parse_args()
    parts: dict[str, Callable[[Harness], Awaitable[list[Table]]]] = {
        "sending": sending,
        "ledger": lambda harness: ledgers(harness, chosen.lines, chosen.days),
        "clients": clients,
    }
    with open_harness() as harness:
        printed = asyncio.run(measure(harness, parts[chosen.part]))
    sys.stdout.write(printed + "\n")


if __name__ == "__main__":
    main()
