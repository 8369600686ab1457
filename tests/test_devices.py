"""Which solver on which device: the whole table, its mistakes word for word, and what the chosen one says of itself."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families

import trimtab
from trimtab.cli.server_process import running_server
from trimtab_server import devices, local
from trimtab_server.devices import DeviceError, make_packer, with_fallback
from trimtab_server.solvers import torch_packer
from trimtab_server.solvers.fallback import FallbackPacker
from trimtab_server.solvers.problem import PackResult, PackTask, tiny_task

WEIGHT = np.random.default_rng(0).lognormal(0, 1, (3, 24))
here = importlib.util.find_spec


class FakePacker:
    """A packer by its name, that packs nothing."""

    def __init__(self, name: str, device: str = "cpu") -> None:
        self.name, self.device = name, device

    def memory_bytes(self) -> int:
        return 0

    def pack(self, task: PackTask) -> PackResult:
        raise RuntimeError(f"CUDA error: no kernel image is available, for {len(task.whole)} rows\nCompile with ...")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes this machine look as one with so many CUDA devices, and with Triton or without."""

    def looks(count: int, triton: bool) -> None:
        monkeypatch.setattr(devices, "_may_have_gpu", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        found = {"triton": object() if triton else None}
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: found[name] if name in found else here(name))
        monkeypatch.setattr(devices, "CpuPacker", lambda threads: FakePacker(f"cpu on {threads}"))
        monkeypatch.setattr(torch_packer, "TorchPacker", lambda device: FakePacker("torch", device))
        module = ModuleType("trimtab_server.solvers.cuda_packer")
        vars(module)["CudaPacker"] = lambda device: FakePacker("cuda", device)
        monkeypatch.setitem(sys.modules, module.__name__, module if triton else None)  # None: it can't be imported

    return looks


@pytest.mark.parametrize(
    ("has", "device", "solver", "expected"),
    [
        ((0, False), "auto", "auto", ("cpu on None", "cpu")),
        ((0, True), "auto", "auto", ("cpu on None", "cpu")),
        ((0, False), "auto", "torch", ("torch", "cpu")),
        ((0, False), "auto", "cpu", ("cpu on None", "cpu")),
        ((0, False), "cpu", "auto", ("cpu on None", "cpu")),
        ((0, False), "cpu", "torch", ("torch", "cpu")),
        ((0, False), "cpu", "cpu", ("cpu on None", "cpu")),
        ((2, True), "auto", "auto", ("cuda", "cuda:0")),
        ((2, False), "auto", "auto", ("torch", "cuda:0")),
        ((2, True), "auto", "torch", ("torch", "cuda:0")),
        ((2, True), "auto", "cuda", ("cuda", "cuda:0")),
        ((2, True), "auto", "cpu", ("cpu on None", "cpu")),
        ((2, True), "cpu", "auto", ("cpu on None", "cpu")),
        ((2, True), "cpu", "torch", ("torch", "cpu")),
        ((2, True), "cpu", "cpu", ("cpu on None", "cpu")),
        ((2, True), "cuda", "auto", ("cuda", "cuda:0")),
        ((2, True), "cuda:1", "auto", ("cuda", "cuda:1")),
        ((2, False), "cuda:1", "auto", ("torch", "cuda:1")),
        ((2, True), "cuda:1", "cuda", ("cuda", "cuda:1")),
        ((2, False), "cuda:1", "torch", ("torch", "cuda:1")),
        ((2, True), "cuda:0", "torch", ("torch", "cuda:0")),
    ],
)
def test_the_choice(machine: Any, has: tuple[int, bool], device: str, solver: str, expected: tuple[str, str]) -> None:
    """CUDA where there is one and nothing speaks against it; Triton where it is; else what is asked for."""
    machine(*has)
    packer = make_packer(device, solver)
    assert (packer.name, packer.device) == expected


HERE_0, HERE_2 = (f"CUDA devices here: {n}; " for n in (0, 2))
NO_TRITON = "--solver cuda needs Triton: pip install 'trimtab[server,cuda]', or --solver torch does without"
NOT_ON = "--solver {} does not run on --device {}; --solver auto takes one that does"


@pytest.mark.parametrize(
    ("has", "device", "solver", "message"),
    [
        ((0, True), "auto", "cuda", f"--solver cuda: {HERE_0}--solver auto takes what is there"),
        ((0, True), "cuda", "auto", f"--device cuda: {HERE_0}--device auto takes what is there"),
        ((0, True), "cuda", "cuda", f"--device cuda: {HERE_0}--device auto takes what is there"),
        ((0, True), "cuda:0", "cpu", f"--device cuda:0: {HERE_0}--device auto takes what is there"),
        ((2, True), "cuda:2", "auto", f"--device cuda:2: {HERE_2}--device auto takes what is there"),
        ((2, True), "cuda:31", "torch", f"--device cuda:31: {HERE_2}--device auto takes what is there"),
        ((0, True), "cpu", "cuda", NOT_ON.format("cuda", "cpu")),
        ((2, True), "cpu", "cuda", NOT_ON.format("cuda", "cpu")),
        ((2, True), "cuda:1", "cpu", NOT_ON.format("cpu", "cuda:1")),
        ((2, False), "auto", "cuda", NO_TRITON),
        ((2, False), "cuda:1", "cuda", NO_TRITON),
    ],
)
def test_what_is_not_there_is_refused(
    machine: Any, has: tuple[int, bool], device: str, solver: str, message: str
) -> None:
    """Nothing else is taken in its place without being asked for; the message says what there is."""
    machine(*has)
    with pytest.raises(DeviceError) as caught:
        make_packer(device, solver)
    assert str(caught.value) == message


