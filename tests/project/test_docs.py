"""README and docs agree with the program; every link leads somewhere."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from pydantic import SecretStr

from daemon import logs, metrics
from daemon.cli.entry import app
from daemon.lines import PauseReason, State
from daemon.settings.dsn import CODES
from daemon.settings.loading import load_settings
from daemon.settings.model import Settings
from daemon.settings.sources import PREFIX
from tests.project import generate

PROJECT = Path(__file__).parents[2]
DOCS = PROJECT / "docs"
README = PROJECT / "README.md"
PAGES = [README, PROJECT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]
EXAMPLE = PROJECT / ".env.example"
COMMANDS: dict[str, Any] = vars(typer.main.get_command(app))["commands"]
RULES: list[dict[str, Any]] = yaml.safe_load(
    (PROJECT / "systemd" / "alerts.yml").read_text(encoding="utf-8")
)["groups"][0]["rules"]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))


def read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def part(name: str, marker: str) -> str:
    """What a page has between `<!-- MARKER -->` and `<!-- end of MARKER -->`."""
    return read(name).split(f"<!-- {marker} -->\n")[1].split(f"<!-- end of {marker} -->")[0]


@pytest.mark.parametrize("name", generate.PARTS)
def test_the_generated_tables_are_those_of_the_program(name: str) -> None:
    assert read(name) == generate.page(name), "run python -m tests.project.generate"


def test_env_example_is_generated_from_the_settings() -> None:
    assert EXAMPLE.read_text(encoding="utf-8") == generate.env_example()


def test_every_module_says_what_is_in_it() -> None:
    assert [name for name, said in generate.described() if not said.strip("*")] == []


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_env_example_lists_every_setting_in_order_below_one_line_that_explains_it() -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    explained, assigned = lines[::2], lines[1::2]

    assert [line.removeprefix("# ").partition("=")[0] for line in assigned] == [
        PREFIX + name.upper() for name in Settings.model_fields
    ]
    assert all(re.match(r"# [A-Z](?!ALLSTATSD_)", line) for line in explained)
    assert [line for line in assigned if not line.startswith("# ")] == assigned[:1]


def test_the_page_lists_every_setting_in_the_order_of_env_example() -> None:
    listed = re.findall(
        rf"^\| `({PREFIX}[A-Z_]+)` \|", part("settings.md", "settings"), re.MULTILINE
    )
    assigned = re.findall(rf"^(?:# )?({PREFIX}[A-Z_]+)=", EXAMPLE.read_text("utf-8"), re.MULTILINE)
    assert listed == assigned


def test_the_defaults_in_env_example_are_the_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSTATSD_SOURCE_DSN", generate.EXAMPLE_DSN)
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()[1::2]
    given = [line.removeprefix("# ") for line in lines]
    expected = load_settings()
    Path(".env").write_text("\n".join(given), encoding="utf-8")

    assert load_settings().model_dump() == expected.model_dump()

    # No default is left out: only what has none is empty.
    empty = [
        name
        for name, value in expected.model_dump().items()
        if value in {None, "", (), SecretStr("")}
    ]
    assert [line[len(PREFIX) : -1].lower() for line in given if line.endswith("=")] == sorted(
        [*empty, "ledger_dsn"], key=list(Settings.model_fields).index
    )


def test_the_example_says_how_each_character_of_a_password_is_written() -> None:
    example = EXAMPLE.read_text(encoding="utf-8")
    assert all(f"{code} for {character}" in example for character, code in CODES.items())


@each_page
def test_pages_name_no_setting_that_does_not_exist(page: Path) -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    named = set(re.findall(rf"{PREFIX}[A-Z_]*[A-Z]", page.read_text(encoding="utf-8")))
    assert named - known <= {f"{PREFIX}LOG"}  # CALLSTATSD_LOG_*


def test_every_state_and_every_reason_of_a_pause_is_explained() -> None:
    page = read("line-states.md")
    for name in (*State, *PauseReason):
        assert f"`{name}`" in page, name
    begins = page.split("| reason | begins with |")[1].split("\n\n")[0]
    listed = re.findall(r"^\| `(\w+)` \|", begins, re.MULTILINE)
    assert {*listed} == {*PauseReason} - {PauseReason.OPERATOR}


def test_every_final_state_has_its_advice() -> None:
    advice = read("troubleshoot.md").split("## A call is not in Salesforce")[1].split("\n## ")[0]
    assert {*re.findall(r"^\| `(\w+)`", advice, re.MULTILINE)} == {*State}


def test_the_table_lists_every_event_and_no_other() -> None:
    listed = re.findall(r"`([a-z]+\.[a-z_]+)`", part("monitor.md", "events"))
    events = {
        value
        for name, value in vars(logs).items()
        if name.isupper() and isinstance(value, str) and "." in value
    }
    assert set(listed) == events


def test_the_page_lists_exactly_the_metrics_that_exist() -> None:
    listed = set(re.findall(r"`(callstatsd_[a-z_]+)", read("monitor.md")))
    exist = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in metrics.REGISTRY.collect()
    }
    assert listed == exist
    assert all(family.documentation for family in metrics.REGISTRY.collect())


@each_page
def test_pages_name_no_metric_that_does_not_exist(page: Path) -> None:
    named = set(re.findall(r"`(callstatsd_[a-z_]+)", page.read_text(encoding="utf-8")))
    assert named <= set(re.findall(r"`(callstatsd_[a-z_]+)", read("monitor.md")))


def test_the_page_lists_every_alert_with_its_severity() -> None:
    listed = re.findall(r"^\| `(Callstatsd\w+)` \| (\w+) \|", read("monitor.md"), re.MULTILINE)
    assert listed == [(rule["alert"], rule["labels"]["severity"]) for rule in RULES]


def test_the_page_lists_every_command_and_no_other() -> None:
    section = read("operate.md").split("## Commands")[1].split("\n### ")[0]
    listed = set(re.findall(r"^\| (.*?) \|", section, re.MULTILINE)) - {"command", "---"}
    names = {name for row in listed for name in re.findall(r"`callstatsd ([\w-]+)", row)}
    assert names == set(COMMANDS)


@each_page
def test_commands_on_pages_and_their_options_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    known = {name for command in COMMANDS.values() for name in options(command)}
    for name, rest in re.findall(r"(?:`|sudo |bin/)callstatsd ([a-z][a-z-]*)\b([^`\n|&]*)", text):
        assert name in COMMANDS, name
        group, words = getattr(COMMANDS[name], "commands", {}), rest.split()
        assert not (group and words) or words[0] in group, (name, rest)
        assert set(re.findall(r"--[a-z-]+", rest)) <= options(COMMANDS[name]), (name, rest)
    for option in re.findall(r"`(--[a-z-]+)`", text):
        assert option in known | {"--json", "--markdown"}, option


def options(command: Any) -> set[str]:
    of_commands = (options(one) for one in getattr(command, "commands", {}).values())
    own = {name for parameter in command.params for name in parameter.opts}
    return {"--help"}.union(own, *of_commands)


def layers() -> list[set[str]]:
    """The drawing of the packages, top to bottom."""
    rows = part("architecture.md", "layers").strip("\n").splitlines()
    return [set(re.split(r"\s{2,}", row.strip())[0].split(" | ")) for row in rows]


def test_the_drawing_has_every_package_and_module_of_the_top() -> None:
    root = PROJECT / "daemon"
    packages = {folder.parent.name for folder in root.glob("*/__init__.py")}
    assert set.union(*layers()) >= packages


def test_the_drawing_is_what_import_linter_checks() -> None:
    contracts = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))
    layered = [
        contract
        for contract in contracts["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers" and contract.get("containers") == ["daemon"]
    ]
    # A layer in brackets is of a package that need not be there yet.
    named = (re.sub(r"\(\w+\)", "", layer) for layer in layered[0]["layers"])
    checked = [set(re.findall(r"\w+", layer)) - {"__main__"} for layer in named]
    assert layers() == [layer for layer in checked if layer]


@pytest.mark.parametrize("section", ["The way of a call", "To change X, open Y"])
def test_the_files_that_the_architecture_names_exist(section: str) -> None:
    text = read("architecture.md").split(f"## {section}")[1].split("\n## ")[0]
    named = set(re.findall(r"`([a-z_]+/[\w/.-]*|[a-z_]+\.py)`", text))
    assert named
    for name in named:
        assert (PROJECT / "daemon" / name).exists() or (PROJECT / name).exists(), name


def anchors(page: Path) -> set[str]:
    """The addresses of a page's headings, as the usual renderers make them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """Where the links of a page lead within the project: file and anchor."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            yield (page.parent / path).resolve() if path else page, anchor


