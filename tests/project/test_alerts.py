"""Alert rules and dashboard: they use series that exist, and fire when they should."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Counter, Histogram

from daemon import metrics
from daemon.lines import PauseReason, State

PROJECT = Path(__file__).parents[2]
ALERTS = PROJECT / "systemd" / "alerts.yml"
DASHBOARD = PROJECT / "systemd" / "dashboard.json"

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool (Debian's prometheus) is not on this machine"
)
rules = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"][0]["rules"]
each_rule = pytest.mark.parametrize("rule", rules, ids=lambda rule: str(rule["alert"]))


def series() -> dict[str, set[str]]:
    """The labels of every series that a scrape has, by name."""
    found = {"up": set[str]()}
    for metric in vars(metrics).values():
        labels = set(getattr(metric, "_labelnames", ()))
        if isinstance(metric, Histogram):
            found[f"{metric._name}_bucket"] = labels | {"le"}
            found |= dict.fromkeys((f"{metric._name}_sum", f"{metric._name}_count"), labels)
        elif hasattr(metric, "_labelnames"):
            found[metric._name + ("_total" if isinstance(metric, Counter) else "")] = labels
    for family in metrics.DroppedLogLines().collect():
        found |= {sample.name: set(sample.labels) for sample in family.samples}
    return found


def faults(expression: str) -> Iterator[str]:
    """What an expression asks for that no scrape has."""
    known, labels = series(), {"job", "instance"}
    for name in re.findall(r"\b(?:callstatsd_\w+|up)\b", re.sub(r'"[^"]*"', '""', expression)):
        if name not in known:
            yield f"no metric {name}"
        labels |= known.get(name, set())
    grouped = ",".join(re.findall(r"\b(?:by|on) \(([^)]*)\)", expression))
    matched = re.findall(r'(\w+)(?:=~|!~|!=|=)"', expression)
    for label in {*matched, *re.findall(r"\w+", grouped)} - labels:
        yield f"no label {label}"
    values: dict[str, set[str]] = {
        "reason": {*PauseReason},
        "state": {*State},
        "decision": {*metrics.DECISIONS},
    }
    for label, texts in re.findall(r'(reason|state|decision)=~?"([^"$]*)"', expression):
        for text in set(texts.split("|")) - values[label]:
            yield f"no {label} {text}"


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ('rate(callstatsd_lines_total{state="delivered", job="x"}[5m])', []),
        ("callstatsd_lines == 1", ["no metric callstatsd_lines"]),
        ("sum by (colour) (callstatsd_active)", ["no label colour"]),
        ('callstatsd_paused{reason=~"operator|weather"}', ["no reason weather"]),
        ('callstatsd_dials_total{decision="perhaps"}', ["no decision perhaps"]),
        ("callstatsd_request_seconds", ["no metric callstatsd_request_seconds"]),
    ],
)
def test_the_test_finds_faults(expression: str, found: list[str]) -> None:
    assert list(faults(expression)) == found


@each_rule
def test_an_alert_asks_for_what_is_there_and_says_what_to_do(rule: dict[str, Any]) -> None:
    assert list(faults(rule["expr"])) == []
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    told = rule["annotations"]
    assert set(told) == {"summary", "description"}
    assert re.search(r"callstatsd [a-z]+|CALLSTATSD_|systemctl", told["description"])


def test_every_reason_of_a_pause_has_its_alert() -> None:
    asked = "|".join(rule["expr"] for rule in rules)
    for reason in PauseReason:
        assert re.search(rf'["|]{reason}["|]', asked), reason


@needs_promtool
def test_promtool_finds_the_alerts_right() -> None:
    for command in (("check", ALERTS), ("test", PROJECT / "tests/project/alerts_test.yml")):
        done = subprocess.run(
            ["promtool", command[0], "rules", command[1]],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def panels() -> list[dict[str, Any]]:
    return list(json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"])


def test_the_dashboard_asks_for_what_is_there() -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    assert dashboard["schemaVersion"] >= 39
    assert [one["name"] for one in dashboard["templating"]["list"]] == [
        "datasource",
        "job",
        "instance",
    ]
    for variable in dashboard["templating"]["list"][1:]:
        assert list(faults(variable["definition"])) == []
    rows = [panel["title"] for panel in panels() if panel["type"] == "row"]
    assert rows == [
        *("At a glance", "Delivery", "Intake", "Needs an operator", "Callbacks", "Click to dial"),
        "Telegra",
    ]
    for panel in panels():
        for target in panel.get("targets", ()):
            assert list(faults(target["expr"])) == [], panel["title"]
            assert target["datasource"]["uid"] == "${datasource}"
            assert 'job="$job", instance=~"$instance"' in target["expr"], panel["title"]


def test_the_dashboard_shows_every_metric() -> None:
    asked = " ".join(target["expr"] for panel in panels() for target in panel.get("targets", ()))
    for family in metrics.REGISTRY.collect():
        assert family.name in asked, family.name


def test_the_panels_of_the_dashboard_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {
            (place["x"] + dx, place["y"] + dy)
            for dx in range(place["w"])
            for dy in range(place["h"])
        }
        assert not taken & cells, panel["title"]
        assert all(x < 24 for x, _ in cells), panel["title"]
        taken |= cells


@needs_promtool
def test_the_dashboards_expressions_are_promql(tmp_path: Path) -> None:
    """As recording rules, because promtool checks rules only."""
    asked = [target["expr"] for panel in panels() for target in panel.get("targets", ())]
    recording = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(asked)
    ]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recording}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", "--lint=none", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
