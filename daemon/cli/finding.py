"""What a check finds."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """Result of a check."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: its name, its result, and what was found or what to do."""

    name: str
    verdict: Verdict
    text: str
    exit_code: int = 0


def ok(name: str, text: str) -> Finding:
    """Return that all is well."""
    return Finding(name, Verdict.OK, text)


def warn(name: str, text: str) -> Finding:
    """Return what works, and should be different."""
    return Finding(name, Verdict.WARN, text)


def fail(name: str, text: str, exit_code: int) -> Finding:
    """Return what does not work; `check` ends with the exit code."""
    return Finding(name, Verdict.FAIL, text, exit_code)
