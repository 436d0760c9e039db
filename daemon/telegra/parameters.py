"""The parameters of a request, wherever in it they are (telegra, section 3). Pure."""

import json
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

MAX_PARAMETERS = 64
MAX_VALUE = 2000
"""Characters of a value."""

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
FORMS = {FORM, "text/plain"}

Parameters = dict[str, str]
"""Values by names in lower case."""


class BadNotificationError(ValueError):
    """A notification that cannot be understood; the message is the reason, without a value."""


class _JsonObject(list[tuple[str, Any]]):
    """The pairs of a JSON object, which may have a name twice."""


def read_parameters(query: bytes, body: bytes, content_type: str) -> Parameters:
    """Return the parameters of query and body; the body's win. Raises `BadNotificationError`.

    Without a content type a body is a form.
    """
    found = _first_of_each(_form(query))
    if body.strip():
        found |= _first_of_each(_in_body(body, content_type))
    if len(found) > MAX_PARAMETERS:
        raise BadNotificationError(f"over {MAX_PARAMETERS} parameters")
    if any(len(value) > MAX_VALUE for value in found.values()):
        raise BadNotificationError(f"a value over {MAX_VALUE} characters")
    return found


def _first_of_each(pairs: Iterable[tuple[str, str]]) -> Parameters:
    found: Parameters = {}
    for name, value in pairs:
        # Postgres has no text with the character 0, nor a name in jsonb.
        found.setdefault(name.replace("\x00", "").strip().lower(), value.replace("\x00", ""))
    return found


def _in_body(body: bytes, content_type: str) -> Iterable[tuple[str, str]]:
    if not content_type or content_type in FORMS:
        return _form(body.strip())
    if content_type == JSON:
        return _json(body)
    raise BadNotificationError("unreadable body")


def _form(text: bytes) -> Iterator[tuple[str, str]]:
    for part in text.split(b"&"):
        name, _, value = part.partition(b"=")
        if name:
            yield _decoded(name), _decoded(value)


def _decoded(text: bytes) -> str:
    return _text(unquote_to_bytes(text.replace(b"+", b" ")))


def _text(octets: bytes) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("windows-1252", errors="replace")


def _json(body: bytes) -> Iterator[tuple[str, str]]:
    """Yield the pairs of a flat object; numbers stay as they are written."""
    try:
        found = json.loads(
            _text(body.removeprefix(BOM_UTF8)),
            object_pairs_hook=_JsonObject,
            parse_int=str,
            parse_float=str,
            parse_constant=_refuse,
        )
    except (ValueError, RecursionError):
        raise BadNotificationError("unreadable body") from None
    if not isinstance(found, _JsonObject):
        raise BadNotificationError("unreadable body")
    for written, value in found:
        name = _without_surrogates(written)
        if isinstance(value, bool):
            yield name, "1" if value else "0"
        elif isinstance(value, str):
            yield name, _without_surrogates(value)
        elif value is not None:
            raise BadNotificationError("unreadable body")


def _without_surrogates(text: str) -> str:
    """Replace halves of surrogate pairs, which JSON can write and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()


def _refuse(constant: str) -> None:
    raise ValueError(constant)
