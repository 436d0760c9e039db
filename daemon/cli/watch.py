"""`callstatsd status --watch`: the status again and again, with rates, until Ctrl-C."""

import asyncio
import io
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TextIO
from zoneinfo import ZoneInfo

import orjson
import typer
from rich.live import Live
from rich.text import Text

from daemon.cli import output
from daemon.cli.faults import faults_of
from daemon.cli.status_reader import Status, StatusReader, open_status
from daemon.errors import UnusableError
from daemon.language import _
from daemon.lines import FeedName
from daemon.reports.formats import iso_time, local_time
from daemon.reports.pace import Look, Pace, PaceMeter, pace_sentence
from daemon.service.signals import stop_on_signals
from daemon.settings.model import Settings
from daemon.tasks import run_until, sleep_or_stop
from daemon.terminal import columns, console, say

EVERY = 5.0
"""Seconds from one look to the next, unless others are given."""


@dataclass(frozen=True, slots=True)
class Observation:
    """The status at a time of the ledger's clock, and the pace of each feed that it has."""

    at: datetime
    status: Status
    paces: dict[FeedName, Pace | None]


Show = Callable[[Observation, Sequence[str]], None]
"""Shows the last look that succeeded, and why there is no later one."""


class Observer:
    """Reads the status, and compares it with earlier ones."""

    def __init__(self, reader: StatusReader) -> None:
        self._reader = reader
        self._meters = {feed: PaceMeter() for feed in FeedName}

    async def observe(self) -> Observation:
        """Look at the ledger once; raises `UnusableError`."""
        status = await self._reader.read()
        feeds = [FeedName.STATISTICS]
        feeds += [] if status.report.callbacks is None else [FeedName.CALLBACKS]
        looks: dict[FeedName, Look] = {}
        for feed in feeds:
            since = self._meters[feed].since
            looks[feed] = Look(*await self._reader.operator_store.of(feed).pace(since))
        paces = {feed: self._meters[feed].add(look) for feed, look in looks.items()}
        return Observation(looks[FeedName.STATISTICS].at, status, paces)


async def watch(settings: Settings, every: float, *, as_json: bool) -> None:
    """Show the status every few seconds until SIGINT or SIGTERM.

    Raises `UnusableError` if the first look fails; a later one that does is shown, and repeated.
    """
    with stop_on_signals() as stop:
        async with open_status(settings) as reader:
            observer = Observer(reader)
            with _screen(settings, every, as_json=as_json) as show:
                await _watch(observer, every, show, stop)


async def _watch(observer: Observer, every: float, show: Show, stop: asyncio.Event) -> None:
    seen: Observation | None = None
    while not stop.is_set():
        began = time.monotonic()
        faults: tuple[str, ...] = ()
        try:
            seen = await run_until(stop, observer.observe())
        except UnusableError as error:
            if seen is None:
                raise
            faults = faults_of(error)
        if seen is None:
            return
        show(seen, faults)
        # A count that takes long is not repeated at once.
        took = time.monotonic() - began
        await sleep_or_stop(stop, max(every - took, min(every, took)))


def observation_json(seen: Observation, settings: Settings) -> dict[str, Any]:
    """Return `status --json`, with the time of the look and the pace of each feed."""
    found, zone = seen.status, settings.source_timezone
    status: dict[str, Any] = {**output.status_json(found.report, zone, found.telegra)}
    status = {"at": iso_time(seen.at), **status, "pace": _pace_json(seen, FeedName.STATISTICS)}
    if status["callbacks"] is not None:
        status["callbacks"] |= {"pace": _pace_json(seen, FeedName.CALLBACKS)}
    return status


def _pace_json(seen: Observation, feed: FeedName) -> dict[str, float | None] | None:
    pace = seen.paces[feed]
    if pace is None:
        return None
    return {
        "settled_per_minute": round(pace.settled, 1),
        "taken_per_minute": round(pace.taken, 1),
        "empty_in_seconds": None if pace.empty_in is None else round(pace.empty_in, 1),
    }


@contextmanager
def _screen(settings: Settings, every: float, *, as_json: bool) -> Iterator[Show]:
    """Yield what shows the next look: in place on a terminal, below the last one elsewhere.

    So also on a terminal that cannot go back in what it has printed.
    """

    def write(seen: Observation, faults: Sequence[str]) -> None:
        if not as_json:
            show_observation(seen, settings.source_timezone, every, faults)
            return
        for fault in faults:
            say(f"Not read: {fault}", err=True, hanging=2)
        if not faults:
            typer.echo(orjson.dumps(observation_json(seen, settings)))

    terminal, shown = sys.stdout, console()
    if as_json or columns(terminal) is None or shown.is_dumb_terminal:
        yield write
        return
    live = Live(console=shown, auto_refresh=False, redirect_stdout=False)

    def replace(seen: Observation, faults: Sequence[str]) -> None:
        with redirect_stdout(_Captured(terminal)) as captured:
            write(seen, faults)
        live.update(Text.from_ansi(captured.text), refresh=True)

    with live:
        yield replace


def show_observation(
    seen: Observation, zone: ZoneInfo, every: float, faults: Sequence[str]
) -> None:
    """Print the status with rates, for people; `faults` are why there is no later one."""
    time = local_time(seen.at, zone)
    say(_("{time}, again every {seconds} s until Ctrl-C", time=time, seconds=f"{every:g}"))
    for fault in faults:
        say(_("Not read since then: {fault}", fault=fault), hanging=2)
    for feed, pace in seen.paces.items():
        output.say_labelled(feed, pace_sentence(pace))
    say("")
    output.show_status(seen.status.report, zone, seen.status.telegra)


class _Captured(io.TextIOWrapper):
    """Takes what is printed, with the width, encoding and colours of a terminal."""

    def __init__(self, terminal: TextIO) -> None:
        self._written = io.BytesIO()
        self._terminal = terminal
        super().__init__(self._written, encoding=terminal.encoding, errors=terminal.errors)

    @property
    def text(self) -> str:
        """What was printed so far."""
        self.flush()
        return self._written.getvalue().decode(self.encoding)

    def isatty(self) -> bool:
        """Return True: it stands for a terminal."""
        return True

    def fileno(self) -> int:
        """Return the terminal's, which has the width."""
        return self._terminal.fileno()
