"""`callstatsd check`: verifies everything that a delivery needs, without sending a line."""

from collections.abc import AsyncIterator, Collection
from contextlib import suppress
from datetime import datetime, timedelta

from daemon.cli.check_telegra import check_telegra
from daemon.cli.finding import Finding, Verdict, fail, ok, warn
from daemon.database.errors import pooler_refused
from daemon.database.pool import LENDS
from daemon.errors import CallstatsdError, ConfigurationError, UnusableError
from daemon.ingest.filters import GROUPS, SERVICE_NUMBERS, without_match
from daemon.ingest.readiness import Clock
from daemon.ingest.schema import (
    CALLBACK_TABLES,
    TABLES,
    WANTED_CALLBACK_INDEXES,
    absent_columns,
    missing_indexes,
    schema_faults,
)
from daemon.ingest.service_numbers import find
from daemon.ingest.source import Source
from daemon.ledger.binding import Binding
from daemon.ledger.operator import OperatorStore
from daemon.ledger.store import Ledger
from daemon.reports.formats import short_duration
from daemon.reports.lookup import callback_source
from daemon.salesforce.client import EndpointUrl
from daemon.salesforce.oauth import TokenError
from daemon.salesforce.probe import check_endpoint
from daemon.service.click_to_dial import service_numbers
from daemon.service.connections import ledger_code, open_acd, open_databases, open_tokens
from daemon.settings.model import Settings
from daemon.urls import allows_secrets, show_address
from daemon.web.api import DIAL_PATH
from daemon.web.masking import masked
from daemon.web.probe import check_api_address, check_listen_address

MAX_AHEAD = timedelta(minutes=1)
"""The newest call may start this much after the database's now before `check` warns."""
MAX_AGE = timedelta(days=7)
"""The newest call may be this old before `check` warns."""
MAX_LAG = timedelta(minutes=1)
"""A standby may be this far behind before `check` warns."""


async def check(settings: Settings) -> AsyncIterator[Finding]:
    """Yield a finding for each check, in the order of a call's way: source, ledger, Salesforce."""
    faults = settings.sending_faults()
    for fault in faults:
        yield fail("settings", fault, 78)
    if not faults:
        yield ok("settings", "complete and within bounds")
    async for finding in _databases(settings):
        yield finding
    if not faults:
        async for finding in _salesforce(settings):
            yield finding
    async for finding in _beside(settings):
        yield finding


async def _databases(settings: Settings) -> AsyncIterator[Finding]:
    async with open_databases(settings) as (source, ledger):
        clock: Clock | None = None
        try:
            clock = await source.clock()
            async for finding in _source(source, clock, settings):
                yield finding
            async for finding in _callbacks(source, settings):
                yield finding
        except CallstatsdError as error:
            yield fail("source", str(error), error.exit_code)
        for findings in (
            _click_to_dial(source, settings),
            check_telegra(source.database, settings),
            _ledger(ledger, clock, settings),
            _api(ledger, clock, settings),
        ):
            async for finding in findings:
                yield finding


async def _source(source: Source, clock: Clock, settings: Settings) -> AsyncIterator[Finding]:
    yield ok("source", f"database {clock.database} answers")
    faults = schema_faults(await source.columns(), settings.source_schemas)
    for fault in faults:
        yield fail("columns", fault, 78)
    if faults:
        return
    yield ok("columns", f"{len(TABLES)} tables with all their columns")
    wanted = missing_indexes(await source.indexed())
    for statement in wanted:
        yield warn(
            "indexes",
            f"without this index polls read a whole table; ask a DBA to run: {statement};",
        )
    if not wanted:
        yield ok("indexes", "all indexes that the statements need")
    try:
        # The statement that takes calls, for no call: it fails if any right is missing.
        await source.lines([0])
    except CallstatsdError as error:
        yield fail("rights", str(error), error.exit_code)
        return
    yield ok("rights", "all tables may be read")
    yield _standby(clock)
    newest = await source.newest_start()
    yield _newest(clock, newest, settings)
    if settings.clients_id is not None:
        yield _client(settings.clients_id, await source.newest_clients())
    async for finding in _filters(source, settings):
        yield finding
    if await source.keeps_sessions():
        yield ok("session", "each session keeps its settings from statement to statement")
    else:
        place = source.place
        yield fail("session", str(pooler_refused(place, LENDS)), 78)


