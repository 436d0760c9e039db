"""The hostile clients in a process of their own, so that what they cost is nobody's else."""

import argparse
import asyncio
import signal

import orjson
import uvloop

from tests.support.hostile import crowded


async def visit(port: int, token: str) -> dict[str, int]:
    """Let them ask until SIGTERM; returns what they were answered."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with crowded(port, token) as answers:
        await stop.wait()
    return dict(answers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("token")
    chosen = parser.parse_args()
    answers = uvloop.run(visit(chosen.port, chosen.token))
    print(orjson.dumps(answers).decode())  # noqa: T201 - its one word to its parent


if __name__ == "__main__":
    main()
