"""The program `callstatsd`: its commands, and how it ends. Results go to stdout, logs to stderr."""

import errno
import io
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import typer

from daemon import __version__, terminal
from daemon.cli import (
    acd_commands,
    commands,
    descriptors,
    dial_command,
    line_commands,
    list_command,
    show_command,
    status_command,
    systemd_commands,
)
from daemon.cli.faults import faults_of
from daemon.cli.options import invoked, with_settings_options
from daemon.errors import CallstatsdError
from daemon.settings.sources import ETC
from daemon.terminal import say

COMMANDS: tuple[tuple[str, Callable[..., None]], ...] = (
    ("run", commands.run),
    ("migrate", commands.migrate),
    ("status", status_command.status),
    ("lines", list_command.lines),
    ("show", show_command.show),
    ("backfill", commands.backfill),
    ("requeue", line_commands.requeue),
    ("discard", line_commands.discard),
    ("pause", line_commands.pause),
    ("resume", line_commands.resume),
    ("click-to-dial", dial_command.click_to_dial),
    ("check", commands.check),
    ("demo", commands.demo),
)

WRITE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""Errors of a file to which nothing more can be written."""
INTERRUPTED = 130
"""What typer returns after Ctrl-C; the command ends with 1."""


def main(etc: Path = ETC) -> None:
    """Run a command; errors of settings or surroundings are printed as sentences, not as a trace.

    `etc` is the folder of the installation's settings.
    """
    descriptors.prepare()
    terminal.prepare()
    with invoked(etc):
        sys.exit(_exit_code())


def _exit_code() -> int:
    try:
        # In standalone mode typer would print its errors itself, without regard to the width.
        code = app(standalone_mode=False)
    except CallstatsdError as error:
        for fault in faults_of(error):
            say(f"callstatsd: {fault}", err=True, hanging=2)
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except OSError as error:
        if error.errno not in WRITE_ERRORS:
            raise
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - to the end
        say(f"callstatsd: the output cannot be written: {error.strerror or error}", err=True)
        return 1
    except Exception as error:
        # Wrong usage, reported by the library with which typer reads arguments.
        if not hasattr(error, "show"):
            raise
        shown = io.StringIO()
        error.show(file=shown)
        say(shown.getvalue().rstrip("\n"), err=True)
        return int(getattr(error, "exit_code", 2))
    if code == INTERRUPTED:
        say("Interrupted.", err=True)
        return 1
    return code if isinstance(code, int) else 0


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"callstatsd {__version__}")
        raise typer.Exit


def _callstatsd(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Deliver the statistics of finished ACD calls from Postgres to Salesforce."""


def _acd() -> None:
    """Read and create events of the ACD over its REST server."""


def _systemd() -> None:
    """Install or uninstall the systemd service."""


def _add_group(
    application: typer.Typer,
    name: str,
    about: Callable[..., None],
    group_commands: Iterable[tuple[str, Callable[..., None]]],
) -> None:
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.callback()(about)
    for own_name, command in group_commands:
        group.command(own_name)(command)
    application.add_typer(group, name=name)


def _application() -> typer.Typer:
    application = typer.Typer(
        name="callstatsd",
        help="Deliver the statistics of finished ACD calls from Postgres to Salesforce.",
        epilog="Settings are CALLSTATSD_* variables, read from --env-file or --instance; else from "
        "the environment, .env and systemd credentials; else, except for run and demo, from "
        "/etc/callstatsd/callstatsd.env. Secrets may be in files beside FILE.env, such as "
        "FILE.client-secret.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    application.callback()(with_settings_options(_callstatsd))
    for name, command in COMMANDS:
        application.command(name)(with_settings_options(command))
    acd = ((name, with_settings_options(command)) for name, command in acd_commands.COMMANDS)
    _add_group(application, "acd", with_settings_options(_acd), acd)
    _add_group(application, "systemd", _systemd, systemd_commands.COMMANDS)
    return application


app = _application()
