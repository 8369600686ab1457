"""Whether groups of experts can stay on their nodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Slots = npt.NDArray[np.int32]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Cluster:
    """The numbers of a cluster, each in its range; consecutive GPUs make a node, consecutive experts a group."""

    num_experts: int
    num_replicas: int
    num_gpus: int
    num_nodes: int
    num_groups: int
    inactive_gpus: tuple[int, ...]
    allow_duplicates: bool

    @property
    def live_slots(self) -> npt.NDArray[np.int64]:
        """[num_nodes]: slots on live GPUs."""
        live = np.ones(self.num_gpus, np.int64)
        live[list(self.inactive_gpus)] = 0
        slots: npt.NDArray[np.int64] = live.reshape(self.num_nodes, -1).sum(axis=1)
        return slots * (self.num_replicas // self.num_gpus)


def obstacle(cluster: Cluster, previous: Slots | None) -> str | None:
    """Why groups can't stay on their nodes, None where they can.

    Args:
        cluster: its numbers.
        previous: [num_layers, num_replicas], -1 where empty, every expert there; None to place from nothing.
    """
    if cluster.num_groups % cluster.num_nodes:
        return f"num_groups = {cluster.num_groups} does not divide by num_nodes = {cluster.num_nodes}"
    if previous is None:
        groups = np.full((1, cluster.num_nodes), cluster.num_groups // cluster.num_nodes)
    else:
        low, high = _nodes_of_groups(cluster, previous)
        spread = low != high
        if spread.any():
            layer, group = (int(i) for i in np.unravel_index(int(spread.argmax()), spread.shape))
            nodes = f"nodes {low[layer, group]} and {high[layer, group]}"
            return f"previous has group {group} of layer {layer} on the {nodes}"
        cells = low + np.arange(len(low))[:, None] * cluster.num_nodes
        groups = np.bincount(cells.ravel(), minlength=len(low) * cluster.num_nodes).reshape(len(low), -1)
    return _lack_of_slots(cluster, groups * (cluster.num_experts // cluster.num_groups))


def _nodes_of_groups(cluster: Cluster, previous: Slots) -> tuple[Indices, Indices]:
    """[num_layers, num_groups]: the lowest and the highest node that has a replica of a group, dead or alive."""
    layer, slot = np.nonzero(previous >= 0)
    group = previous[layer, slot] // (cluster.num_experts // cluster.num_groups)
    node = slot // (cluster.num_replicas // cluster.num_nodes)
    low = np.full((len(previous), cluster.num_groups), cluster.num_nodes, np.int64)
    high = np.full_like(low, -1)
    np.minimum.at(low, (layer, group), node)
    np.maximum.at(high, (layer, group), node)
    return low, high


def _lack_of_slots(cluster: Cluster, experts: Indices) -> str | None:
    """Of [num_layers, num_nodes] experts on each node: what does not fit."""
    size, live = cluster.num_replicas // cluster.num_gpus, cluster.live_slots
    short = (experts > live).any(axis=0)
    if short.any():
        node = int(short.argmax())
        return f"node {node} has {live[node]} live slots for the {experts[:, node].max()} experts of its groups"
    idle = ((experts == 0) & (live > 0)).any(axis=0)
    if idle.any():
        return f"node {int(idle.argmax())} has no group in previous"
    if cluster.allow_duplicates:
        return None
    crowded = ((experts < size) & (live > 0)).any(axis=0)
    if crowded.any():
        node = int(crowded.argmax())
        return f"a GPU's {size} slots on node {node} are more than the {experts[:, node].min()} experts of its groups"
    return None
