"""What many tests share: a real server, real traces."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from trimtab.cli.server_process import ServerProcess, running_server

ROOT = Path(__file__).resolve().parent.parent
TRACES = Path(os.environ.get("TRIMTAB_TRACES") or ROOT.parent / "shared" / "traces")

# The machines are shared and slow at times: how long an example takes says nothing about the code.
hypothesis.settings.register_profile("trimtab", deadline=None, print_blob=True)
hypothesis.settings.load_profile("trimtab")


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    """A server with default settings, shared by the tests that only call it."""
    with running_server() as process:
        yield process


@pytest.fixture(scope="session")
def traces() -> list[Path]:
    """The files of real loads; without them the test is skipped, and says where they were looked for."""
    found = sorted(TRACES.glob("*.json"))
    if not found:
        pytest.skip(f"NO REAL LOADS: no *.json in {TRACES}; set TRIMTAB_TRACES to the folder that has them")
    return found
