"""The loads that benchmarks send: the size of DeepSeek-V3 on 32 GPUs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trimtab.replication import replicate_experts, slot_weight
from trimtab.synthetic import generate_loads

NUM_LAYERS, NUM_EXPERTS, NUM_REPLICAS, NUM_PACKS = 58, 256, 288, 32

Weight = npt.NDArray[np.float32]


def request_weight(seed: int) -> Weight:
    """[58, 288]: what each replica carries, experts replicated greedily."""
    load = generate_loads(NUM_LAYERS, NUM_EXPERTS, seed=seed)
    return slot_weight(load, *replicate_experts(load, NUM_REPLICAS)).astype(np.float32)


def request_weights(count: int) -> list[Weight]:
    """Loads of several callers, each its own."""
    return [request_weight(seed) for seed in range(count)]
