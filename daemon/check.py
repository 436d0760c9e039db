"""`callstatsd check`: all that must be right before a line can arrive, without sending one."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from daemon.active import open_databases, open_tokens
from daemon.auth import TokenError
from daemon.errors import CallstatsdError, ConfigurationError, UnreachableError
from daemon.ledger import Binding, Ledger
from daemon.settings import Settings
from daemon.source import TABLES, Clock, Source, missing_indexes, schema_faults

AHEAD = timedelta(minutes=1)
BEHIND = timedelta(hours=4)
LAG = timedelta(minutes=1)


class Verdict(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was looked at, how it came out, what was seen or what to do."""

    name: str
    verdict: Verdict
    text: str
    exit_code: int = 0


async def check(settings: Settings) -> AsyncIterator[Finding]:
    """Yield a finding for each check, in the order in which a call meets what is checked."""
    faults = settings.sending_faults()
    for fault in faults:
        yield _fail("settings", fault, 78)
    if not faults:
        yield _ok("settings", "complete and within bounds")
    async with open_databases(settings) as (source, ledger):
        clock: Clock | None = None
        try:
            clock = await source.clock()
            async for finding in _source(source, clock, settings):
                yield finding
        except CallstatsdError as error:
            yield _fail("source", str(error), error.exit_code)
        async for finding in _ledger(ledger, clock, settings):
            yield finding
    if not faults:
        yield await _token(settings)


async def _source(source: Source, clock: Clock, settings: Settings) -> AsyncIterator[Finding]:
    yield _ok("source", f"database {clock.database} answers")
    faults = schema_faults(await source.columns(), settings.source_schemas)
    for fault in faults:
        yield _fail("columns", fault, 78)
    if faults:
        return
    yield _ok("columns", f"{len(TABLES)} tables with all their columns")
    wanted = missing_indexes(await source.indexed())
    for statement in wanted:
        yield _warn("indexes", f"polls read a whole table; let the DBA run: {statement};")
    if not wanted:
        yield _ok("indexes", "all that the statements want")
    try:
        # The very statement that takes calls, for none: it shows every right that is lacking.
        await source.lines([0])
    except CallstatsdError as error:
        yield _fail("rights", str(error), error.exit_code)
        return
    yield _ok("rights", "all tables may be read")
    yield _standby(clock)
    yield _newest(clock, await source.newest_start())
    if await source.keeps_sessions():
        yield _ok("session", "time zone and search path hold from statement to statement")
    else:
        yield _fail(
            "session",
            "settings are lost between statements, as by PgBouncer in transaction mode: "
            "connect to Postgres itself, or to a pool in session mode",
            78,
        )


def _standby(clock: Clock) -> Finding:
    if not clock.standby:
        return _ok("standby", "the source is a primary")
    if clock.replayed is None:
        return _warn("standby", "a standby that has replayed nothing yet: calls wait for it")
    lag = clock.now - clock.replayed
    text = f"a standby, {lag.total_seconds():.0f} s behind (or without news for so long)"
    return _warn("standby", text) if lag > LAG else _ok("standby", text)


def _newest(clock: Clock, newest: datetime | None) -> Finding:
    """Compare the newest call with the source's now: a wrong zone shows as whole hours."""
    if newest is None:
        return _warn("clock", "there is no call at all in StatisticsPartA")
    ago = timedelta(seconds=round((clock.now - newest).total_seconds()))
    if -ago > AHEAD:
        return _warn(
            "clock",
            f"the newest call starts {-ago} ahead of the database's now: "
            "correct CALLSTATSD_SOURCE_TIMEZONE, the clocks, or that row",
        )
    if ago > BEHIND:
        return _warn(
            "clock",
            f"the newest call started {ago} ago: no calls since, or CALLSTATSD_SOURCE_TIMEZONE "
            "is wrong",
        )
    return _ok("clock", f"the newest call started {ago} ago")


async def _ledger(
    ledger: Ledger, clock: Clock | None, settings: Settings
) -> AsyncIterator[Finding]:
    try:
        await ledger.check_upgradable()
        await ledger.check_version()
        yield _ok("ledger", "at this program's version")
        if lacking := await ledger.lacking_rights():
            yield _fail("ledger", f"this user may not write: GRANT {lacking} on its tables", 78)
        database = None if clock is None else clock.database
        await ledger.check_binding(Binding(settings.clients_id, database, settings.source_schemas))
        if clock is not None:
            yield _ok("binding", "the ledger belongs to this client and source")
    except (ConfigurationError, UnreachableError) as error:
        yield _fail("ledger", str(error), error.exit_code)


async def _token(settings: Settings) -> Finding:
    try:
        async with open_tokens(settings) as (_, tokens):
            token = await tokens.token()
    except (TokenError, ConfigurationError) as error:
        return _fail("token", str(error), error.exit_code)
    if token.instance_url is None:
        return _ok("token", f"none is fetched with CALLSTATSD_AUTH={settings.auth}")
    return _ok("token", f"granted, for {token.instance_url}")


def _ok(name: str, text: str) -> Finding:
    return Finding(name, Verdict.OK, text)


def _warn(name: str, text: str) -> Finding:
    return Finding(name, Verdict.WARN, text)


def _fail(name: str, text: str, exit_code: int) -> Finding:
    return Finding(name, Verdict.FAIL, text, exit_code)
