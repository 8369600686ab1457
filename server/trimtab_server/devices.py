"""Which solver packs, and on which device."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable
from pathlib import Path

from trimtab_server.solvers.cpu_packer import CpuPacker
from trimtab_server.solvers.fallback import FallbackPacker
from trimtab_server.solvers.problem import Packer

_DEV = Path("/dev")
_GPU_FILES = ("nvidia*", "nvhost*", "nvgpu*", "nvmap", "dxg", "kfd")
"""Of NVIDIA's drivers, those for boards too; of Windows below WSL; of AMD's driver, which torch for ROCm calls CUDA."""
_DRIVER = "libcuda.so.1"
"""NVIDIA's, and what stands in for it where the GPU is in another machine."""


class DeviceError(Exception):
    """The device or the solver asked for is not there; the message says what is."""


def make_packer(device: str = "auto", solver: str = "auto", threads: int = 0) -> Packer:
    """The packer that settings ask for.

    Args:
        device: `auto` (CUDA where there is one, else the CPU), `cpu`, `cuda` or `cuda:N`.
        solver: `auto` (on CUDA `cuda`, or `torch` without Triton; on the CPU `cpu`), `torch`, `cpu` or `cuda`.
        threads: of the solver `cpu`; 0 for one a CPU.

    Raises:
        DeviceError: no such device, or a solver that does not run on it.
    """
    device = _device(device, solver)
    on_cuda = device != "cpu"
    if solver == "auto":
        solver = ("cuda" if _has_triton() else "torch") if on_cuda else "cpu"
    if solver != "torch" and (solver == "cuda") != on_cuda:
        raise DeviceError(f"--solver {solver} does not run on --device {device}; --solver auto takes one that does")
    if solver == "cpu":
        return CpuPacker(threads or None)
    if solver == "cuda" and not _has_triton():
        raise DeviceError(
            "--solver cuda needs Triton: pip install 'trimtab[server,cuda]', or --solver torch does without"
        )
    return _take(device, solver)


def _take(device: str, solver: str) -> Packer:
    try:
        if solver == "torch":
            from trimtab_server.solvers.torch_packer import TorchPacker  # noqa: PLC0415  # heavy

            return TorchPacker(device)
        from trimtab_server.solvers.cuda_packer import CudaPacker  # noqa: PLC0415  # needs Triton

        packer: Packer = CudaPacker(device)
    except RuntimeError as error:  # a driver that is too old, a device that others hold or that is broken
        raise DeviceError(f"--device {device} does not work: {str(error).partition(chr(10))[0]}") from error
    return packer


def with_fallback(
    packer: Packer, threads: int, on_fallback: Callable[[str], None], on_lost: Callable[[], None]
) -> Packer:
    """A packer that no error of its device can stop: the CPU answers then. On the CPU it is the packer itself."""
    if packer.device == "cpu":
        return packer
    return FallbackPacker(packer, CpuPacker(threads or None), on_fallback, on_lost)


def _device(device: str, solver: str) -> str:
    if device == "cpu":
        return device
    needed = device != "auto" or (solver != "cpu" and _may_have_gpu())
    count = _count_gpus() if needed else 0
    if device == "auto":
        if solver == "cuda" and not count:
            raise DeviceError("--solver cuda: CUDA devices here: 0; --solver auto takes what is there")
        return "cuda:0" if count else "cpu"
    index = int(device.partition(":")[2] or 0)
    if index >= count:
        raise DeviceError(f"--device {device}: CUDA devices here: {count}; --device auto takes what is there")
    return f"cuda:{index}"


def _may_have_gpu() -> bool:
    """Whether torch has to be asked, whose import takes seconds: no GPU works without its driver's files or library."""
    if any(next(_DEV.glob(name), None) for name in _GPU_FILES):
        return True
    try:
        ctypes.CDLL(_DRIVER)
    except OSError:
        return False
    return True


def _count_gpus() -> int:
    import torch  # noqa: PLC0415  # heavy

    return torch.cuda.device_count()


def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None
