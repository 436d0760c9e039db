"""The commands' names, and how a text names the instance that they are for."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

NAMES = (
    *("run", "migrate", "backfill", "status", "show", "check"),
    *("pause", "resume", "requeue", "discard"),
)
"""Commands that need settings."""

_COMMAND = re.compile(rf"\bcallstatsd (?:{'|'.join(NAMES)})\b(?! --(?:instance|env-file)\b)")


def addressed(text: str, option: str) -> str:
    """Put `--instance NAME` into every command of a text, so that it works as it is printed.

    `option` is empty where commands need none. A command that has the option already is left
    alone, so this may be applied twice.
    """
    return _COMMAND.sub(lambda found: f"{found[0]} {option}", text) if option else text


_OPTION: ContextVar[tuple[str, str]] = ContextVar("command_option", default=("", ""))
_NEVER_BY_DEFAULT = re.compile(
    r"\bcallstatsd (?:run|migrate(?= --(?:rebind|reference-schema)\b))"
    r"(?! --(?:instance|env-file)\b)"
)


@contextmanager
def addressing() -> Iterator[None]:
    """Begin a command line, of which nobody knows yet what its settings are."""
    token = _OPTION.set(("", ""))
    try:
        yield
    finally:
        _OPTION.reset(token)


def address_commands(option: str, default: str = "") -> None:
    """Let what this command line prints find the settings that it found.

    `default` is the option for commands that take a file only if it is named, where this one took
    it without being told.
    """
    _OPTION.set((option, default))


def printable(text: str) -> str:
    """Address the commands in a text as `address_commands` has said."""
    option, default = _OPTION.get()
    if default:
        text = _NEVER_BY_DEFAULT.sub(lambda found: f"{found[0]} {default}", text)
    return addressed(text, option)
