"""What a start leaves out: torch where no GPU can be, all heavy parts where none is used, and looking for garbage."""

from __future__ import annotations

import _ctypes
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trimtab.formats import write_loads
from trimtab_server import devices
from trimtab_server.devices import DeviceError, make_packer

HEAVY = ("grpc", "matplotlib", "numba", "prometheus_client", "torch", "triton", "trimtab_server")
TELL = f"""
import atexit, gc, json, sys
def tell():
    loaded = [name for name in {HEAVY} if name in sys.modules]
    print(json.dumps({{"loaded": loaded, "frozen": gc.get_freeze_count() > 0, "collects": gc.isenabled()}}))
atexit.register(tell)
"""
COMMAND = f"{TELL}\nfrom trimtab.cli import main\nmain()"
SERVER = f"""{TELL}
import os, signal
from trimtab_server import __main__
end = __main__._end_of
async def stopped(*arguments):
    os.kill(os.getpid(), signal.SIGTERM)
    return await end(*arguments)
__main__._end_of = stopped
__main__.main()
"""
"""The command `trimtab-server`, told to stop as soon as it serves."""
SERVER_FLAGS = ("--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0", "--drain-pause=0", "--log-level=error")


def at_its_end(code: str, *arguments: Any, **environment: str) -> Any:
    """What a process tells of itself when it ends, in JSON, behind whatever else it prints."""
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def looks(monkeypatch: pytest.MonkeyPatch, dev: Path, driver: str = "libnone.so.1") -> None:
    """Makes this machine look as one with these device files and this driver."""
    monkeypatch.setattr(devices, "_DEV", dev)
    monkeypatch.setattr(devices, "_DRIVER", driver)


def no_torch() -> int:
    raise AssertionError("torch was asked")


@pytest.fixture(params=["cpu", "auto"])
def device(request: pytest.FixtureRequest) -> str:
    """A setting under which a machine without a GPU does without torch."""
    if request.param == "auto" and devices._may_have_gpu():
        pytest.skip("THIS MACHINE MAY HAVE A GPU: what auto leaves out without one was not tested")
    return str(request.param)


def test_a_local_rebalance_does_without_torch(device: str, tmp_path: Path) -> None:
    """From nothing and from its own answer, as whole processes."""
    loads, placement = tmp_path / "loads.json", tmp_path / "placement.json"
    write_loads(loads, np.random.default_rng(0).lognormal(size=(2, 8)))
    arguments = ["rebalance", loads, "--gpus", 4, "--replicas", 12, "--target", "local", "-o"]
    told = at_its_end(COMMAND, *arguments, placement, TRIMTAB_DEVICE=device)
    assert told["loaded"] == ["grpc", "numba", "trimtab_server"]
    again = (*arguments, tmp_path / "next.json", "--previous", placement)
    assert at_its_end(COMMAND, *again, TRIMTAB_DEVICE=device) == told


def test_a_server_does_without_torch(device: str) -> None:
    """Until it serves, and to its end; collecting goes on then, past what starting made."""
    told = at_its_end(SERVER, *SERVER_FLAGS, TRIMTAB_DEVICE=device)
    assert told == {
        "loaded": ["grpc", "numba", "prometheus_client", "trimtab_server"],
        "frozen": True,
        "collects": True,
    }


def test_the_solver_torch_brings_torch() -> None:
    """Whoever asks for it gets it, on the CPU too."""
    assert "torch" in at_its_end(SERVER, *SERVER_FLAGS, "--device=cpu", "--solver=torch")["loaded"]


@pytest.mark.parametrize("arguments", [["--help"], ["rebalance", "--help"], ["replay", "--help"], ["--version"]])
def test_help_needs_no_solver(arguments: list[str]) -> None:
    """The command's parts alone."""
    assert at_its_end(COMMAND, *arguments)["loaded"] == ["grpc"]


def test_a_command_does_not_look_for_garbage_at_its_end() -> None:
    """Python would, through all that was imported."""
    assert at_its_end(COMMAND, "--version")["frozen"]


@pytest.mark.parametrize("check", ["--check-config", "--help"])
def test_a_server_s_settings_need_no_solver(check: str) -> None:
    """Nor gRPC's server, nor metrics."""
    code = f"{TELL.replace('print(', 'print(chr(10), ')}\nfrom trimtab_server.__main__ import main\nmain()"
    assert at_its_end(code, check)["loaded"] == ["grpc", "trimtab_server"]


@pytest.mark.parametrize(
    "name", ["nvidia0", "nvidiactl", "nvidia-caps", "nvidia-uvm", "nvhost-gpu", "nvgpu", "nvmap", "dxg", "kfd"]
)
@pytest.mark.parametrize("count", [0, 1])
def test_a_device_file_has_torch_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, count: int) -> None:
    """A driver is there: of NVIDIA or AMD, on a board or below Windows; what torch says of it counts."""
    (tmp_path / name).touch()
    looks(monkeypatch, tmp_path)
    monkeypatch.setattr(devices, "_count_gpus", lambda: count)
    assert devices._device("auto", "auto") == ("cuda:0" if count else "cpu")


def test_a_driver_s_library_has_torch_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """GPUs in other machines come with a library alone; one that can be loaded is enough."""
    looks(monkeypatch, tmp_path, _ctypes.__file__)
    monkeypatch.setattr(devices, "_count_gpus", lambda: 2)
    assert devices._device("auto", "auto") == "cuda:0"


def test_the_library_is_found_where_the_loader_finds_it(tmp_path: Path) -> None:
    """By its name, on the loader's path."""
    shutil.copy(_ctypes.__file__, tmp_path / "libcuda.so.1")
    code = (
        "from pathlib import Path\nfrom trimtab_server import devices\n"
        "devices._DEV = Path('none')\nprint(str(devices._may_have_gpu()).lower())"
    )
    assert at_its_end(code, LD_LIBRARY_PATH=str(tmp_path))


@pytest.mark.parametrize("name", ["nvme0", "nvram", "null", "dri"])
def test_without_a_driver_torch_is_not_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    """Disks, and graphics without computing, are no GPUs."""
    (tmp_path / name).touch()
    looks(monkeypatch, tmp_path)
    monkeypatch.setattr(devices, "_count_gpus", no_torch)
    assert devices._device("auto", "auto") == "cpu"
    with pytest.raises(DeviceError, match="CUDA devices here: 0"):
        make_packer("auto", "cuda")


@pytest.mark.parametrize(("device", "solver"), [("cpu", "auto"), ("cpu", "torch"), ("auto", "cpu")])
def test_the_cpu_asked_for_has_torch_not_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: str, solver: str
) -> None:
    """Whatever driver there is."""
    (tmp_path / "nvidiactl").touch()
    looks(monkeypatch, tmp_path)
    monkeypatch.setattr(devices, "_count_gpus", no_torch)
    assert devices._device(device, solver) == "cpu"


def test_cuda_asked_for_has_torch_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Even where no driver is seen: whoever asks for a GPU knows of one, and gets torch's own answer."""
    looks(monkeypatch, tmp_path)
    monkeypatch.setattr(devices, "_count_gpus", lambda: 1)
    assert devices._device("cuda:0", "auto") == "cuda:0"
