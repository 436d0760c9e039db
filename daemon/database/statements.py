"""Named SQL statements, kept in a .sql file beside the module that runs them."""

import re
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load(path: str) -> dict[str, str]:
    """Return the statements of a .sql file by name; `path` is inside `daemon`."""
    text = files("daemon").joinpath(path).read_text(encoding="utf-8")
    _, *parts = _NAME.split(text)
    return {
        name: f"/* callstatsd {name} */\n{body.strip().rstrip(';')}"
        for name, body in zip(parts[::2], parts[1::2], strict=True)
    }
