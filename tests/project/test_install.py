"""The commands of the installation page, executed one after another below a root of their own."""

import asyncio
import os
import re
import shlex
import shutil
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from daemon.cli.installation import own_program
from daemon.demo import grants, standin
from daemon.demo.standin import StandIn
from tests.support.daemon_process import command

PROJECT = Path(__file__).parents[2]
STEPS = (PROJECT / "docs" / "install.md").read_text("utf-8").split("\n## Debian package")[0]
BLOCKS = re.findall(r"```sh\n(.*?)```", STEPS, re.DOTALL)
WITH_PIP = [
    "sudo python3 -m venv /opt/callstatsd",
    "sudo /opt/callstatsd/bin/pip install '.[jwt]'",
]
"""Done in tests/project/test_package.py."""
LOOKING = ["systemctl status callstatsd", "journalctl -u callstatsd -f -o cat"]
"""Only where systemd runs."""


class Machine:
    """A root, and an administrator who types what the page says."""

    def __init__(self, root: Path, settings: dict[str, str]) -> None:
        self.root = root
        self.env_file = root / "etc/callstatsd/callstatsd.env"
        self.settings = settings

    async def type(self, line: str) -> str:
        """Run a line with its paths below the root; returns what it printed."""
        words = shlex.split(line.removeprefix("sudo "))
        match words:
            case ["sudoedit", file]:
                assert self.place(file) == self.env_file
                return self.edit()
            case ["/opt/callstatsd/bin/callstatsd", "systemd", "install"]:
                return await self.callstatsd("systemd", "install", "--root", str(self.root))
            case ["callstatsd", *arguments]:
                link = self.root / "usr/local/bin/callstatsd"
                assert link.readlink() == own_program()
                return await self.callstatsd(*arguments, "--env-file", str(self.env_file))
            case ["systemctl", "enable", "--now", unit]:
                return await self.run("systemctl", f"--root={self.root}", "enable", unit)
            case ["install", *arguments]:
                return await self.run("install", *map(self.place, arguments))
        pytest.fail(f"the page has a command that this test does not know: {line}")

    def place(self, word: str) -> str | Path:
        return self.root / word[1:] if word.startswith("/etc/") else word

    def edit(self) -> str:
        """Give values to settings that the file lists."""
        text = self.env_file.read_text()
        for name, value in self.settings.items():
            text, count = re.subn(rf"^(# )?{name}=.*$", f"{name}={value}", text, flags=re.MULTILINE)
            assert count == 1, name
        self.env_file.write_text(text)
        return ""

    async def callstatsd(self, *arguments: str) -> str:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("CALLSTATSD_")}
        code, output, errors = await command(
            *arguments, environment=environment, folder=self.root.parent
        )
        assert code == 0, output + errors
        return output

    async def run(self, *words: str | Path) -> str:
        process = await asyncio.create_subprocess_exec(*words, stdin=PIPE, stdout=PIPE)
        output, _ = await process.communicate(f"{grants.CLIENT_SECRET}\n".encode())
        assert process.returncode == 0, words
        return output.decode()


@pytest.mark.skipif(shutil.which("systemctl") is None, reason="systemctl is not on this machine")
async def test_the_commands_of_the_page_install_a_service_that_may_start(
    dsn: str, tmp_path: Path
) -> None:
    assert re.findall(r"^## (\d)\. ", STEPS, re.MULTILINE) == list("1234567")
    lines = [line for block in BLOCKS for line in block.splitlines()]
    given = [line.partition("=")[0] for line in lines if line.startswith("CALLSTATSD_")]
    typed = [line for line in lines if not line.startswith("CALLSTATSD_")]
    assert typed[:2] == WITH_PIP
    assert typed[-2:] == LOOKING

    async with standin.serve(StandIn()) as url:
        values = [dsn, f"{url}{standin.TOKEN_PATH}", grants.CLIENT_ID]
        root = tmp_path / "root"
        root.mkdir()
        # The port belongs to the machine, which has other tests.
        settings = dict(zip(given, values, strict=True)) | {"CALLSTATSD_HTTP_LISTEN": ""}
        machine = Machine(root, settings)
        printed = {line: await machine.type(line) for line in typed[2:-2]}

    checked = printed["sudo callstatsd check"].splitlines()
    assert {line.split()[0] for line in checked} == {"ok"}, checked
    etc = root / "etc/callstatsd"
    assert {file.name: file.stat().st_mode & 0o777 for file in (etc, *etc.iterdir())} == {
        "callstatsd": 0o700,
        "callstatsd.env": 0o600,
        "client-secret": 0o600,
    }
    wanted = root / "etc/systemd/system/multi-user.target.wants/callstatsd.service"
    assert wanted.readlink() == Path("/etc/systemd/system/callstatsd.service")
    # What the program proposes is what the page says.
    proposed = printed["sudo /opt/callstatsd/bin/callstatsd systemd install"]
    steps = [line.strip() for line in proposed.partition("Next steps:")[2].splitlines()]
    assert [line for line in steps if line.startswith("sudo")] == typed[3:-2]
