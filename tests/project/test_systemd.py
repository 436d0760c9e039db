"""The unit files, judged by systemd's own tools; and the steps that install them."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
FOLDER = PROJECT / "systemd"
BASE = FOLDER / "callstatsd.service"
PER_CLIENT = FOLDER / "callstatsd@.service"
BACKFILL = FOLDER / "callstatsd-backfill@.service"
PROGRAM = "/opt/callstatsd/bin/callstatsd"

each_unit = pytest.mark.parametrize(
    "unit", [BASE, PER_CLIENT, BACKFILL], ids=lambda unit: str(unit.stem)
)
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on this machine"
)


def analyze(*arguments: str) -> str:
    done = subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def text(unit: Path) -> str:
    return unit.read_text(encoding="utf-8")


def value(unit: Path, name: str) -> str:
    """The one assignment of a name."""
    (found,) = re.findall(rf"^{name}=(.*)$", text(unit), re.MULTILINE)
    return str(found)


def verified(folder: Path, unit: Path, more: str = "") -> str:
    """What systemd finds wrong with a unit, with further lines in its [Service]."""
    copy = folder / unit.name
    here = text(unit).replace(PROGRAM, "/bin/true").replace("[Install]", f"{more}\n[Install]")
    copy.write_text(here, encoding="utf-8")
    return analyze("verify", "--man=no", str(copy))


@needs_systemd
@each_unit
def test_a_unit_is_without_a_fault(unit: Path, tmp_path: Path) -> None:
    assert verified(tmp_path, unit) == ""


@needs_systemd
@each_unit
def test_a_unit_is_hardened(unit: Path) -> None:
    told = analyze("security", "--offline=true", str(unit))
    score = re.search(r"Overall exposure level for \S+: (\d+\.\d)", told)
    assert score, told
    assert float(score[1]) <= 1.5


def test_all_units_are_hardened_alike() -> None:
    def hardening(unit: Path) -> str:
        return text(unit).split("KillMode=mixed\n")[1].split("[Install]")[0].strip()

    assert hardening(BASE) == hardening(PER_CLIENT) == hardening(BACKFILL)
    assert "DynamicUser=yes" in hardening(BASE)


def test_the_unit_of_a_client_is_the_same_but_for_its_files() -> None:
    def without_comment(unit: Path) -> str:
        return text(unit)[text(unit).index("[Unit]") :]

    assert without_comment(PER_CLIENT) == (
        without_comment(BASE)
        .replace("to Salesforce", "to Salesforce (%i)")
        .replace(
            "/etc/callstatsd/callstatsd.env",
            "/etc/callstatsd/%i.env\nEnvironment=CALLSTATSD_INSTANCE=%i",
        )
        .replace("/etc/callstatsd/client-secret", "/etc/callstatsd/%i.client-secret")
    )


@each_unit
def test_units_and_program_call_the_secret_by_the_same_name(unit: Path) -> None:
    name, _, file = value(unit, "LoadCredential").partition(":")
    settings = Path(value(unit, "EnvironmentFile"))
    prefix = "" if settings.stem == "callstatsd" else f"{settings.stem}."
    assert name == "client-secret"
    assert Path(file) == settings.with_name(f"{prefix}{name}")


@each_unit
def test_a_unit_stops_later_than_the_longest_drain(unit: Path) -> None:
    assert int(value(unit, "TimeoutStopSec")) > 60 + 5 + 5


def test_the_daemon_is_started_again_unless_its_settings_are_wrong() -> None:
    assert value(BASE, "Type") == "notify"
    assert value(BASE, "Restart") == "on-failure"
    assert value(BASE, "RestartPreventExitStatus") == "78"
    assert value(BASE, "WatchdogSec") == "10min"


@pytest.mark.parametrize("unit", [BASE, PER_CLIENT], ids=lambda unit: str(unit.stem))
@pytest.mark.parametrize(("code", "starts"), [(0, True), (78, True), (69, False), (1, False)])
def test_only_the_daemon_itself_says_that_its_settings_are_wrong(
    tmp_path: Path, unit: Path, code: int, starts: bool
) -> None:
    """RestartPreventExitStatus is about the main process: 78 of `migrate` would be repeated."""
    program = tmp_path / "callstatsd"
    program.write_text(f"#!/bin/sh\n[ $1 = migrate ] || exit 99\nexit {code}\n")
    program.chmod(0o755)
    line = value(unit, "ExecStartPre").replace(PROGRAM, str(program)).replace("$$", "$")
    done = subprocess.run(shlex.split(line), check=False)
    assert (done.returncode == 0) == starts


@pytest.mark.parametrize(
    ("instance", "since", "until"),
    [
        ("2026-11-01_2026-11-08", "2026-11-01", "2026-11-08"),
        ("2026-11-01T08:00_2026-11-01T12:00:30", "2026-11-01T08:00", "2026-11-01T12:00:30"),
    ],
)
def test_the_name_of_a_backfill_is_its_window(
    tmp_path: Path, instance: str, since: str, until: str
) -> None:
    """The very line of the unit, with specifiers as systemd resolves them, and a fake program."""
    program = tmp_path / "callstatsd"
    program.write_text('#!/bin/sh\nprintf "%s|" "$@"\n', encoding="ascii")
    program.chmod(0o755)
    resolved = {"%i": instance, "%%": "%", "$$": "$"}
    line = re.sub(r"%[i%]|\$\$", lambda found: resolved[found[0]], value(BACKFILL, "ExecStart"))
    assert not re.search(r"\$\{?[A-Z]", line)
    words = shlex.split(line.replace(PROGRAM, str(program)))
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == f"backfill|--from|{since}|--to|{until}|"


INSTALL = (PROJECT / "docs" / "install.md").read_text(encoding="utf-8").split("\n## Sizing")[0]


def test_no_page_needs_an_incantation_for_the_settings() -> None:
    for page in (PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")):
        assert "set -a" not in text(page)
        assert not re.search(r"\. /etc/callstatsd", text(page))


@needs_systemd
def test_what_the_install_page_adds_to_a_unit_for_another_login_is_without_a_fault(
    tmp_path: Path,
) -> None:
    blocks = [
        block.partition("\n")[2] for block in re.findall(r"```ini\n(.*?)```", INSTALL, re.DOTALL)
    ]
    assert blocks
    for block in blocks:
        assert verified(tmp_path, BASE, block) == ""
        assert verified(tmp_path, PER_CLIENT, block) == ""
