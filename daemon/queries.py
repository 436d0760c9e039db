"""Named SQL statements, kept in a .sql file beside the room that runs them."""

import re
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load(file_name: str) -> dict[str, str]:
    """Return the statements of a .sql file in this package by name; comments stay inside them."""
    text = files("daemon").joinpath(file_name).read_text(encoding="utf-8")
    _, *parts = _NAME.split(text)
    return {
        name: f"/* callstatsd {name} */\n{body.strip().rstrip(';')}"
        for name, body in zip(parts[::2], parts[1::2], strict=True)
    }
