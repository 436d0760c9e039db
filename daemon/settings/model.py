"""Settings: types, bounds, defaults, and which of them go together."""

import re
from enum import StrEnum
from pathlib import Path
from typing import Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, PrivateAttr, SecretStr
from pydantic_settings import BaseSettings
from pydantic_settings import PydanticBaseSettingsSource as SettingsSource

from daemon.settings.api import ApiSettings, api_faults
from daemon.settings.dsn import read_dsn
from daemon.settings.sources import PREFIX, Found
from daemon.settings.values import (
    BERLIN,
    DAY,
    HOUR,
    UNSET,
    AcdToken,
    AcdUrl,
    Address,
    CountryCode,
    Direction,
    Dsn,
    GroupId,
    Id,
    Identifier,
    Instance,
    LaterSeconds,
    Level,
    Names,
    Networks,
    Schemas,
    Seconds,
    Start,
    Url,
    WebUrl,
)


class Auth(StrEnum):
    """How requests are authorised."""

    CLIENT_CREDENTIALS = "client_credentials"
    JWT_BEARER = "jwt_bearer"
    PASSWORD = "password"  # noqa: S105  the flow's name
    BEARER = "bearer"
    NONE = "none"


class EmptyAs(StrEnum):
    """How an empty string or time of a record is written in JSON."""

    NULL = "null"
    STRING = "string"


NEEDED = {
    Auth.CLIENT_CREDENTIALS: ("token_url", "client_id", "client_secret"),
    Auth.JWT_BEARER: ("token_url", "client_id", "username", "private_key_file"),
    Auth.PASSWORD: ("token_url", "client_id", "client_secret", "username", "password"),
    Auth.BEARER: ("bearer_token",),
    Auth.NONE: (),
}


