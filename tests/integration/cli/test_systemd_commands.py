"""`callstatsd systemd`, below a folder of its own: what it writes, what it leaves, what it says."""

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.cli.installation import UNITS, own_program, shipped, unit_text, with_header
from daemon.cli.systemd_commands import RUNNING
from tests.support.terminals import terminal
from tests.support.typed import Typed, typed

NOBODY = 65534
EXAMPLE = shipped("env.example").read_text(encoding="utf-8")

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


class System:
    """The root of a machine, and the commands as they are typed there."""

    def __init__(self, root: Path, type_command: Typed) -> None:
        self.root = root
        self._type = type_command
        self.units = root / "etc/systemd/system"
        self.etc = root / "etc/callstatsd"
        self.link = root / "usr/local/bin/callstatsd"

    def run(self, *arguments: str) -> tuple[int, str, str]:
        return self._type(*arguments, "--root", str(self.root))

    def install(self, *arguments: str) -> str:
        code, output, errors = self.run("systemd", "install", *arguments)
        assert (code, errors) == (0, ""), output + errors
        return output

    def files(self) -> dict[str, tuple[int, str]]:
        """Mode and content of everything below the root; of a link, where it leads."""
        return {
            str(path.relative_to(self.root)): (
                stat.S_IMODE(path.lstat().st_mode),
                str(path.readlink()) if path.is_symlink()
                else "" if path.is_dir() else path.read_text(),
            )
            for path in sorted(self.root.rglob("*"))
        }  # fmt: skip


@pytest.fixture
def type_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Typed:
    return typed(monkeypatch, capsys, tmp_path / "no such folder")


@pytest.fixture
def system(type_command: Typed, tmp_path: Path) -> System:
    root = tmp_path / "root"
    root.mkdir()
    return System(root, type_command)


def written(name: str) -> str:
    return with_header(unit_text(name, own_program()))


def test_install_writes_units_link_and_settings_and_says_what_comes_next(
    system: System,
) -> None:
    output = system.install()

    files = system.files()
    for name in UNITS:
        assert files[f"etc/systemd/system/{name}"] == (0o644, written(name))
        assert f"ExecStart={own_program()} run\n" in files["etc/systemd/system/" + UNITS[0]][1]
    assert files["usr/local/bin/callstatsd"][1] == str(own_program())
    assert files["etc/callstatsd"] == (0o700, "")
    assert files["etc/callstatsd/callstatsd.env"] == (0o600, EXAMPLE)

    said, _, steps = output.partition("\nNext steps:\n")
    assert said.splitlines() == [
        *(f"created {system.units / name} (mode 0644)" for name in UNITS),
        f"created {system.link} -> {own_program()}",
        f"created {system.etc} (mode 0700)",
        f"created {system.etc}/callstatsd.env (mode 0600)",
    ]
    assert [line.strip() for line in steps.splitlines() if not line[:1].isdigit()] == [
        "sudoedit /etc/callstatsd/callstatsd.env",
        "sudo install -m 0600 /dev/stdin /etc/callstatsd/client-secret",
        "sudo callstatsd migrate",
        "sudo callstatsd check",
        "sudo systemctl enable --now callstatsd",
    ]

    assert system.install() == "Nothing to do: units and settings are in place.\n"
    assert system.files() == files


def test_the_umask_of_root_changes_no_mode_of_a_unit_or_of_settings(system: System) -> None:
    before = os.umask(0o077)
    try:
        system.install()
    finally:
        os.umask(before)
    modes = {name: mode for name, (mode, _) in system.files().items()}
    assert modes["etc/systemd/system/callstatsd.service"] == 0o644
    assert modes["etc/callstatsd"] == 0o700
    assert modes["etc/callstatsd/callstatsd.env"] == 0o600


@pytest.mark.parametrize(
    "arguments",
    [
        ("systemd", "install", "--instance", "north"),
        ("--instance", "north", "systemd", "install"),
    ],
    ids=["after", "before"],
)
def test_an_instance_has_settings_of_its_own_and_its_steps_name_it(
    system: System, arguments: tuple[str, ...]
) -> None:
    code, output, _ = system.run(*arguments)
    assert code == 0
    assert {file.name for file in system.etc.iterdir()} == {"north.env"}
    for step in (
        "sudoedit /etc/callstatsd/north.env",
        "sudo install -m 0600 /dev/stdin /etc/callstatsd/north.client-secret",
        "sudo callstatsd migrate --instance north",
        "sudo callstatsd check --instance north",
        "sudo systemctl enable --now callstatsd@north",
    ):
        assert f"   {step}\n" in output
    assert "CALLSTATSD_LEDGER_SCHEMA" in output


