"""A language for tests: it is written in wide letters, so what is not translated can be seen."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from gettext import NullTranslations

from daemon.language import Language, use_language
from tests.project import catalog

_LETTER = re.compile(r"(\{\w+\})|[A-Za-z]")
_WORD = re.compile(r"(?<![-\w])[-A-Za-z_]*[A-Za-z][-A-Za-z_]*(?![-\w])", re.ASCII)
"""A word or an option; no id or time, which have digits."""
_WIDE = ord("\N{FULLWIDTH LATIN CAPITAL LETTER A}") - ord("A")


def wide(text: str) -> str:
    """Return a text in wide letters, but for its placeholders."""
    return _LETTER.sub(lambda found: found[1] or chr(ord(found[0]) + _WIDE), text)


class Pseudo(NullTranslations):
    """Writes all texts that the program says are texts in wide letters; `said` are those asked for.

    Raises KeyError for a text that Babel does not find in the program.
    """

    def __init__(self) -> None:
        super().__init__()
        self.files = dict(_files())
        self.said: set[str] = set()
        self.language = Language("en", ",", lambda: self)

    def gettext(self, message: str) -> str:
        """Return the text in wide letters."""
        if message not in self.files:
            raise KeyError(message)
        self.said.add(message)
        return wide(message)

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        """Return one of the texts in wide letters."""
        return wide(msgid2) if n != 1 and self.gettext(msgid1) else self.gettext(msgid1)

    def unsaid(self, *folders: str) -> set[str]:
        """Return the texts of some folders or files that nobody has asked for."""
        return {
            text
            for text, files in self.files.items()
            if text not in self.said and any(file.startswith(folders) for file in files)
        }


@cache
def _files() -> dict[str, list[str]]:
    """The program's texts, and the files that have them."""
    texts = ((message.id, message.locations) for message in catalog.texts() if message.id)
    return {
        text if isinstance(text, str) else text[0]: [file for file, _ in locations]
        for text, locations in texts
    }


@contextmanager
def pseudo() -> Iterator[Pseudo]:
    """Show all texts in wide letters until the end of the block."""
    texts = Pseudo()
    with use_language(texts.language):
        yield texts


def untranslated(text: str, *data: str) -> set[str]:
    """Return the words of a text that are not translated and not of the data that it shows."""
    return set(_WORD.findall(text)).difference(*(_WORD.findall(each) for each in data))
