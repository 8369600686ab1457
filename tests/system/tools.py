"""The foreign tools that the system tests run; one that is missing fails the test, and says what gets it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.kept_venv import ROOT

NODE_MODULES = ROOT / ".tools" / "node_modules"
TOOLS_VENV = ROOT / ".tools" / "venv"


def tool(name: str) -> str:
    """The path of a command, of `make tools` first, else of the system."""
    found = shutil.which(name, path=f"{NODE_MODULES / '.bin'}:{TOOLS_VENV / 'bin'}") or shutil.which(name)
    if found is None or not NODE_MODULES.is_dir():
        pytest.fail(f"{name if found is None else NODE_MODULES} is not here: make tools")
    return found


def run(name: str, *arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """A tool, run from the root of the repository; what it returns and says is the test's to judge."""
    return subprocess.run(
        [tool(name), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
        env={**os.environ, "NODE_PATH": str(NODE_MODULES)},
    )


def said(result: subprocess.CompletedProcess[str]) -> str:
    """All that a tool said, for the message of a failed assertion."""
    return f"exit status {result.returncode}\n{result.stdout}{result.stderr}"


def free_port() -> int:
    """A TCP port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
