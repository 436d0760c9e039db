"""The language of texts for people: written in English, shown in German where it is asked for."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from gettext import GNUTranslations, NullTranslations
from importlib.resources import files
from itertools import takewhile

CATALOG = "locales/de/LC_MESSAGES/callstatsd.mo"
"""The German texts; `python -m tests.project.generate` makes it from the .po file beside it."""
UNTRANSLATED = {"C", "POSIX"}
"""Locales that mean the program's own texts."""

_RANGE = re.compile(
    r"\s*([a-z]{1,8})(?:-[a-z0-9]{1,8})*\s*(?:;\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*)?",
    re.ASCII | re.IGNORECASE,
)
"""A language of Accept-Language, and its weight; `*` is English anyway."""


@dataclass(frozen=True, slots=True)
class Language:
    """A language: its code, what is between thousands, and its texts, read with the first one."""

    code: str
    thousands: str
    texts: Callable[[], NullTranslations]


@cache
def _german() -> NullTranslations:
    with files("daemon").joinpath(CATALOG).open("rb") as file:
        return GNUTranslations(file)


ENGLISH = Language("en", ",", cache(NullTranslations))
GERMAN = Language("de", ".", _german)
LANGUAGES = {one.code: one for one in (ENGLISH, GERMAN)}

_CURRENT: ContextVar[Language] = ContextVar("language", default=ENGLISH)


def language() -> Language:
    """Return the language of texts that are made now."""
    return _CURRENT.get()


@contextmanager
def use_language(chosen: Language) -> Iterator[None]:
    """Make texts in a language until the end of the block."""
    token = _CURRENT.set(chosen)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def of_terminal(environment: Mapping[str, str] = os.environ) -> Language:
    """Return the language that gettext would choose: LANGUAGE counts unless the locale is C."""
    names = (environment.get(name) for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    locale = next(filter(None, names), "C")
    if locale in UNTRANSLATED:
        return ENGLISH
    wanted = (environment.get("LANGUAGE") or locale).split(":")
    named = takewhile(lambda name: name not in UNTRANSLATED, wanted)
    return _first_known(re.split("[._@]", name)[0] for name in named)


def of_header(accepted: str) -> Language:
    """Return the language that an Accept-Language header asks for."""
    found = filter(None, map(_RANGE.fullmatch, accepted.split(",")))
    weights = [(float(one[2] or 1), one[1]) for one in found]
    by_weight = sorted(weights, key=lambda one: one[0], reverse=True)
    return _first_known(code for weight, code in by_weight if weight > 0)


def _first_known(codes: Iterable[str]) -> Language:
    return next((LANGUAGES[code] for code in map(str.lower, codes) if code in LANGUAGES), ENGLISH)


def mark(text: str) -> str:
    """Return a text as it is; the catalog has it, and `_` translates it where it is shown."""
    return text


def _(text: str, /, **values: object) -> str:
    """Return a text in the current language, with values for its placeholders."""
    translated = language().texts().gettext(text)
    return translated.format(**values) if values else translated


def ngettext(one: str, many: str, number: int, /, **values: object) -> str:
    """Return the text for one or for many; `{count}` in it is the number."""
    translated = language().texts().ngettext(one, many, number)
    return translated.format(count=grouped(number), **values)


def grouped(number: float) -> str:
    """Return a whole number with its thousands apart: `1,234`, in German `1.234`."""
    return f"{number:,.0f}".replace(",", language().thousands)
