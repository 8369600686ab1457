"""The versions that a server is shipped with."""

from __future__ import annotations

import importlib.util
import re
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.kept_venv import ROOT

spec = importlib.util.spec_from_file_location("locked", ROOT / "deploy" / "locked.py")
assert spec is not None
assert spec.loader is not None
locked: Any = importlib.util.module_from_spec(spec)
spec.loader.exec_module(locked)


def ranges() -> dict[str, Requirement]:
    """What pyproject.toml allows of the base and the server's dependencies."""
    text = (ROOT / "pyproject.toml").read_text()
    lists = re.findall(r"^(?:dependencies|server|otel) = \[(.*?)\]$", text, re.DOTALL | re.MULTILINE)
    assert len(lists) == 3
    found = [Requirement(line) for each in lists for line in re.findall(r'"([^"]+)"', each)]
    return {requirement.name: requirement for requirement in found}


def test_the_list_has_all_that_a_server_needs() -> None:
    """Everything in the closure of its dependencies, whatever versions are installed here."""
    assert sorted(locked.installed()) == sorted(locked.locked())


def test_the_list_is_within_what_the_project_allows() -> None:
    """An exact version of each dependency, inside its range."""
    versions = locked.locked()
    for name, requirement in ranges().items():
        assert requirement.specifier.contains(versions[name]), f"{name}=={versions[name]} is not in {requirement}"


def test_a_difference_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing, what is more, what is another version."""
    monkeypatch.setattr(locked, "installed", lambda: {"a": "1", "b": "2"})
    monkeypatch.setattr(locked, "locked", lambda: {"b": "3", "c": "4"})
    assert locked.differences() == [
        "a: installed 1, locked not",
        "b: installed 2, locked 3",
        "c: installed not, locked 4",
    ]


def test_the_image_installs_the_list() -> None:
    """The Dockerfile takes these versions and no others."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "deploy/locked.txt" in dockerfile
    assert "--constraint deploy/locked.txt" in dockerfile
