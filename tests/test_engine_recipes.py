"""The start-up scripts of the engines: a recording goes in, what the engine takes at its start comes out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.kept_venv import ROOT
from trimtab.formats import read_placement, write_loads
from trimtab.synthetic import generate_loads

LAYERS, EXPERTS, GPUS, SLOTS = 4, 16, 4, 24
LOCAL = ("--target", "local")
CLUSTER = ("--gpus", str(GPUS), "--replicas", str(SLOTS))
SCRIPTS = ROOT / "deploy" / "engines"


def run_script(name: str, *arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A script, with the commands of this environment on its path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [SCRIPTS / name, *arguments],
        cwd=cwd,
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


class Recorder:
    """SGLang's three addresses of its recorder, which write what its mode `stat` writes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked, self.window = folder, list[str](), 0
        self.load = generate_loads(LAYERS, EXPERTS, num_windows=3, drift=0.3, seed=2)
        self.load[:, 0] = 0  # dense
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                recorder.asked.append(self.path)
                known = self.path.endswith("_expert_distribution_record")
                if self.path.startswith("/dump"):
                    recorder.dump()
                self.send_response(200 if known else 404)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing to tell."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def dump(self) -> None:
        count = torch.from_numpy(self.load[self.window : self.window + 1].astype(np.int32))
        content = {"rank": 0, "logical_count": count, "average_utilization_rate_over_window": None}
        torch.save(content, self.folder / f"expert_distribution_recorder_{self.window}.5.pt")
        self.window += 1


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    (tmp_path / "dumps").mkdir()
    made = Recorder(tmp_path / "dumps")
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def test_sglang_is_recorded_and_gets_a_placement_and_then_a_better_one(tmp_path: Path, recorder: Recorder) -> None:
    """Start, stop, dump; the new dump alone is read; the second time few experts move."""
    (recorder.folder / "expert_distribution_recorder_0.1.pt").write_bytes(b"an old one, cut off")
    os.utime(recorder.folder / "expert_distribution_recorder_0.1.pt", (1, 1))
    told = {
        "SGLANG_URL": recorder.url,
        "SGLANG_EXPERT_DISTRIBUTION_RECORDER_DIR": str(recorder.folder),
        "RECORD_SECONDS": "0",
    }
    first = run_script("sglang.sh", *CLUSTER, *LOCAL, cwd=tmp_path, **told)
    assert first.returncode == 0, first.stderr
    paths = [f"/{verb}_expert_distribution_record" for verb in ("start", "stop", "dump")]
    assert recorder.asked == paths
    assert "Start the server with --init-expert-location placement.json" in first.stdout
    before = json.loads((tmp_path / "placement.json").read_text())["physical_to_logical_map"]
    assert np.shape(before) == (LAYERS, SLOTS)
    second = run_script("sglang.sh", *CLUSTER, *LOCAL, "--max-moves", "5", cwd=tmp_path, **told)
    assert second.returncode == 0, second.stderr
    after = json.loads((tmp_path / "placement.json").read_text())["physical_to_logical_map"]
    assert 0 < np.sum(np.array(before) != np.array(after)) <= 10


def test_what_sglang_does_not_do_is_told(tmp_path: Path, recorder: Recorder) -> None:
    """No server, no folder, a server that dumps elsewhere: one line each, and no placement."""
    recorder.dump = lambda: None  # type: ignore[method-assign]  # into another folder
    folder = str(recorder.folder)
    for told, message in (
        ({"SGLANG_URL": "http://127.0.0.1:1"}, "the server at http://127.0.0.1:1 can't start a record; does it run"),
        ({"SGLANG_EXPERT_DISTRIBUTION_RECORDER_DIR": "no"}, "there is no folder no; SGLANG_EXPERT_DISTRIBUTION_RECORD"),
        ({}, f"no new dump in {folder}; SGLANG_EXPERT_DISTRIBUTION_RECORDER_DIR must be that of the server"),
    ):
        usual = {"SGLANG_URL": recorder.url, "SGLANG_EXPERT_DISTRIBUTION_RECORDER_DIR": folder, "RECORD_SECONDS": "0"}
        ran = run_script("sglang.sh", *CLUSTER, *LOCAL, cwd=tmp_path, **{**usual, **told})
        assert (ran.returncode, message in ran.stderr) == (2, True), ran.stderr
        assert not (tmp_path / "placement.json").exists()


def test_tensorrt_llm_gets_its_yaml(tmp_path: Path) -> None:
    """Statistics of two ranks go in, a file with the model's layer numbers comes out."""
    from safetensors.numpy import save_file  # noqa: PLC0415  # for this test alone

    load = generate_loads(LAYERS, EXPERTS, num_windows=2, drift=0.2, seed=3)
    (tmp_path / "stats").mkdir()
    for rank in range(2):
        counts = {f"{100 + i}_{3 + j}": load[i, j] // 2 for i in range(2) for j in range(LAYERS)}
        save_file(counts, tmp_path / "stats" / f"rank{rank}.safetensors")
    meta = {"num_experts": EXPERTS, "num_experts_per_token": 2}
    (tmp_path / "stats" / "meta_info.json").write_text(json.dumps(meta))
    ran = run_script("tensorrt_llm.sh", "stats", *CLUSTER, *LOCAL, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "load_balancer: moe_load_balancer.yaml" in ran.stdout
    assert read_placement(tmp_path / "moe_load_balancer.yaml").layers.tolist() == [3, 4, 5, 6]


def test_vllm_ascend_gets_its_map(tmp_path: Path) -> None:
    """Of the layers that were chosen; a second map starts from the first, whose devices it knows."""
    load = generate_loads(LAYERS, EXPERTS, num_windows=2, drift=0.3, seed=3)
    write_loads(tmp_path / "loads.npz", load[0])
    write_loads(tmp_path / "later.npz", load[1])
    first = run_script("vllm_ascend.sh", "loads.npz", "--layers", "1-3", *CLUSTER, *LOCAL, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert """'{"eplb_config": {"expert_map_path": "expert_map.json"}}'""" in first.stdout
    stored = read_placement(tmp_path / "expert_map.json")
    assert (stored.physical_to_logical.shape, stored.num_gpus) == ((3, SLOTS), GPUS)
    options = ("later.npz", "--layers", "1-3", *LOCAL, "--max-moves", "6")
    second = run_script("vllm_ascend.sh", *options, cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    moved = (read_placement(tmp_path / "expert_map.json").physical_to_logical != stored.physical_to_logical).sum()
    assert 0 < moved <= 12


@pytest.mark.parametrize("name", ["sglang.sh", "tensorrt_llm.sh", "vllm_ascend.sh"])
def test_each_tells_what_it_does(tmp_path: Path, name: str) -> None:
    """Without anything, and when it is asked; what trimtab says of wrong options is passed on."""
    alone, asked = run_script(name, cwd=tmp_path), run_script(name, "--help", cwd=tmp_path)
    assert alone.stdout == asked.stdout
    assert f"usage: {name}" in alone.stdout
    assert "examples:" in alone.stdout
