"""What the rebalance solver is measured against: placements as DeepSeek's expert-parallel load balancer (EPLB) makes.

Our own code, after the description of its global policy: every further replica goes to the expert with the most load
per replica, then replicas go one at a time, heaviest first, to the lightest GPU with room. It knows of no windows (they
are averaged) and of no placement before: every call moves nearly everything.

As there, replicas are given out for all layers at once, and packing is a Python loop over layers and replicas in which
the loads of GPUs are scalars of torch. Comparing those is most of its time; `placed_by` takes other forms of packing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.baselines import Packs

Placement = npt.NDArray[np.int32]
"""[num_layers, num_slots], the expert in each slot; the slots of a GPU lie side by side."""


def place_experts(load: npt.NDArray[Any], num_replicas: int, num_gpus: int) -> Placement:
    """A fresh placement as the original makes it.

    Args:
        load: [num_windows, num_layers, num_experts], tokens.
        num_replicas: slots of a layer, at least num_experts. num_gpus: divides them.

    Returns:
        [num_layers, num_replicas]: the expert in each slot.
    """
    return placed_by(torch_greedy, load, num_replicas, num_gpus)


def placed_by(
    pack: Callable[[npt.NDArray[Any], int], Packs], load: npt.NDArray[Any], num_replicas: int, num_gpus: int
) -> Placement:
    """The same with another form of the packing: `pack(weight [num_layers, num_replicas], num_gpus)`."""
    mean = torch.from_numpy(load.mean(axis=0, dtype=np.float32))
    expert, count = _replicate(mean, num_replicas)
    weight = (mean / count).gather(1, expert)
    gpu = pack(weight.numpy(), num_gpus)
    in_slots = np.take_along_axis(expert.numpy(), gpu.argsort(axis=1, kind="stable"), axis=1)
    return in_slots.astype(np.int32)


def torch_greedy(weight: npt.NDArray[Any], num_packs: int) -> Packs:
    """Heaviest first to the lightest pack with room, layer by layer, the loads of packs being scalars of torch.

    Args:
        weight: [layers, items]. num_packs: divides items.

    Returns:
        [layers, items]: the pack of each item.
    """
    size = weight.shape[1] // num_packs
    weights = torch.from_numpy(weight)
    answer = torch.empty(weights.shape, dtype=torch.int64)
    order = weights.sort(dim=1, descending=True, stable=True).indices
    for layer, row in enumerate(weights):
        load, held = list(torch.zeros(num_packs)), [0] * num_packs
        room = list(range(num_packs))
        for item in order[layer]:
            pack = min(room, key=load.__getitem__)  # the lowest of equals
            load[pack] = load[pack] + row[item]
            answer[layer, item] = pack
            held[pack] += 1
            if held[pack] == size:
                room.remove(pack)
    packs: Packs = answer.numpy()
    return packs


def _replicate(load: Tensor, num_replicas: int) -> tuple[Tensor, Tensor]:
    """[layers, replicas], the expert of each replica, and [layers, experts], the replicas of each expert."""
    num_layers, num_experts = load.shape
    layers = torch.arange(num_layers)
    count = torch.ones(load.shape, dtype=torch.int64)
    expert = torch.arange(num_replicas).repeat(num_layers, 1)
    for replica in range(num_experts, num_replicas):
        expert[:, replica] = (load / count).argmax(dim=1)
        count[layers, expert[:, replica]] += 1
    return expert, count
