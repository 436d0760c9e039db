"""Files of settings, read as systemd reads an EnvironmentFile (systemd.exec(5)). Pure.

Whoever reads the file in another way would get other settings than the daemon, so a line that
readers of `.env` understand differently is a fault.
"""

import io
import re
import unicodedata
from dataclasses import dataclass

from dotenv.parser import parse_stream

_BLANK = re.compile(r"[ \t\r\n]*")
# Up to systemd 253 a backslash at its end continues a comment.
_COMMENT = re.compile(r"[#;](?:\\[\s\S]|[^\\\r\n])*\\?")
_KEY = re.compile(r"[^\r\n][^=\r\n]*")
_SPACE = re.compile(r"[ \t]*")
_SINGLE = re.compile(r"'([^']*)'?")
_DOUBLE = re.compile(r'"((?:\\[\s\S]|[^"\\])*)\\?"?')
_PLAIN = re.compile(r"(?:\\[\s\S]?|[^\\\r\n])*")
_IN_DOUBLE = re.compile(r"\\([\s\S])")
_LAST_PLAIN = re.compile(r"((?:[^\\]*\\[\s\S]?)*)([^\\]*)")


@dataclass(frozen=True, slots=True)
class Assignment:
    """A variable, its value, and the line of the file on which it begins."""

    name: str
    value: str
    line: int


def read(text: str) -> tuple[list[Assignment], list[int]]:
    """Return the assignments of an EnvironmentFile, and the numbers of other lines."""
    assignments: list[Assignment] = []
    others: list[int] = []
    at = _end(_BLANK, text, 0)
    while at < len(text):
        if text[at] in "#;":
            at = _end(_COMMENT, text, at)
        else:
            line = text.count("\n", 0, at) + 1
            begin, at = at, _end(_KEY, text, at)
            if text[at : at + 1] == "=":
                name = text[begin:at].rstrip(" \t")
                value, at = _value(text, at + 1)
                assignments.append(Assignment(name, value, line))
            else:
                others.append(line)
        at = _end(_BLANK, text, at)
    return assignments, others


def faulty_lines(text: str, prefix: str) -> dict[int, str]:
    """Return what is wrong, by line number; only variables with the prefix are compared."""
    assignments, others = read(text)
    faults = dict.fromkeys(others, "is not a setting: use NAME='VALUE'")
    ours = {found for found in assignments if found.name.upper().startswith(prefix)}
    theirs = {found for found in _as_dotenv(text) if found.name.upper().startswith(prefix)}
    for found in ours ^ theirs:
        faults[found.line] = (
            "is understood differently by systemd and by readers of .env files: use "
            "NAME='VALUE', or NAME=\"VALUE\" if the value contains ' or a backslash, written \\\\"
        )
    for found in ours & theirs:
        if any(unicodedata.category(c) == "Cc" and c not in "\t\n" for c in found.value):
            faults[found.line] = "contains a control character: remove it"
    return dict(sorted(faults.items()))


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


def _value(text: str, at: int) -> tuple[str, int]:
    """Read quoted pieces one after another; an unquoted piece extends to the end of the line."""
    pieces = ""
    while True:
        at = _end(_SPACE, text, at)
        if match := _SINGLE.match(text, at):
            pieces += match[1]
        elif match := _DOUBLE.match(text, at):
            pieces += _IN_DOUBLE.sub(_unescaped_in_double, match[1])
        else:
            match = _PLAIN.match(text, at)
            assert match is not None  # noqa: S101 - it matches nothing at all, too
            return pieces + _plain(match[0]), match.end()
        at = match.end()


def _unescaped_in_double(found: re.Match[str]) -> str:
    if found[1] == "\n":
        return ""
    return found[1] if found[1] in '"\\`$' else found[0]


def _plain(text: str) -> str:
    """Remove blanks at the end, unless they are escaped, and resolve escapes."""
    match = _LAST_PLAIN.fullmatch(text)
    assert match is not None  # noqa: S101 - every text is of this form
    escaped, rest = match.groups()
    kept = re.sub(r"\\([\s\S]?)", lambda found: found[1].strip("\r\n"), escaped)
    return kept + rest.rstrip(" \t")


def _as_dotenv(text: str) -> list[Assignment]:
    """Read the text as python-dotenv does, without replacing variables."""
    found = []
    for binding in parse_stream(io.StringIO(text, newline="")):
        original = binding.original
        blank = original.string[: len(original.string) - len(original.string.lstrip())]
        line = original.line + len(re.findall(r"\r\n|\n|\r", blank))
        found.append(Assignment(binding.key or "", binding.value or "", line))
    return found
