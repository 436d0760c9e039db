"""The Debian package: built here; installed, run, upgraded and purged in a chroot of its own."""

import asyncio
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from shutil import which

import pytest

from daemon import __version__
from daemon.cli.installation import UNITS, shipped
from daemon.demo import grants
from tests.support.call_centre import CallCentre
from tests.support.calls import plain_call, record_id
from tests.support.daemon_process import PATIENCE
from tests.support.proxy import proxied

PROJECT = Path(__file__).parents[2]
BUILD = PROJECT / "systemd" / "debian" / "build"
DEBIAN = PROJECT / "systemd" / "debian"
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}
CALLED = "var/log/systemctl"
SYSTEMCTL = f"""#!/bin/sh
echo "$*" >>/{CALLED}
case "$*" in
*list-units*)
    echo callstatsd.service loaded active running of the only client
    echo callstatsd@north.service loaded failed failed of another client
    ;;
*is-enabled*) echo enabled ;;
esac
"""
"""Stands in for a systemd that runs, and keeps what it is asked."""
STOP = "stop callstatsd.service callstatsd@*.service callstatsd-backfill@*.service"
OF_THE_SYSTEM = re.compile(r"(dev|proc|sys|run|tmp|var/(cache|lib/(apt|dpkg)|log))(/|$)")
"""Where apt, dpkg and the chroot itself write."""

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("debian")]


class Chroot:
    """A Debian that nothing else uses; it has the network of this machine, and no systemd."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def systemd(self) -> Iterator[None]:
        """As if systemd ran, until the block ends."""
        running = self.root / "run/systemd/system"
        running.mkdir(parents=True)
        program = self.root / "usr/bin/systemctl"
        program.write_text(SYSTEMCTL)
        program.chmod(0o755)
        try:
            yield
        finally:
            program.unlink()
            running.rmdir()

    async def start(self, *command: str) -> Process:
        return await asyncio.create_subprocess_exec(
            *("unshare", "--mount", "chroot", str(self.root), *command),
            env=ENVIRONMENT, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT,
        )  # fmt: skip

    async def run(self, *command: str, code: int = 0) -> str:
        process = await self.start(*command)
        output, _ = await process.communicate()
        assert process.returncode == code, output.decode()
        return output.decode()

    async def install(self, package: Path) -> str:
        shutil.copy(package, self.root / "tmp")
        return await self.run(
            "apt-get", "install", "-y", "--no-install-recommends", f"/tmp/{package.name}"
        )

    def files(self) -> set[str]:
        found = (str(path.relative_to(self.root)) for path in self.root.rglob("*"))
        return {name for name in found if not OF_THE_SYSTEM.match(name)}

    def asked(self) -> list[str]:
        """What systemctl was asked since the last time."""
        log = self.root / CALLED
        asked = log.read_text().splitlines()
        log.write_text("")
        return asked


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of this checkout, built where names of folders have blanks."""
    missing = [name for name in ("dpkg-deb", "dpkg-shlibdeps") if which(name) is None]
    if missing or not list(Path("/usr/lib/python3").glob("../python3.*/ensurepip/__init__.py")):
        pytest.skip("needs the packages dpkg-dev and python3-venv")
    folder, work = map(tmp_path_factory.mktemp, ("the package", "its work"))
    built_in = os.environ | {"TMPDIR": str(work)}
    done = subprocess.run([BUILD, folder], stdout=PIPE, text=True, check=True, env=built_in)
    built = Path(done.stdout.removesuffix("\n"))
    assert [built] == [*folder.iterdir()]
    return built