def test_threads_are_the_cpu_solver_s(machine: Any) -> None:
    """0 leaves the number to it."""
    machine(0, triton=False)
    assert [make_packer(threads=threads).name for threads in (3, 0)] == ["cpu on 3", "cpu on None"]


@pytest.mark.parametrize(("solver", "triton"), [("CudaPacker", True), ("TorchPacker", False)])
def test_a_device_that_cannot_be_taken_is_named(
    machine: Any, monkeypatch: pytest.MonkeyPatch, solver: str, triton: bool
) -> None:
    """With the first line of what torch says of it, as of a driver that is too old."""
    machine(1, triton)
    home = sys.modules["trimtab_server.solvers.cuda_packer"] if triton else torch_packer
    monkeypatch.setattr(home, solver, lambda device: FakePacker("cuda", device).pack(tiny_task()))
    with pytest.raises(DeviceError) as caught:
        make_packer()
    assert str(caught.value) == "--device cuda:0 does not work: CUDA error: no kernel image is available, for 1 rows"


def test_only_a_device_needs_the_cpu_behind_it() -> None:
    """On the CPU the packer itself serves."""
    bare, device = FakePacker("torch"), FakePacker("cuda", "cuda:0")
    assert with_fallback(bare, 1, lambda _reason: None, lambda: None) is bare
    assert isinstance(with_fallback(device, 1, lambda _reason: None, lambda: None), FallbackPacker)


needs_no_cuda = pytest.mark.skipif(
    torch.cuda.device_count() > 0, reason="THIS MACHINE HAS CUDA: what is said without it was not tested"
)


@needs_no_cuda
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--solver", "cuda"), f"--solver cuda: {HERE_0}--solver auto takes what is there"),
        (("--device", "cuda"), f"--device cuda: {HERE_0}--device auto takes what is there"),
        (("--device", "cpu", "--solver", "cuda"), NOT_ON.format("cuda", "cpu")),
    ],
)
def test_a_server_without_its_device_ends_with_one_line(arguments: tuple[str, ...], message: str) -> None:
    """On standard error, with exit status 1, before it listens anywhere."""
    result = subprocess.run(
        [sys.executable, "-m", "trimtab_server", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (1, "", f"trimtab-server: {message}\n")


@pytest.mark.parametrize("solver", ["torch", "cpu"])
def test_the_solver_asked_for_is_the_one_that_serves(solver: str) -> None:
    """Answers, description, log and metrics all say so; and its bytes are those of the other."""
    with running_server("--device=cpu", f"--solver={solver}", "--solver-threads=1") as server:
        with trimtab.Client(server.listen) as client:
            packing = client.pack(WEIGHT, 4)
            assert (packing.execution.solver, packing.execution.device) == (solver, "cpu")
            assert client.describe().solvers == ((solver, "cpu"),)
        assert (server.serving["solver"], server.serving["device"]) == (solver, "cpu")
        samples = [sample for family in text_string_to_metric_families(server.scrape()) for sample in family.samples]
    said = {sample.name: sample.labels for sample in samples}
    assert said["trimtab_build_info"].items() >= {"solver": solver, "device": "cpu"}.items()
    assert said["trimtab_solve_seconds_count"] == {"operation": "pack", "solver": solver}
    np.testing.assert_array_equal(packing.pack_index, local_packing().pack_index)


def local_packing() -> trimtab.Packing:
    with trimtab.Client("local") as client:
        return client.pack(WEIGHT, 4)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"DEVICE": "gpu"},
            "target 'local': --device (TRIMTAB_DEVICE): must be auto, cpu, cuda or cuda:N, got 'gpu'",
        ),
        (
            {"MAX_ROWS": "0"},
            "target 'local': --max-rows (TRIMTAB_MAX_ROWS): Input should be greater than 0, got '0'",
        ),
        ({"DEVICE": "cuda:9"}, f"target 'local': --device cuda:9: {HERE_0}--device auto takes what is there"),
        ({"DEVICE": "cpu", "SOLVER": "cuda"}, f"target 'local': {NOT_ON.format('cuda', 'cpu')}"),
    ],
)
def test_local_tells_wrong_variables_as_a_server_does(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], message: str
) -> None:
    """In the client's own error: a caller need not know of the server's."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for name, value in variables.items():
        monkeypatch.setenv(f"TRIMTAB_{name}", value)
    with pytest.raises(trimtab.TrimtabError) as caught:
        trimtab.Client("local")
    assert str(caught.value) == message


def test_local_answers_where_its_device_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the CPU, as a server does."""
    expected = local_packing()
    monkeypatch.setattr(local, "make_packer", lambda *_: FakePacker("cuda", "cuda:0"))
    packing = local_packing()
    assert packing.execution.solver == "cpu"
    np.testing.assert_array_equal(packing.pack_index, expected.pack_index)