async def _filters(source: Source, settings: Settings) -> AsyncIterator[Finding]:
    """Warn of each name of a filter that is none of the ACD's."""
    numbers, groups = settings.service_numbers, settings.groups
    absent: list[tuple[str, str, str]] = []
    if numbers:
        rows = await service_numbers(settings, source).all()
        existing = [name for row in rows for name in (row.number, row.name)]
        table = "ServiceNumbers"
        absent += [(SERVICE_NUMBERS, table, name) for name in without_match(numbers, existing)]
    if groups:
        existing = await source.group_names()
        absent += [(GROUPS, "AcdGroups", name) for name in without_match(groups, existing)]
    for setting, table, name in absent:
        yield warn(
            "filters",
            f"{name!r} in {setting} matches no name in {table}: write it as the table has it, "
            "with * for any characters, or remove it",
        )
    if (numbers or groups) and not absent:
        yield ok("filters", "each name matches one of the ACD's")


async def _callbacks(source: Source, settings: Settings) -> AsyncIterator[Finding]:
    if not settings.callback_url:
        return
    requests = callback_source(settings, source)
    columns = await requests.columns()
    faults = schema_faults(columns, settings.source_schemas, CALLBACK_TABLES)
    for fault in faults:
        yield fail("callbacks", fault, 78)
    if faults:
        return
    absent = ", ".join(absent_columns(columns))
    without = f", but for {absent}, which count as empty" if absent else ""
    yield ok("callbacks", f"AcdEvents with all its columns{without}")
    for statement in missing_indexes(await requests.indexed(), WANTED_CALLBACK_INDEXES):
        yield warn(
            "callbacks",
            f"without this index polls read a whole table; ask a DBA to run: {statement};",
        )
    if settings.clients_id is not None:
        yield _client_of_callbacks(settings.clients_id, columns["acdevents"])
    try:
        # The statement that takes requests, for no request: it fails if any right is missing.
        await requests.requests([0])
    except CallstatsdError as error:
        yield fail("callbacks", str(error), error.exit_code)


def _client_of_callbacks(clients_id: int, columns: Collection[str]) -> Finding:
    """Warn if no request can be known to be of this client."""
    if not {"clientsid", "statisticspartaid"} & {*columns}:
        return warn(
            "callbacks",
            f"no request is taken: without AcdEvents.ClientsID and StatisticsPartAID nobody knows "
            f"which are of client {clients_id}; add one of these columns, or make a view with it",
        )
    return ok(
        "callbacks",
        f"only requests of client {clients_id} are taken; one whose client neither "
        "AcdEvents.ClientsID nor its call names is not",
    )


async def _click_to_dial(source: Source, settings: Settings) -> AsyncIterator[Finding]:
    """Check what a question needs; none is asked, because each is about a real call."""
    listen, fallback = settings.api_listen, settings.click_to_dial_fallback
    if not settings.click_to_dial_url or (listen and not settings.api_token.get_secret_value()):
        return
    warnings = []
    if listen is not None and not allows_secrets("http", listen[0]):
        warnings.append(
            f"its listener at {show_address(listen)} speaks plain HTTP: let it listen on loopback, "
            "behind a TLS proxy"
        )
    try:
        rows = await service_numbers(settings, source).all()
        if fallback and find(rows, fallback) is None:
            warnings.append(
                f"{fallback} is none of the ACD's ServiceNumbers: write the Name of one into "
                "CALLSTATSD_CLICK_TO_DIAL_FALLBACK"
            )
    except CallstatsdError as error:
        warnings.append(
            f"ServiceNumbers cannot be read, so an allowed call has no row of it: {error}"
        )
    where = "by command only, CALLSTATSD_API_LISTEN is off"
    if listen is not None:
        where = f"at http://{show_address(listen)}{DIAL_PATH}"
    meanwhile = f"calls go on with {fallback}" if fallback else "calls are refused"
    text = f"on, {where}; while Salesforce cannot be asked, {meanwhile}"
    if warnings:
        yield warn("click_to_dial", f"{text}; but {'; '.join(warnings)}")
    else:
        yield ok("click_to_dial", text)


def _standby(clock: Clock) -> Finding:
    if not clock.standby:
        return ok("standby", "the source is a primary")
    if clock.replayed is None:
        return warn(
            "standby",
            "a standby that has not replayed anything yet: no call is taken until it has",
        )
    lag = clock.now - clock.replayed
    text = f"a standby, {lag.total_seconds():.0f} s behind (or its primary is idle for so long)"
    return warn("standby", text) if lag > MAX_LAG else ok("standby", text)


