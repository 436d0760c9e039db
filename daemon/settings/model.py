"""Settings: types, bounds and defaults, and a sentence for each error; all errors at once."""

import difflib
import math
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator as After
from pydantic import (
    AwareDatetime,
    Field,
    PrivateAttr,
    SecretStr,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
)
from pydantic import BeforeValidator as Before
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings
from pydantic_settings import PydanticBaseSettingsSource as SettingsSource

from daemon.errors import ConfigurationError
from daemon.settings import sources
from daemon.settings.dsn import is_host_name, read_dsn
from daemon.settings.sources import LOGGING, PREFIX, Found, Request
from daemon.urls import allows_secrets

HOUR, DAY = 3600.0, 86400.0
BERLIN = ZoneInfo("Europe/Berlin")
CENTURY = 36525 * DAY  # longer ones overflow the intervals of Python and Postgres

PART = r"(?:([0-9]+(?:[.,][0-9]+)?){})?".format
DURATION = re.compile("P(?=.)" + PART("W") + PART("D") + f"(?:T(?=.){''.join(map(PART, 'HMS'))})?")
DATE, MINUTE = r"\d{4}-\d\d-\d\d", r"T\d\d:\d\d"
LOCAL_TIME = re.compile(rf"{DATE}({MINUTE}(:\d\d)?)?", re.ASCII)
ANY_TIME = re.compile(rf"{DATE}({MINUTE}(:\d\d([.,]\d+)?)?(Z|[+-]\d\d:?\d\d)?)?", re.ASCII)
LOCAL_FORMS = "YYYY-MM-DD or YYYY-MM-DDThh:mm[:ss]"


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


def parse_local_time(text: str, zone: tzinfo) -> datetime:
    """Read `YYYY-MM-DD` or `YYYY-MM-DDThh:mm[:ss]` as local time of `zone`; returns UTC.

    When clocks change, a local time that exists twice, or not at all, has two readings: the
    earlier instant is returned. Raises ValueError, whose message says what to write (section 8).
    """
    try:
        return earliest_instant(text, zone, LOCAL_TIME, LOCAL_FORMS)
    except ValueError as error:
        raise ValueError(f"{text!r} {error}") from None


def earliest_instant(text: str, zone: tzinfo, form: re.Pattern[str], wanted: str) -> datetime:
    """Return the UTC instant of a text in that form, the earlier one if two are possible."""
    if not form.fullmatch(text):
        raise ValueError(f"is not a valid time: use {wanted}")
    try:
        moment = datetime.fromisoformat(text)
        readings = [moment.replace(tzinfo=moment.tzinfo or zone, fold=fold) for fold in (0, 1)]
        return min(reading.astimezone(UTC) for reading in readings)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"is not in the calendar ({error}): use {wanted}") from None


def read_start(value: Any, info: ValidationInfo) -> Any:
    """Accept what `parse_local_time` accepts, and ISO 8601 with fraction and offset."""
    if not isinstance(value, str):
        return value
    zone = info.data.get("source_timezone", UTC)
    return earliest_instant(value, zone, ANY_TIME, f"{LOCAL_FORMS}, or with fraction and offset")


def read_seconds(value: Any) -> Any:
    """Accept numbers and ISO 8601 durations, but no years and months, which vary in length."""
    seconds = value
    if isinstance(value, str):
        if re.fullmatch(r"\d+(\.\d*)?|\.\d+", value, re.ASCII):
            seconds = float(value)
        elif match := DURATION.fullmatch(value):
            parts = zip(match.groups("0"), (7 * DAY, DAY, HOUR, 60, 1), strict=True)
            seconds = math.fsum(float(number.replace(",", ".")) * unit for number, unit in parts)
        else:
            raise ValueError("is not a valid duration: use seconds (1.5) or ISO 8601 (PT15M)")
    if isinstance(seconds, int | float) and not (0 <= seconds <= CENTURY):  # catches nan as well
        raise ValueError("is not a valid duration: use 0 to P36525D")
    return seconds


def check_order(value: float, info: ValidationInfo) -> float:
    """Compare with the settings above it; a setting that is itself wrong is not compared."""
    name, above = info.field_name, info.data
    if name == "lookback" and value < above.get("stale_call_after", 0) + HOUR:
        raise ValueError(f"is too short: use at least {PREFIX}STALE_CALL_AFTER plus PT1H")
    if name == "record_retention" and value <= above.get("lookback", -1):
        raise ValueError(f"is too short: use more than {PREFIX}LOOKBACK")
    if name == "record_retention" and value > above.get("retention", math.inf):
        raise ValueError(f"is too long: use at most {PREFIX}RETENTION")
    return value


