"""The text of a callback request in its EventData, which may be XML of foreign make. Pure."""

import re
from html import escape
from xml.parsers import expat

MAX_OCTETS = 1024 * 1024
"""Octets of EventData from which on there is no body."""

# Safe though the XML is foreign: entities can be declared, and files named, in a DTD only, and a
# document with a DOCTYPE never reaches the parser. It stands before the root element, after
# declarations, comments and blanks.
_DOCTYPE = re.compile(r"(?>\s+|<\?.*?\?>|<!--.*?-->)*+<!DOCTYPE", re.DOTALL)


def event_body(event_data: str | None) -> str | None:
    """Return the text of the first element `body`, or what is no XML as it is; None for none.

    Entities are resolved, child elements are their markup, with the text in them still escaped.
    There is no body in XML that is not well-formed or has a DOCTYPE, nor in more than `MAX_OCTETS`.
    """
    if not event_data or len(octets := event_data.encode()) > MAX_OCTETS:
        return None
    if not event_data.startswith("<"):
        return event_data
    if _DOCTYPE.match(event_data):
        return None
    reader = _BodyReader(octets)
    try:
        reader.parse()
    except expat.ExpatError:
        return None
    return "".join(reader.text) or None


class _BodyReader:
    """Collects what is in the first `body`; it keeps no tree, so depth costs nothing."""

    def __init__(self, octets: bytes) -> None:
        """Take the document in UTF-8, whatever it says of its encoding."""
        self.text: list[str] = []
        self._octets = octets
        self._depth = 0
        """Elements that are open from `body` on; -1 once it is closed."""
        self._opened = 0
        """How many texts there are up to the last start tag; 0 once an element has ended since."""
        self._parser = expat.ParserCreate("utf-8")
        self._parser.buffer_text = True
        self._parser.ordered_attributes = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters

    def parse(self) -> None:
        """Read the whole document; raises `expat.ExpatError` if it is not well-formed."""
        self._parser.Parse(self._octets, True)

    def _start(self, name: str, attributes: list[str]) -> None:
        if self._depth > 0:
            pairs = zip(attributes[::2], attributes[1::2], strict=True)
            written = "".join(f' {key}="{escape(value)}"' for key, value in pairs)
            self.text.append(f"<{name}{written}>")
            self._opened = len(self.text)
        if self._depth > 0 or (self._depth == 0 and name == "body"):
            self._depth += 1

    def _end(self, name: str) -> None:
        if self._depth <= 0:
            return
        self._depth = self._depth - 1 or -1
        if self._depth < 0:
            return
        tag_end = self._parser.CurrentByteIndex
        if self._opened == len(self.text) and self._octets[tag_end - 2 : tag_end] == b"/>":
            self.text[-1] = f"{self.text[-1][:-1]}/>"
        else:
            self.text.append(f"</{name}>")
        self._opened = 0

    def _characters(self, data: str) -> None:
        if self._depth == 1:
            self.text.append(data)
        elif self._depth > 1:
            self.text.append(escape(data, quote=False))