@each_page
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for aim, anchor in links(page):
        assert aim.is_file(), aim
        if anchor:
            assert anchor in anchors(aim), (aim, anchor)


@each_page
def test_pages_name_only_files_that_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:docs|systemd|migrations|tests|daemon|\.ci)/[\w./-]*)`", text):
        assert (PROJECT / name).exists(), name


def test_every_page_is_in_the_index() -> None:
    listed = {aim for aim, _ in links(DOCS / "README.md")}
    assert listed == {*DOCS.glob("*.md")} - {DOCS / "README.md"}


def test_the_readme_is_short_and_its_glossary_has_six_words() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 95
    glossary = text.split("## Glossary")[1]
    words = re.findall(r"^\| ([a-z ]+) \|", glossary, re.MULTILINE)[1:]
    assert words == ["data line", "ledger", "taken", "settled", "watermark", "lane"]


def test_the_readme_has_the_command_that_runs_the_tests_where_ci_looks_for_it() -> None:
    """As `sed -n '/<!-- tests -->/,/^```$/p'` cuts it out."""
    text = README.read_text(encoding="utf-8")
    block = re.search(r"^<!-- tests -->\n```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert block
    assert block[1].count("\n") == 1
    assert block[1].rstrip().endswith("pytest -n 4")


def test_alerts_refer_to_sections_and_settings_that_exist() -> None:
    text = " ".join(rule["annotations"]["description"] for rule in RULES)
    found = re.findall(r'docs/([a-z-]+\.md), "([^"]+)"', text)
    assert len(found) == text.count("docs/") == 9
    for page, heading in found:
        assert f"\n## {heading}\n" in read(page), (page, heading)
    for setting in re.findall(rf"{PREFIX}[A-Z_]+", text):
        assert f"| `{setting}` |" in read("settings.md"), setting
