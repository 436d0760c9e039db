"""Output for people: wrapped between words, in characters that the terminal can print.

Piped output is never wrapped.
"""

import codecs
import io
import os
import re
import sys
import unicodedata
from datetime import timedelta
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
)
from rich.text import Text

from daemon.command_text import printable

NARROW = 70
"""Columns below which a table or a progress bar leaves out what is not needed."""

_PIPED = 100_000
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
_UNPRINTABLE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
"""Control characters: names and reasons come from others and must not control a terminal."""
_TOKENS = re.compile(r"( *)([^ ]+)")
_STAND_INS = {
    "“": '"', "”": '"', "‘": "'", "’": "'", "–": "-", "−": "-", "×": "x",  # noqa: RUF001
    "—": "-", "·": "-", "→": "->", "€": "EUR", "ß": "ss", "Æ": "AE", "æ": "ae", "Ø": "O",
    "ø": "o", "Œ": "OE", "œ": "oe", "Ł": "L", "ł": "l", "Đ": "D", "đ": "d",
}  # fmt: skip


def prepare() -> None:
    """Let stdout and stderr replace characters that their encoding lacks, instead of failing."""
    codecs.register_error("callstatsd", replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="callstatsd")


def replaced(error: UnicodeError) -> tuple[str, int]:
    """Return similar ASCII characters: `…` becomes `...`, `ü` becomes `u`, others `?`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_stand_in, error.object[error.start : error.end])), error.end


def _stand_in(character: str) -> str:
    if character in _STAND_INS:
        return _STAND_INS[character]
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return plain or "?"


def columns(stream: TextIO | None) -> int | None:
    """Return how many columns a terminal has; None for a file or a pipe."""
    if stream is None or stream.closed or not stream.isatty():
        return None
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def wrap(text: str, width: int | None, hanging: int = 0, ending: str = "") -> str:
    """Break lines that are longer than `width` between words.

    A line after a break is indented by `hanging`, and `ending` is put before the break. Escape
    sequences for colours have no width. Without `width` nothing is broken.
    """
    if width is None:
        return text
    available = width - cell_len(ending)
    lines = []
    for line in text.split("\n"):
        written, used = "", 0
        for space, word in _TOKENS.findall(line):
            size = cell_len(_ESCAPES.sub("", word))
            gap = space
            if written.strip() and used + len(space) + size > available:
                lines.append(written + ending)
                # An indent must not make a long word exceed the width.
                gap = " " * max(0, min(hanging, available - size))
                written, used = "", 0
            written += gap + word
            used += len(gap) + size
        lines.append(written)
    return "\n".join(lines)


def say(text: str, *, err: bool = False, hanging: int = 0) -> None:
    """Print lines for people."""
    stream = sys.stderr if err else sys.stdout
    # Replaced first, since `…` takes three columns where it must be written as `...`.
    encoding = stream.encoding or "utf-8"
    text = _UNPRINTABLE.sub("?", printable(text))
    text = text.encode(encoding, stream.errors or "strict").decode(encoding)
    stream.write(wrap(text, columns(stream), hanging) + "\n")
    stream.flush()


def say_command(command: str, indent: int = 2) -> None:
    """Print a command so that it can be copied, also if it takes two lines."""
    line = " " * indent + printable(command)
    width = columns(sys.stdout)
    if width is not None and cell_len(line) > width:
        line = wrap(line, width, indent + 4, ending=" \\")
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def console(*, err: bool = False) -> Console:
    """Return a console for tables, bars and colours, on stdout or stderr."""
    piped = columns(sys.stderr if err else sys.stdout) is None
    return Console(stderr=err, highlight=False, width=_PIPED if piped else None)


class TimeLeft(ProgressColumn):
    """Shows how long a task will take, as soon as that can be estimated."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """Return it in hours, minutes and seconds."""
        seconds = task.time_remaining
        return Text("" if seconds is None else f"{timedelta(seconds=int(seconds))} left")


def progress_bar(shown: Console, *, transient: bool = False) -> Progress:
    """Return a progress line: a task's description, its field `counted`, and the time left.

    A wide terminal also shows a bar.
    """
    parts: list[ProgressColumn] = [TextColumn("{task.description}")]
    if shown.width >= NARROW:
        # Short, so that the ^C that a terminal echoes still fits into the line.
        parts.append(BarColumn(bar_width=16))
    parts += [TextColumn("{task.fields[counted]}"), TimeLeft()]
    return Progress(*parts, console=shown, transient=transient)
