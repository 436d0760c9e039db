"""What `check` says of receiving notifications of a Telegra ACD."""

from collections.abc import AsyncIterator, Iterator

from daemon.cli.finding import Finding, fail, ok, warn
from daemon.database.pool import Database
from daemon.errors import CallstatsdError
from daemon.settings.model import Settings
from daemon.telegra.tables import TELEGRA_TABLES, table_faults
from daemon.urls import allows_secrets

NAME = "telegra"
TO_SPARE = 5.0
"""Seconds by which SETTLE_DELAY should be more than TELEGRA_GRACE."""


async def check_telegra(source: Database, settings: Settings) -> AsyncIterator[Finding]:
    """Check tables, rights, who may come in, and settings that do not go together."""
    if not settings.telegra_token.get_secret_value():
        return
    try:
        faults = await table_faults(source)
    except CallstatsdError as error:
        yield fail(NAME, str(error), error.exit_code)
        return
    for fault in faults:
        yield fail(NAME, fault, 78)
    if not faults:
        yield ok(NAME, f"{len(TELEGRA_TABLES)} tables that may be written")
    for finding in (*_door(settings), *_sending(settings)):
        yield finding


def _door(settings: Settings) -> Iterator[Finding]:
    listen, allowed = settings.api_listen, settings.telegra_allow
    if listen is None:
        return  # a fault of the settings
    if allows_secrets("http", listen[0]):
        yield ok(NAME, "its listener is on loopback")
        if allowed:
            yield warn(
                NAME,
                "CALLSTATSD_TELEGRA_ALLOW is set, but on loopback all comes from the proxy: keep "
                "the allow-list there, and remove it here unless the ACD is on this machine",
            )
        return
    yield ok(NAME, f"only {', '.join(map(str, allowed))} may come in")
    yield warn(
        NAME,
        f"its listener at {listen[0]} speaks plain HTTP, with the token in the URL: let it listen "
        "on loopback, behind a TLS proxy that keeps the allow-list",
    )


def _sending(settings: Settings) -> Iterator[Finding]:
    if settings.send_without_salesforce_id:
        yield ok(NAME, "calls without a Salesforce id are sent")
    else:
        yield warn(
            NAME,
            "inbound calls have no Salesforce id and are skipped: set "
            "CALLSTATSD_SEND_WITHOUT_SALESFORCE_ID=true, with an endpoint that looks the CallerID "
            "up",
        )
    if settings.settle_delay < settings.telegra_grace + TO_SPARE:
        yield warn(
            NAME,
            "ends of calls appear behind the watermark and wait for a sweep: set "
            "CALLSTATSD_SETTLE_DELAY to at least CALLSTATSD_TELEGRA_GRACE plus "
            f"{TO_SPARE:g} s",
        )