class Settings(BaseSettings, env_prefix=PREFIX, frozen=True, hide_input_in_errors=True):
    """Every setting, in the order of docs/settings.md."""

    source_dsn: Dsn = Field(
        description="URL of the Postgres with the ACD's tables, "
        "postgresql://USER:PASSWORD@HOST:PORT/DATABASE; SELECT is enough, also on a read-only "
        "replica. In the password write %40 for @, %3A for :, %2F for /, %23 for #, %3F for ?, "
        "%25 for %, %5B for [, %5D for ]"
    )
    source_schemas: Schemas = Field(
        ("jtelstats",),
        description="schemas of the ACD's tables, in search order, separated by commas",
    )
    source_timezone: ZoneInfo = Field(
        BERLIN,
        description="time zone of the ACD server (IANA name); times in records are local to it",
    )
    clients_id: Id | None = Field(
        None, description="ClientsID whose calls are taken; empty takes those of all clients"
    )
    ledger_dsn: Dsn = Field(
        UNSET,
        description="URL of the Postgres for the daemon's own tables, written like SOURCE_DSN; "
        "empty is the same database as SOURCE_DSN",
    )
    ledger_schema: Identifier = Field(
        "callstatsd",
        description="schema of the daemon's own tables: lower-case letters, digits and _",
    )
    endpoint_url: Url = Field(
        "/services/apexrest/jtelACD/writeCallStatistics",
        description="where records are sent: a full https URL, or a path under the org's own "
        "address, which comes with the token",
    )
    auth: Auth = Field(
        Auth.CLIENT_CREDENTIALS,
        description="how to log in: client_credentials, jwt_bearer, password, bearer or none",
    )
    token_url: Url = Field(
        "",
        description="URL of the org's token service, "
        "https://MY-DOMAIN.my.salesforce.com/services/oauth2/token; not for bearer and none",
    )
    client_id: str = Field(
        "",
        description="consumer key of the connected app; for client_credentials, jwt_bearer and "
        "password",
    )
    client_secret: SecretStr = Field(
        UNSET,
        description="consumer secret of the connected app; for client_credentials and password; "
        "better kept in the file client-secret beside this one",
    )
    username: str = Field(
        "",
        description="name of the integration user; for jwt_bearer and password; that user's time "
        "zone must be the ACD server's",
    )
    password: SecretStr = Field(
        UNSET, description="password of the integration user; for password only"
    )
    security_token: SecretStr = Field(
        UNSET,
        description="security token of the integration user, which follows the password; for "
        "password only, where the org asks for it",
    )
    private_key_file: Path | None = Field(
        None,
        description="path of the PEM file with the private key of the connected app's "
        "certificate; for jwt_bearer only",
    )
    bearer_token: SecretStr = Field(
        UNSET, description="access token that is sent as it is; for bearer only"
    )
    ca_file: Path | None = Field(
        None,
        description="path of a PEM file with certificate authorities to trust besides the "
        "system's own",
    )
    environment_proxy: bool = Field(
        False, description="whether the proxies of HTTPS_PROXY and NO_PROXY are used: true or false"
    )
    instance: Instance = Field(
        "",
        description="name of this instance, which printed commands carry as --instance; template "
        "units set it",
    )
    service_numbers: Names = Field(
        (),
        description="only calls of these service numbers: Name or Name2 of ServiceNumbers, "
        "separated by commas, * for any characters; empty is all",
    )
    groups: Names = Field(
        (),
        description="only lines of these groups: Name of AcdGroups, written likewise; a line "
        "without a group passes; empty is all",
    )
    direction: Direction = Field(
        Direction.BOTH, description="only inbound or outbound calls: both, inbound or outbound"
    )
    poll_interval: Seconds = Field(
        1.0,
        ge=0.05,
        description="time between two polls for ended calls, at least 0.05; durations are seconds, "
        "or ISO 8601 such as PT15M",
    )
    settle_delay: Seconds = Field(
        120.0,
        ge=0,
        description="time from a call's end to taking it, so that codes of the wrap-up are "
        "included",
    )
    stale_call_after: Seconds = Field(
        12 * HOUR, description="time from its start after which a call without an end is taken"
    )
    lookback: LaterSeconds = Field(
        26 * HOUR,
        description="how far sweeps look back for rows that appeared late; at least "
        "STALE_CALL_AFTER plus one hour",
    )
    start_from: Start = Field(
        None,
        description="time before which calls are left to backfill, as 2026-11-20, "
        "2026-11-20T08:00 or 2026-11-20T08:00:00+01:00; empty is the first start",
    )
    concurrency: int = Field(
        4,
        ge=1,
        le=1000,
        description="most requests in flight at once, 1 to 1000; a low number avoids row locks and "
        "request limits in the org",
    )
    request_timeout: Seconds = Field(
        60.0,
        gt=0,
        description="time to wait for a response; Salesforce itself waits up to 10 s for a row "
        "lock",
    )
    retry_initial: Seconds = Field(
        1.0,
        ge=0.05,
        description="wait after the first failed try; it doubles with each further one",
    )
    retry_max: Seconds = Field(900.0, ge=1, description="longest wait between two tries")
    retry_for: Seconds = Field(
        72 * HOUR,
        ge=1,
        description="how long a line is tried before it expires and needs your action; pauses of "
        "the whole sender do not count",
    )
    api_budget: float = Field(
        0.9,
        gt=0,
        le=1,
        description="share of the org's daily API calls above which sending pauses; 1 turns this "
        "off",
    )
    retention: Seconds = Field(
        90 * DAY,
        description="how long settled lines are kept; those that need your action stay",
    )
    record_retention: LaterSeconds = Field(
        30 * DAY,
        description="how long records of settled lines, with their phone numbers, are kept; more "
        "than LOOKBACK, at most RETENTION",
    )
    empty_as: EmptyAs = Field(
        EmptyAs.NULL, description='how empty strings and times are sent: null, or string for ""'
    )
    send_without_salesforce_id: bool = Field(
        False,
        description="whether lines without a Salesforce record id are sent too; otherwise they "
        "are skipped",
    )
    callback_url: Url = Field(
        "",
        description="where callback requests of the ACD are sent, written like ENDPOINT_URL, "
        "usually /services/apexrest/jtelACD/createCallback; empty turns them off; the ACD's own "
        "REST calls for callbacks must be off, or each request arrives twice",
    )
    callback_delay: Seconds = Field(
        30.0,
        ge=0,
        description="time from a callback request's creation to taking it; one whose call has not "
        "ended waits for that, up to 30 minutes",
    )
    click_to_dial_url: Url = Field(
        "",
        description="where Salesforce is asked whether an agent's call may be placed, written like "
        "ENDPOINT_URL, usually /services/apexrest/jtelACD/onClickToDial; empty turns it off",
    )
    click_to_dial_timeout: Seconds = Field(
        3.0,
        ge=0.1,
        le=30,
        description="time for a whole question of click to dial, 0.1 to 30",
    )
    click_to_dial_fallback: str = Field(
        "",
        description="ServiceNumbers.Name to dial with when Salesforce cannot be asked, never after "
        "a refusal; empty refuses the call",
    )
    api_listen: Address = Field(
        None,
        description="address for click to dial and for notifications of a Telegra ACD, HOST:PORT "
        "or [::1]:PORT; beyond this machine behind a TLS proxy; empty turns it off",
    )
    api_token: SecretStr = Field(
        UNSET,
        description="secret of the clients of API_LISTEN, at least 16 printable ASCII characters "
        "without blanks",
    )
    acd_url: AcdUrl = Field(
        "",
        description="address of the ACD's REST server with the ClientsID, "
        "https://HOST:PORT/rest/v1.0/CLIENTSID; empty turns the acd commands off",
    )
    acd_token: AcdToken = Field(
        UNSET, description="bearer token made in the ACD's portal; for ACD_URL"
    )
    alert_group_id: GroupId = Field(
        None,
        description="AcdGroups.ID of the group that gets an event when lines end for good without "
        "being in Salesforce; empty raises no alerts; needs ACD_URL",
    )
    alert_interval: Seconds = Field(
        HOUR, ge=10, description="least time between two alerts, at least 10"
    )
    alert_link: WebUrl = Field(
        "", description="http or https URL in the alert's event, say of the status page"
    )
    telegra_token: SecretStr = Field(
        UNSET,
        description="secret in the URL at which a Telegra ACD tells of its calls, at least 16 of "
        "A to Z, a to z, 0 to 9, - and _; empty turns it off; needs API_LISTEN",
    )
    telegra_allow: Networks = Field(
        (),
        description="addresses or networks from which notifications come, separated by commas; "
        "empty is any address; needed where API_LISTEN is not loopback",
    )
    telegra_country_code: CountryCode = Field(
        "49", description="country code of national numbers in notifications, 1 to 3 digits"
    )
    telegra_grace: Seconds = Field(
        10.0,
        ge=0,
        description="time without a notification of a call before its end is written; "
        "SETTLE_DELAY should be 5 s more",
    )
    http_listen: Address = Field(
        ("127.0.0.1", 9464),
        description="address of status page, metrics and health checks, HOST:PORT or [::1]:PORT; "
        "an empty value turns them off",
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto",
        description="form of the log: json, console, or auto, which is console on a terminal and "
        "json elsewhere",
    )
    log_level: Level = Field(
        "info", description="lowest level that is logged: debug, info, warning or error"
    )
    log_personal_data: bool = Field(
        False,
        description="whether phone numbers and records may be in the log, and agents on the page",
    )

    _found: Found = PrivateAttr(default_factory=lambda: Found("the program"))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the base calls it so
        init_settings: SettingsSource,
        *_: SettingsSource,
        **__: SettingsSource,
    ) -> tuple[SettingsSource, ...]:
        """Use only what is passed in: `daemon.settings.sources` decides where to read."""
        return (init_settings,)

    def found_in(self, found: Found) -> Self:
        """Set where the settings were found; returns the settings."""
        self._found = found
        return self

    @property
    def command_option(self) -> str:
        """The option with which commands find these settings again; empty if they need none."""
        # An instance's name finds only its own file, not one that was named by path.
        by_name = self.instance and self._found.file is None
        return f"--instance {self.instance}" if by_name else self._found.option

    @property
    def target(self) -> str:
        """What commands act on, in one line without secrets."""
        client = "all clients" if self.clients_id is None else f"client {self.clients_id}"
        ledger = read_dsn(self.ledger_dsn.get_secret_value()).place
        return (
            f"Settings from {self._found.origin}: {client}; "
            f"ledger database {ledger}, schema {self.ledger_schema}."
        )

    def sending_faults(self) -> tuple[str, ...]:
        """Return a sentence for each setting that the chosen auth lacks; reads the key file."""
        chosen = f"{PREFIX}AUTH={self.auth}"
        faults = [missing(name, chosen) for name in NEEDED[self.auth] if not getattr(self, name)]
        if self.auth is Auth.JWT_BEARER and self.private_key_file:
            try:
                self.private_key_file.read_bytes()
            except (OSError, ValueError):
                shown = assignment("private_key_file", str(self.private_key_file))
                faults.append(f"{shown} cannot be read: use the path of a readable PEM file.")
        token = self.bearer_token.get_secret_value()
        if self.auth is Auth.BEARER and token and not re.fullmatch("[!-~]+", token):
            shown = assignment("bearer_token", token)
            faults.append(
                f"{shown} cannot be put into a header: use ASCII without blanks or line breaks."
            )
        if self.auth in {Auth.BEARER, Auth.NONE}:
            faults += [
                f"{assignment(name, url)} is a path, but {chosen} gives no host: "
                "use https://HOST/PATH."
                for name in ("endpoint_url", "callback_url", "click_to_dial_url")
                if (url := getattr(self, name)).startswith("/")
            ]
        api = ApiSettings(
            self.api_listen,
            self.http_listen,
            bool(self.click_to_dial_url),
            self.api_token.get_secret_value(),
            self.telegra_token.get_secret_value(),
            bool(self.telegra_allow),
        )
        return (*faults, *api_faults(api))


FIELDS = Settings.model_fields
SECRETS = {name for name in FIELDS if "SecretStr" in str(FIELDS[name].annotation)}


def missing(name: str, reason: str) -> str:
    """Return the error for a required setting that is missing."""
    wanted = str(FIELDS[name].description).partition("; ")[0]
    return f"{PREFIX}{name.upper()} is missing, {reason} needs it: set it to the {wanted}."


def assignment(name: str, text: str) -> str:
    """Return a variable with its value, unless the value may contain a secret."""
    hidden = not text or name in SECRETS or re.search(r"[@?]|-----", text)
    return f"{PREFIX}{name.upper()}" + ("" if hidden else f"={text[:80]!r}")