def _newest(clock: Clock, newest: datetime | None, settings: Settings) -> Finding:
    """Report the newest call's local time: a wrong time zone shows as whole hours."""
    if newest is None:
        return ok("clock", "there is no call in StatisticsPartA yet")
    zone = settings.source_timezone
    shown = f"the newest call started at {newest.astimezone(zone):%Y-%m-%d %H:%M:%S} {zone.key}"
    ago = timedelta(seconds=round((clock.now - newest).total_seconds()))
    if -ago > MAX_AHEAD:
        return warn(
            "clock",
            f"{shown}, which is {-ago} ahead of the database's now: "
            "correct CALLSTATSD_SOURCE_TIMEZONE, the clocks, or that row",
        )
    if ago > MAX_AGE:
        return warn(
            "clock",
            f"{shown}, {ago.days} days ago: is this the database that the ACD writes to?",
        )
    return ok("clock", f"{shown}, {ago} ago; the ACD should show the same time")


def _client(clients_id: int, found: list[int]) -> Finding:
    """Warn if other clients have calls and this one has none."""
    if not found or clients_id in found:
        return ok("client", f"only calls of client {clients_id} are taken")
    others = ", ".join(map(str, sorted(found)))
    return warn(
        "client",
        f"none of the newest calls belongs to client {clients_id}: correct CALLSTATSD_CLIENTS_ID; "
        f"they belong to {others}",
    )


async def _ledger(
    ledger: Ledger, clock: Clock | None, settings: Settings
) -> AsyncIterator[Finding]:
    remedy = f"ask a DBA to run what {ledger.database.place.script} prints"
    try:
        # Like the session that holds the lock: it has one setting more than the others.
        session = await ledger.database.connect(idle_session_timeout="10s")
        session.terminate()
        await ledger.check_upgradable()
        if not await ledger.exists() and not await ledger.may_create(settings.ledger_schema):
            text = f"it does not exist yet, and this user may not create it: {remedy}"
            yield fail("ledger", text, 78)
            return
        await ledger.check_version()
        yield ok("ledger", "at this program's version")
        if lacking := await ledger.lacking_rights():
            text = f"this user may not write to it: it needs {lacking}; {remedy}"
            yield fail("ledger", text, 78)
        database = None if clock is None else clock.database
        await ledger.check_binding(Binding(settings.clients_id, database, settings.source_schemas))
        if clock is not None:
            yield ok("binding", "the ledger belongs to this client and source")
    except (ConfigurationError, UnusableError) as error:
        yield fail("ledger", str(error), error.exit_code)


async def _api(ledger: Ledger, clock: Clock | None, settings: Settings) -> AsyncIterator[Finding]:
    """Check the address of the API; a daemon of this ledger may be using it."""
    if settings.api_listen is None:
        return
    runs: bool | None = None
    # One that waits for the source listens, and has no session by which the ledger knows it.
    if clock is not None:
        with suppress(ConfigurationError, UnusableError):
            runs = await OperatorStore(ledger.database).daemon_runs()
    found = await check_api_address(settings.api_listen, daemon_runs=runs)
    yield (ok if found.usable else warn)("api", found.text)


async def _salesforce(settings: Settings) -> AsyncIterator[Finding]:
    try:
        async with open_tokens(settings) as (session, tokens):
            token = await tokens.token()
            text = f"granted, for {token.instance_url}"
            if token.instance_url is None:
                text = f"not needed with CALLSTATSD_AUTH={settings.auth}"
            yield ok("token", text)
            found = await check_endpoint(session, EndpointUrl(settings.endpoint_url), token)
            yield Finding(
                "endpoint",
                Verdict.FAIL if found.exit_code else Verdict.OK,
                found.text,
                found.exit_code,
            )
    except (TokenError, ConfigurationError) as error:
        yield fail("token", str(error), error.exit_code)


async def _beside(settings: Settings) -> AsyncIterator[Finding]:
    """Check what a delivery does without: the ACD's REST server, and our own listener."""
    if settings.acd_url:
        yield await _acd_types(settings)
        yield _alert(settings)
    if settings.http_listen is not None:
        found = await check_listen_address(settings.http_listen, ledger_code(settings))
        yield (ok if found.usable else warn)("listen", found.text)


async def _acd_types(settings: Settings) -> Finding:
    """Ask for the types of events; nothing is created."""
    try:
        async with open_acd(settings) as acd:
            names = await acd.types()
    except CallstatsdError as error:
        return fail("acd", masked(str(error)), error.exit_code)
    if names.source == "built_in":
        return warn(
            "acd",
            "the ACD's REST server lists no types of events (404), so the token is not tried: if "
            "`callstatsd acd events` fails too, correct CALLSTATSD_ACD_URL",
        )
    return ok("acd", f"granted, for {settings.acd_url}")


def _alert(settings: Settings) -> Finding:
    group = settings.alert_group_id
    if group is None:
        return ok("alert", "off: CALLSTATSD_ALERT_GROUP_ID is not set")
    return ok(
        "alert",
        f"group {group} gets an event when lines end rejected, expired or invalid, at most one in "
        f"{short_duration(settings.alert_interval)}",
    )
