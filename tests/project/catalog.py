"""The catalog of German texts, and the English ones of the program that it must have."""

import io
import re
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import read_mo, write_mo
from babel.messages.pofile import read_po, write_po

from daemon.language import CATALOG

PROGRAM = Path(__file__).parents[2] / "daemon"
COMPILED = PROGRAM / CATALOG
FILE = COMPILED.with_suffix(".po")
METHODS = [("**.py", "python"), ("**.html", "jinja2.ext:babel_extract")]
KEYWORDS = {"_": None, "mark": None, "ngettext": (1, 2)}
_VOLATILE = re.compile(
    r'^"(?:Project-Id-Version|Report-Msgid|POT-|PO-|Last-Translator|Language-Team|Generated-By).*\n',
    re.MULTILINE,
)
"""What Babel writes anew each time, or writes without being asked."""


def texts() -> Catalog:
    """The English texts of the program, without translations."""
    found = Catalog(locale="de")
    found_in = extract_from_dir(PROGRAM, METHODS, {"**.html": {"silent": "false"}}, KEYWORDS)
    for file, _, text, _, _ in found_in:
        found.add(text, locations=[(f"daemon/{file}", 0)])
    return found


def catalog() -> Catalog:
    """The catalog as it is."""
    with FILE.open("rb") as file:
        return read_po(file, locale="de")


def compiled() -> Catalog:
    """The catalog as the program reads it."""
    with COMPILED.open("rb") as file:
        return read_mo(file)


def update() -> None:
    """Add texts that the catalog lacks, to be translated, drop those that are gone, compile it."""
    updated = catalog()
    updated.update(texts(), no_fuzzy_matching=True, update_creation_date=False)
    written = io.BytesIO()
    write_po(written, updated, width=100, ignore_obsolete=True, include_lineno=False)
    FILE.write_text(_VOLATILE.sub("", written.getvalue().decode()), encoding="utf-8")
    with COMPILED.open("wb") as file:
        write_mo(file, catalog())
