"""The records of an answer that is still arriving, so that no long list is held whole. Pure."""

import codecs
import re
from collections.abc import Iterator
from json import JSONDecoder
from typing import Any

from daemon.acd.answers import AcdUnavailableError, read_records

AROUND_LIMIT = 64 * 1024
"""Characters before the records, and after them; the rest is dropped."""
RECORD_LIMIT = 4 * 1024 * 1024
"""Characters of one record: whoever reads it is held up by that."""

LONGEST = 20
"""Characters of a number that a column may hold."""

_BEGIN = re.compile(r'(?<!\\)"records"\s*:\s*\[')
_NEXT = re.compile(r"[^\s,]")
_value_at = JSONDecoder(
    parse_int=lambda text: int(text) if len(text) <= LONGEST else None
).raw_decode


class RecordStream:
    """Reads an answer part by part; what is around its records is judged at the end."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._arrived = bytearray()
        self._text = ""
        self._around = ""
        self._begun = False
        self._ended = False

    def feed(self, part: bytes) -> Iterator[dict[str, Any]]:
        """Yield the records that are whole now; raises `AcdUnavailableError` for one too long."""
        self._arrived += part
        # What is not whole is read again only when as much of it has come once more.
        if len(self._arrived) >= len(self._text):
            yield from self._records()

    def finish(self, status: int) -> Iterator[dict[str, Any]]:
        """Yield the rest; raises `AcdError` if the answer with this HTTP status is no good list."""
        yield from self._records()
        read_records(status, f"{self._around}{self._text}".encode())

    def _records(self) -> Iterator[dict[str, Any]]:
        self._text += self._decode(self._arrived)
        self._arrived.clear()
        if not self._begun and (begin := _BEGIN.search(self._text)):
            self._begun = True
            self._around, self._text = self._text[: begin.end()], self._text[begin.end() :]
        start = 0
        while self._begun and not self._ended and (found := _NEXT.search(self._text, start)):
            start = found.start()
            self._ended = found[0] == "]"
            try:
                record, end = _value_at(self._text, start)
            except (ValueError, RecursionError):
                break
            if not isinstance(record, dict):
                break
            yield record
            start = end
        self._text = self._text[start:]
        if not self._begun or self._ended:
            self._text = self._text[:AROUND_LIMIT]
        elif len(self._text) > RECORD_LIMIT:
            raise AcdUnavailableError(f"a record of the ACD is longer than {RECORD_LIMIT:,}")
