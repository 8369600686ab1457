"""Which device solves."""

from __future__ import annotations

import numpy as np
import torch

from trimtab_server.solvers.packing import solve_packs
from trimtab_server.solvers.problem import Packer, PackProblem
from trimtab_server.solvers.torch_packer import TorchPacker


class DeviceError(Exception):
    """The device asked for is not there; the message says what is."""


def make_packer(device: str) -> Packer:
    """The packer for `auto` (CUDA where there is one, else the CPU), `cpu`, `cuda` or `cuda:N`.

    Raises:
        DeviceError: no such device.
    """
    count = torch.cuda.device_count() if device != "cpu" else 0
    if device == "auto":
        device = "cuda" if count else "cpu"
    if device.startswith("cuda"):
        index = int(device.partition(":")[2] or 0)
        if index >= count:
            raise DeviceError(
                f"--device {device}: there are {count} CUDA devices here; --device auto takes what is there"
            )
        device = f"cuda:{index}"
    return TorchPacker(device)


def warm_up(packer: Packer) -> None:
    """Solve once, so that no request pays for loading code and first allocations."""
    weight = np.random.default_rng(0).random((58, 288))
    solve_packs([PackProblem(weight, 32)], packer)
