"""The unit file, judged by systemd's own tools."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNIT = Path(__file__).parent.parent / "systemd" / "callstatsd.service"

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on this machine"
)


def analyze(*arguments: str) -> str:
    done = subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


@needs_systemd
def test_the_unit_is_without_a_fault(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    text = UNIT.read_text(encoding="utf-8")
    unit.write_text(text.replace("/opt/callstatsd/bin/callstatsd", sys.executable))
    assert analyze("verify", "--man=no", str(unit)) == ""


@needs_systemd
def test_the_unit_is_hardened() -> None:
    told = analyze("security", "--offline=true", str(UNIT))
    score = re.search(r"Overall exposure level for \S+: (\d+\.\d)", told)
    assert score, told
    assert float(score[1]) <= 1.5


def test_the_unit_stops_later_than_the_longest_drain() -> None:
    text = UNIT.read_text(encoding="utf-8")
    timeout = re.search(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
    assert timeout
    assert int(timeout[1]) > 60 + 5 + 5
    assert "RestartPreventExitStatus=78" in text
