"""A command in this very process, as if it was typed; for what needs no process of its own."""

import gc
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.cli.entry import main

Typed = Callable[..., tuple[int, str, str]]


def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], etc: Path) -> Typed:
    """Return what runs a command: exit code, stdout, stderr.

    `etc` takes the place of /etc/callstatsd.
    """

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["callstatsd", *arguments])
        thresholds = gc.get_threshold()
        try:
            with pytest.raises(SystemExit) as ended:
                main(etc=etc)
        finally:  # a command ends its process; this one goes on
            gc.unfreeze()
            gc.set_threshold(*thresholds)
        printed = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, printed.out, printed.err

    return run