def read_schemas(value: Any) -> Any:
    """Accept names separated by commas; they can be put between quotes in SQL as they are."""
    names = tuple(name.strip() for name in value.split(",")) if isinstance(value, str) else value
    if not all(re.fullmatch(r'[^"\x00-\x1f]{1,63}', name) for name in names):
        raise ValueError("is not a list of schemas: use names without quotes (jtelstats,public)")
    return names


def check_dsn(value: SecretStr, info: ValidationInfo) -> SecretStr:
    """Reject what is not a Postgres URL; the ledger's default is the source's."""
    if info.field_name == "ledger_dsn" and not value.get_secret_value():
        source: SecretStr = info.data.get("source_dsn", value)
        return source
    return SecretStr(read_dsn(value.get_secret_value()).url)


def check_instance(value: str) -> str:
    """Reject what `--instance` rejects, because printed commands contain the name."""
    if value and not sources.INSTANCE.fullmatch(value):
        raise ValueError(
            "is not a valid instance name: use up to 32 of a to z, 0 to 9, - and _, "
            "and begin with a letter or a digit"
        )
    return value


def check_url(value: str, info: ValidationInfo) -> str:
    """Reject URLs that send secrets unencrypted or elsewhere; the endpoint may be a path."""
    if info.field_name == "token_url" and not value:
        return value  # sending_faults reports it if the auth needs it
    if re.search(r"[#\\\s\x00-\x1f]", value):
        raise ValueError("must not contain #, \\ or white space: use https://HOST/PATH")
    # `//host` only looks like a path: joined to a URL it names another server.
    if info.field_name == "endpoint_url" and re.match(r"/(?!/)", value):
        return value
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in {"http", "https"}:
        raise ValueError("is not an absolute URL: use https://HOST/PATH")
    if "@" in parts.netloc:
        raise ValueError("must not contain credentials: use https://HOST/PATH")
    if not allows_secrets(parts.scheme, host):
        raise ValueError("is not encrypted: use https (http is allowed to loopback only)")
    return value


def read_listen(value: Any) -> Any:
    """Accept `host:port` or `[::1]:port`; an empty value turns it off."""
    if not isinstance(value, str) or not value:
        return value or None
    match = re.fullmatch(r"(?:\[([^\]\s]+)\]|([^:\s]+)):(\d{1,5})", value, re.ASCII)
    host, port = (match[1] or match[2], int(match[3])) if match else ("", 0)
    if not match or port > 65535 or not is_host_name(host):
        raise ValueError(
            "is not a valid address: use HOST:PORT or [::1]:PORT, or an empty value for off"
        )
    return host, port


Dsn = Annotated[SecretStr, After(check_dsn)]
Url = Annotated[str, After(check_url)]
Seconds = Annotated[float, Before(read_seconds)]
LaterSeconds = Annotated[Seconds, After(check_order)]
Schemas = Annotated[tuple[str, ...], Before(read_schemas)]
Start = Annotated[AwareDatetime | None, Before(read_start)]
Address = Annotated[tuple[str, int] | None, Before(read_listen)]
UNSET = SecretStr("")
Id = Annotated[int, Field(ge=0, le=2**63 - 1)]
Identifier = Annotated[str, Field(pattern="^[a-z_][a-z0-9_]{0,62}$")]
Instance = Annotated[str, After(check_instance)]
Level = Literal["debug", "info", "warning", "error"]


class Settings(BaseSettings, env_prefix=PREFIX, frozen=True, hide_input_in_errors=True):
    """Every setting of contract section 7, in its order."""

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
        if self.auth in {Auth.BEARER, Auth.NONE} and self.endpoint_url.startswith("/"):
            shown = assignment("endpoint_url", self.endpoint_url)
            faults.append(f"{shown} is a path, but {chosen} gives no host: use https://HOST/PATH.")
        return tuple(faults)


