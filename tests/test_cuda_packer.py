"""The `cuda` solver: the bytes of the compiled CPU solver, interpreted on a CPU and, where there is one, on a GPU."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from tests.kept_venv import ROOT

TRITON = importlib.util.find_spec("triton") is not None
DEVICES = (
    pytest.param("cpu", id="interpreted"),
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(
            not torch.cuda.is_available(), reason="NO GPU: the kernels ran in the interpreter only"
        ),
    ),
)
NAMES = (
    "lognormal",
    "ties",
    "zeros",
    "equal",
    "sparse",
    "heaviest",
    "one pack",
    "one item",
    "one item a pack",
    "two items a pack",
    "five items a pack",
    "eleven items a pack",
    "many packs",
    "far singles",
    "several tables",
    "targets at different restarts",
    "no refinement",
    "no refinement, some at the target",
    "tiles smaller than packs",
    "sorted by torch",
    "split by rows",
    "a row at a time",
    "searches",
    "choice",
)
needs_triton = pytest.mark.skipif(not TRITON, reason="NO TRITON: pip install 'trimtab[cuda]' tests the cuda solver")


@functools.cache
def answers(device: str) -> dict[str, Any]:
    """What tests/cuda_cases.py found."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    result = subprocess.run(
        [sys.executable, "-m", "tests.cuda_cases", device],
        cwd=ROOT,
        env=environment | ({"TRITON_INTERPRET": "1"} if device == "cpu" else {}),
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@needs_triton
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", NAMES)
def test_same_bytes_as_the_cpu_solver(device: str, name: str) -> None:
    """Packs, ranks and winners, in every case."""
    assert answers(device)[name]["differing"] == []


@needs_triton
def test_no_case_is_left_out() -> None:
    """Every case that ran is asserted above."""
    assert set(answers("cpu")) == set(NAMES)


@needs_triton
def test_cases_reach_every_kind_of_swap() -> None:
    """Near singles, pairs and far singles were all found, and restarts other than the first win."""
    found = answers("cpu")
    assert found["lognormal"]["swaps"]["single"] > 0
    assert found["lognormal"]["swaps"]["pair"] > 0
    assert found["far singles"]["swaps"]["far single"] > 0
    assert found["no refinement"]["swaps"] == {}
    assert found["targets at different restarts"]["winners"] == [0, 3, 2, 0, 0, 0]
    assert found["lognormal"]["winners"] == [3, 3]


@needs_triton
def test_launches_are_few() -> None:
    """Three kernels a part, whatever the rows; two where torch sorts."""
    found = answers("cpu")
    assert found["lognormal"]["launches"] == 3
    assert found["sorted by torch"]["launches"] == 2
    assert found["split by rows"]["launches"] == 9
    assert found["a row at a time"]["launches"] == 9


def _refusal(device: str, before: str = "", interpret: str = "0") -> str:
    code = f"{before}\nfrom trimtab_server.solvers.cuda_packer import CudaPacker\nCudaPacker({device!r})"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"TRITON_INTERPRET": interpret, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 1
    return result.stderr.strip().splitlines()[-1]


def test_without_triton_it_says_what_to_install() -> None:
    """At construction; the module itself can be imported."""
    assert _refusal("cuda", "import sys; sys.modules['triton'] = None") == (
        "RuntimeError: the cuda solver needs Triton: pip install 'trimtab[server,cuda]'"
    )


@needs_triton
@pytest.mark.parametrize(
    ("device", "interpret", "message"),
    [
        ("cuda", "0", "the cuda solver needs a CUDA device, and torch sees none"),
        ("cpu", "0", "the cuda solver runs on a CUDA device, not on 'cpu'"),
        ("cuda", "1", "TRITON_INTERPRET is set: Triton's interpreter works on device 'cpu' alone"),
        ("tpu", "1", None),
    ],
)
def test_a_device_that_is_not_there_is_refused(device: str, interpret: str, message: str | None) -> None:
    """At construction, in one sentence."""
    assert _refusal(device, interpret=interpret) == f"RuntimeError: {message}" if message else _refusal(device)
