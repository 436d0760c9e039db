"""Writes what the documentation takes from the program: `python -m tests.project.generate`.

One source for each: settings from their descriptions, states and pauses from `reports.meanings`,
modules from the first line of their docstrings. And adds new English texts to the German catalog.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, SecretStr
from pydantic.fields import FieldInfo

from daemon.reports.meanings import MEANINGS, PAUSES
from daemon.settings.model import Settings
from daemon.settings.sources import PREFIX
from daemon.settings.values import DAY, HOUR, read_seconds
from tests.project import catalog

PROJECT = Path(__file__).parents[2]
DOCS = PROJECT / "docs"
ENV_EXAMPLE = PROJECT / ".env.example"
EXAMPLE_DSN = "postgresql://callstatsd:change-me@acd-db.example.com:5432/jtel"


def description(field: FieldInfo) -> str:
    """A setting's description as a sentence."""
    text = str(field.description)
    return f"{text[0].upper()}{text[1:]}."


def duration(seconds: float) -> str:
    """A duration as an administrator would write it."""
    for unit, form, from_units in ((DAY, "P{:g}D", 30), (HOUR, "PT{:g}H", 1), (60, "PT{:g}M", 10)):
        if seconds >= unit * from_units and seconds % unit == 0:
            return form.format(seconds / unit)
    return f"{seconds:g}"


def default(field: FieldInfo) -> str:
    """A setting's default as it would be written in a file; empty where there is none."""
    value: Any = field.default
    if any(isinstance(one, BeforeValidator) and one.func is read_seconds for one in field.metadata):
        return duration(value)
    match value:
        case None | SecretStr():
            return ""
        case bool():
            return str(value).lower()
        case (str(host), int(port)):
            return f"{host}:{port}"
        case tuple():
            return ",".join(value)
        case ZoneInfo():
            return value.key
        case StrEnum():
            return value.value
        case _:
            return str(value)


def env_example() -> str:
    """All of `.env.example`: each setting below the line that explains it."""
    lines = []
    for name, field in Settings.model_fields.items():
        given = f"={EXAMPLE_DSN}" if field.is_required() else f"={default(field)}"
        comment = "" if field.is_required() else "# "
        lines += [f"# {description(field)}", f"{comment}{PREFIX}{name.upper()}{given}"]
    return "\n".join(lines) + "\n"


def table(*rows: tuple[str, ...]) -> str:
    """A Markdown table, its first row the heading."""
    heading, *others = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join((heading, "|---" * len(rows[0]) + "|", *others))


def settings() -> str:
    """The table of settings."""
    rows = [("setting", "default", "meaning")]
    for name, field in Settings.model_fields.items():
        value = default(field) if not field.is_required() else None
        shown = "required" if value is None else f"`{value}`" if value else "empty"
        rows.append((f"`{PREFIX}{name.upper()}`", shown, description(field)))
    return table(*rows)


def states() -> str:
    """The table of states."""
    return table(
        ("state", "meaning"), *((f"`{state}`", meaning) for state, meaning in MEANINGS.items())
    )


def pauses() -> str:
    """The table of the pauses that the sender makes by itself."""
    rows = [(f"`{reason}`", card.text, str(card.remedy)) for reason, card in PAUSES.items()]
    return table(("reason", "meaning", "what to do"), *rows)


def first_sentence(file: Path) -> str:
    """What a module or a file of SQL says of itself in its first line."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".sql":
        said = text.removeprefix("-- ").partition("\n")[0]
        return re.split(r"(?<=\.) ", said)[0]
    return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]


def described() -> Iterator[tuple[str, str]]:
    """Modules of the top first, then each package with its own below it."""
    root = PROJECT / "daemon"
    for folder in (root, *sorted(path.parent for path in root.glob("*/__init__.py"))):
        if folder != root:
            yield f"**`{folder.name}/`**", f"**{first_sentence(folder / '__init__.py')}**"
        for file in sorted([*folder.glob("*.py"), *folder.glob("*.sql")]):
            if file.name != "__init__.py":
                yield f"`{file.relative_to(root)}`", first_sentence(file).replace("|", "\\|")


def modules() -> str:
    """The table of modules."""
    return table(("module", "what is in it"), *described())


PARTS: Mapping[str, Mapping[str, str]] = {
    "settings.md": {"settings": settings()},
    "line-states.md": {"states": states(), "pauses": pauses()},
    "architecture.md": {"modules": modules()},
}
"""For each page the tables between `<!-- NAME -->` and `<!-- end of NAME -->`."""


def page(name: str) -> str:
    """A page as it should be: its own text, with each table as it is now."""
    text = (DOCS / name).read_text(encoding="utf-8")
    for part, content in PARTS[name].items():
        before, _, rest = text.partition(f"<!-- {part} -->\n")
        _, end, after = rest.partition(f"\n<!-- end of {part} -->")
        if not end:
            raise ValueError(f"{name} has no place for {part}")
        text = f"{before}<!-- {part} -->\n{content}{end}{after}"
    return text


def main() -> None:
    """Write all of them."""
    ENV_EXAMPLE.write_text(env_example(), encoding="utf-8")
    for name in PARTS:
        (DOCS / name).write_text(page(name), encoding="utf-8")
    catalog.update()


if __name__ == "__main__":
    main()
