"""The limit: a process that posts prebuilt bodies with aiohttp and uvloop, and does nothing else.

It reads `KEY<tab>BODY` lines from a file and prints two figures, both from its first request to its
last answer: seconds, and seconds of CPU. What can be made once is made once: the URL, the headers
that never change. With `--lanes` it posts a record's lines one after another, as an endpoint that
locks records wants it, the records with most lines first.
"""

import argparse
import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import aiohttp
import uvloop
from yarl import URL

from tests.benchmark.endpoint import record_id

USER_AGENT = "callstatsd/0"

Line = tuple[str, bytes]
"""A line's key and body."""


async def post_all(
    url: URL, lanes: Iterator[Iterable[Line]], workers: int, token: str
) -> tuple[float, float]:
    """Post all lanes, each by one worker; an answer is read to its end, and must be a 200."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={
            "Accept": "application/json",
            "User-Agent": USER_AGENT,
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
        },
    ) as session:

        async def work() -> None:
            for key, body in chain.from_iterable(lanes):
                headers = {"Idempotency-Key": key}
                async with session.post(url, data=body, headers=headers) as answer:
                    await answer.read()
                    answer.raise_for_status()

        began, spent = time.perf_counter(), time.process_time()
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(work())
        return time.perf_counter() - began, time.process_time() - spent


def read(path: Path) -> list[Line]:
    """Read all lines at once, so that nothing is read while it counts."""
    pairs = (line.split(b"\t", 1) for line in path.read_bytes().splitlines())
    return [(key.decode(), body) for key, body in pairs]


def by_record(lines: list[Line]) -> list[list[Line]]:
    """Group lines by record, the longest groups first."""
    lanes: dict[bytes, list[Line]] = defaultdict(list)
    for line in lines:
        lanes[record_id(line[1])].append(line)
    return sorted(lanes.values(), key=len, reverse=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("bodies", type=Path)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--lanes", action="store_true")
    chosen = parser.parse_args()
    lines = read(chosen.bodies)
    lanes = by_record(lines) if chosen.lanes else [[line] for line in lines]
    work = post_all(URL(chosen.url), iter(lanes), chosen.workers, chosen.token)
    print(*uvloop.run(work))  # noqa: T201 - its result


if __name__ == "__main__":
    main()
