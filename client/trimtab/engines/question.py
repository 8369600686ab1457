"""What an engine asks its algorithm, and what of the placement in force can stay or be searched from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from trimtab.requests import HierarchyName

Slots = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Question:
    """What an engine asks its algorithm; the same on every rank."""

    load: Any
    """[num_layers, num_experts], a tensor, anywhere."""
    num_replicas: int
    num_gpus: int
    num_nodes: int
    num_groups: int
    previous: Slots | None
    """[num_layers, slots now], the expert of each slot; -1 where it is empty. None: nothing is placed yet."""
    hierarchy: HierarchyName = "automatic"
    """`global` where groups need not stay on nodes though they could."""

    @property
    def shape(self) -> tuple[int, int]:
        """Of the placement that is wanted."""
        return self.load.shape[0], self.num_replicas

    @cached_property
    def in_force(self) -> Slots | None:
        """The placement now, where it can stay: not while the cluster grows or shrinks, or before there is any."""
        return self.previous if self.previous is not None and self.is_whole(self.previous) else None

    def is_whole(self, placement: Slots) -> bool:
        """Whether every slot holds an expert and every expert has a slot, in every layer."""
        return placement.shape == self.shape and placement.min() >= 0 and self._has_all_experts(placement)

    def _has_all_experts(self, placement: Slots) -> bool:
        num_layers, num_experts = self.load.shape
        if placement.max() >= num_experts:
            return False
        held = np.zeros((num_layers, 1 + num_experts), bool)  # the first column is for empty slots
        held.ravel()[placement + 1 + np.arange(num_layers)[:, None] * held.shape[1]] = True
        return bool(held[:, 1:].all())

    @cached_property
    def start(self) -> Slots | None:
        """What a search can start from: the placement now, cut or filled up with empty slots to the new number.

        None where none can: some expert would be nowhere.
        """
        if self.in_force is not None:
            return self.in_force
        if self.previous is None or len(self.previous) != self.shape[0]:
            return None
        start: Slots = np.full(self.shape, -1, np.int64)
        kept = min(self.num_replicas, self.previous.shape[1])
        start[:, :kept] = self.previous[:, :kept]
        return start if self._has_all_experts(start) else None

    @cached_property
    def breaks_up_groups(self) -> bool:
        """Whether groups are to stay on nodes and do not in `start`, as in what an engine starts with.

        A search from there can't bring them together; a placement from nothing does.
        """
        wanted = self.hierarchy != "global" and self.num_nodes > 1 and self.num_groups % self.num_nodes == 0
        if self.start is None or not wanted:
            return False
        layer, slot = np.nonzero(self.start >= 0)
        group = self.start[layer, slot] * self.num_groups // self.load.shape[1]
        on_node = np.zeros((self.shape[0], self.num_groups, self.num_nodes), bool)
        on_node[layer, group, slot * self.num_nodes // self.num_replicas] = True
        return bool((on_node.sum(axis=2) > 1).any())