@pytest.mark.parametrize(
    "arguments",
    [
        ("systemd", "install", "--instance", "../north"),
        ("--env-file", "/etc/callstatsd/north.env", "systemd", "install"),
        ("--instance", "north", "systemd", "uninstall"),
    ],
    ids=["name", "file", "uninstall"],
)
def test_what_cannot_be_meant_is_wrong_usage(system: System, arguments: tuple[str, ...]) -> None:
    code, output, _ = system.run(*arguments)
    assert (code, output) == (2, "")
    assert system.files() == {}


def test_a_dry_run_says_what_would_be_done_and_changes_nothing(system: System) -> None:
    would = system.install("--dry-run")
    assert system.files() == {}
    assert would.replace("would create", "created") == system.install()

    files = system.files()
    code, would, _ = system.run("systemd", "uninstall", "--dry-run")
    assert code == 0
    assert system.files() == files
    code, done, _ = system.run("systemd", "uninstall", "--yes")
    assert code == 0
    assert done.startswith(would.replace("would remove", "removed"))


def test_an_upgrade_updates_units_that_nobody_changed_and_nothing_else(
    system: System,
) -> None:
    system.install()
    template, backfill = (system.units / name for name in UNITS[1:])
    # One from an older version, one copied from a checkout, settings with a password.
    (system.units / UNITS[0]).write_text(with_header("[Service]\nExecStart=/old run\n"))
    template.write_text(unit_text(UNITS[1], own_program()))
    (system.etc / "callstatsd.env").write_text("CALLSTATSD_SOURCE_DSN=mine\n")
    (system.etc / "client-secret").write_text("secret")
    untouched = backfill.stat().st_mtime_ns

    output = system.install()

    assert output.splitlines() == [
        f"updated {system.units / UNITS[0]}",
        f"updated {template}",
        "A service that runs uses them after a restart:",
        "  sudo systemctl restart callstatsd",
    ]
    assert [(system.units / name).read_text() for name in UNITS] == [*map(written, UNITS)]
    assert backfill.stat().st_mtime_ns == untouched
    assert (system.etc / "callstatsd.env").read_text() == "CALLSTATSD_SOURCE_DSN=mine\n"


def test_what_somebody_else_wrote_is_kept_and_the_command_fails(system: System) -> None:
    system.install()
    service, template, backfill = (system.units / name for name in UNITS)
    service.write_text(service.read_text().replace("RestartSec=5", "RestartSec=50"))
    template.unlink()
    template.symlink_to("/dev/null")  # systemctl mask
    backfill.unlink()
    system.link.unlink()
    system.link.write_text("another program")
    before = system.files()

    code, output, errors = system.run("systemd", "install")

    assert code == 1
    assert output == f"created {backfill} (mode 0644)\n"
    assert [line.split(": ")[0] for line in errors.splitlines()] == [
        f"kept {path}" for path in (service, template, system.link)
    ]
    assert "systemctl edit callstatsd)" in errors
    new = system.files()
    assert {**before, f"etc/systemd/system/{backfill.name}": (0o644, written(UNITS[2]))} == new

    code, _, errors = system.run("systemd", "uninstall", "--yes")
    assert code == 1
    assert f"kept {service}" in errors
    assert {service, template} == {*system.units.iterdir()}
    assert system.link.read_text() == "another program"


def test_settings_that_lead_elsewhere_are_not_written_over(system: System) -> None:
    system.etc.mkdir(parents=True)
    (system.etc / "callstatsd.env").symlink_to("not-yet-there")
    assert "callstatsd.env" not in system.install()
    assert (system.etc / "callstatsd.env").is_symlink()


def test_units_of_a_package_are_used_and_not_hidden(system: System) -> None:
    packaged = system.root / "usr/lib/systemd/system" / UNITS[0]
    packaged.parent.mkdir(parents=True)
    packaged.write_text("[Service]\n")
    output = system.install("--instance", "north")
    assert "The units are those of the installed package." in output
    assert {path.name for path in system.root.rglob("*") if path.is_file()} == {
        UNITS[0],
        "north.env",
    }


def test_units_that_hide_those_of_a_package_are_named(system: System) -> None:
    """As after an installation with pip; one that somebody has written is meant so."""
    system.install()
    (system.units / UNITS[2]).write_text("[Service]\n")
    packaged = system.root / "usr/lib/systemd/system" / UNITS[0]
    packaged.parent.mkdir(parents=True)
    packaged.write_text("[Service]\n")
    code, output, errors = system.run("systemd", "install")
    assert (code, output) == (0, "Nothing to do: units and settings are in place.\n")
    assert [line.split(" hides ")[0] for line in errors.splitlines()] == [
        str(system.units / name) for name in UNITS[:2]
    ]


