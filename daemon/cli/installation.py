"""The files of the systemd service: what to write or take back, and doing it. No process is run."""

import hashlib
import os
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from daemon.errors import ConfigurationError
from daemon.settings.sources import DEFAULT, ETC

UNITS = ("callstatsd.service", "callstatsd@.service", "callstatsd-backfill@.service")
EXAMPLE = "env.example"
UNITS_FOLDER = Path("/etc/systemd/system")
PACKAGED_UNITS = (Path("/usr/lib/systemd/system"), Path("/lib/systemd/system"))
"""Where packages of the distribution put units; those in `UNITS_FOLDER` would hide them."""
LINK = Path("/usr/local/bin/callstatsd")
DOCUMENTED_PROGRAM = "/opt/callstatsd/bin/callstatsd"
"""The program in the units as they are shipped."""
HIDDEN = tuple(map(Path, ("/home", "/root", "/run/user", "/tmp", "/var/tmp")))  # noqa: S108
"""What ProtectHome and PrivateTmp hide from the service."""

_HEADER = (
    "# Written by `callstatsd systemd install`; changes belong in a drop-in (systemctl edit). "
    "sha256 {digest}\n"
)
_WRITTEN = re.compile(re.escape(_HEADER).replace(r"\{digest\}", "([0-9a-f]{64})"))
_PLAIN_PATH = re.compile(r"/[\w./+-]+", re.ASCII)


class Act(Enum):
    """What is done with a path: the word for it, and the word before it is done."""

    CREATE = ("created", "would create")
    UPDATE = ("updated", "would update")
    REMOVE = ("removed", "would remove")
    KEEP = ("kept", "would keep")
    """Somebody else's, in a place that the service needs."""
    LEAVE = ("left", "would leave")


@dataclass(frozen=True, slots=True)
class Change:
    """One path and what is done with it; a file has text, a link its aim, a folder neither."""

    act: Act
    path: Path
    mode: int = 0o644
    content: str | Path | None = None
    reason: str = ""

    def sentence(self, *, dry_run: bool) -> str:
        """Return what was or would be done."""
        said = f"{self.act.value[dry_run]} {self.path}"
        if self.reason:
            return f"{said}: {self.reason}"
        if self.act is not Act.CREATE:
            return said
        aim = self.content
        return f"{said} -> {aim}" if isinstance(aim, Path) else f"{said} (mode {self.mode:04o})"


@dataclass(frozen=True, slots=True)
class Target:
    """Where the service is installed: all paths are below `root`, and units start `program`."""

    root: Path
    program: Path
    instance: str = ""

    def on_disk(self, path: Path) -> Path:
        """Return where a path of the target's system is for this one."""
        return self.root / path.relative_to("/")

    @property
    def settings(self) -> Path:
        """The file of settings, as the target's system names it."""
        return ETC / f"{self.instance or DEFAULT}.env"

    @property
    def has_packaged_units(self) -> bool:
        """Whether the distribution's package brought the units."""
        return any(self.on_disk(folder / UNITS[0]).is_file() for folder in PACKAGED_UNITS)

    @property
    def hiding_units(self) -> list[Path]:
        """Units that this program wrote, which systemd uses instead of packaged ones."""
        files = (self.on_disk(UNITS_FOLDER / name) for name in UNITS)
        return [file for file in files if is_as_written(_text(file) or "")]


def shipped(name: str) -> Path:
    """Return a file that comes with the program: from the checkout, or as it was installed."""
    checkout = Path(__file__).parents[2]
    if (checkout / "systemd" / UNITS[0]).is_file():
        return checkout / (".env.example" if name == EXAMPLE else f"systemd/{name}")
    return Path(sysconfig.get_path("data"), "share", "callstatsd", name)


def own_program() -> Path:
    """Return the path of the installed command that belongs to this interpreter."""
    return Path(sysconfig.get_path("scripts"), "callstatsd")


def own_files() -> tuple[Path, ...]:
    """Return what the service must be able to read of this program."""
    return (own_program(), Path(sys.executable).resolve(), Path(__file__).resolve())


def require_usable(
    target: Target, files: tuple[Path, ...], hidden: tuple[Path, ...] = HIDDEN
) -> None:
    """Raise `ConfigurationError` if the service could not run the program."""
    own = target.program.parents[1]
    faults = [fault for file in files for fault in _unusable(file, own, hidden)]
    if not target.program.is_file():
        faults.append(f"{target.program} does not exist: install callstatsd with pip first.")
    if faults:
        raise ConfigurationError(*dict.fromkeys(faults))


def _unusable(file: Path, own: Path, hidden: tuple[Path, ...]) -> Iterator[str]:
    for folder in hidden:
        if file.is_relative_to(folder):
            yield (
                f"The service cannot see {file}, because its unit hides {folder}: install "
                "callstatsd in /opt/callstatsd, with a Python that is elsewhere too."
            )
            return
    for path in (*reversed(file.parents), file):
        needed = 0o001 if path != file else 0o004
        if path.exists() and not path.stat().st_mode & needed:
            # All of the environment was installed alike; of what is not ours, only this.
            opened = f"-R a+rX {own}" if path.is_relative_to(own) else f"a+rx {path}"
            yield (
                f"The service runs as a user of its own, who may not read {path}: "
                f"use sudo chmod {opened}."
            )
            return


