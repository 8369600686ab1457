"""The client with the oldest packages that it says it works with, against a server with the newest."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.kept_venv import NEWEST_PYTHON_OF_2024, ROOT, kept_venv
from trimtab.cli.server_process import running_server

OLDEST = {"grpcio": "1.62", "grpcio-status": "1.62", "protobuf": "4.25", "numpy": "1.26"}


def _call_everything(python: Path, target: str) -> Any:
    script = ROOT / "tests" / "call_everything.py"
    called = subprocess.run(
        [python, script, target],
        env={**os.environ, "PYTHONPATH": str(ROOT / "client")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert called.returncode == 0, called.stderr
    return json.loads(called.stdout)


@pytest.mark.timeout(600)  # the first run installs the packages
@pytest.mark.skipif(
    sys.version_info[:2] > NEWEST_PYTHON_OF_2024,
    reason=f"THE OLDEST RUNTIME IS NOT TESTED HERE: grpcio {OLDEST['grpcio']} has no wheel for this Python",
)
def test_oldest_packages_get_the_answers_of_the_newest() -> None:
    """Both clients, on the oldest and the newest packages, get the same packings, placements, errors and limits."""
    oldest = kept_venv("oldest", *(f"{name}=={version}.*" for name, version in OLDEST.items()))
    with running_server() as server:
        old = _call_everything(oldest, server.listen)
        new = _call_everything(Path(sys.executable), server.listen)

    for name, version in OLDEST.items():
        assert old["versions"][name].startswith(f"{version}."), "not the packages that this test is about"
        assert new["versions"][name] != old["versions"][name]
    assert [field for field, _ in old["blocking"]["refused"]] == ["num_packs"]
    assert old["blocking"]["placed"] != old["blocking"]["moved"]
    assert old["blocking"] == old["awaiting"] == new["blocking"] == new["awaiting"]
