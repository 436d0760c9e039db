"""`python -m daemon` is `callstatsd`."""

import os
import signal
from types import FrameType


def main() -> None:
    """Load the commands and run one."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Nothing has begun yet: an import that Ctrl-C ends would print a traceback.
        signal.signal(signal.SIGINT, _leave)
    from daemon.cli import entry  # noqa: PLC0415 - the slow part

    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    entry.main()


def _leave(_number: int, _frame: FrameType | None) -> None:
    os.write(2, b"Interrupted.\n")
    os._exit(1)


if __name__ == "__main__":
    main()
