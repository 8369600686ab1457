"""The documentation: its links lead somewhere, and its Python runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.kept_venv import ROOT
from tests.secure import Certificates
from trimtab.cli.server_process import ServerProcess, running_server

PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
README = PAGES[0].read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: object) -> None:
    """Every relative link is a file of this repository."""
    path = next(p for p in PAGES if p == page)
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text())
    missing = [link for link in links if not (path.parent / link).exists()]
    assert not missing


def test_the_readme_s_python_runs(server: ServerProcess) -> None:
    """As it stands there, but for the address."""
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    found: dict[str, Any] = {}
    for code in blocks:
        assert "127.0.0.1:50051" in code
        if "ca=" in code:  # that is for the next test
            continue
        exec(code.replace("127.0.0.1:50051", server.listen), found)  # noqa: S102  # our own page
    assert found["packing"].pack_index.shape == (58, 288)
    assert found["placement"].physical_to_logical.shape == (58, 288)
    assert 0 < found["placement"].moves.sum() <= 1800


def test_the_readme_s_way_to_call_securely_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the files that its commands make."""
    certificates = Certificates(tmp_path)
    (tmp_path / "ca.pem").write_bytes(certificates.trusted)
    (block,) = re.findall(r"```console\n(\$ umask 077; trimtab-server --new-token.*?)```", README, re.DOTALL)
    made, filed, serve, describe = (line.removeprefix("$ ").partition("  #")[0] for line in block.splitlines())
    (code,) = [code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "ca=" in code]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    subprocess.run(["sh", "-ec", f"{made}\n{filed}"], check=True, timeout=60, capture_output=True)
    flags = serve.replace("0.0.0.0:50051", "127.0.0.1:0").split()[1:]
    with running_server(*flags) as process:
        command = describe.replace("placement:50051", process.listen).split()
        assert "trimtab" in subprocess.run(command, check=True, timeout=60, capture_output=True, text=True).stdout
        exec(code.replace("127.0.0.1:50051", process.listen), {})  # noqa: S102  # our own page
        assert process.wait_for(event="call", method="Describe")["caller"] == "controller"


def test_the_tests_that_the_pages_name_exist() -> None:
    """A defence without a test is a hope."""
    named = re.findall(r"`(test_\w+)::(\w+|\*)`", (ROOT / "docs" / "security.md").read_text())
    assert len(named) > 20
    missing = [
        f"{module}::{test}"
        for module, test in named
        if test != "*" and f"def {test}(" not in (ROOT / "tests" / f"{module}.py").read_text()
    ]
    assert not missing
