"""The files that Grafana reads: what the code makes, whole, and fit to be looked at."""

from __future__ import annotations

import json
import re
import typing
from pathlib import Path
from typing import Any

import pytest

from tests.kept_venv import ROOT

if not hasattr(typing, "Self"):
    pytest.skip("NO DASHBOARDS: grafana-foundation-sdk needs Python 3.11", allow_module_level=True)

from deploy.grafana.dashboards import FOLDER, made, main
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

PAGES = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
PANELS = [(page, panel) for page in PAGES.values() for panel in page["panels"] if panel["type"] != "row"]
TITLES = [f"{page['uid']}: {panel['title']}" for page, panel in PANELS]
EACH_PANEL = pytest.mark.parametrize("panel", [panel for _, panel in PANELS], ids=TITLES)
EACH_PAGE = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
HEADINGS = re.findall(r"^## (.*)$", (ROOT / "deploy" / "runbook.md").read_text(), re.MULTILINE)


def test_the_files_are_what_the_code_makes() -> None:
    """All of them, byte for byte; after a change: python -m deploy.grafana.dashboards."""
    assert {path.name: path.read_text() for path in FOLDER.glob("*.json")} == made()


def test_the_command_writes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the code."""
    monkeypatch.setattr("deploy.grafana.dashboards.FOLDER", tmp_path)
    main()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == made()


@EACH_PAGE
def test_a_file_is_a_dashboard_and_nothing_else(page: dict[str, Any]) -> None:
    """Read by the types of Grafana's own kit, it comes out as it went in."""
    register_default_plugins()
    assert json.loads(json.dumps(Dashboard.from_json(page), cls=JSONEncoder)) == page


def test_addresses_are_stable() -> None:
    """Links and bookmarks go by these."""
    assert {name: page["uid"] for name, page in PAGES.items()} == {
        "device": "trimtab-device",
        "overview": "trimtab-overview",
        "quality": "trimtab-quality",
    }


@EACH_PAGE
def test_panels_fill_the_grid_without_overlap(page: dict[str, Any]) -> None:
    """Every row of panels is as wide as the page, no place is taken twice, and no number."""
    taken = [
        (x, y)
        for panel in page["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    bottom = max(y for _, y in taken) + 1
    assert sorted(taken) == [(x, y) for x in range(24) for y in range(bottom)]
    numbers = [panel["id"] for panel in page["panels"]]
    assert len(set(numbers)) == len(numbers)


@EACH_PAGE
def test_the_reader_chooses(page: dict[str, Any]) -> None:
    """Among data sources, jobs and instances, and of these any number."""
    variables = {each["name"]: each for each in page["templating"]["list"]}
    assert list(variables) == ["datasource", "job", "instance", "runbook"]
    assert [variables["instance"][key] for key in ("multi", "includeAll", "allValue")] == [True, True, ".*"]
    assert {link["title"] for link in page["links"]} == {"trimtab", "Runbook"}


@EACH_PANEL
def test_a_panel_explains_itself(panel: dict[str, Any]) -> None:
    """It says what to look for, in which unit, and which line is which."""
    assert panel["description"].endswith((".", ".)"))
    assert len(panel["description"]) > 20
    if panel["type"] in {"timeseries", "stat"}:
        assert panel["fieldConfig"]["defaults"]["unit"]
    for target in panel["targets"]:
        assert target.get("legendFormat") or panel["type"] == "table"


@EACH_PANEL
def test_a_panel_goes_by_what_was_chosen(panel: dict[str, Any]) -> None:
    """Its queries are of the chosen data source, job and instances, or of the job as recorded; each has its name."""
    names = [target["refId"] for target in panel["targets"]]
    assert names == sorted(set(names))
    for target in panel["targets"]:
        assert target["datasource"] == {"type": "prometheus", "uid": "$datasource"}
        chosen = re.findall(r"\{([^{}]*)\}", target["expr"])
        whole_job = re.search(r"\bjob(_method)?:", target["expr"]) is not None
        assert chosen
        assert all('job="$job"' in each and (whole_job or 'instance=~"$instance"' in each) for each in chosen)


@EACH_PANEL
def test_a_panel_links_to_headings_that_exist(panel: dict[str, Any]) -> None:
    """In the runbook, by their anchors."""
    for link in panel.get("links", ()):
        assert link["title"] in HEADINGS
        assert link["url"] == f"${{runbook}}#{link['title'].lower()}"


def test_exemplars_are_where_latency_is() -> None:
    """A slow call's trace is one click away from the line that it makes."""
    with_exemplars = {
        panel["title"] for _, panel in PANELS for target in panel["targets"] if target.get("exemplar") is True
    }
    assert with_exemplars == {"Pack: time to answer", "Rebalance: time to answer", "Wait in the queue"}
