"""The documentation: its links lead somewhere, and its Python runs."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.kept_venv import ROOT
from trimtab.cli.server_process import ServerProcess

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: object) -> None:
    """Every relative link is a file of this repository."""
    path = next(p for p in PAGES if p == page)
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text())
    missing = [link for link in links if not (path.parent / link).exists()]
    assert not missing


def test_the_readme_s_python_runs(server: ServerProcess) -> None:
    """As it stands there, but for the address."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    found: dict[str, Any] = {}
    for code in blocks:
        assert "127.0.0.1:50051" in code
        exec(code.replace("127.0.0.1:50051", server.listen), found)  # noqa: S102  # our own page
    assert found["packing"].pack_index.shape == (58, 288)
    assert found["placement"].physical_to_logical.shape == (58, 288)
    assert 0 < found["placement"].moves.sum() <= 1800
