"""`callstatsd check`: all that must be right before a line can arrive, without sending one."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from daemon.cli.probe import listener, probe
from daemon.database.errors import pooler_refused
from daemon.database.pool import LENDS
from daemon.errors import CallstatsdError, ConfigurationError, UnreachableError
from daemon.ingest.readiness import Clock
from daemon.ingest.schema import TABLES, missing_indexes, schema_faults
from daemon.ingest.source import Source
from daemon.ledger.binding import Binding
from daemon.ledger.store import Ledger
from daemon.salesforce.client import EndpointUrl
from daemon.salesforce.oauth import TokenError
from daemon.service.instance import ledger_code, open_databases, open_tokens
from daemon.settings.model import Settings

AHEAD = timedelta(minutes=1)
BEHIND = timedelta(days=7)
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
        async for finding in _salesforce(settings):
            yield finding
    if settings.http_listen is not None:
        found = await listener(settings.http_listen, ledger_code(settings))
        yield (_warn if found.exit_code else _ok)("listen", found.text)


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
    newest = await source.newest_start()
    yield _newest(clock, newest, settings)
    if settings.clients_id is not None:
        yield _client(settings.clients_id, await source.newest_clients())
    if await source.keeps_sessions():
        yield _ok("session", "each session keeps its settings from statement to statement")
    else:
        place = source.place
        yield _fail("session", str(pooler_refused(place, LENDS)), 78)


def _standby(clock: Clock) -> Finding:
    if not clock.standby:
        return _ok("standby", "the source is a primary")
    if clock.replayed is None:
        return _warn("standby", "a standby that has replayed nothing yet: calls wait for it")
    lag = clock.now - clock.replayed
    text = f"a standby, {lag.total_seconds():.0f} s behind (or without news for so long)"
    return _warn("standby", text) if lag > LAG else _ok("standby", text)


def _newest(clock: Clock, newest: datetime | None, settings: Settings) -> Finding:
    """Show the newest call's local time: a wrong zone is seen as whole hours."""
    if newest is None:
        return _ok("clock", "there is no call in StatisticsPartA yet")
    zone = settings.source_timezone
    shown = f"the newest call started at {newest.astimezone(zone):%Y-%m-%d %H:%M:%S} {zone.key}"
    ago = timedelta(seconds=round((clock.now - newest).total_seconds()))
    if -ago > AHEAD:
        return _warn(
            "clock",
            f"{shown}, which is {-ago} ahead of the database's now: "
            "correct CALLSTATSD_SOURCE_TIMEZONE, the clocks, or that row",
        )
    if ago > BEHIND:
        return _warn(
            "clock",
            f"{shown}, {ago.days} days ago: is this the database that the ACD writes to?",
        )
    return _ok("clock", f"{shown}, {ago} ago; the ACD should show the same time")


def _client(clients_id: int, found: list[int]) -> Finding:
    """Tell a client that has no calls from a database that has none yet."""
    if not found or clients_id in found:
        return _ok("client", f"only calls of client {clients_id} are taken")
    others = ", ".join(map(str, sorted(found)))
    return _warn(
        "client",
        f"none of the newest calls is of client {clients_id}: correct CALLSTATSD_CLIENTS_ID; "
        f"calls are of {others}",
    )


async def _ledger(
    ledger: Ledger, clock: Clock | None, settings: Settings
) -> AsyncIterator[Finding]:
    remedy = f"let a DBA run what {ledger.database.place.script} prints"
    try:
        # As the session of the one sender's lock: it has a setting more than the others.
        session = await ledger.database.connect(idle_session_timeout="10s")
        session.terminate()
        await ledger.check_upgradable()
        if not await ledger.exists() and not await ledger.may_create(settings.ledger_schema):
            text = f"it does not exist yet, and this user may not create it: {remedy}"
            yield _fail("ledger", text, 78)
            return
        await ledger.check_version()
        yield _ok("ledger", "at this program's version")
        if lacking := await ledger.lacking_rights():
            yield _fail("ledger", f"this user may not write: it needs {lacking}; {remedy}", 78)
        database = None if clock is None else clock.database
        await ledger.check_binding(Binding(settings.clients_id, database, settings.source_schemas))
        if clock is not None:
            yield _ok("binding", "the ledger belongs to this client and source")
    except (ConfigurationError, UnreachableError) as error:
        yield _fail("ledger", str(error), error.exit_code)


async def _salesforce(settings: Settings) -> AsyncIterator[Finding]:
    try:
        async with open_tokens(settings) as (session, tokens):
            token = await tokens.token()
            text = f"granted, for {token.instance_url}"
            if token.instance_url is None:
                text = f"none is fetched with CALLSTATSD_AUTH={settings.auth}"
            yield _ok("token", text)
            found = await probe(session, EndpointUrl(settings.endpoint_url), token)
            yield Finding(
                "endpoint",
                Verdict.FAIL if found.exit_code else Verdict.OK,
                found.text,
                found.exit_code,
            )
    except (TokenError, ConfigurationError) as error:
        yield _fail("token", str(error), error.exit_code)


def _ok(name: str, text: str) -> Finding:
    return Finding(name, Verdict.OK, text)


def _warn(name: str, text: str) -> Finding:
    return Finding(name, Verdict.WARN, text)


def _fail(name: str, text: str, exit_code: int) -> Finding:
    return Finding(name, Verdict.FAIL, text, exit_code)
