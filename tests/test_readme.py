"""The README tells what the program does, no more and no less."""

import re
from pathlib import Path

from daemon import logs
from daemon.lines import State
from daemon.outcome import Reason

PROJECT = Path(__file__).parent.parent
README = (PROJECT / "README.md").read_text(encoding="utf-8")


def settings_table() -> str:
    """The table as `.env.example` has it, its one source."""
    lines = (PROJECT / ".env.example").read_text(encoding="utf-8").splitlines()
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for meaning, assignment in zip(lines[::2], lines[1::2], strict=True):
        name, _, default = assignment.removeprefix("# ").partition("=")
        if not assignment.startswith("# "):
            shown = "required"
        else:
            shown = f"`{default}`" if default else "empty"
        rows.append(f"| `{name}` | {shown} | {meaning.removeprefix('# ')} |")
    return "\n".join(rows)


def test_the_table_of_settings_is_that_of_env_example() -> None:
    table = README.split("<!-- settings -->\n")[1].split("\n<!-- end of settings -->")[0]
    assert table == settings_table()


def test_every_state_and_every_reason_of_a_pause_is_explained() -> None:
    for name in (*State, *Reason):
        assert f"`{name}`" in README, name


def test_every_event_that_an_operator_sees_is_listed() -> None:
    section = README.split("## The log")[1].split("\n## ")[0]
    listed = set(re.findall(r"`([a-z]+\.[a-z_]+)`", section))
    events = {
        value
        for name, value in vars(logs).items()
        if name.isupper() and isinstance(value, str) and "." in value
    }
    assert listed <= events
    assert events - listed == logs.FOR_DEBUGGING
