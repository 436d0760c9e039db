"""Which language is chosen, and how texts and numbers are written in it."""

import asyncio

import pytest

from daemon.language import (
    ENGLISH,
    GERMAN,
    Language,
    _,
    grouped,
    language,
    ngettext,
    of_header,
    of_terminal,
    use_language,
)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ENGLISH),
        ({"LANG": "de_DE.UTF-8"}, GERMAN),
        ({"LANG": "de"}, GERMAN),
        ({"LANG": "de_AT@euro"}, GERMAN),
        ({"LANG": "DE_ch.ISO-8859-1"}, GERMAN),
        ({"LANG": "den_CA"}, ENGLISH),
        ({"LANG": "en_GB.UTF-8"}, ENGLISH),
        ({"LANG": "fr_FR.UTF-8"}, ENGLISH),
        ({"LANG": "C.UTF-8"}, ENGLISH),
        ({"LANG": "\N{SNOWMAN}"}, ENGLISH),
        # The first of them that is not empty counts.
        ({"LC_ALL": "de_DE.UTF-8", "LC_MESSAGES": "en_US", "LANG": "en_US"}, GERMAN),
        ({"LC_MESSAGES": "de_DE.UTF-8", "LANG": "en_US.UTF-8"}, GERMAN),
        ({"LC_ALL": "", "LC_MESSAGES": "", "LANG": "de_DE"}, GERMAN),
        ({"LC_ALL": "C", "LANG": "de_DE.UTF-8"}, ENGLISH),
        ({"LC_ALL": "en_US.UTF-8", "LANG": "de_DE.UTF-8"}, ENGLISH),
        ({"LC_CTYPE": "de_DE.UTF-8"}, ENGLISH),
        # LANGUAGE is a list, and counts wherever texts are translated at all.
        ({"LANGUAGE": "de", "LANG": "en_US.UTF-8"}, GERMAN),
        ({"LANGUAGE": "de", "LANG": "C.UTF-8"}, GERMAN),
        ({"LANGUAGE": "fr:de_DE:en", "LANG": "fr_FR.UTF-8"}, GERMAN),
        ({"LANGUAGE": "en:de", "LANG": "de_DE.UTF-8"}, ENGLISH),
        ({"LANGUAGE": "C:de", "LANG": "de_DE.UTF-8"}, ENGLISH),
        ({"LANGUAGE": "fr", "LANG": "de_DE.UTF-8"}, ENGLISH),
        ({"LANGUAGE": "", "LANG": "de_DE.UTF-8"}, GERMAN),
        ({"LANGUAGE": "de"}, ENGLISH),
        ({"LANGUAGE": "de", "LANG": "C"}, ENGLISH),
        ({"LANGUAGE": "de", "LC_ALL": "POSIX"}, ENGLISH),
    ],
)
def test_a_terminal_has_the_language_that_gettext_would_choose(
    environment: dict[str, str], expected: Language
) -> None:
    assert of_terminal(environment).code == expected.code


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", ENGLISH),
        ("de", GERMAN),
        ("de-AT", GERMAN),
        ("DE-de", GERMAN),
        ("de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7", GERMAN),
        ("en-US,en;q=0.9,de;q=0.8", ENGLISH),
        ("en;q=0.5,de;q=0.9", GERMAN),
        ("en;q=0.5, de ; q=0.9", GERMAN),
        ("de,en", GERMAN),
        ("en,de", ENGLISH),
        ("fr", ENGLISH),
        ("fr,de;q=0.1", GERMAN),
        ("*", ENGLISH),
        ("*;q=0.5,de", GERMAN),
        ("de;q=0", ENGLISH),
        ("de;q=0.000,fr", ENGLISH),
        ("den", ENGLISH),
        ("de;q=", ENGLISH),
        ("de;q=x", ENGLISH),
        ("de;q=2", ENGLISH),
        ("de;level=1", ENGLISH),
        ("de_DE", ENGLISH),
        (";,;=,,q=1", ENGLISH),
        ("\0\N{SNOWMAN}", ENGLISH),
        ("fr," * 2000 + "de", GERMAN),
        ("d" * 8000, ENGLISH),
        ("de-" * 2500, ENGLISH),
    ],
)
def test_a_browser_has_the_language_that_it_prefers(header: str, expected: Language) -> None:
    assert of_header(header).code == expected.code


def test_texts_and_numbers_are_in_the_language_of_the_block() -> None:
    def said() -> tuple[str, ...]:
        lines = (ngettext("{count} line", "{count} lines", number) for number in (0, 1, 1234))
        return (_("never"), _("Call {call}", call=1201), *lines, grouped(1234567))

    english = ("never", "Call 1201", "0 lines", "1 line", "1,234 lines", "1,234,567")
    assert said() == english
    with use_language(GERMAN):
        assert said() == (
            "noch nie", "Anruf 1201", "0 Zeilen", "1 Zeile", "1.234 Zeilen", "1.234.567",
        )  # fmt: skip
        with use_language(ENGLISH):
            assert said() == english
        assert language() is GERMAN
    assert said() == english


def test_a_text_that_the_catalog_lacks_stays_as_it_is() -> None:
    with use_language(GERMAN):
        assert _("{}: no braces of ours") == "{}: no braces of ours"
        assert ngettext("{count} goose", "{count} geese", 2) == "2 geese"


async def test_each_task_has_a_language_of_its_own() -> None:
    async def said(chosen: Language) -> str:
        with use_language(chosen):
            await asyncio.sleep(0)
            return _("never")

    german, english = await asyncio.gather(said(GERMAN), said(ENGLISH))
    assert (german, english) == ("noch nie", "never")
