"""How the values of settings are written: durations, times, addresses, URLs, schema names."""

import math
import re
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator as After
from pydantic import AwareDatetime, Field, SecretStr, ValidationInfo
from pydantic import BeforeValidator as Before

from daemon.settings.dsn import is_host_name, read_dsn
from daemon.settings.sources import INSTANCE, PREFIX
from daemon.urls import allows_secrets, is_web_url

HOUR, DAY = 3600.0, 86400.0
BERLIN = ZoneInfo("Europe/Berlin")
CENTURY = 36525 * DAY  # longer ones overflow the intervals of Python and Postgres

PART = r"(?:([0-9]+(?:[.,][0-9]+)?){})?".format
DURATION = re.compile("P(?=.)" + PART("W") + PART("D") + f"(?:T(?=.){''.join(map(PART, 'HMS'))})?")
DATE, MINUTE = r"\d{4}-\d\d-\d\d", r"T\d\d:\d\d"
LOCAL_TIME = re.compile(rf"{DATE}({MINUTE}(:\d\d)?)?", re.ASCII)
ANY_TIME = re.compile(rf"{DATE}({MINUTE}(:\d\d([.,]\d+)?)?(Z|[+-]\d\d:?\d\d)?)?", re.ASCII)
LOCAL_FORMS = "YYYY-MM-DD or YYYY-MM-DDThh:mm[:ss]"

MAPPED_PREFIX = 96
"""Bits before the IPv4 address in an IPv6 one, `::ffff:192.0.2.7`."""
PATHS = {"endpoint_url", "callback_url", "click_to_dial_url"}
"""URLs that may be a path under the org's own address."""


class Direction(StrEnum):
    """Which calls are delivered."""

    BOTH = "both"
    INBOUND = "inbound"
    OUTBOUND = "outbound"


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


def read_names(value: Any) -> Any:
    """Accept names separated by commas, blanks around them left out."""
    names = tuple(name.strip() for name in value.split(",")) if isinstance(value, str) else value
    if not all(names):
        raise ValueError("has an empty name: use names separated by commas (Sales,Support *)")
    return names


def check_dsn(value: SecretStr, info: ValidationInfo) -> SecretStr:
    """Reject what is not a Postgres URL; the ledger's default is the source's."""
    if info.field_name == "ledger_dsn" and not value.get_secret_value():
        source: SecretStr = info.data.get("source_dsn", value)
        return source
    return SecretStr(read_dsn(value.get_secret_value()).url)


def check_instance(value: str) -> str:
    """Reject what `--instance` rejects, because printed commands contain the name."""
    if value and not INSTANCE.fullmatch(value):
        raise ValueError(
            "is not a valid instance name: use up to 32 of a to z, 0 to 9, - and _, "
            "and begin with a letter or a digit"
        )
    return value


def check_url(value: str, info: ValidationInfo) -> str:
    """Reject URLs that send secrets unencrypted or elsewhere; the endpoint may be a path."""
    if (
        info.field_name in {"token_url", "callback_url", "click_to_dial_url", "acd_url"}
        and not value
    ):
        return value  # off; sending_faults reports a token_url that the auth needs
    if re.search(r"[#\\\s\x00-\x1f]", value):
        raise ValueError("must not contain #, \\ or white space: use https://HOST/PATH")
    # `//host` only looks like a path: joined to a URL it names another server.
    if info.field_name in PATHS and re.match(r"/(?!/)", value):
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


def check_acd_url(value: str, info: ValidationInfo) -> str:
    """Reject a base to which no path can be added, and another client than the one set."""
    base = value.rstrip("/")
    if "?" in base:
        raise ValueError("must not contain ?: use https://HOST:PORT/rest/v1.0/CLIENTSID")
    clients_id = info.data.get("clients_id")
    last = re.search(r"/([0-9]{1,19})$", base)
    if last and clients_id is not None and int(last[1]) != clients_id:
        raise ValueError(
            f"ends with another ClientsID than {PREFIX}CLIENTS_ID={clients_id}: "
            "make them the same, or leave one out"
        )
    return base


def check_acd_token(value: SecretStr, info: ValidationInfo) -> SecretStr:
    """Reject a token that fits into no header; one is needed where the ACD is on."""
    token = value.get_secret_value()
    if not token and info.data.get("acd_url"):
        raise ValueError(
            f"is missing, {PREFIX}ACD_URL needs it: set it to the bearer token made in the ACD's "
            "portal"
        )
    if token and not re.fullmatch("[!-~]+", token):
        raise ValueError("cannot be put into a header: use ASCII without blanks or line breaks")
    return value


def check_alert_group(value: int | None, info: ValidationInfo) -> int | None:
    """Reject a group to alert where the ACD is off."""
    if value is not None and info.data.get("acd_url") == "":
        raise ValueError(f"needs {PREFIX}ACD_URL: set that, too, or remove this")
    return value


def check_link(value: str) -> str:
    """Reject what a browser would not open as a web page."""
    if value and not is_web_url(value):
        raise ValueError("is not a web address: use https://HOST/PATH")
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


def check_country_code(value: str) -> str:
    """Reject what cannot stand before a national number."""
    if not re.fullmatch("[0-9]{1,3}", value):
        raise ValueError("is not a country code: use 1 to 3 digits, such as 49")
    return value


def read_networks(value: Any) -> Any:
    """Accept addresses and networks separated by commas."""
    if not isinstance(value, str):
        return value
    try:
        return tuple(_network(part.strip()) for part in value.split(",") if part.strip())
    except ValueError:
        raise ValueError(
            "is not a list of addresses: use addresses or networks such as 192.0.2.7 or "
            "192.0.2.0/24, separated by commas"
        ) from None


def _network(text: str) -> IPv4Network | IPv6Network:
    """Return a network; of IPv4 addresses that are written as IPv6 ones that of IPv4."""
    network = ip_network(text)
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is None or network.prefixlen < MAPPED_PREFIX:
        return network
    return IPv4Network(f"{mapped}/{network.prefixlen - MAPPED_PREFIX}")


Dsn = Annotated[SecretStr, After(check_dsn)]
Url = Annotated[str, After(check_url)]
AcdUrl = Annotated[Url, After(check_acd_url)]
GroupId = Annotated[int | None, Field(ge=1, le=2**63 - 1), After(check_alert_group)]
WebUrl = Annotated[str, After(check_link)]
AcdToken = Annotated[SecretStr, After(check_acd_token)]
Seconds = Annotated[float, Before(read_seconds)]
LaterSeconds = Annotated[Seconds, After(check_order)]
Schemas = Annotated[tuple[str, ...], Before(read_schemas)]
Names = Annotated[tuple[str, ...], Before(read_names)]
Start = Annotated[AwareDatetime | None, Before(read_start)]
Address = Annotated[tuple[str, int] | None, Before(read_listen)]
Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], Before(read_networks)]
CountryCode = Annotated[str, After(check_country_code)]
UNSET = SecretStr("")
Id = Annotated[int, Field(ge=0, le=2**63 - 1)]
Identifier = Annotated[str, Field(pattern="^[a-z_][a-z0-9_]{0,62}$")]
Instance = Annotated[str, After(check_instance)]
Level = Literal["debug", "info", "warning", "error"]
