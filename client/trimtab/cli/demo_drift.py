"""What `trimtab demo` shows of rebalancing: the load drifts, and the placement in force follows within a budget."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from trimtab.answers import Placement
from trimtab.cli.figures import Figures
from trimtab.cli.judging import Slots, count_received
from trimtab.cli.pack import PackReport
from trimtab.cli.tables import show_table, shown
from trimtab.client import Client

DRIFT = 0.1
BUDGET = 0.2
"""Of all slots, those that may change."""


@dataclass(frozen=True, eq=False)
class Drifted:
    """The placement in force after a drift, rebalanced, and placed from nothing instead."""

    budget: int
    rebalanced: Placement
    fresh: Placement
    fresh_moves: int
    """Copies that the placement from nothing holds and the one in force does not."""


def slots_of_packing(report: PackReport) -> Slots:
    """[num_layers, num_items]: the expert of each slot, GPU by GPU, as they were packed."""
    packing, items = report.packing, report.items
    num_layers, num_items = items.weight.shape
    expert = items.physical_to_logical if items.physical_to_logical is not None else np.arange(num_items)
    slots = np.empty((num_layers, num_items), np.int64)
    slot = packing.pack_index * (num_items // report.num_packs) + packing.rank_in_pack
    np.put_along_axis(slots, slot, np.broadcast_to(expert, slots.shape), axis=1)
    return slots


def drift_load(load: npt.NDArray[Any], drift: float, seed: int = 0) -> Figures:
    """[num_layers, num_experts]: loads some time later, as `generate_loads` lets them drift; none stays none.

    The logarithms of popularity correlate by `1 - drift` with those before, and keep their mean and spread.
    """
    some = load > 0
    popularity = np.log(load, out=np.zeros(load.shape), where=some)
    count = np.maximum(some.sum(axis=1, keepdims=True), 1)
    middle = popularity.sum(axis=1, keepdims=True) / count
    off = np.where(some, popularity - middle, 0.0)
    spread = np.sqrt((off**2).sum(axis=1, keepdims=True) / count)
    fresh = spread * np.random.default_rng(seed).standard_normal(load.shape)
    return np.where(some, np.exp(middle + (1 - drift) * off + math.sqrt(1 - (1 - drift) ** 2) * fresh), 0.0)


def rebalance_drifted(client: Client, report: PackReport) -> Drifted:
    """Let the loads of a packing drift, and rebalance it.

    Raises:
        TrimtabError: a call failed.
    """
    in_force, load = slots_of_packing(report), drift_load(report.items.load, DRIFT)
    num_gpus, num_replicas = report.num_packs, in_force.shape[1]
    cluster: dict[str, Any] = {"num_gpus": num_gpus, "num_replicas": num_replicas}
    cluster["allow_duplicates"] = num_replicas > report.items.num_experts * num_gpus  # else there are too many slots
    budget = int(BUDGET * in_force.size)
    rebalanced = client.rebalance(load, previous=in_force, max_moves=budget, **cluster)
    fresh = client.rebalance(load, **cluster)
    moves = count_received(in_force, fresh.physical_to_logical, num_gpus).sum()
    return Drifted(budget, rebalanced, fresh, int(moves))


def show_drifted(console: Console, drifted: Drifted) -> None:
    """Balancedness and moves of each."""
    rebalanced = drifted.rebalanced
    rows = [
        ("the placement in force", shown(rebalanced.balancedness_before)[0], "0"),
        ("rebalanced", shown(rebalanced.balancedness_after)[0], f"{rebalanced.moves.sum():,}"),
        ("placed from nothing", shown(drifted.fresh.balancedness_after)[0], f"{drifted.fresh_moves:,}"),
    ]
    show_table(console, "After the drift", "", "balancedness", "moves", rows=rows)
