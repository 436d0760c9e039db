"""Errors that end a command: the sentences it prints, or the log events of `run` and `migrate`."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog
import typer

from daemon import logs
from daemon.cli.options import invocation
from daemon.command_text import printable
from daemon.errors import CallstatsdError, ConfigurationError

REFUSED = {69, 78}
"""Exit codes of a `run` that fails again if it is only repeated."""


def faults_of(error: CallstatsdError) -> tuple[str, ...]:
    """Return a sentence for each fault."""
    return error.faults if isinstance(error, ConfigurationError) else (str(error),)


@contextmanager
def log_refusals() -> Iterator[None]:
    """Log the error that ends a daemon, or the migration before it, instead of printing it."""
    try:
        yield
    except CallstatsdError as error:
        if error.exit_code not in REFUSED:
            raise
        logs.configure(*invocation().log)
        for fault in faults_of(error):
            text = printable(fault)
            structlog.get_logger().error(logs.DAEMON_REFUSED, exit_code=error.exit_code, error=text)
        raise typer.Exit(error.exit_code) from None
