"""What commands share: their settings, the event loop, the ledger, and checked arguments."""

import asyncio
import gc
import os
import shlex
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, TypeVar

import typer
import uvloop

from daemon import logs
from daemon.cli.options import invocation
from daemon.command_text import address_commands
from daemon.ledger.operator import OperatorStore
from daemon.service.connections import check_ledger, open_databases
from daemon.settings.loading import find_settings, validate
from daemon.settings.log_settings import log_settings
from daemon.settings.model import Settings
from daemon.settings.values import parse_local_time
from daemon.terminal import say

T = TypeVar("T")

MIN_ID, MAX_ID = -(2**63), 2**63 - 1


def require_settings(
    *, to_send: bool = False, may_default: bool = True, acting: bool = False, writes: bool = False
) -> Settings:
    """Read the settings of a command; if it writes, print on stderr what it acts on.

    Configures logging for a command that answers on stdout; `acting` logs what an operator does
    to lines, as the daemon would. `may_default` allows /etc/callstatsd/callstatsd.env, which no
    service uses unless its unit names it. Raises `ConfigurationError`.
    """
    given = invocation()
    may_default = may_default and "INVOCATION_ID" not in os.environ
    found = find_settings(given.request(may_default=may_default))
    given.log = log_settings(found.texts)
    address_commands(found.option)
    level = given.log.log_level if acting else "critical"
    logs.configure(given.log.log_format, level, given.log.log_personal_data)
    settings = validate(found, to_send=to_send)
    default = f"--env-file {shlex.quote(str(found.file))}" if found.by_default else ""
    address_commands(settings.command_option, default)
    if writes:
        prefix = logs.SYSLOG_PREFIXES["info"] if logs.is_journal(sys.stderr) else ""
        say(f"{prefix}{settings.target}", err=True)
    return settings


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, on uvloop."""
    # By default every 700 new objects start a search for reference cycles: a tenth of the time.
    gc.freeze()
    gc.set_threshold(50_000)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


@asynccontextmanager
async def open_operator_store(settings: Settings) -> AsyncIterator[OperatorStore]:
    """Open the ledger for an operator's command; raises `ConfigurationError` for a wrong one."""
    async with open_databases(settings) as (source, ledger):
        await check_ledger(settings, source, ledger)
        yield OperatorStore(ledger.database)


def read_time(text: str, settings: Settings) -> datetime:
    """Read T of an option, in the ACD's time zone."""
    try:
        return parse_local_time(text, settings.source_timezone)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def require_utf8(text: str | None) -> str | None:
    """Reject an argument that is not text in the shell's encoding."""
    try:
        (text or "").encode()
    except UnicodeEncodeError:
        raise typer.BadParameter("must be UTF-8 text") from None
    return text
