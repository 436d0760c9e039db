"""Finds settings in one place, and never mixes two.

A file that the command line names; else environment, `.env` and systemd credentials; else, for
commands that people type, the file of the installation.
"""

import io
import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dotenv.parser import parse_stream

from daemon.settings import envfile

PREFIX = "CALLSTATSD_"
ETC = Path("/etc/callstatsd")
INSTANCE = re.compile("[a-z0-9][a-z0-9_-]{0,31}")
DEFAULT = "callstatsd"
KEY_FILE = "private-key.pem"
LOGGING = ("log_format", "log_level", "log_personal_data")

Clean = Callable[[str, str], str | None]
"""Returns the value of a field from its text; None if it means unset."""


@dataclass(frozen=True, slots=True)
class Request:
    """Where a command wants its settings from: a file, an instance's file, or neither.

    `may_default` allows the installation's file if nothing else sets a source.
    """

    env_file: Path | None = None
    instance: str | None = None
    may_default: bool = False
    etc: Path = ETC


@dataclass(slots=True)
class Found:
    """Texts by field name, also of unknown names, and errors of reading them.

    `origin` names the place for people; `file` is the file that was named or found by default, and
    `option` is what a command needs to find it again.
    `unread` means that something could not be read, so that texts may be missing; `by_default`
    that the file was not named.
    """

    origin: str
    file: Path | None = None
    option: str = ""
    texts: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    unread: bool = False
    by_default: bool = False

    def set(self, name: str, text: str, clean: Clean) -> None:
        """Add a variable's text, unless it is not ours, means unset, or is set already."""
        key = _field(name)
        value = clean(key, text)
        if key != name.lower() and value is not None:
            self.texts.setdefault(key, value)

    def read_file(self, path: Path, *, encoding: str = "utf-8") -> str | None:
        """Return a file's text; None if there is none. A file that cannot be read is a fault."""
        try:
            text = path.read_bytes().decode(encoding)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError:
            self.refuse(f"{path} may not be read by this user: use sudo.")
        except (OSError, ValueError):
            self.refuse(f"{path} cannot be read: make it a file of UTF-8 text.")
        else:
            return text
        return None

    def refuse(self, fault: str) -> None:
        """Add the fault that something could not be read."""
        self.faults.append(fault)
        self.unread = True


def read(
    request: Request, secrets: Iterable[str], clean: Clean, environment: Mapping[str, str]
) -> Found:
    """Read the settings' texts; `secrets` are the fields that may have a file of their own."""
    if request.env_file is not None:
        return _of_file(request.env_file, request, secrets, clean, environment)
    if request.instance is not None:
        file = request.etc / f"{request.instance}.env"
        return _of_file(file, request, secrets, clean, environment)
    here = _of_surroundings(secrets, clean, environment)
    default = request.etc / f"{DEFAULT}.env"
    if "source_dsn" in here.texts or here.unread:
        return here
    if not request.may_default:
        if default.exists() and "INVOCATION_ID" not in environment:
            here.faults.append(f"This command uses {default} only with --env-file {default}.")
        return here
    found = _of_file(default, request, secrets, clean, environment)
    if found.file is None:
        return here
    found.by_default = True
    # `.env` and credentials set something else than the installation's file, too.
    elsewhere = set(map(_variable, here.texts)) - {name.upper() for name in _names(environment)}
    for name in sorted(elsewhere - set(map(_variable, LOGGING))):
        found.faults.append(_mixed(name, "here, without CALLSTATSD_SOURCE_DSN", default))
    found.faults += here.faults
    return found


def _of_surroundings(secrets: Iterable[str], clean: Clean, environment: Mapping[str, str]) -> Found:
    """Read environment, `.env` and credentials; the first that sets a variable wins."""
    found = Found("the environment")
    for name, text in sorted(environment.items()):  # of two spellings the upper-case one counts
        found.set(name, text, clean)
    for name, text in reversed(_dotenv(Path(".env"), found)):  # of two lines the last one counts
        found.set(name, text, clean)
    directory = environment.get("CREDENTIALS_DIRECTORY")
    own = {secret.replace("_", "-"): secret for secret in secrets}
    for path in sorted(Path(directory).glob("*")) if directory else ():
        if path.name == KEY_FILE:
            found.set(_variable("private_key_file"), str(path), clean)
        elif path.name.upper().startswith(PREFIX) or path.name in own:
            secret = "" if path.is_dir() else found.read_file(path) or ""
            name = _variable(own[path.name]) if path.name in own else path.name
            found.set(name, secret.rstrip("\r\n"), clean)
    return found


