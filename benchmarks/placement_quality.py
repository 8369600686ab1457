"""What a placement is worth, counted here in numpy and never taken from a solver's answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.rebalance_baseline import Placement
from trimtab.cli.judging import copies_held

Loads = npt.NDArray[Any]
"""[num_windows, num_layers, num_experts], tokens."""
Copies = npt.NDArray[np.int64]
"""[num_layers, num_gpus, num_experts]: how often a GPU holds an expert."""

_ROUNDING = 1e-9
"""A layer's balancedness may seem to fall by this much: solvers round loads to whole numbers."""


def balancedness(load: Loads, held: Copies) -> npt.NDArray[np.float64]:
    """[num_layers]: mean over max load of the GPUs, its mean over windows; every layer has load in every window."""
    share = load / held.sum(axis=1)
    on_gpu = np.einsum("lge,tle->tlg", held, share)
    ratio: npt.NDArray[np.float64] = (on_gpu.mean(axis=2) / on_gpu.max(axis=2)).mean(axis=0)
    return ratio


def count_moves(before: Copies, after: Copies) -> int:
    """Copies held now and not before."""
    return int(np.maximum(after - before, 0).sum())


def count_duplicates(held: Copies) -> npt.NDArray[np.int64]:
    """[num_layers]: copies beyond the first of an expert on a GPU."""
    duplicates: npt.NDArray[np.int64] = np.maximum(held - 1, 0).sum(axis=(1, 2))
    return duplicates


class Quality(NamedTuple):
    """Figures of a placement, or their means over several."""

    balancedness: float
    moves: float
    """nan where nothing was placed before."""
    duplicates: float

    @classmethod
    def of(cls, placement: Placement, load: Loads, num_gpus: int, previous: Placement | None) -> Quality:
        """Over all layers; balancedness is the plain mean of theirs."""
        num_experts = load.shape[2]
        held = copies_held(placement, num_gpus, num_experts)
        moves = float("nan") if previous is None else count_moves(copies_held(previous, num_gpus, num_experts), held)
        return cls(float(balancedness(load, held).mean()), moves, float(count_duplicates(held).sum()))

    @classmethod
    def mean(cls, qualities: Iterable[Quality]) -> Quality:
        """Of several placements."""
        return cls(*np.mean(list(qualities), axis=0).tolist())


def find_faults(
    placement: Placement, load: Loads, num_gpus: int, *, previous: Placement | None = None, max_moves: int | None = None
) -> list[str]:
    """What a placement must keep to and does not; nothing for a valid one without empty slots."""
    _, num_layers, num_experts = load.shape
    if len(placement) != num_layers or placement.shape[1] % num_gpus:
        return [f"shape {placement.shape}, {num_layers} layers and {num_gpus} GPUs there are"]
    if placement.min() < 0 or placement.max() >= num_experts:
        return [f"experts go from {placement.min()} to {placement.max()}, {num_experts} there are"]
    held = copies_held(placement, num_gpus, num_experts)
    if not held.sum(axis=1).all():
        return [f"{int((held.sum(axis=1) == 0).sum())} experts are nowhere"]
    if previous is None:
        return ["a GPU holds an expert twice"] if count_duplicates(held).any() else []
    before = copies_held(previous, num_gpus, num_experts)
    moves = count_moves(before, held)
    faults = {
        f"{moves} moves, {max_moves} allowed": max_moves is not None and moves > max_moves,
        "a layer has more duplicates than before": (count_duplicates(held) > count_duplicates(before)).any(),
        "a layer is worse than before": (balancedness(load, held) < balancedness(load, before) - _ROUNDING).any(),
    }
    return [fault for fault, found in faults.items() if found]