@pytest.mark.parametrize("arguments", [("install",), ("uninstall", "--yes")], ids=lambda a: a[0])
def test_a_link_that_leads_out_of_the_root_is_not_followed(
    system: System, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """As absolute ones in an image do: what they lead to is of this machine."""
    outside = tmp_path / "units"
    outside.mkdir()
    for name in UNITS:
        (outside / name).write_text(with_header("[Service]\n"))
    before = {file.name: file.read_text() for file in outside.iterdir()}
    system.units.parent.mkdir(parents=True)
    system.units.symlink_to(outside)
    code, output, errors = system.run("systemd", *arguments)
    assert (code, output) == (78, "")
    assert f"would be changed in {outside}" in errors
    assert {file.name: file.read_text() for file in outside.iterdir()} == before
    assert not system.etc.exists()


def test_uninstall_leaves_settings_secrets_and_drop_ins(system: System) -> None:
    system.install()
    system.install("--instance", "north")
    drop_in = system.units / "callstatsd.service.d/override.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nLoadCredential=\n")
    (system.etc / "north.env").write_text("CALLSTATSD_SOURCE_DSN=mine\n")
    (system.etc / "north.client-secret").write_text("secret")

    code, output, _ = system.run("systemd", "uninstall", "--yes")

    assert code == 0
    assert f"removed {system.etc}/callstatsd.env\n" in output
    assert f"left {system.etc}: settings and secrets\n" in output
    assert [name for name in system.files() if (system.root / name).is_file()] == [
        "etc/callstatsd/north.client-secret",
        "etc/callstatsd/north.env",
        "etc/systemd/system/callstatsd.service.d/override.conf",
    ]
    code, output, _ = system.run("systemd", "uninstall", "--yes")
    assert code == 0
    assert output.endswith("Nothing to remove.\n")


async def test_uninstall_asks_first_and_without_a_terminal_does_nothing(system: System) -> None:
    system.install()
    files = system.files()
    code, output, errors = system.run("systemd", "uninstall")
    assert (code, output) == (2, "")
    assert "--yes" in errors
    assert system.files() == files

    arguments = ("systemd", "uninstall", "--root", str(system.root))
    for answer, code in ((b"n\r", 1), (b"y\r", 0)):
        async with terminal(
            *arguments, environment=dict(os.environ), folder=system.root.parent, columns=200
        ) as shown:
            await shown.shows("Stop the service and remove this? [y/N]: ")
            assert f"would remove {system.units / UNITS[0]}\n" in shown.text
            assert system.files() == files
            shown.press(answer)
            assert await shown.ended() == code
            assert ("Nothing was changed." in shown.text) == (code == 1)
    assert not any((system.root / name).is_file() for name in system.files())


@pytest.fixture
def nobody(system: System) -> Iterator[None]:
    """This process without rights, on a system whose folders it may read."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        system.root = Path(folder)
        system.install()
        os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)


@as_root
@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize("arguments", [("install",), ("uninstall", "--yes")], ids=lambda a: a[0])
def test_who_has_no_rights_is_told_to_use_sudo(
    system: System, type_command: Typed, arguments: tuple[str, ...]
) -> None:
    for run in (type_command, system.run):
        code, output, errors = run("systemd", *arguments)
        assert (code, output) == (77, "")
        assert errors.startswith("callstatsd: ")
        assert errors.endswith(": use sudo.\n")


@as_root
@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize("name", ["install", "uninstall"])
def test_a_dry_run_of_who_may_not_look_does_not_guess(system: System, name: str) -> None:
    code, output, errors = system.run("systemd", name, "--dry-run")
    assert (code, output) == (77, "")
    assert errors.endswith(": use sudo.\n")


@pytest.mark.skipif(RUNNING.is_dir() or os.geteuid() != 0, reason="would change this machine")
@pytest.mark.parametrize("name", ["install", "uninstall"])
def test_a_machine_without_systemd_is_refused(type_command: Typed, name: str) -> None:
    code, output, errors = type_command("systemd", name)
    assert (code, output) == (78, "")
    assert errors.startswith("callstatsd: systemd does not run this machine. ")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing")
def test_systemd_finds_no_fault_in_what_is_written(system: System) -> None:
    system.install()
    units = [system.units / name for name in UNITS]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout + done.stderr == ""


@pytest.mark.skipif(shutil.which("systemctl") is None, reason="systemctl is missing")
def test_disabling_the_template_takes_the_links_of_all_its_instances(system: System) -> None:
    """What uninstalling asks of systemctl, which needs no running systemd for it."""
    system.install()

    def systemctl(*arguments: str) -> None:
        called = ["systemctl", f"--root={system.root}", *arguments]
        subprocess.run(called, capture_output=True, check=True)

    wanted = system.units / "multi-user.target.wants"
    systemctl("enable", "callstatsd", "callstatsd@north", "callstatsd@south")
    assert len([*wanted.iterdir()]) == 3
    systemctl("disable", *UNITS)
    assert not wanted.exists() or not [*wanted.iterdir()]
