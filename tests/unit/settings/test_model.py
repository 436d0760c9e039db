"""Settings: where they come from, what they may be, and the messages about errors."""

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from pydantic import SecretStr

from daemon.errors import ConfigurationError
from daemon.settings.loading import load_settings
from daemon.settings.model import Auth, EmptyAs, Settings
from daemon.settings.sources import PREFIX
from daemon.settings.values import Direction, parse_local_time

DSN = "postgresql://daemon:hunter2@db.example.com/jtel"
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture(autouse=True)
def empty_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty working directory and an environment with nothing but the required setting."""
    for name in os.environ:
        if name.upper().startswith(PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.setenv("CALLSTATSD_SOURCE_DSN", DSN)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    directory = tmp_path / "credentials"
    directory.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(directory))
    return directory


def load_with(monkeypatch: pytest.MonkeyPatch, **texts: str) -> Settings:
    for name, text in texts.items():
        monkeypatch.setenv(PREFIX + name.upper(), text)
    return load_settings()


def faults_with(monkeypatch: pytest.MonkeyPatch, **texts: str) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        load_with(monkeypatch, **texts)
    return caught.value.faults


def test_only_the_source_is_required_and_the_rest_has_the_contracts_defaults() -> None:
    settings = load_settings()

    assert settings.model_dump() == {
        "source_dsn": SecretStr(DSN),
        "source_schemas": ("jtelstats",),
        "source_timezone": BERLIN,
        "clients_id": None,
        "ledger_dsn": SecretStr(DSN),
        "ledger_schema": "callstatsd",
        "endpoint_url": "/services/apexrest/jtelACD/writeCallStatistics",
        "auth": Auth.CLIENT_CREDENTIALS,
        "token_url": "",
        "client_id": "",
        "client_secret": SecretStr(""),
        "username": "",
        "password": SecretStr(""),
        "security_token": SecretStr(""),
        "private_key_file": None,
        "bearer_token": SecretStr(""),
        "ca_file": None,
        "environment_proxy": False,
        "instance": "",
        "service_numbers": (),
        "groups": (),
        "direction": Direction.BOTH,
        "poll_interval": 1,
        "settle_delay": 120,
        "stale_call_after": 12 * 3600,
        "lookback": 26 * 3600,
        "start_from": None,
        "concurrency": 4,
        "request_timeout": 60,
        "retry_initial": 1,
        "retry_max": 15 * 60,
        "retry_for": 72 * 3600,
        "api_budget": 0.9,
        "retention": 90 * 86400,
        "record_retention": 30 * 86400,
        "empty_as": EmptyAs.NULL,
        "send_without_salesforce_id": False,
        "callback_url": "",
        "callback_delay": 30,
        "click_to_dial_url": "",
        "click_to_dial_timeout": 3,
        "click_to_dial_fallback": "",
        "api_listen": None,
        "api_token": SecretStr(""),
        "acd_url": "",
        "acd_token": SecretStr(""),
        "alert_group_id": None,
        "alert_interval": 3600,
        "alert_link": "",
        "telegra_token": SecretStr(""),
        "telegra_allow": (),
        "telegra_country_code": "49",
        "telegra_grace": 10,
        "http_listen": ("127.0.0.1", 9464),
        "log_format": "auto",
        "log_level": "info",
        "log_personal_data": False,
    }


def test_environment_wins_over_dotenv_and_dotenv_over_credentials(
    monkeypatch: pytest.MonkeyPatch, credentials: Path
) -> None:
    Path(".env").write_text("CALLSTATSD_USERNAME=dotenv\nCALLSTATSD_CLIENT_ID=dotenv\n")
    for name in ("USERNAME", "CLIENT_ID", "BEARER_TOKEN"):
        (credentials / f"CALLSTATSD_{name}").write_text("credential\n")

    settings = load_with(monkeypatch, username="environment")

    assert (settings.username, settings.client_id) == ("environment", "dotenv")
    assert settings.bearer_token == SecretStr("credential")


def test_an_empty_value_does_not_hide_one_of_a_later_source(
    monkeypatch: pytest.MonkeyPatch, credentials: Path
) -> None:
    Path(".env").write_text("CALLSTATSD_USERNAME=dotenv\nCALLSTATSD_CLIENT_ID=\n")
    (credentials / "CALLSTATSD_CLIENT_ID").write_text("credential")

    settings = load_with(monkeypatch, username="", client_id="", poll_interval=" ")

    assert (settings.username, settings.client_id) == ("dotenv", "credential")
    assert settings.poll_interval == 1


def test_a_required_setting_that_is_empty_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert faults_with(monkeypatch, source_dsn="") == (
        (
            "CALLSTATSD_SOURCE_DSN is missing, the daemon needs it: "
            "set it to the URL of the Postgres with the ACD's tables, "
            "postgresql://USER:PASSWORD@HOST:PORT/DATABASE."
        ),
    )


def test_an_empty_http_listen_turns_it_off_even_over_a_later_source(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path(".env").write_text("CALLSTATSD_HTTP_LISTEN=127.0.0.1:1\n")

    assert load_with(monkeypatch, http_listen="").http_listen is None


def test_a_credential_may_be_lower_case_and_loses_only_its_last_newline(credentials: Path) -> None:
    (credentials / "callstatsd_client_secret").write_text(" s3cret \r\n")
    (credentials / "other.pem").write_text("not ours")
    (credentials / "callstatsd_directory").mkdir()

    with pytest.raises(ConfigurationError, match="CALLSTATSD_DIRECTORY is an unknown setting"):
        load_settings()
    (credentials / "callstatsd_directory").rmdir()
    assert load_settings().client_secret == SecretStr(" s3cret ")


def test_a_credentials_directory_that_does_not_exist_is_ignored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "none"))

    assert load_settings().source_dsn == SecretStr(DSN)


def test_a_dotenv_keeps_dollars_in_secrets_and_leaves_foreign_names_alone() -> None:
    Path(".env").write_text(
        "OTHER=1\nexport CALLSTATSD_PASSWORD='a${HOME}b#c'\n", encoding="utf-8-sig"
    )

    assert load_settings().password == SecretStr("a${HOME}b#c")


def test_an_unreadable_line_or_file_is_a_fault(
    monkeypatch: pytest.MonkeyPatch, credentials: Path
) -> None:
    Path(".env").write_text("CALLSTATSD_USERNAME=x\nCALLSTATSD_PASSWORD hunter2\n")
    (credentials / "CALLSTATSD_BEARER_TOKEN").write_bytes(b"\xff\xfe")

    assert faults_with(monkeypatch) == (
        ".env line 2 is not a setting: use CALLSTATSD_NAME=VALUE.",
        f"{credentials}/CALLSTATSD_BEARER_TOKEN cannot be read: make it a file of UTF-8 text.",
    )


def test_an_unknown_name_is_a_fault_in_each_source_and_the_nearest_is_proposed(
    monkeypatch: pytest.MonkeyPatch, credentials: Path
) -> None:
    Path(".env").write_text("CALLSTATSD_CLIENT_SECRTE=hunter2\n")
    (credentials / "callstatsd_xyzzy").write_text("hunter2")

    assert sorted(faults_with(monkeypatch, pol_interval="")) == [
        "CALLSTATSD_CLIENT_SECRTE is an unknown setting: did you mean CALLSTATSD_CLIENT_SECRET?",
        "CALLSTATSD_POL_INTERVAL is an unknown setting: did you mean CALLSTATSD_POLL_INTERVAL?",
        "CALLSTATSD_XYZZY is an unknown setting: remove it.",
    ]


def test_every_fault_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    faults = faults_with(
        monkeypatch,
        source_dsn="mysql://root:hunter2@db",
        stale_call_after="PT30H",
        poll_interval="PT0.01S",
        concurrency="0",
        retry_max="PT0.5S",
        record_retention="P91D",
        auth="basic",
        log_personal_data="perhaps",
        pol_interval="3",
    )

    assert set(faults) == {
        (
            "CALLSTATSD_SOURCE_DSN is not a valid Postgres URL: use "
            "postgresql://USER:PASSWORD@HOST:PORT/DATABASE; in the password write %40 for @, "
            "%3A for :, %2F for /, %23 for #, %3F for ?, %25 for %, %5B for [, %5D for ]."
        ),
        (
            "CALLSTATSD_AUTH='basic' is unknown: "
            "use 'client_credentials', 'jwt_bearer', 'password', 'bearer' or 'none'."
        ),
        "CALLSTATSD_POLL_INTERVAL='PT0.01S' is too small: use at least 0.05.",
        "CALLSTATSD_LOOKBACK is too short: use at least CALLSTATSD_STALE_CALL_AFTER plus PT1H.",
        "CALLSTATSD_CONCURRENCY='0' is too small: use at least 1.",
        "CALLSTATSD_RETRY_MAX='PT0.5S' is too small: use at least 1.",
        "CALLSTATSD_RECORD_RETENTION='P91D' is too long: use at most CALLSTATSD_RETENTION.",
        "CALLSTATSD_LOG_PERSONAL_DATA='perhaps' must be true or false.",
        "CALLSTATSD_POL_INTERVAL is an unknown setting: did you mean CALLSTATSD_POLL_INTERVAL?",
    }
    assert len(faults) == 9


def test_no_secret_is_in_repr_or_in_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = (
        "client_secret",
        "password",
        "security_token",
        "bearer_token",
        "api_token",
        "acd_token",
    )
    settings = load_with(monkeypatch, **dict.fromkeys(secrets, "hunter2"))

    assert "hunter2" not in repr(settings) + str(settings) + settings.model_dump_json()

    key = "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----"
    settings = load_with(monkeypatch, auth="jwt_bearer", private_key_file=key)
    assert "hunter2" not in "".join(settings.sending_faults())

    with pytest.raises(ConfigurationError) as caught:
        load_with(
            monkeypatch,
            source_dsn="hunter2",
            ledger_dsn="postgres:hunter2",
            endpoint_url="https://user:hunter2@host/",
            token_url="http://host/?password=hunter2",
            hunter="hunter2",
        )
    assert "hunter2" not in str(caught.value)
    assert len(caught.value.faults) == 5
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0.05", 0.05),
        (" 2 ", 2),
        ("1.", 1),
        (".5", 0.5),
        ("PT15M", 900),
        ("P90D", 90 * 86400),
        ("PT1.5S", 1.5),
        ("PT1,5S", 1.5),
        ("PT0.5H", 1800),
        ("P1W", 7 * 86400),
        ("P1DT2H3M4S", 93784),
        ("P36525D", 36525 * 86400),
    ],
)
def test_a_duration_is_seconds_or_iso_8601(
    monkeypatch: pytest.MonkeyPatch, text: str, seconds: float
) -> None:
    assert load_with(monkeypatch, poll_interval=text).poll_interval == seconds


@pytest.mark.parametrize(
    "text",
    [
        "nan",
        "inf",
        "-1",
        "-PT1S",
        "1e3",
        "1_0",
        "P",
        "PT",
        "P1DT",
        "P1M",
        "P1Y",
        "15M",
        "pt1s",
        "1 s",
        "P36526D",
        "9" * 400,
        chr(0x661),
    ],
)
def test_what_is_no_duration_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (fault,) = faults_with(monkeypatch, settle_delay=text)

    assert fault.startswith(f"CALLSTATSD_SETTLE_DELAY={text[:80]!r} is not a valid duration")


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("poll_interval", "0.05", "0.049"),
        ("retry_initial", "0.05", "0.049"),
        ("retry_max", "1", "0.99"),
        ("retry_for", "1", "0.99"),
        ("settle_delay", "0", "-0.1"),
        ("request_timeout", "0.001", "0"),
        ("concurrency", "1", "0"),
        ("concurrency", "1000", "1001"),
        ("concurrency", "5", "1.5"),
        ("api_budget", "1", "1.01"),
        ("api_budget", "0.01", "0"),
        ("api_budget", "0.5", "nan"),
        ("clients_id", "7", "seven"),
        ("lookback", "PT13H", "PT12H59M59S"),
        ("record_retention", "P90D", "P91D"),
        ("record_retention", "PT26H0.1S", "PT26H"),
        ("source_timezone", "UTC", "../../etc/passwd"),
        ("ledger_schema", "stats_2", "Stats-2"),
        ("log_format", "json", "xml"),
        ("log_level", "debug", "trace"),
        ("empty_as", "string", "nil"),
        ("send_without_salesforce_id", "true", "maybe"),
        ("start_from", "2026-11-20", "2026-02-30"),
    ],
)
def test_bounds_are_kept(monkeypatch: pytest.MonkeyPatch, name: str, good: str, bad: str) -> None:
    load_with(monkeypatch, **{name: good})

    (fault,) = faults_with(monkeypatch, **{name: bad})
    shown = f"CALLSTATSD_{name.upper()}={bad!r}"
    assert fault.startswith((f"{shown} is ", f"{shown} must be "))
    assert ": use " in fault or " must be " in fault


@pytest.mark.parametrize(
    "rest",
    [
        "", "/acd", "acd@/acd?host=/tmp/sockets", "acd:p@h:5432/acd", "h", "h:5432", "acd@h:",
        "acd@h1:1,h2:2/acd", "acd@h1,h2/acd?target_session_attrs=any", "acd:p@[::1]:5432/acd",
        "acd:p@%2Ftmp%2Fsockets/acd", "acd:a%2Fb%40c@h/acd?sslmode=require",
        "acd@h/acd?user=a@b", "h/acd?user=acd@server&password=x", "acd@:5432/acd",
        "/acd?host=/tmp&user=acd&password=p@ss", "acd@acd_db-1.example.com/acd",
    ],
)  # fmt: skip
def test_a_dsn_is_what_the_driver_reads(monkeypatch: pytest.MonkeyPatch, rest: str) -> None:
    dsn = f"postgresql://{rest}"
    assert load_with(monkeypatch, source_dsn=dsn).source_dsn.get_secret_value() == dsn


@pytest.mark.parametrize(
    "rest",
    [
        "acd:Sommer#26@h/acd", "acd:Som/mer@h/acd", "acd:Som?mer@h/acd", "acd:Som[mer@h/acd",
        "acd:Som]mer@h/acd", "acd:26/mer@h/acd", "acd:26?mer@h/acd", "acd:/26@h", "h:port/acd",
        "acd:p@h:54321234/acd", "[::1/acd", "h/acd#x", "acd@h:5432,/acd",
        "acd@a..b/acd", "acd@[h]/acd", "acd:p@h:65536/acd", "acd:@/26mer@h/acd", "acd:p@?26mer@h",
        "acd:26?a=mer@h/acd", "acd:26?user=mer@h/acd", "acd:Som@mer%41@h/acd", "acd:Som%%41@h/acd",
        "acd:Som%E4@h/acd", "acd:Som%00@h/acd", "h/acd?password=Som&mer", "acd@h/acd?port=Som",
    ],
)  # fmt: skip
def test_a_password_that_tears_a_dsn_apart_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, rest: str
) -> None:
    (fault,) = faults_with(monkeypatch, source_dsn=f"postgresql://{rest}")
    assert fault.startswith("CALLSTATSD_SOURCE_DSN is not a valid Postgres URL: use postgresql:")
    for code in ("%40", "%3A", "%2F", "%23", "%3F", "%25", "%5B", "%5D"):
        assert code in fault
    assert not any(part in fault for part in ("Som", "26", "mer"))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("[::1]:9464", ("::1", 9464)),
        ("localhost:0", ("localhost", 0)),
    ],
)
def test_http_listen_is_host_and_port(
    monkeypatch: pytest.MonkeyPatch, text: str, address: tuple[str, int]
) -> None:
    assert load_with(monkeypatch, http_listen=text).http_listen == address


@pytest.mark.parametrize(
    "text", ["9464", ":9464", "::1:9464", "host:", "host:65536", "a b:1", "a..b:1"]
)
def test_what_is_no_address_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    assert faults_with(monkeypatch, http_listen=text) == (
        (
            f"CALLSTATSD_HTTP_LISTEN={text!r} is not a valid address: "
            "use HOST:PORT or [::1]:PORT, or an empty value for off."
        ),
    )


@pytest.mark.parametrize(
    "url",
    [
        "/services/apexrest/x?y=1",
        "https://example.my.salesforce.com/x",
        "http://localhost:8080/",
        "http://127.9.9.9/",
        "http://[::1]:1/",
    ],
)
def test_an_endpoint_is_a_path_or_https_or_loopback(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    assert load_with(monkeypatch, endpoint_url=url).endpoint_url == url
    assert load_with(monkeypatch, callback_url=url).callback_url == url


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://example.com/", "is not encrypted"),
        ("http://localhost.example.com/", "is not encrypted"),
        ("http://127.0.0.1.example.com/", "is not encrypted"),
        ("//example.com/x", "is not an absolute URL"),
        ("services/x", "is not an absolute URL"),
        ("ftp://example.com/", "is not an absolute URL"),
        ("https:///x", "is not an absolute URL"),
        ("https://host:port/", "is not an absolute URL"),
        ("https://[::1/", "is not an absolute URL"),
        ("https://a:b@example.com/", "must not contain credentials"),
        ("https://example.com/#x", "must not contain #"),
        ("/x#y", "must not contain #"),
        ("/\\example.com", "must not contain #"),
        ("/x y", "must not contain #"),
    ],
)
def test_an_endpoint_that_leaks_or_is_none_is_refused(
    monkeypatch: pytest.MonkeyPatch, url: str, reason: str
) -> None:
    for name in ("endpoint_url", "callback_url"):
        (fault,) = faults_with(monkeypatch, **{name: url})
        assert f"CALLSTATSD_{name.upper()}" in fault
        assert reason in fault
        monkeypatch.delenv(f"CALLSTATSD_{name.upper()}")


def test_callbacks_are_off_until_their_endpoint_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_with(monkeypatch).callback_url == ""
    assert load_with(monkeypatch, callback_url=" ").callback_url == ""
    assert load_with(monkeypatch, callback_delay="0").callback_delay == 0
    (fault,) = faults_with(monkeypatch, callback_delay="-1")
    assert "is not a valid duration" in fault


def test_a_path_for_callbacks_needs_a_token_that_names_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = "https://example.com/x"
    settings = load_with(monkeypatch, auth="none", endpoint_url=url, callback_url="/y")
    (fault,) = settings.sending_faults()
    assert fault == (
        "CALLSTATSD_CALLBACK_URL='/y' is a path, but CALLSTATSD_AUTH=none gives no host: "
        "use https://HOST/PATH."
    )
    assert load_with(monkeypatch, callback_url=url).sending_faults() == ()


def test_a_token_url_is_no_path_and_not_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = faults_with(monkeypatch, token_url="/services/oauth2/token")
    (clear,) = faults_with(monkeypatch, token_url="http://login.salesforce.com/")

    assert "is not an absolute URL" in path
    assert "is not encrypted" in clear


@pytest.mark.parametrize("text", ["a,,b", ",", 'a,"B"', "x" * 64])
def test_schemas_are_names_between_commas(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    given = load_with(monkeypatch, source_schemas=" Stats-2 , public").source_schemas
    assert given == ("Stats-2", "public")

    (fault,) = faults_with(monkeypatch, source_schemas=text)
    assert "is not a list of schemas" in fault


@pytest.mark.parametrize("name", ["service_numbers", "groups"])
def test_names_of_filters_stand_between_commas(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    given = load_with(monkeypatch, **{name: " 4930*, Technik Süd,*"})
    assert getattr(given, name) == ("4930*", "Technik Süd", "*")

    (fault,) = faults_with(monkeypatch, **{name: "Sales,"})
    assert fault == (
        f"CALLSTATSD_{name.upper()}='Sales,' has an empty name: use names separated by commas "
        "(Sales,Support *)."
    )


def test_a_direction_is_one_of_three(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_with(monkeypatch, direction="outbound").direction is Direction.OUTBOUND
    (fault,) = faults_with(monkeypatch, direction="incoming")
    assert "is unknown: use 'both', 'inbound' or 'outbound'" in fault


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-20", datetime(2026, 11, 19, 23, tzinfo=UTC)),
        ("2026-07-01T08:30", datetime(2026, 7, 1, 6, 30, tzinfo=UTC)),
        ("2026-07-01T08:30:15", datetime(2026, 7, 1, 6, 30, 15, tzinfo=UTC)),
        # 02:30 came twice, at 00:30 and at 01:30 UTC.
        ("2026-10-25T02:30", datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
        # 02:30 never came: read with the offset of after, and of before, the gap.
        ("2026-03-29T02:30", datetime(2026, 3, 29, 0, 30, tzinfo=UTC)),
        ("2026-03-29T03:00", datetime(2026, 3, 29, 1, 0, tzinfo=UTC)),
    ],
)
def test_local_time_is_the_earlier_instant_where_two_are_possible(
    text: str, expected: datetime
) -> None:
    moment = parse_local_time(text, BERLIN)

    assert moment == expected
    assert moment.tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "20261120",
        "2026-11",
        "2026-11-20T8",
        "2026-11-20 08:00",
        "2026-W01-1",
        "2026-11-20T08:00:00.5",
        "2026-11-20T08:00Z",
        "2026-11-20T08:00+01:00",
        "2026-11-20\n",
        "2026-02-30",
        "2026-11-20T25:00",
        "0001-01-01",
    ],
)
def test_what_is_no_local_time_raises_with_the_forms_to_write(text: str) -> None:
    with pytest.raises(ValueError, match=r"use YYYY-MM-DD or YYYY-MM-DDThh:mm\[:ss\]$") as caught:
        parse_local_time(text, BERLIN)

    assert str(caught.value).startswith(repr(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-20", datetime(2026, 11, 20, 5, tzinfo=UTC)),
        ("2026-11-20T08:00:00.25", datetime(2026, 11, 20, 13, 0, 0, 250_000, tzinfo=UTC)),
        ("2026-11-20T08:00Z", datetime(2026, 11, 20, 8, tzinfo=UTC)),
        ("2026-11-20T08:00:00.5+01:00", datetime(2026, 11, 20, 7, 0, 0, 500_000, tzinfo=UTC)),
    ],
)
def test_start_from_is_local_to_the_source_unless_it_has_an_offset(
    monkeypatch: pytest.MonkeyPatch, text: str, expected: datetime
) -> None:
    settings = load_with(monkeypatch, source_timezone="America/New_York", start_from=text)

    assert settings.start_from == expected


def test_the_ledger_may_be_another_server(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_with(monkeypatch, ledger_dsn="postgres://ledger/x")

    assert settings.ledger_dsn == SecretStr("postgres://ledger/x")
    assert settings.source_dsn == SecretStr(DSN)


@pytest.mark.parametrize(
    ("auth", "needed"),
    [
        ("client_credentials", ["TOKEN_URL", "CLIENT_ID", "CLIENT_SECRET"]),
        ("jwt_bearer", ["TOKEN_URL", "CLIENT_ID", "USERNAME", "PRIVATE_KEY_FILE"]),
        ("password", ["TOKEN_URL", "CLIENT_ID", "CLIENT_SECRET", "USERNAME", "PASSWORD"]),
        ("bearer", ["BEARER_TOKEN", "ENDPOINT_URL"]),
        ("none", ["ENDPOINT_URL"]),
    ],
)
def test_each_auth_names_what_it_lacks_and_sends_with_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, auth: str, needed: list[str]
) -> None:
    faults = load_with(monkeypatch, auth=auth).sending_faults()
    names = [re.split("[ =]", fault)[0].removeprefix(PREFIX) for fault in faults]
    assert names == needed

    key = tmp_path / "key.pem"
    key.write_text("key")
    given = dict.fromkeys(needed, "given") | {
        "TOKEN_URL": "https://example.com/token",
        "ENDPOINT_URL": "https://example.com/x",
        "PRIVATE_KEY_FILE": str(key),
    }
    complete = load_with(monkeypatch, **{name: given[name] for name in needed})
    assert complete.sending_faults() == ()


def test_a_key_file_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_with(monkeypatch, auth="jwt_bearer", private_key_file="/nowhere/key.pem")

    assert settings.sending_faults()[-1] == (
        "CALLSTATSD_PRIVATE_KEY_FILE='/nowhere/key.pem' cannot be read: "
        "use the path of a readable PEM file."
    )


def test_a_missing_setting_tells_which_auth_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_with(monkeypatch, auth="bearer")

    assert settings.sending_faults() == (
        (
            "CALLSTATSD_BEARER_TOKEN is missing, CALLSTATSD_AUTH=bearer needs it: "
            "set it to the access token that is sent as it is."
        ),
        (
            "CALLSTATSD_ENDPOINT_URL='/services/apexrest/jtelACD/writeCallStatistics' is a path, "
            "but CALLSTATSD_AUTH=bearer gives no host: use https://HOST/PATH."
        ),
    )


@pytest.mark.parametrize(
    "token",
    ["hunter2 ", " hunter2", "hunt er2", "hunter2\n", "hunt\ter2", "hunter2\x7f", "hünter2", " "],
)
def test_a_bearer_token_that_fits_into_no_header_is_named_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    url = "https://example.com/x"
    monkeypatch.setenv("CALLSTATSD_BEARER_TOKEN", token)
    settings = load_with(monkeypatch, auth="bearer", endpoint_url=url)

    assert settings.sending_faults() == (
        (
            "CALLSTATSD_BEARER_TOKEN cannot be put into a header: "
            "use ASCII without blanks or line breaks."
        ),
    )
    # Nobody minds one that is not sent.
    other = load_with(monkeypatch, auth="none", endpoint_url=url)
    assert other.sending_faults() == ()


def test_a_bearer_token_may_hold_any_other_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    token = "".join(map(chr, range(0x21, 0x7F)))
    settings = load_with(
        monkeypatch, auth="bearer", bearer_token=token, endpoint_url="https://example.com/x"
    )

    assert settings.sending_faults() == ()


def test_settings_cannot_be_changed() -> None:
    settings = load_settings()

    with pytest.raises(ValueError, match="frozen"):
        settings.concurrency = 5  # type: ignore[misc]


def test_settings_made_in_the_program_are_what_is_given_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CALLSTATSD_CONCURRENCY", "7")

    settings = Settings(source_dsn=SecretStr(DSN), poll_interval=0.05, source_schemas=("a",))

    assert (settings.poll_interval, settings.source_schemas) == (0.05, ("a",))
    assert settings.concurrency == 4


ACD = "https://acd.example.com/rest/v1.0/7"


def test_the_acd_is_off_until_its_address_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_with(monkeypatch, acd_token="t").acd_url == ""
    settings = load_with(monkeypatch, acd_url=f"{ACD}/", acd_token="hunter2")
    assert settings.acd_url == ACD
    assert settings.acd_token == SecretStr("hunter2")


def test_the_acds_address_needs_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    assert faults_with(monkeypatch, acd_url=ACD) == (
        (
            "CALLSTATSD_ACD_TOKEN is missing, CALLSTATSD_ACD_URL needs it: set it to the bearer "
            "token made in the ACD's portal."
        ),
    )


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://acd.example.com/rest/v1.0/7", "is not encrypted"),
        ("/rest/v1.0/7", "is not an absolute URL"),
        ("https://a:b@acd.example.com/rest/v1.0/7", "must not contain credentials"),
        (f"{ACD}?x=1", "must not contain ?"),
        (f"{ACD}#x", "must not contain #"),
    ],
)
def test_an_address_of_the_acd_that_leaks_the_token_is_refused(
    monkeypatch: pytest.MonkeyPatch, url: str, reason: str
) -> None:
    (fault,) = faults_with(monkeypatch, acd_url=url, acd_token="hunter2")
    assert fault.startswith("CALLSTATSD_ACD_URL")
    assert reason in fault


def test_the_acds_client_is_the_one_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_with(monkeypatch, acd_url=ACD, acd_token="t", clients_id="7").clients_id == 7
    (fault,) = faults_with(monkeypatch, clients_id="8")
    assert fault == (
        f"CALLSTATSD_ACD_URL={ACD!r} ends with another ClientsID than CALLSTATSD_CLIENTS_ID=8: "
        "make them the same, or leave one out."
    )
    monkeypatch.setenv("CALLSTATSD_ACD_URL", "https://acd.example.com/other")
    assert load_with(monkeypatch, clients_id="8").clients_id == 8


def test_a_token_of_the_acd_that_fits_into_no_header_is_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert faults_with(monkeypatch, acd_url=ACD, acd_token="hunter2\nX") == (
        (
            "CALLSTATSD_ACD_TOKEN cannot be put into a header: use ASCII without blanks or line "
            "breaks."
        ),
    )


def test_alerts_need_the_acd_and_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    assert faults_with(monkeypatch, alert_group_id="235") == (
        "CALLSTATSD_ALERT_GROUP_ID='235' needs CALLSTATSD_ACD_URL: set that, too, or remove this.",
    )
    settings = load_with(monkeypatch, acd_url=ACD, acd_token="t", alert_link="http://page:1/")
    assert (settings.alert_group_id, settings.alert_link) == (235, "http://page:1/")
    for name, bad in (("alert_group_id", "0"), ("alert_interval", "9"), ("alert_link", "page")):
        monkeypatch.setenv(f"CALLSTATSD_{name.upper()}", bad)
    assert len(faults_with(monkeypatch)) == 3
