"""Names of the commands, and the option that a printed command needs to find its instance."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

NAMES = (
    *("run", "migrate", "backfill", "status", "show", "check"),
    *("pause", "resume", "requeue", "discard", "lines", "click-to-dial", "acd"),
)
"""Commands that need settings."""

_COMMAND = re.compile(rf"\bcallstatsd (?:{'|'.join(NAMES)})\b(?! --(?:instance|env-file)\b)")


def addressed(text: str, option: str) -> str:
    """Add `--instance NAME` to every command in a text, so that it works as printed.

    `option` is empty if commands need none. A command that has the option is not changed, so this
    may be applied twice.
    """
    return _COMMAND.sub(lambda found: f"{found[0]} {option}", text) if option else text


_OPTION: ContextVar[tuple[str, str]] = ContextVar("command_option", default=("", ""))
_NEVER_BY_DEFAULT = re.compile(
    r"\bcallstatsd (?:run|migrate(?= --(?:rebind|reference-schema)\b))"
    r"(?! --(?:instance|env-file)\b)"
)


@contextmanager
def addressing() -> Iterator[None]:
    """Begin a command whose settings are not known yet."""
    token = _OPTION.set(("", ""))
    try:
        yield
    finally:
        _OPTION.reset(token)


def address_commands(option: str, default: str = "") -> None:
    """Set the option that printed commands need to find the same settings.

    `default` is the option for commands that use a file only if it is named, if this one used it
    by default.
    """
    _OPTION.set((option, default))


def printable(text: str) -> str:
    """Add the options set by `address_commands` to the commands in a text."""
    option, default = _OPTION.get()
    if default:
        text = _NEVER_BY_DEFAULT.sub(lambda found: f"{found[0]} {default}", text)
    return addressed(text, option)
