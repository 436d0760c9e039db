"""Finds the settings and validates them: a sentence for each error, all errors at once."""

import difflib
import os
from collections.abc import Mapping

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from daemon.errors import ConfigurationError
from daemon.settings import sources
from daemon.settings.model import FIELDS, NEEDED, SECRETS, Auth, Settings, assignment, missing
from daemon.settings.sources import PREFIX, Found, Request

ADVICE = {
    "value_error": "{error}",
    "greater_than": "is too small: use more than {gt:g}",
    "greater_than_equal": "is too small: use at least {ge:g}",
    "less_than_equal": "is too large: use at most {le:.15g}",
    "enum": "is unknown: use {expected}",
    "literal_error": "is unknown: use {expected}",
    "bool_parsing": "must be true or false",
    "int_parsing": "must be a whole number, such as 4",
    "float_parsing": "must be a number, such as 0.9",
    "zoneinfo_str": "is not a known time zone: use an IANA name such as Europe/Berlin",
    "string_pattern_mismatch": "is not a valid schema name: use lower-case letters, digits and _",
}


def unknown(name: str) -> str:
    """Return the error for an unknown name, with the most similar setting."""
    near = difflib.get_close_matches(name, FIELDS, n=1)
    advice = f"did you mean {PREFIX}{near[0].upper()}?" if near else "remove it."
    return f"{PREFIX}{name.upper()} is an unknown setting: {advice}"


def sentence(error: ErrorDetails, texts: Mapping[str, str]) -> str:
    """Return what is wrong with a setting and what to write instead."""
    name = str(error["loc"][0])
    if error["type"] == "missing":
        return missing(name, "the daemon")
    advice = ADVICE.get(error["type"], "is refused: {msg}")
    words = advice.format(msg=error["msg"], **error.get("ctx", {}))
    return f"{assignment(name, texts.get(name, ''))} {words}."


def clean(name: str, text: str) -> str | None:
    """Return the value of a field from its text; None if it means unset."""
    value = text if name in SECRETS else text.strip()
    return value if value or name not in FIELDS or name == "http_listen" else None


def find_settings(request: Request = Request()) -> Found:  # noqa: B008 - it is frozen
    """Read the texts of the settings from the one place they come from; raises no error."""
    return sources.read(request, sorted(SECRETS), clean, os.environ)


def validate(found: Found, *, to_send: bool = False) -> Settings:
    """Return the settings; raises ConfigurationError with a sentence for every error.

    With `to_send` the settings that the chosen auth needs are required, too.
    """
    texts, faults = found.texts, [*found.faults]
    if found.unread and "source_dsn" not in texts:
        raise ConfigurationError(*faults)
    faults += [unknown(name) for name in texts if name not in FIELDS]
    try:
        known = {name: text for name, text in texts.items() if name in FIELDS}
        settings = Settings.model_validate(known).found_in(found)
        faults += settings.sending_faults() if to_send else ()
    except ValidationError as error:
        faults += [sentence(detail, texts) for detail in error.errors(include_input=False)]
        auth = texts.get("auth", Auth.CLIENT_CREDENTIALS)
        if to_send and auth in set(Auth):
            chosen = f"{PREFIX}AUTH={auth}"
            faults += [missing(name, chosen) for name in NEEDED[Auth(auth)] if name not in texts]
    if faults:
        # Outside of the handler: pydantic's error, which may hold secrets, is not chained.
        raise ConfigurationError(*faults)
    return settings


def load_settings(request: Request = Request(), *, to_send: bool = False) -> Settings:  # noqa: B008
    """Find and validate the settings; raises ConfigurationError."""
    return validate(find_settings(request), to_send=to_send)
