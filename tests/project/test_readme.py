"""The README tells what the program does, no more and no less."""

import re
from pathlib import Path

import pytest

from daemon import logs
from daemon.lines import PauseReason, State

PROJECT = Path(__file__).parents[2]
README = (PROJECT / "README.md").read_text(encoding="utf-8")
PAGES = [PROJECT / "README.md", PROJECT / "CHANGELOG.md", *sorted((PROJECT / "docs").glob("*.md"))]


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
    for name in (*State, *PauseReason):
        assert f"`{name}`" in README, name


def test_the_table_lists_every_event_and_no_other() -> None:
    section = README.split("## The log")[1].split("\n## ")[0]
    listed = set(re.findall(r"`([a-z]+\.[a-z_]+)`", section))
    events = {
        value
        for name, value in vars(logs).items()
        if name.isupper() and isinstance(value, str) and "." in value
    }
    assert listed == events


def anchors(page: Path) -> set[str]:
    """The addresses of a page's headings, as the usual renderers make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        aim = (page.parent / path).resolve() if path else page
        assert aim.is_file(), target
        if anchor:
            assert anchor in anchors(aim), target