def _dotenv(path: Path, found: Found) -> list[tuple[str, str]]:
    """Read `.env`, unless it belongs to another user, who could have put it there."""
    try:
        if not path.is_file():
            return []
        owners = {path.stat().st_uid, path.lstat().st_uid}
    except OSError:
        found.refuse(f"{path} may not be read by this user: use sudo.")
        return []
    if not owners <= {0, os.geteuid()}:
        found.refuse(
            f"{path.absolute()} belongs to another user: remove it, or if you trust it, name it "
            "with --env-file."
        )
        return []
    text = found.read_file(path, encoding="utf-8-sig")
    if text is None:
        return []
    found.origin += f" and {path.absolute()}"
    pairs = []
    for binding in parse_stream(io.StringIO(text)):
        if binding.error:
            line = binding.original.line
            found.faults.append(f".env line {line} is not a setting: use {PREFIX}NAME=VALUE.")
        pairs.append((binding.key or "", binding.value or ""))
    return pairs


def _of_file(
    file: Path,
    request: Request,
    secrets: Iterable[str],
    clean: Clean,
    environment: Mapping[str, str],
) -> Found:
    """Read a file and the secrets beside it; `file` is None in the result if there is none."""
    file = Path(os.path.abspath(file))  # noqa: PTH100 - `resolve` would follow links
    default = file == Path(os.path.abspath(request.etc / f"{DEFAULT}.env"))  # noqa: PTH100
    found = Found(str(file), file, "" if default else f"--env-file {shlex.quote(str(file))}")
    # LOG_* of the environment count in any case, also for the fault that ends the command.
    for name in _names(environment):
        if _field(name) in LOGGING:
            found.set(name, environment[name], clean)
    text = found.read_file(file)
    if text is None:
        if not found.unread:
            found.file = None
            found.refuse(f"{file} does not exist: write the settings into it, or name another.")
        return found
    for line, fault in envfile.faulty_lines(text, PREFIX).items():
        found.faults.append(f"{file} line {line} {fault}.")
    assigned = {each.name: each.value for each in envfile.read(text)[0]}
    for name, value in sorted(assigned.items()):
        found.set(name, value, clean)
    own_name = _instance_of(file, request.etc)
    _set_instance(found, own_name)
    if own_name:
        found.option = f"--instance {own_name}"
    for name in secrets:
        _set_beside(found, name, f"{name.replace('_', '-')}", clean)
    _set_beside(found, "private_key_file", KEY_FILE, clean)
    _refuse_mixed(found, environment, clean)
    return found


def _instance_of(file: Path, etc: Path) -> str:
    """Return the instance name of the file; empty if it has none."""
    ours = file.parent == Path(os.path.abspath(etc)) and file.suffix == ".env"  # noqa: PTH100
    named = ours and file.stem != DEFAULT and INSTANCE.fullmatch(file.stem)
    return file.stem if named else ""


def _set_instance(found: Found, name: str) -> None:
    if name and found.texts.setdefault("instance", name) != name:
        found.faults.append(
            f"{found.file} sets {PREFIX}INSTANCE to another name than its own: remove that line."
        )


def _set_beside(found: Found, field_name: str, file_name: str, clean: Clean) -> None:
    """Read a secret from the file beside the settings; two different ones are a fault."""
    assert found.file is not None  # noqa: S101 - only asked after it was read
    stem = found.file.stem
    prefix = "" if stem in {DEFAULT, ".env"} else f"{stem}."
    path = found.file.with_name(f"{prefix}{file_name}")
    if file_name == KEY_FILE:
        text = str(path) if path.is_file() else None
    else:
        text = found.read_file(path)
    value = None if text is None else clean(field_name, text.rstrip("\r\n"))
    if value is not None and found.texts.setdefault(field_name, value) != value:
        found.faults.append(
            f"{_variable(field_name)} is in {found.file} and, with another value, in {path}: "
            "remove one of them."
        )


def _refuse_mixed(found: Found, environment: Mapping[str, str], clean: Clean) -> None:
    """Reject other variables of the environment than LOG_* and the same INSTANCE."""
    assert found.file is not None  # noqa: S101 - only asked after it was read
    for name in _names(environment):
        key = _field(name)
        text = clean(key, environment[name])
        same = key == "instance" and text == found.texts.get(key)
        if key not in LOGGING and text is not None and not same:
            found.faults.append(_mixed(name, "in the environment", found.file))


def _mixed(name: str, where: str, file: Path) -> str:
    return f"{name} is set {where}, and the settings come from {file}: unset it."


def _names(environment: Mapping[str, str]) -> list[str]:
    return sorted(name for name in environment if name.upper().startswith(PREFIX))


def _variable(name: str) -> str:
    return f"{PREFIX}{name.upper()}"


def _field(variable: str) -> str:
    return variable.lower().removeprefix(PREFIX.lower())
