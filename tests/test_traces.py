"""Real loads through a real server, judged by a program that shares no code with this project."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import trimtab
from tests.conftest import TRACES
from trimtab import wire
from trimtab.cli.server_process import ServerProcess
from trimtab.replication import replicate_experts, slot_weight

JUDGE = Path(os.environ.get("TRIMTAB_JUDGE") or TRACES.parent / "judge" / "judge.py")
NUM_PACKS, NUM_REPLICAS = 32, 288


def judged(folder: Path, weight: wire.Array, packing: trimtab.Packing) -> str:
    if not JUDGE.exists():
        pytest.skip(f"NO JUDGE: {JUDGE} is missing (set TRIMTAB_JUDGE), so nobody independent looked at these answers")
    arrays = {"weight": weight, "index": packing.pack_index, "rank": packing.rank_in_pack}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    files = [part for name in arrays for part in (f"--{name}", str(folder / f"{name}.npy"))]
    command = [sys.executable, str(JUDGE), "packing", "--packs", str(NUM_PACKS), *files]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_every_real_load_is_packed_well(server: ServerProcess, traces: list[Path], tmp_path: Path) -> None:
    """Valid by the judge, dense layers included; its figures are those that the answer claims."""
    with trimtab.Client(server.listen) as client:
        for trace in traces:
            load = np.array(json.loads(trace.read_text())["logical_count"])
            weight = slot_weight(load, *replicate_experts(load, NUM_REPLICAS))
            packing = client.pack(weight, NUM_PACKS)
            assert np.isnan(packing.balancedness).sum() == (load.sum(1) == 0).sum() == 3
            words = judged(tmp_path, weight, packing).split()
            said = {name: float(value) for name, value in zip(words[::2], words[1::2], strict=True) if name != "worst"}
            assert said["balancedness"] == pytest.approx(np.nanmean(packing.balancedness), abs=1e-5), trace.name
            assert said["gap"] == pytest.approx(np.nanmean(packing.gap), rel=0.01, abs=1e-8), trace.name
            assert said["balancedness"] > 0.97, trace.name
            assert said["gap"] < 1e-2, trace.name


def test_the_judge_can_say_no(traces: list[Path], tmp_path: Path) -> None:
    """A packing with two items swapped out of place is not valid."""
    assert traces
    weight = np.random.default_rng(0).random((2, NUM_REPLICAS))
    with trimtab.Client("local") as client:
        packing = client.pack(weight, NUM_PACKS)
    packing.pack_index[0, 0] = (packing.pack_index[0, 0] + 1) % NUM_PACKS
    with pytest.raises(AssertionError, match="invalid"):
        judged(tmp_path, weight, packing)
