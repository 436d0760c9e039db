"""Settings come from one place, never mixed: the wrong org must never be written to."""

import codecs
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from daemon.errors import ConfigurationError
from daemon.settings.loading import load_settings
from daemon.settings.model import Settings
from daemon.settings.sources import PREFIX, Request
from tests.support.typed import typed

HERE = "postgresql://here@127.0.0.1:1/here"
NORTH = "postgresql://north@127.0.0.1:1/north"
OTHER = "postgresql://other@127.0.0.1:1/other"
NOBODY = 65534

Write = Callable[..., Path]
Command = Callable[..., tuple[int, str]]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.upper().startswith(PREFIX) or name in {"INVOCATION_ID", "CREDENTIALS_DIRECTORY"}:
            monkeypatch.delenv(name)


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    folder = tmp_path / "etc"
    folder.mkdir()
    return folder


@pytest.fixture
def write(etc: Path) -> Write:
    """Write a file of settings into the installation's folder, or anywhere else."""

    def written(path: str | Path, dsn: str = NORTH, **more: str) -> Path:
        file = etc / path
        lines = [f"{PREFIX}{name.upper()}='{text}'" for name, text in more.items()]
        file.write_text("\n".join([f"CALLSTATSD_SOURCE_DSN={dsn}", *lines, ""]))
        return file

    return written


@pytest.fixture
def callstatsd(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], etc: Path
) -> Command:
    """Type a command, whose database is away; returns exit code and what it printed."""
    run = typed(monkeypatch, capsys, etc)

    def command(*arguments: str) -> tuple[int, str]:
        code, output, errors = run(*arguments)
        return code, output + errors

    return command


@pytest.fixture
def no_rights(etc: Path, tmp_path: Path) -> Iterator[None]:
    """A user who may not look into the installation's folder, but may be here."""
    etc.chmod(0o000)
    tmp_path.chmod(0o755)
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
        etc.chmod(0o700)


def source(settings: Settings) -> str:
    return settings.source_dsn.get_secret_value()


def faults(request: Request) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(request)
    return caught.value.faults


# Mixing


@pytest.mark.parametrize("chosen", ["env_file", "instance", "default"])
def test_what_the_environment_sets_beside_a_file_is_refused_by_name(
    etc: Path, write: Write, monkeypatch: pytest.MonkeyPatch, chosen: str
) -> None:
    file = write("callstatsd.env" if chosen == "default" else "north.env", client_id="north")
    request = {
        "env_file": Request(env_file=file, etc=etc),
        "instance": Request(instance="north", etc=etc),
        "default": Request(may_default=True, etc=etc),
    }[chosen]
    monkeypatch.setenv("CALLSTATSD_CLIENT_SECRET", "hunter2")
    monkeypatch.setenv("CALLSTATSD_CLIENT_ID", "north")
    monkeypatch.setenv("CALLSTATSD_LEDGER_SCHEMA", "")

    assert faults(request) == tuple(
        f"{name} is set in the environment, and the settings come from {file}: unset it."
        for name in ("CALLSTATSD_CLIENT_ID", "CALLSTATSD_CLIENT_SECRET")
    )


