"""Replicas: which logical expert each slot holds before slots are packed onto GPUs, and the maps of a placement.

The greedy rule of DeepSeek's EPLB (`replicate_experts` in deepseek-ai/EPLB): each further replica goes to the expert
whose replicas carry the most load each.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from trimtab import wire
from trimtab.errors import InvalidArgumentError

Experts = npt.NDArray[np.int64]


def replicate_experts(load: Any, num_replicas: int) -> tuple[Experts, Experts]:
    """Give every expert one replica, and each further replica to the expert with the most load per replica.

    Args:
        load: [num_layers, num_experts], numpy, torch or nested lists, finite and at least 0, in any unit.
        num_replicas: replicas in a layer, at least num_experts.

    Returns:
        physical_to_logical: [num_layers, num_replicas], the expert of each replica: all experts in order, then the
            further replicas in the order given out. Equal load per replica goes to the lowest expert.
        logical_count: [num_layers, num_experts], replicas of each expert.

    Raises:
        InvalidArgumentError: names the argument, the rule and the numbers.
    """
    values = _checked_load(load)
    num_layers, num_experts = values.shape
    if num_replicas < num_experts:
        rule = f"must be at least num_experts = {num_experts}, so that every expert has one, got {num_replicas}"
        raise InvalidArgumentError.of("num_replicas", rule)
    physical_to_logical = np.empty((num_layers, num_replicas), np.int64)
    physical_to_logical[:, :num_experts] = np.arange(num_experts)
    logical_count = np.ones((num_layers, num_experts), np.int64)
    share = values.copy()
    layers = np.arange(num_layers)
    for slot in range(num_experts, num_replicas):
        hottest = share.argmax(axis=1)  # the first of equals
        physical_to_logical[:, slot] = hottest
        logical_count[layers, hottest] += 1
        share[layers, hottest] = values[layers, hottest] / logical_count[layers, hottest]
    return physical_to_logical, logical_count


def slot_weight(load: Any, physical_to_logical: Experts, logical_count: Experts) -> npt.NDArray[np.float64]:
    """[num_layers, num_replicas]: what each slot carries, its expert's load shared evenly among the replicas.

    Args:
        load: [num_layers, num_experts], as given to `replicate_experts`.
        physical_to_logical: [num_layers, num_replicas], from `replicate_experts`.
        logical_count: [num_layers, num_experts], from `replicate_experts`.

    Raises:
        InvalidArgumentError: `load` is not such an array.
    """
    share = _checked_load(load) / logical_count
    weight: npt.NDArray[np.float64] = np.take_along_axis(share, physical_to_logical, axis=1)
    return weight


def count_replicas(physical_to_logical: npt.NDArray[np.integer[Any]], num_experts: int) -> Experts:
    """[num_layers, num_experts]: replicas of each expert in a placement [num_layers, num_replicas], -1 being none."""
    num_layers = len(physical_to_logical)
    cells = np.where(physical_to_logical < 0, num_experts, physical_to_logical)
    cells = cells + np.arange(num_layers)[:, None] * (num_experts + 1)
    counts = np.bincount(cells.ravel(), minlength=num_layers * (num_experts + 1))
    return counts.reshape(num_layers, num_experts + 1)[:, :num_experts]


def slots_of_experts(physical_to_logical: Experts, num_experts: int) -> Experts:
    """[num_layers, num_experts, most replicas of any]: the slots of each expert, ascending, padded with -1."""
    logical_count = count_replicas(physical_to_logical, num_experts)
    found = np.full((*logical_count.shape, max(int(logical_count.max(initial=0)), 1)), -1, np.int64)
    layer, slot = np.nonzero(physical_to_logical >= 0)
    expert = physical_to_logical[layer, slot]
    order = np.lexsort((slot, expert, layer))
    layer, slot, expert = layer[order], slot[order], expert[order]
    first = np.cumsum(logical_count.ravel()) - logical_count.ravel()
    found[layer, expert, np.arange(len(slot)) - first[layer * num_experts + expert]] = slot
    return found


def _checked_load(load: Any) -> npt.NDArray[np.float64]:
    values: npt.NDArray[np.float64] = wire.to_array(load, "load").astype(np.float64)
    if values.ndim != 2:  # noqa: PLR2004  # layers and experts
        raise InvalidArgumentError.of("load", f"must have shape [num_layers, num_experts], got {list(values.shape)}")
    if not values.size:
        raise InvalidArgumentError.of("load", f"every size must be at least 1, got {list(values.shape)}")
    wrong = ~np.isfinite(values) | (values < 0)
    if wrong.any():
        layer, expert = np.unravel_index(int(wrong.argmax()), values.shape)
        rule = f"every load must be finite and at least 0, got {values[layer, expert]} at [{layer}, {expert}]"
        raise InvalidArgumentError.of("load", rule)
    return values
