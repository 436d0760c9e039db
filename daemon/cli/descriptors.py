"""Standard input, output and error, for a process that must run without them."""

import io
import os
import select
import sys
from typing import Any

from daemon.log_writer import PATIENCE, PIPE_BUF


def prepare() -> None:
    """Open closed standard streams on /dev/null, and let no write to stderr fail.

    Otherwise the next file or connection that is opened would become stdin, stdout or stderr.
    """
    own = sys.stderr is sys.__stderr__  # not a replacement, such as a test's
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
            os.set_inheritable(null, True)
            stream = open(null, mode, encoding="utf-8", closefd=False)  # noqa: SIM115  for good
            setattr(sys, name, stream)
    if own:
        sys.stderr = io.TextIOWrapper(
            io.BufferedWriter(Lenient(sys.stderr.fileno(), "w", closefd=False)),
            encoding=sys.stderr.encoding,
            errors="backslashreplace",
            line_buffering=True,
        )


class Lenient(io.FileIO):
    """A file whose writes do not fail, and block for at most `PATIENCE` seconds.

    An error that stderr cannot take, for example on a full disk, must not change the exit code.
    """

    def write(self, data: Any) -> int:
        """Write a part, or drop everything."""
        poll = select.poll()
        poll.register(self.fileno(), select.POLLOUT)
        try:
            if poll.poll(PATIENCE * 1000):
                return super().write(data[:PIPE_BUF])
        except OSError:
            pass
        return len(data)