def unit_text(name: str, program: Path) -> str:
    """Return a unit for the program, without the header of a written one."""
    if not _PLAIN_PATH.fullmatch(str(program)):
        raise ConfigurationError(
            f"{program} cannot be named in a unit: install callstatsd in a folder whose name has "
            "letters, digits, and . _ + - only."
        )
    text = shipped(name).read_text(encoding="utf-8")
    return text.replace(DOCUMENTED_PROGRAM, str(program))


def with_header(text: str) -> str:
    """Return a unit with the line by which it is recognised as ours and unchanged."""
    return _HEADER.format(digest=_digest(text)) + text


def is_as_written(text: str) -> bool:
    """Return whether a unit was written by this program, of any version, and not changed since."""
    header = _WRITTEN.match(text)
    return header is not None and header[1] == _digest(text[header.end() :])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def plan_install(target: Target) -> list[Change]:
    """Return what is to be written: nothing twice, and nothing over what somebody else wrote."""
    changes: list[Change] = []
    if not target.has_packaged_units:
        units = ((target.on_disk(UNITS_FOLDER / name), name) for name in UNITS)
        changes += [change for file, name in units for change in _unit_changes(file, name, target)]
        changes += _link_changes(target)
    folder, settings = target.on_disk(ETC), target.on_disk(target.settings)
    if not _is_there(folder):
        changes.append(Change(Act.CREATE, folder, 0o700))
    if not _is_there(settings):
        example = shipped(EXAMPLE).read_text(encoding="utf-8")
        changes.append(Change(Act.CREATE, settings, 0o600, example))
    return changes


def _unit_changes(file: Path, name: str, target: Target) -> Iterator[Change]:
    plain = unit_text(name, target.program)
    wanted = with_header(plain)
    if not _is_there(file):
        yield Change(Act.CREATE, file, content=wanted)
        return
    found = _text(file)
    # Exactly what we would write, but without the line: copied by hand.
    if found is not None and (found == plain or (is_as_written(found) and found != wanted)):
        yield Change(Act.UPDATE, file, content=wanted)
    elif found != wanted:
        reason = (
            "it was changed or written by somebody else; move changes to a drop-in "
            f"(systemctl edit {name.removesuffix('.service')}), remove the file, and repeat"
        )
        yield Change(Act.KEEP, file, reason=reason)


def _link_changes(target: Target) -> Iterator[Change]:
    link = target.on_disk(LINK)
    if target.program == LINK or _aim(link) == target.program:
        return
    if _is_there(link):
        reason = f"it is not a link to {target.program}, which the service runs"
        yield Change(Act.KEEP, link, reason=reason)
    else:
        yield Change(Act.CREATE, link, content=target.program)


def plan_removal(target: Target) -> list[Change]:
    """Return what is to be removed: only what `plan_install` wrote and nobody changed."""
    changes = []
    for file in (target.on_disk(UNITS_FOLDER / name) for name in UNITS):
        if _is_there(file):
            ours = is_as_written(_text(file) or "")
            reason = "" if ours else "it was changed or written by somebody else"
            changes.append(Change(Act.REMOVE if ours else Act.KEEP, file, reason=reason))
    link, folder = target.on_disk(LINK), target.on_disk(ETC)
    if _aim(link) == target.program:
        changes.append(Change(Act.REMOVE, link, content=target.program))
    if folder.is_dir():
        example = shipped(EXAMPLE).read_text(encoding="utf-8")
        unchanged = {file for file in folder.glob("*.env") if _text(file) == example}
        changes += [Change(Act.REMOVE, file) for file in sorted(unchanged)]
        if not folder.is_symlink() and {*folder.iterdir()} <= unchanged:
            changes.append(Change(Act.REMOVE, folder))
        else:
            changes.append(Change(Act.LEAVE, folder, reason="settings and secrets"))
    return changes


def _is_there(path: Path) -> bool:
    """Return whether something has that name, also a link that leads nowhere.

    Raises `PermissionError`: to a user who may not look, /etc/callstatsd would seem empty.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def require_within(root: Path, changes: Iterable[Change]) -> None:
    """Raise `ConfigurationError` if a link below `root` leads to a folder that is not there."""
    for change in changes:
        folder = change.path.parent.resolve()
        if not folder.is_relative_to(root):
            raise ConfigurationError(
                f"{change.path} would be changed in {folder}, because a link below {root} leads "
                "there: make the link relative, or run the command inside that system (chroot)."
            )


def _text(file: Path) -> str | None:
    """Return a file's text; None for a link, as `systemctl mask` makes, or another kind."""
    if file.is_symlink() or not file.is_file():
        return None
    return file.read_bytes().decode(errors="replace")


def _aim(link: Path) -> Path | None:
    return link.readlink() if link.is_symlink() else None


def perform(change: Change) -> None:
    """Do it; a file appears or is replaced as a whole, whatever the umask is."""
    if change.act is Act.REMOVE:
        if change.path.is_dir() and not change.path.is_symlink():
            change.path.rmdir()
        else:
            change.path.unlink()
    elif change.act in {Act.CREATE, Act.UPDATE}:
        change.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        match change.content:
            case None:
                change.path.mkdir()
                change.path.chmod(change.mode)
            case Path() as aim:
                change.path.symlink_to(aim)
            case text:
                _write(change.path, text, change.mode)


def _write(path: Path, text: str, mode: int) -> None:
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123
        file.write(text.encode())
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    new.replace(path)
