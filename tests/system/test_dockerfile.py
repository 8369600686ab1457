"""The Dockerfile, as linters see it; each exception stands beside what it excuses, with its reason."""

from __future__ import annotations

import re

from tests.kept_venv import ROOT
from tests.system.tools import run, said

DOCKERFILE = ROOT / "Dockerfile"
EXCUSES = re.compile(r"^# (?:hadolint ignore=(\S+)|checkov:skip=([^:\s]+))(.*)$", re.MULTILINE)


def test_hadolint_finds_nothing() -> None:
    """Not even something for information."""
    result = run("hadolint", "--failure-threshold=style", DOCKERFILE)
    assert (result.returncode, result.stdout) == (0, ""), said(result)


def test_checkov_finds_nothing() -> None:
    """Its policies for images pass."""
    options = ("--skip-download", "--quiet", "--compact", "--output=cli")
    result = run("checkov", "--framework=dockerfile", f"--file={DOCKERFILE}", *options)
    assert result.returncode == 0, said(result)
    assert "Failed checks: 0" in result.stdout, said(result)


def test_each_exception_has_its_reason() -> None:
    """What is excused is excused in the open."""
    found = EXCUSES.findall(DOCKERFILE.read_text())
    assert found
    for hadolint, checkov, reason in found:
        assert len(reason.split()) > 3, f"{hadolint}{checkov} has no reason"
