"""`--env-file` and `--instance`: options of every command, before its name or after it."""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from daemon.command_text import addressing
from daemon.settings.log_settings import LogSettings
from daemon.settings.sources import ETC, INSTANCE, Request


@dataclass(slots=True)
class Invocation:
    """The settings options of the command line, and the log settings found with them."""

    etc: Path = ETC
    env_file: str | None = None
    instance: str | None = None
    log: LogSettings = field(default_factory=LogSettings)

    def request(self, *, may_default: bool) -> Request:
        """Return which settings to read; raises BadParameter if both options are given."""
        if self.env_file is not None and self.instance is not None:
            raise typer.BadParameter("give --env-file or --instance, not both")
        file = None if self.env_file is None else Path(self.env_file)
        return Request(file, self.instance, may_default, self.etc)

    def refuse_settings(self) -> None:
        """Raise BadParameter if a command that needs no settings is given some."""
        if self.env_file is not None or self.instance is not None:
            raise typer.BadParameter("this command needs no settings: remove the option")


_CURRENT: ContextVar[Invocation] = ContextVar("invocation")


def invocation() -> Invocation:
    """Return the options of the running command; defaults outside of one."""
    return _CURRENT.get(Invocation())


@contextmanager
def invoked(etc: Path) -> Iterator[Invocation]:
    """Begin a command; files of instances are looked for in `etc`."""
    token = _CURRENT.set(Invocation(etc))
    try:
        with addressing():
            yield _CURRENT.get()
    finally:
        _CURRENT.reset(token)


def _keep_env_file(values: list[str] | None) -> list[str]:
    for value in values or ():
        if value in {"", "."}:
            raise typer.BadParameter("must be the path of a file")
        invocation().env_file = _only(value, invocation().env_file)
    return values or []


def keep_instance(values: list[str] | None) -> list[str]:
    """Check and keep the name of an instance; for options whose help is their own."""
    for value in values or ():
        if not INSTANCE.fullmatch(value):
            raise typer.BadParameter(
                "must be up to 32 of a to z, 0 to 9, - and _, beginning with a letter or digit"
            )
        invocation().instance = _only(value, invocation().instance)
    return values or []


def _only(value: str, before: str | None) -> str:
    if before not in {None, value}:
        raise typer.BadParameter(f"is given twice: {before} and {value}")
    return value


def _declared(
    env_file: Annotated[
        list[str] | None,
        typer.Option(
            "--env-file",
            metavar="FILE",
            callback=_keep_env_file,
            help="Read all settings from this file; secrets also from files beside it.",
        ),
    ] = None,
    instance: Annotated[
        list[str] | None,
        typer.Option(
            "--instance",
            metavar="NAME",
            callback=keep_instance,
            help="Read all settings from /etc/callstatsd/NAME.env.",
        ),
    ] = None,
) -> None:
    """Declare the options; their callbacks keep the values."""


def with_settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return the command with both options added; the command itself does not receive them."""
    added = inspect.signature(_declared).parameters

    @functools.wraps(command)
    def wrapped(**arguments: Any) -> Any:
        return command(**{k: v for k, v in arguments.items() if k not in added})

    own = inspect.signature(command)
    parameters = [*own.parameters.values(), *added.values()]
    wrapped.__dict__["__signature__"] = own.replace(parameters=parameters)
    wrapped.__annotations__ = {**command.__annotations__, **_declared.__annotations__}
    del wrapped.__dict__["__wrapped__"]
    return wrapped