@pytest.fixture(scope="module")
def newer(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package in a second version: a page is gone, a unit and the example are longer."""
    folder = tmp_path_factory.mktemp("newer")
    tree, built = folder / "tree", folder / "newer.deb"
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(control.read_text().replace(f"{__version__}-1", f"{__version__}-2"))
    (tree / "usr/share/doc/callstatsd/docs/mysql.md").unlink()
    for name in ("systemd/system/callstatsd.service", "callstatsd/share/callstatsd/env.example"):
        with (tree / "usr/lib" / name).open("a") as file:
            file.write("# newer\n")
    subprocess.run(
        ["dpkg-deb", "--build", "--root-owner-group", "-Zgzip", "-z1", tree, built],
        stdout=sys.stderr,
        check=True,
    )
    return built


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Chroot:
    """This machine's release, with what the package depends on."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a chroot")
    if which("debootstrap") is None:
        pytest.skip("needs the package debootstrap")
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    mirrors = [line.split()[0] for line in listed if line.endswith(f" {release} main")]
    root = tmp_path_factory.mktemp("debian")
    root.chmod(0o755)
    command = ["debootstrap", "--variant=minbase", "--include=python3,ca-certificates", release]
    # In a namespace of its own, so that nothing stays mounted.
    made = subprocess.run(
        ["unshare", "--mount", *command, root, *mirrors[:1]],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"debootstrap: {made.stdout.strip().rpartition(chr(10))[2]}")
    return Chroot(root)


@pytest.mark.skipif(which("lintian") is None, reason="lintian is not on this machine")
def test_lintian_has_no_complaint(package: Path) -> None:
    done = subprocess.run(
        ["lintian", "--allow-root", "--fail-on", "error,warning", package],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@asynccontextmanager
async def running(chroot: Chroot, *command: str) -> AsyncIterator[Process]:
    """A process that is surely gone when the block ends."""
    process = await chroot.start(*command)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def deliver_by_hand(debian: Chroot, centre: CallCentre) -> None:
    """What an administrator does after the installation, with the daemon in the foreground."""
    etc = debian.root / "etc/callstatsd"
    async with proxied(centre.dsn) as (_, dsn):
        settings = {
            name: value
            for name, value in centre.settings(source_dsn=dsn).items()
            if name.startswith("CALLSTATSD_") and name != "CALLSTATSD_CLIENT_SECRET"
        }
        lines = (f"{name}='{value}'\n" for name, value in settings.items())
        (etc / "callstatsd.env").write_text("".join(lines))
        (etc / "client-secret").write_text(grants.CLIENT_SECRET)
        await debian.run("callstatsd", "migrate")
        checked = await debian.run("callstatsd", "check")
        assert {line.split()[0] for line in checked.splitlines()} == {"ok"}, checked
        await plain_call(centre.db, 1, record=record_id(1))
        file = "/etc/callstatsd/callstatsd.env"
        async with running(debian, "callstatsd", "run", "--env-file", file) as daemon:
            await centre.until(delivered=1)
            daemon.send_signal(signal.SIGTERM)
            async with asyncio.timeout(PATIENCE):
                await daemon.communicate()
            assert daemon.returncode == 0


async def test_the_package_installs_runs_upgrades_and_leaves_what_is_yours(
    package: Path, newer: Path, debian: Chroot, centre: CallCentre
) -> None:
    before = debian.files()
    etc = debian.root / "etc/callstatsd"

    said = await debian.install(package)
    assert "sudoedit /etc/callstatsd/callstatsd.env\n" in said
    assert f"callstatsd {__version__}\n" == await debian.run("callstatsd", "--version")
    assert (etc.stat().st_mode & 0o777, (etc / "callstatsd.env").stat().st_mode & 0o777) == (
        0o700,
        0o600,
    )
    for name in UNITS:
        unit = (debian.root / "usr/lib/systemd/system" / name).read_text()
        own = shipped(name).read_text("utf-8").replace("/opt/callstatsd/bin", "/usr/bin")
        assert unit == own
    await deliver_by_hand(debian, centre)
    mine = {file.name: file.read_text() for file in etc.iterdir()}

    # An upgrade restarts what is enabled, also after a failure.
    with debian.systemd():
        await debian.install(newer)
        asked = debian.asked()
        assert asked[0] == "daemon-reload"
        assert asked[-1] == "--quiet --system restart callstatsd.service callstatsd@north.service"
        assert {file.name: file.read_text() for file in etc.iterdir()} == mine
        assert not (debian.root / "usr/share/doc/callstatsd/docs/mysql.md").exists()

        await debian.run("apt-get", "remove", "-y", "callstatsd")
        disable = "disable --quiet callstatsd.service callstatsd@.service"
        assert debian.asked() == [STOP, disable, "daemon-reload"]

    said = await debian.run("apt-get", "purge", "-y", "callstatsd")
    assert "/etc/callstatsd has your settings and secrets, and stays" in said
    assert {file.name: file.read_text() for file in etc.iterdir()} == mine
    left = {"etc/callstatsd", *(f"etc/callstatsd/{name}" for name in mine)}
    assert debian.files() - before == left
    assert before <= debian.files()


async def test_a_purge_takes_settings_that_nobody_has_filled_in(
    package: Path, debian: Chroot
) -> None:
    shutil.rmtree(debian.root / "etc/callstatsd", ignore_errors=True)
    before = debian.files()
    await debian.install(package)
    assert (debian.root / "etc/callstatsd/callstatsd.env").is_file()
    await debian.run("apt-get", "purge", "-y", "callstatsd")
    assert debian.files() == before


async def test_a_service_without_a_package_is_installed_and_uninstalled(
    package: Path, debian: Chroot
) -> None:
    """As with pip: the program is there, its units are not, and systemd runs."""
    await debian.install(package)
    for name in UNITS:
        (debian.root / "usr/lib/systemd/system" / name).unlink()
    program = "/usr/lib/callstatsd/bin/callstatsd"

    with debian.systemd():
        said = await debian.run(program, "systemd", "install")
        assert "ran systemctl daemon-reload\n" in said
        assert debian.asked() == ["daemon-reload"]
        unit = debian.root / "etc/systemd/system/callstatsd.service"
        assert f"ExecStart={program} run\n" in unit.read_text()

        asked = [STOP, f"disable {' '.join(UNITS)}", "daemon-reload"]
        said = await debian.run(program, "systemd", "uninstall", "--dry-run")
        assert [line for line in said.splitlines() if "systemctl" in line] == [
            f"would run systemctl {arguments}" for arguments in asked
        ]
        assert debian.asked() == []

        await debian.run(program, "systemd", "uninstall", "--yes")
        assert debian.asked() == asked
        assert not unit.exists()

        (debian.root / "usr/bin/systemctl").write_text("#!/bin/sh\necho no bus >&2\nexit 1\n")
        said = await debian.run(program, "systemd", "install", code=1)
        assert "callstatsd: systemctl daemon-reload failed: no bus\n" in said