def test_a_source_in_the_environment_does_not_mix_with_a_file(
    etc: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("north.env")
    monkeypatch.setenv("CALLSTATSD_SOURCE_DSN", HERE)
    monkeypatch.setenv("CALLSTATSD_POL_INTERVAL", "1")
    monkeypatch.setenv("CALLSTATSD_HTTP_LISTEN", "")

    named = [fault.split()[0] for fault in faults(Request(instance="north", etc=etc))]
    assert named == [
        "CALLSTATSD_HTTP_LISTEN",
        "CALLSTATSD_POL_INTERVAL",
        "CALLSTATSD_SOURCE_DSN",
    ]


def test_how_to_log_may_be_said_beside_a_file_and_wins(
    etc: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("north.env", log_level="error", log_format="json")
    monkeypatch.setenv("CALLSTATSD_LOG_LEVEL", "debug")

    settings = load_settings(Request(instance="north", etc=etc))

    assert (settings.log_level, settings.log_format) == ("debug", "json")


@pytest.mark.parametrize("request_of", ["env_file", "instance"])
def test_beside_a_named_file_neither_dotenv_nor_credentials_count(
    etc: Path, write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request_of: str
) -> None:
    file = write("north.env")
    write(tmp_path / ".env", HERE, client_id="here", ledger_schema="here")
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "client-secret").write_text("here")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    request = Request(file, None, etc=etc) if request_of == "env_file" else Request(None, "north")

    settings = load_settings(Request(request.env_file, request.instance, etc=etc))

    assert source(settings) == NORTH
    assert (settings.client_id, settings.ledger_schema) == ("", "callstatsd")
    assert settings.client_secret == SecretStr("")


@pytest.mark.parametrize("where", ["environment", "dotenv", "credentials"])
def test_one_that_sets_the_source_keeps_the_installations_file_out(
    etc: Path, write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str
) -> None:
    write("callstatsd.env", client_id="installed", client_secret="installed", unknown="x")
    (etc / "client-secret").write_text("beside")
    if where == "environment":
        monkeypatch.setenv("CALLSTATSD_SOURCE_DSN", HERE)
    elif where == "dotenv":
        write(tmp_path / ".env", HERE)
    else:
        (tmp_path / "source-dsn").write_text(f"{HERE}\n")
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

    settings = load_settings(Request(may_default=True, etc=etc))

    assert source(settings) == HERE
    assert (settings.client_id, settings.client_secret) == ("", SecretStr(""))
    assert settings.command_option == ""


def test_a_dotenv_without_a_source_does_not_mix_with_the_installations_file(
    etc: Path, write: Write, tmp_path: Path
) -> None:
    """Whoever wrote it means another ledger than the installation's."""
    write("callstatsd.env")
    (tmp_path / ".env").write_text("CALLSTATSD_LEDGER_SCHEMA=trial\nCALLSTATSD_LOG_LEVEL=debug\n")

    (fault,) = faults(Request(may_default=True, etc=etc))
    assert fault.startswith("CALLSTATSD_LEDGER_SCHEMA is set here, without CALLSTATSD_SOURCE_DSN")


def test_two_files_are_never_merged(etc: Path, write: Write) -> None:
    write("callstatsd.env", OTHER, client_id="other", client_secret="other")
    (etc / "client-secret").write_text("other")
    write("north.env")

    settings = load_settings(Request(instance="north", may_default=True, etc=etc))

    assert source(settings) == NORTH
    assert (settings.client_id, settings.client_secret) == ("", SecretStr(""))


# Foreign files


@as_root
@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize("may_default", [False, True])
def test_a_dotenv_of_another_owner_is_refused_and_nothing_else_is_tried(
    etc: Path, write: Write, tmp_path: Path, may_default: bool, link: bool
) -> None:
    """Also a link that another user laid to a file of root's: it chooses the org."""
    write("callstatsd.env")
    dotenv = tmp_path / ".env"
    if link:
        dotenv.symlink_to(write("north.env"))
        os.lchown(dotenv, NOBODY, NOBODY)
    else:
        os.chown(write(dotenv, HERE), NOBODY, NOBODY)

    (fault,) = faults(Request(may_default=may_default, etc=etc))

    assert fault.startswith(f"{dotenv} belongs to another user")


@as_root
def test_a_dotenv_of_another_owner_is_refused_also_beside_a_source_in_the_environment(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLSTATSD_SOURCE_DSN", HERE)
    os.chown(write(tmp_path / ".env", OTHER, client_id="other"), NOBODY, NOBODY)

    (fault,) = faults(Request())
    assert "belongs to another user" in fault


@as_root
def test_a_dotenv_of_roots_is_read_by_others(write: Write, tmp_path: Path) -> None:
    write(tmp_path / ".env", HERE).chmod(0o644)
    tmp_path.chmod(0o755)
    codecs.lookup("utf-8-sig")  # nobody may be unable to read Python's own files
    os.seteuid(NOBODY)
    try:
        assert source(load_settings()) == HERE
    finally:
        os.seteuid(0)


def test_a_dotenv_of_ones_own_is_read(write: Write, tmp_path: Path) -> None:
    write(tmp_path / ".env", HERE)
    assert source(load_settings()) == HERE


@pytest.mark.usefixtures("no_rights")
@pytest.mark.parametrize(
    "asked", [{"instance": "north"}, {"env_file": "north.env"}, {"may_default": True}]
)
def test_a_file_that_may_not_be_read_asks_for_sudo_and_nothing_else_is_tried(
    etc: Path, asked: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "may_default" not in asked:
        monkeypatch.setenv("CALLSTATSD_LOG_LEVEL", "info")
    file = etc / ("callstatsd.env" if "may_default" in asked else "north.env")
    named = Path(etc / asked["env_file"]) if "env_file" in asked else None
    request = Request(named, asked.get("instance"), "may_default" in asked, etc)

    assert faults(request) == (f"{file} may not be read by this user: use sudo.",)


@pytest.mark.usefixtures("no_rights")
def test_a_dotenv_that_may_not_be_read_asks_for_sudo(tmp_path: Path) -> None:
    user = os.geteuid()
    os.seteuid(os.getuid())
    (tmp_path / ".env").write_text(f"CALLSTATSD_SOURCE_DSN={HERE}\n")
    (tmp_path / ".env").chmod(0o000)
    os.seteuid(user)

    (fault,) = faults(Request(may_default=True, etc=tmp_path / "none"))
    assert fault == ".env may not be read by this user: use sudo."


@pytest.mark.parametrize("asked", [{"instance": "south"}, {"env_file": "south.env"}])
def test_a_named_file_that_is_not_there_is_a_fault_and_nothing_else_is_tried(
    etc: Path, write: Write, tmp_path: Path, asked: dict[str, str]
) -> None:
    write("callstatsd.env")
    write(tmp_path / ".env", HERE)
    named = etc / asked["env_file"] if "env_file" in asked else None

    (fault,) = faults(Request(named, asked.get("instance"), may_default=True, etc=etc))

    assert fault.startswith(f"{etc}/south.env does not exist")


# Which place


def test_a_command_that_people_type_finds_the_installations_file(etc: Path, write: Write) -> None:
    write("callstatsd.env")
    settings = load_settings(Request(may_default=True, etc=etc))
    assert source(settings) == NORTH
    assert settings.command_option == ""


def test_without_any_file_the_source_is_missing(etc: Path) -> None:
    for request in (Request(), Request(may_default=True, etc=etc), Request(etc=etc / "none")):
        (fault,) = faults(request)
        assert fault.startswith("CALLSTATSD_SOURCE_DSN is missing")


TYPED = (
    ("status",),
    ("show", "1"),
    ("backfill", "--from", "2026-11-01", "--to", "2026-11-02", "--no-wait"),
    ("requeue", "--state", "rejected"),
    ("discard", "--state", "rejected"),
    ("pause",),
    ("resume",),
    ("migrate",),
    ("check",),
)
SERVICES = (("run",), ("migrate", "--reference-schema"), ("migrate", "--rebind"))


@pytest.mark.parametrize("arguments", TYPED, ids=" ".join)
def test_what_people_type_works_without_naming_a_file(
    callstatsd: Command, write: Write, arguments: tuple[str, ...]
) -> None:
    write("callstatsd.env", auth="none", endpoint_url="http://127.0.0.1:1/")
    code, printed = callstatsd(*arguments)
    assert code == 69, printed  # the settings are right, their database is away
    assert "is missing" not in printed


@pytest.mark.parametrize("arguments", SERVICES, ids=" ".join)
def test_a_service_and_what_changes_whose_ledger_it_is_must_name_its_file(
    callstatsd: Command, write: Write, arguments: tuple[str, ...], etc: Path
) -> None:
    write("callstatsd.env")
    code, printed = callstatsd(*arguments)
    assert code == 78
    assert "CALLSTATSD_SOURCE_DSN is missing" in printed


@pytest.mark.parametrize("arguments", SERVICES[1:], ids=" ".join)
def test_naming_the_file_is_enough(
    callstatsd: Command, write: Write, arguments: tuple[str, ...]
) -> None:
    write("callstatsd.env")
    code, printed = callstatsd(*arguments, "--instance", "callstatsd")
    assert code == 69, printed


@pytest.mark.parametrize("arguments", TYPED, ids=" ".join)
def test_under_systemd_the_unit_names_the_file(
    callstatsd: Command,
    write: Write,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
) -> None:
    write("callstatsd.env")
    monkeypatch.setenv("INVOCATION_ID", "0123456789abcdef0123456789abcdef")
    code, printed = callstatsd(*arguments)
    assert code == 78
    assert "CALLSTATSD_SOURCE_DSN is missing" in printed


# The options


@pytest.mark.parametrize(
    "arguments",
    [
        ("--instance", "north", "status"),
        ("status", "--instance", "north"),
        ("--instance=north", "status", "--instance", "north"),
        ("--env-file", "etc/north.env", "status"),
        ("status", "--env-file", "etc/north.env"),
        ("status", "--env-file", "etc/north.env", "--json"),
    ],
    ids=" ".join,
)
def test_the_options_come_before_the_command_or_after_it(
    callstatsd: Command, write: Write, arguments: tuple[str, ...]
) -> None:
    write("callstatsd.env", clients_id="wrong")
    write("north.env")
    code, printed = callstatsd(*arguments)
    assert code == 69, printed


@pytest.mark.parametrize(
    "arguments",
    [
        ("--instance", "north", "--env-file", "etc/north.env", "status"),
        ("--instance", "north", "status", "--env-file", "etc/north.env"),
        ("--instance", "north", "status", "--instance", "south"),
        ("status", "--env-file", "a.env", "--env-file", "b.env"),
        ("--instance", "../north", "status"),
        ("status", "--instance", "North"),
        ("status", "--instance", "-north"),
        ("status", "--instance", ""),
        ("status", "--instance", "n" * 33),
        ("status", "--instance", "north\n"),
        ("status", "--env-file", ""),
        ("--instance", "north", "demo"),
        ("demo", "--env-file", "etc/north.env"),
    ],
    ids=" ".join,
)
def test_two_files_a_bad_name_or_settings_for_the_demo_are_a_wrong_use(
    callstatsd: Command, write: Write, arguments: tuple[str, ...]
) -> None:
    write("north.env")
    write("south.env")
    code, printed = callstatsd(*arguments)
    assert code == 2, printed
    assert printed.startswith("Usage: ")


def test_every_command_has_the_options_in_its_help(callstatsd: Command) -> None:
    for arguments in ([], *([name[0]] for name in (*TYPED, *SERVICES))):
        code, printed = callstatsd(*arguments, "--help")
        assert code == 0
        assert "--env-file FILE" in printed
        assert "--instance NAME" in printed


# Instances


def test_an_instance_is_known_by_its_name(etc: Path, write: Write) -> None:
    settings = load_settings(Request(instance="north", etc=etc)) if write("north.env") else None
    assert settings is not None
    assert settings.instance == "north"
    assert settings.command_option == "--instance north"


def test_the_file_of_an_instance_is_that_instance_however_it_is_named(
    etc: Path, write: Write
) -> None:
    settings = load_settings(Request(env_file=write("north.env"), etc=etc))
    assert settings.command_option == "--instance north"


@pytest.mark.parametrize("name", ["it's.env", "trial/callstatsd.env", "callstatsd.conf"])
def test_a_command_for_another_file_names_that_file(
    etc: Path, write: Write, tmp_path: Path, name: str
) -> None:
    (tmp_path / "trial").mkdir()
    settings = load_settings(Request(env_file=write(tmp_path / name), etc=etc))
    assert settings.instance == ""
    file = str(tmp_path / name)
    assert settings.command_option.startswith("--env-file ")
    assert settings.command_option.replace("'\"'\"'", "'").strip("'").endswith(file.strip("'"))


def test_a_unit_may_name_its_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    """As callstatsd@north.service does, beside its EnvironmentFile."""
    monkeypatch.setenv("CALLSTATSD_SOURCE_DSN", NORTH)
    monkeypatch.setenv("CALLSTATSD_INSTANCE", "north")
    monkeypatch.setenv("INVOCATION_ID", "0123456789abcdef0123456789abcdef")
    assert load_settings().command_option == "--instance north"


def test_the_same_name_in_the_environment_is_no_mixing(
    etc: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("north.env")
    write("south.env")
    monkeypatch.setenv("CALLSTATSD_INSTANCE", "north")
    assert load_settings(Request(instance="north", etc=etc)).instance == "north"
    (fault,) = faults(Request(instance="south", etc=etc))
    assert fault.startswith("CALLSTATSD_INSTANCE is set in the environment")


def test_a_file_that_calls_itself_another_instance_is_refused(etc: Path, write: Write) -> None:
    write("north.env", instance="south")
    (fault,) = faults(Request(instance="north", etc=etc))
    assert fault.startswith(f"{etc}/north.env sets CALLSTATSD_INSTANCE to another name")


@pytest.mark.parametrize("name", ["North", "a b", "-n", "n" * 33, "no/rth", "x;reboot"])
def test_a_name_that_no_option_can_carry_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("CALLSTATSD_SOURCE_DSN", NORTH)
    monkeypatch.setenv("CALLSTATSD_INSTANCE", name)
    (fault,) = faults(Request())
    assert "is not a valid instance name" in fault


# Lines of a file


@pytest.mark.parametrize(
    "line",
    [
        "CALLSTATSD_PASSWORD=hunter2 # since May",
        "export CALLSTATSD_PASSWORD=hunter2",
        "CALLSTATSD_PASSWORD=hunt\\er2",
        "CALLSTATSD_PASSWORD=hunter2\\",
        "CALLSTATSD_PASSWORD='hunter2' ' '",
        "CALLSTATSD_PASSWORD='hunter2'x",
        "CALLSTATSD_PASSWORD='hunter\\\\2'",
        "CALLSTATSD_PASSWORD='hunter2",
        "CALLSTATSD_PASSWORD hunter2",
        "hunter2",
        "CALLSTATSD_PASSWORD=#hunter2 #",
        'CALLSTATSD_PASSWORD="hunter\\n2"',
        "CALLSTATSD_PASSWORD=hunter2\x07",
    ],
)
def test_a_line_that_others_read_otherwise_is_refused_without_its_value(
    etc: Path, write: Write, line: str
) -> None:
    file = write("north.env", client_id="x")
    with file.open("a") as stream:
        stream.write(f"# a comment\n\n{line}\n# the end\n")

    (fault, *more) = faults(Request(instance="north", etc=etc))

    assert fault.startswith(f"{file} line 5 ")
    assert not any("unt" in text for text in (fault, *more))


def test_a_file_is_read_as_systemd_reads_it(etc: Path) -> None:
    (etc / "north.env").write_text(
        "; a comment\n"
        "# CALLSTATSD_CLIENT_ID=no\n"
        f"CALLSTATSD_SOURCE_DSN={NORTH}\n"
        "  CALLSTATSD_CLIENT_ID = a b$HOME  \n"
        "CALLSTATSD_USERNAME='single \"$x\" #1'\n"
        'CALLSTATSD_PASSWORD="double \'q\' \\"$x\\" \\\\ "\n'
        "HTTPS_PROXY=http://proxy # of the machine\n"
        "CALLSTATSD_AUTH=password\n"
        "CALLSTATSD_AUTH=jwt_bearer"
    )
    settings = load_settings(Request(instance="north", etc=etc))

    assert settings.client_id == "a b$HOME"
    assert settings.username == 'single "$x" #1'
    assert settings.password == SecretStr("double 'q' \"$x\" \\ ")
    assert settings.auth == "jwt_bearer"


# Secrets beside a file

SECRET_FILES = {
    "client_secret": "client-secret",
    "password": "password",
    "security_token": "security-token",
    "bearer_token": "bearer-token",
    "api_token": "api-token",
    "ledger_dsn": "ledger-dsn",
}


@pytest.mark.parametrize(
    ("file", "prefix"),
    [("callstatsd.env", ""), ("north.env", "north."), ("trial.conf", "trial."), (".env", "")],
)
def test_each_secret_may_lie_beside_the_file(
    etc: Path, write: Write, file: str, prefix: str
) -> None:
    named = write(file)
    for name in SECRET_FILES.values():
        (etc / f"{prefix}{name}").write_text(f"{OTHER} \r\n")
        (etc / f"{'' if prefix else 'north.'}{name}").write_text("of another")
    key = etc / f"{prefix}private-key.pem"
    key.write_text("key")

    settings = load_settings(Request(env_file=named, etc=etc))

    for name in ("client_secret", "password", "security_token", "bearer_token", "api_token"):
        assert getattr(settings, name) == SecretStr(f"{OTHER} ")
    assert settings.private_key_file == key


def test_the_source_itself_may_lie_beside_the_file(etc: Path) -> None:
    (etc / "callstatsd.env").write_text("CALLSTATSD_CLIENT_ID=x\n")
    (etc / "source-dsn").write_text(f"{NORTH}\n")
    (etc / "ledger-dsn").write_text(f"{OTHER}\n")
    settings = load_settings(Request(may_default=True, etc=etc))
    assert source(settings) == NORTH
    assert settings.ledger_dsn == SecretStr(OTHER)


def test_a_secret_in_two_places_is_refused_unless_it_is_the_same(etc: Path, write: Write) -> None:
    write("north.env", client_secret="hunter2")
    (etc / "north.client-secret").write_text("hunter3\n")
    (fault,) = faults(Request(instance="north", etc=etc))
    assert fault == (
        f"CALLSTATSD_CLIENT_SECRET is in {etc}/north.env and, with another value, in "
        f"{etc}/north.client-secret: remove one of them."
    )
    (etc / "north.client-secret").write_text("hunter2\n")
    settings = load_settings(Request(instance="north", etc=etc))
    assert settings.client_secret == SecretStr("hunter2")


def test_credentials_have_the_same_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CALLSTATSD_SOURCE_DSN", HERE)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    for name in SECRET_FILES.values():
        (tmp_path / name).write_text(f"{OTHER}\n")
    (tmp_path / "private-key.pem").write_text("key")
    (tmp_path / "CALLSTATSD_USERNAME").write_text("as before\n")

    settings = load_settings()

    for name in SECRET_FILES:
        assert getattr(settings, name) == SecretStr(OTHER)
    assert settings.private_key_file == tmp_path / "private-key.pem"
    assert settings.username == "as before"