FIELDS = Settings.model_fields
SECRETS = {name for name in FIELDS if "SecretStr" in str(FIELDS[name].annotation)}
ADVICE = {
    "value_error": "{error}",
    "greater_than": "is too small: use more than {gt:g}",
    "greater_than_equal": "is too small: use at least {ge:g}",
    "less_than_equal": "is too large: use at most {le:.15g}",
    "enum": "is unknown: use {expected}",
    "literal_error": "is unknown: use {expected}",
    "bool_parsing": "must be true or false",
    "int_parsing": "must be a whole number, such as 4",
    "float_parsing": "must be a number, such as 0.9",
    "zoneinfo_str": "is not a known time zone: use an IANA name such as Europe/Berlin",
    "string_pattern_mismatch": "is not a valid schema name: use lower-case letters, digits and _",
}


def missing(name: str, reason: str) -> str:
    """Return the error for a required setting that is missing."""
    wanted = str(FIELDS[name].description).partition("; ")[0]
    return f"{PREFIX}{name.upper()} is missing, {reason} needs it: set it to the {wanted}."


def assignment(name: str, text: str) -> str:
    """Return a variable with its value, unless the value may contain a secret."""
    hidden = not text or name in SECRETS or re.search(r"[@?]|-----", text)
    return f"{PREFIX}{name.upper()}" + ("" if hidden else f"={text[:80]!r}")


def unknown(name: str) -> str:
    """Return the error for an unknown name, with the most similar setting."""
    near = difflib.get_close_matches(name, FIELDS, n=1)
    advice = f"did you mean {PREFIX}{near[0].upper()}?" if near else "remove it."
    return f"{PREFIX}{name.upper()} is an unknown setting: {advice}"


def sentence(error: ErrorDetails, texts: Mapping[str, str]) -> str:
    """Return what is wrong with a setting and what to write instead."""
    name = str(error["loc"][0])
    if error["type"] == "missing":
        return missing(name, "the daemon")
    advice = ADVICE.get(error["type"], "is refused: {msg}")
    words = advice.format(msg=error["msg"], **error.get("ctx", {}))
    return f"{assignment(name, texts.get(name, ''))} {words}."


def clean(name: str, text: str) -> str | None:
    """Return the value of a field from its text; None if it means unset."""
    value = text if name in SECRETS else text.strip()
    return value if value or name not in FIELDS or name == "http_listen" else None


def find_settings(request: Request = Request()) -> Found:  # noqa: B008 - it is frozen
    """Read the texts of the settings from the one place they come from; raises no error."""
    return sources.read(request, sorted(SECRETS), clean, os.environ)


class LogSettings(NamedTuple):
    """Settings of the log: format, level, and whether personal data may appear."""

    log_format: str = "auto"
    log_level: str = "info"
    log_personal_data: bool = False


def log_settings(texts: Mapping[str, str]) -> LogSettings:
    """Return the log's settings, with the default for each that is wrong."""
    right: dict[str, Any] = {}
    for name in LOGGING:
        try:
            form: TypeAdapter[Any] = TypeAdapter(FIELDS[name].annotation or str)
            right[name] = form.validate_python(texts[name])
        except (KeyError, ValidationError):
            continue
    return LogSettings(**right)


def validate(found: Found, *, to_send: bool = False) -> Settings:
    """Return the settings; raises ConfigurationError with a sentence for every error.

    With `to_send` the settings that the chosen auth needs are required, too.
    """
    texts, faults = found.texts, [*found.faults]
    if found.unread and "source_dsn" not in texts:
        raise ConfigurationError(*faults)
    faults += [unknown(name) for name in texts if name not in FIELDS]
    try:
        known = {name: text for name, text in texts.items() if name in FIELDS}
        settings = Settings.model_validate(known).found_in(found)
        faults += settings.sending_faults() if to_send else ()
    except ValidationError as error:
        faults += [sentence(detail, texts) for detail in error.errors(include_input=False)]
        auth = texts.get("auth", Auth.CLIENT_CREDENTIALS)
        if to_send and auth in set(Auth):
            chosen = f"{PREFIX}AUTH={auth}"
            faults += [missing(name, chosen) for name in NEEDED[Auth(auth)] if name not in texts]
    if faults:
        # Outside of the handler: pydantic's error, which may hold secrets, is not chained.
        raise ConfigurationError(*faults)
    return settings


def load_settings(request: Request = Request(), *, to_send: bool = False) -> Settings:  # noqa: B008
    """Find and validate the settings; raises ConfigurationError."""
    return validate(find_settings(request), to_send=to_send)
