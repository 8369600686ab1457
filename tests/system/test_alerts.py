"""The rules and the runbook: promtool's own tests, and that nothing of them stands alone."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from tests.kept_venv import ROOT
from tests.system.prometheus_server import CONFIGURATION, RULES, metrics_in, rules
from tests.system.tools import run, said
from trimtab_server.settings import Settings

TESTS = RULES.with_name("rules_test.yaml")
RUNBOOK = (ROOT / "deploy" / "runbook.md").read_text()
PROSE = re.sub(r"\s+", " ", RUNBOOK)
ALERTS = {rule["alert"]: rule for rule in rules("alert")}
SERVER = "\n".join(path.read_text() for path in (ROOT / "server" / "trimtab_server").rglob("*.py"))


def expectations() -> list[dict[str, Any]]:
    """What promtool's tests expect of alerts."""
    cases = yaml.safe_load(TESTS.read_text())["tests"]
    return [expected for case in cases for expected in case.get("alert_rule_test", ())]


@pytest.mark.parametrize("arguments", [("check", "rules", RULES), ("check", "config", CONFIGURATION)], ids=str)
def test_promtool_finds_nothing_wrong(arguments: tuple[str, ...]) -> None:
    """With the rules, and with the configuration that loads them."""
    checked = run("promtool", *arguments)
    assert checked.returncode == 0, said(checked)
    assert "FAILED" not in said(checked)


def test_the_rules_do_what_their_tests_say() -> None:
    """On made-up series, promtool sees every alert fire and not fire."""
    tested = run("promtool", "test", "rules", TESTS)
    assert tested.returncode == 0, said(tested)


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_is_seen_to_fire_and_not_to_fire(alert: str) -> None:
    """The tests of the rules have both."""
    expected = [case["exp_alerts"] for case in expectations() if case["alertname"] == alert]
    assert any(expected)
    assert not all(expected)


def test_every_alert_has_its_heading_and_every_heading_its_alert() -> None:
    """And the alert's link is the heading's anchor."""
    assert re.findall(r"^## (.*)$", RUNBOOK, re.MULTILINE) == list(ALERTS)
    for name, rule in ALERTS.items():
        assert rule["annotations"]["runbook"] == f"deploy/runbook.md#{name.lower()}"


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_says_what_a_reader_needs(alert: str) -> None:
    """Who has to come, what is the matter, and the figures."""
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}
    assert "$labels" in rule["annotations"]["summary"]


def test_every_metric_of_a_rule_exists() -> None:
    """In metrics.py, or in a rule that records it; `up` is Prometheus's own."""
    source = (ROOT / "server" / "trimtab_server" / "metrics.py").read_text()
    made = set(re.findall(r'"((?:trimtab|grpc_server)_\w+)"', source)) | {rule["record"] for rule in rules("record")}
    made |= {f"{name}_{part}" for name in made for part in ("bucket", "sum", "count")}
    wanted = {name for rule in rules("alert") + rules("record") for name in metrics_in(rule["expr"])}
    assert len(wanted) > 20
    assert not wanted - made


def test_the_runbook_names_what_there_is() -> None:
    """Its links, panels, flags and log lines."""
    pages = [json.loads(path.read_text()) for path in (ROOT / "deploy" / "grafana").glob("*.json")]
    panels = {panel["title"] for page in pages for panel in page["panels"]}
    events = {name for name in re.findall(r"`([^`]+)`", PROSE) if re.fullmatch(r"[a-zA-Z]+( [a-zA-Z]+)+", name)}
    named = set(re.findall(r"\*([^*]+)\*", re.sub(r"`[^`]+`", "", PROSE)))
    assert len(named) > 15
    assert not named - panels
    assert set(re.findall(r"\]\(#(\w+)\)", PROSE)) <= {name.lower() for name in ALERTS}
    assert {flag.replace("-", "_") for flag in re.findall(r"`--([a-z-]+)", PROSE)} <= Settings.model_fields.keys()
    assert len(events) > 4
    assert not [event for event in events if f'"{event}"' not in SERVER]
