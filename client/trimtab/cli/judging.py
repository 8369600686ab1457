"""What a placement is worth, counted here from loads and slots, whatever its solver says of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from trimtab.cli.figures import Figures
from trimtab.replication import count_replicas

Slots = npt.NDArray[np.int64]
"""[num_layers, num_replicas]: the expert of each slot, -1 where it is empty; GPUs have equally many slots in a row."""


def layer_balancedness(load: npt.NDArray[Any], slots: Slots, num_gpus: int) -> Figures:
    """[num_layers]: mean over max load of the GPUs, nan for a layer without load.

    Args:
        load: [num_layers, num_experts]; replicas share that of their expert evenly.
        slots: [num_layers, num_replicas], every expert in one of them at least.
        num_gpus: divides num_replicas.
    """
    num_layers, num_experts = load.shape
    share = load / count_replicas(slots, num_experts)
    carried = np.where(slots >= 0, np.take_along_axis(share, slots.clip(min=0), axis=1), 0.0)
    on_gpu = carried.reshape(num_layers, num_gpus, -1).sum(axis=2)
    most = on_gpu.max(axis=1)
    found: Figures = np.divide(on_gpu.mean(axis=1), most, out=np.full(num_layers, np.nan), where=most > 0)
    return found


def count_received(before: Slots, after: Slots, num_gpus: int) -> npt.NDArray[np.int64]:
    """[num_gpus]: the copies that each GPU holds after and not before, over all layers; their sum is the moves."""
    num_experts = int(max(before.max(), after.max())) + 1
    held_before, held_after = (copies_held(slots, num_gpus, num_experts) for slots in (before, after))
    received: npt.NDArray[np.int64] = np.maximum(held_after - held_before, 0).sum(axis=(0, 2))
    return received


def copies_held(slots: npt.NDArray[np.integer[Any]], num_gpus: int, num_experts: int) -> npt.NDArray[np.int64]:
    """[num_layers, num_gpus, num_experts]: how often a GPU holds an expert, in slots as above."""
    num_layers = len(slots)
    by_gpu = slots.reshape(num_layers * num_gpus, -1)  # counted as layers are
    return count_replicas(by_gpu, num_experts).reshape(num_layers, num_gpus, -1)
