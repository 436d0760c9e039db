"""Settings of the log, which count even where others are wrong."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from daemon.settings.model import FIELDS
from daemon.settings.sources import LOGGING


class LogSettings(NamedTuple):
    """Settings of the log: format, level, and whether personal data may appear."""

    log_format: str = "auto"
    log_level: str = "info"
    log_personal_data: bool = False


def log_settings(texts: Mapping[str, str]) -> LogSettings:
    """Return the log's settings, with the default for each that is wrong."""
    right: dict[str, Any] = {}
    for name in LOGGING:
        try:
            form: TypeAdapter[Any] = TypeAdapter(FIELDS[name].annotation or str)
            right[name] = form.validate_python(texts[name])
        except (KeyError, ValidationError):
            continue
    return LogSettings(**right)
