"""The German catalog has every text of the program, and no other."""

import string
from collections.abc import Iterable

import pytest
from babel.messages.catalog import Catalog, Message

from tests.project import catalog


@pytest.fixture(scope="module")
def texts() -> Catalog:
    return catalog.texts()


@pytest.fixture(scope="module")
def german() -> Catalog:
    return catalog.catalog()


def entries(found: Catalog) -> dict[tuple[str, ...], Message]:
    """The entries of a catalog by their English text, without the header."""
    return {forms(message.id): message for message in found if message.id}


def forms(text: str | Iterable[str] | None) -> tuple[str, ...]:
    """The text, or the texts for one and for many."""
    return (text,) if isinstance(text, str) else tuple(text or ())


def placeholders(text: str) -> set[str]:
    """The names in braces; raises ValueError where braces are not in pairs."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_the_catalog_has_exactly_the_texts_of_the_program(texts: Catalog, german: Catalog) -> None:
    """Else: `python -m tests.project.generate`, then translate what it has added."""
    assert entries(german).keys() == entries(texts).keys()
    assert len(entries(texts)) > 100
    for text, message in entries(german).items():
        files = {file for file, _ in message.locations}
        assert files == {file for file, _ in entries(texts)[text].locations}, text


def test_every_text_is_translated_with_the_same_placeholders(german: Catalog) -> None:
    for text, message in entries(german).items():
        english, translated = forms(message.id), forms(message.string)
        assert not message.fuzzy, text
        assert len(translated) == len(english), text
        assert all(translated), text
        wanted = [placeholders(form) for form in english]
        assert [placeholders(form) for form in translated] == wanted, text
        # What follows is a command, or the next sentence.
        for one, other in zip(english, translated, strict=True):
            assert (one[-1] in ".:") == (other[-1] in ".:"), text
            assert (one[-1] == ":") == (other[-1] == ":"), text
            assert one.count("`") == other.count("`"), text


def test_the_program_has_the_catalog_as_it_is_written(german: Catalog) -> None:
    """Else: `python -m tests.project.generate`."""

    def strings(found: Catalog) -> dict[tuple[str, ...], tuple[str, ...]]:
        return {text: forms(message.string) for text, message in entries(found).items()}

    assert strings(catalog.compiled()) == strings(german)
