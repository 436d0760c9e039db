"""The commands' names, and how a text names the instance that they are for. Pure."""

import re

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
