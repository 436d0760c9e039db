"""`callstatsd systemd install` and `uninstall`: the files of the service, and what to do next."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from daemon.cli import installation
from daemon.cli.installation import UNITS, Act, Change, Target
from daemon.cli.options import invocation, keep_instance
from daemon.command_text import address_commands
from daemon.errors import CallstatsdError, ConfigurationError, NotPermittedError
from daemon.settings.sources import ETC
from daemon.terminal import say, say_command

RUNNING = Path("/run/systemd/system")
"""Exists where systemd is the init system (sd_booted(3))."""

Root = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        file_okay=False,
        exists=True,
        resolve_path=True,
        help="Only change files, below this folder, such as the tree of an image; run nothing.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only print what would be done.")]


def install(
    _instance: Annotated[
        list[str] | None,
        typer.Option(
            "--instance",
            metavar="NAME",
            callback=keep_instance,
            help="Prepare the settings of callstatsd@NAME instead of those of callstatsd.",
        ),
    ] = None,
    root: Root = None,
    dry_run: DryRun = False,
) -> None:
    """Write units, a link to the program, and /etc/callstatsd.

    May be repeated: after an upgrade it updates units that nobody changed. Settings that exist are
    never touched. Exits with 1 if a unit or link is not ours or was changed; it is kept.

    Example: sudo /opt/callstatsd/bin/callstatsd systemd install
    """
    if invocation().env_file is not None:
        raise typer.BadParameter("the service reads /etc/callstatsd: use --instance or nothing")
    name = invocation().instance or ""
    address_commands(f"--instance {name}" if name else "")
    target = _target(root, name)
    with _errors_of_files():
        if root is None:
            _require_machine(dry_run=dry_run)
            if not target.has_packaged_units:
                installation.require_usable(target, installation.own_files())
        changes = installation.plan_install(target)
        kept = _carry_out(target, changes, dry_run=dry_run)
    units = [change for change in changes if change.path.name in UNITS and change.act != Act.KEEP]
    if units and root is None:
        _systemctl("daemon-reload", dry_run=dry_run)
    if target.has_packaged_units:
        _say_which_units(target)
    if not changes:
        say("Nothing to do: units and settings are in place.")
    elif target.on_disk(target.settings) in {change.path for change in changes}:
        _say_next_steps(target)
    elif any(change.act is Act.UPDATE for change in units):
        say("A service that runs uses them after a restart:")
        say_command(f"sudo systemctl restart {_service(target)}")
    if kept:
        raise typer.Exit(1)


def uninstall(
    root: Root = None,
    dry_run: DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Stop the service and remove what `install` wrote.

    Settings, secrets and the ledger stay. Exits with 1 if a unit is not ours or was changed; it is
    kept, and its service is not stopped.

    Example: sudo callstatsd systemd uninstall --dry-run
    """
    invocation().refuse_settings()
    target = _target(root)
    with _errors_of_files():
        if root is None:
            _require_machine(dry_run=dry_run)
        changes = installation.plan_removal(target)
        removed = [change for change in changes if change.act is Act.REMOVE]
        if removed and not (dry_run or yes):
            _confirm(changes)
        units = [change.path.name for change in removed if change.path.name in UNITS]
        if units and root is None:
            instances = (unit.replace("@.", "@*.") for unit in units)
            _systemctl("stop", *instances, dry_run=dry_run)
            # Of a template: all its instances.
            _systemctl("disable", *units, dry_run=dry_run)
        kept = _carry_out(target, changes, dry_run=dry_run)
    if units and root is None:
        _systemctl("daemon-reload", dry_run=dry_run)
    if not removed:
        say("Nothing to remove.")
    elif not dry_run:
        say(f"What is left: the ledger, and the program ({target.program}).")
    if kept:
        raise typer.Exit(1)


def _target(root: Path | None, instance: str = "") -> Target:
    program = installation.own_program()
    if root is not None and program.is_relative_to(root):
        program = Path("/", program.relative_to(root))
    return Target(root or Path("/"), program, instance)


def _require_machine(*, dry_run: bool) -> None:
    """Raise an error if this user may not install the service, or this machine has no systemd."""
    if not dry_run and os.geteuid() != 0:
        raise NotPermittedError("Units and settings belong to root: use sudo.")
    if not RUNNING.is_dir():
        raise ConfigurationError(
            "systemd does not run this machine. --root / only writes the files, for a system that "
            "is started later; docs/operate.md has containers."
        )


@contextmanager
def _errors_of_files() -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        message = f"{error.filename} may not be read or written by this user: use sudo."
        raise NotPermittedError(message) from error
    except OSError as error:
        message = f"{error.filename} cannot be read or written: {error.strerror}."
        raise CallstatsdError(message) from error


def _carry_out(target: Target, changes: list[Change], *, dry_run: bool) -> bool:
    """Make the changes and print each; return whether something was kept that is in the way."""
    installation.require_within(target.root, changes)
    for change in changes:
        if not dry_run:
            installation.perform(change)
        say(change.sentence(dry_run=dry_run), err=change.act is Act.KEEP, hanging=2)
    return any(change.act is Act.KEEP for change in changes)


def _confirm(changes: list[Change]) -> None:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise typer.BadParameter(
            "there is no terminal to ask on: add --yes to remove the service without a question, "
            "or --dry-run to see what that removes; nothing was changed"
        )
    for change in changes:
        say(change.sentence(dry_run=True), err=True, hanging=2)
    if not typer.confirm("Stop the service and remove this?", err=True):
        typer.echo("Nothing was changed.", err=True)
        raise typer.Exit(1)


def _systemctl(*arguments: str, dry_run: bool) -> None:
    command = f"systemctl {' '.join(arguments)}"
    if dry_run:
        say(f"would run {command}", hanging=2)
        return
    done = subprocess.run(  # noqa: S603 - names of our own units
        ["systemctl", *arguments],  # noqa: S607 - systemd's, found as root finds it
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip() or f"exit code {done.returncode}"
        raise CallstatsdError(f"{command} failed: {said}")
    say(f"ran {command}")


def _say_which_units(target: Target) -> None:
    if not target.hiding_units:
        say("The units are those of the installed package.")
    for file in target.hiding_units:
        say(
            f"{file} hides the unit of the installed package: remove it with `callstatsd systemd "
            "uninstall`, and enable the service again.",
            err=True,
            hanging=2,
        )


def _service(target: Target) -> str:
    return f"callstatsd@{target.instance}" if target.instance else "callstatsd"


def _say_next_steps(target: Target) -> None:
    secret = f"{target.instance}.client-secret" if target.instance else "client-secret"
    own = (
        " CALLSTATSD_CLIENTS_ID, CALLSTATSD_LEDGER_SCHEMA and CALLSTATSD_HTTP_LISTEN must differ "
        "from those of other instances."
    )
    say("\nNext steps:")
    say(f"1. Fill in the settings.{own if target.instance else ''}", hanging=3)
    say_command(f"sudoedit {target.settings}", indent=3)
    say("2. Write the client secret: paste it, then press Enter and Ctrl-D.", hanging=3)
    say_command(f"sudo install -m 0600 /dev/stdin {ETC / secret}", indent=3)
    say("3. Create the ledger, check everything, and start the service.", hanging=3)
    say_command("sudo callstatsd migrate", indent=3)
    say_command("sudo callstatsd check", indent=3)
    say_command(f"sudo systemctl enable --now {_service(target)}", indent=3)


COMMANDS: tuple[tuple[str, Callable[..., None]], ...] = (
    ("install", install),
    ("uninstall", uninstall),
)
