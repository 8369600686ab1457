"""A machine whose date is set while calls are under way."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

import trimtab
from tests.system.tools import tool
from trimtab.cli.server_process import running_server

WEIGHT = np.random.default_rng(0).lognormal(size=(5, 24))


def faked(date_file: Path) -> dict[str, str]:
    """The environment of a process that takes its date from a file; the monotonic clock stays the machine's."""
    shown = [tool("faketime"), "-f", "+0", "env"]
    environment = dict(
        line.split("=", 1) for line in subprocess.check_output(shown, text=True).splitlines() if "=" in line
    )
    kept = {name: environment[name] for name in ("LD_PRELOAD",)}
    return {
        **os.environ,
        **kept,
        "FAKETIME_TIMESTAMP_FILE": str(date_file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


@pytest.mark.parametrize("jump", ["-2d", "+2d"])
def test_the_date_may_be_set_under_load(jump: str, tmp_path: Path) -> None:
    """Calls with a deadline are answered before, across and after a jump; none is taken for expired."""
    date_file = tmp_path / "date"
    date_file.write_text("+0")
    with running_server(environment=faked(date_file)) as process, trimtab.Client(process.listen, timeout=20) as client:
        packings = [client.pack(WEIGHT, 4)]
        date_file.write_text(jump)
        packings += [client.pack(WEIGHT, 4) for _ in range(20)]
        date_file.write_text("+0")
        packings += [client.pack(WEIGHT, 4) for _ in range(20)]
        dates = {line["timestamp"][:10] for line in process.log if line["event"] == "call"}
        assert 'trimtab_rejected_total{reason="expired"} 0.0' in process.scrape()
        assert process.stop() == 0
    assert len(dates) >= 2, "the server did not see the jump"
    for packing in packings[1:]:
        np.testing.assert_array_equal(packing.pack_index, packings[0].pack_index)
