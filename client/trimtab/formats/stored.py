"""What files hold, whichever engine they are of: windows of load, and placements."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
PathLike = str | os.PathLike[str]
Layers = npt.NDArray[np.int64]
"""[num_layers]: the model's number of each layer, ascending; from 0 where a file counts its rows alone."""
_MOST_SMALL = np.iinfo(np.int32).max


@dataclass(frozen=True, eq=False)
class StoredPlacement:
    """A placement, with what a file tells about it."""

    physical_to_logical: npt.NDArray[np.int64]
    """[num_layers, num_replicas]: the expert of each slot, -1 where it is empty."""
    layers: Layers
    num_gpus: int | None = None
    """None where the file does not tell."""

    @property
    def num_experts(self) -> int:
        """Every expert has a slot, so the highest number tells."""
        return int(self.physical_to_logical.max()) + 1

    def numbered_from(self, first: int) -> StoredPlacement:
        """The same, its layers counted from another number."""
        return replace(self, layers=self.layers - self.layers[0] + first)

    def only(self, layers: Layers) -> StoredPlacement:
        """The rows of these layers, which it must have."""
        rows = np.searchsorted(self.layers, layers)
        return replace(self, physical_to_logical=self.physical_to_logical[rows], layers=layers)


@dataclass(frozen=True, eq=False)
class LoadWindows:
    """Loads as they were recorded, or sums of them."""

    load: Array
    """[num_windows, num_layers, num_experts], the latest window last: tokens routed to each expert."""
    layers: Layers
    num_read: int
    """Windows in the files; more than num_windows where they were summed."""
    placement: StoredPlacement | None = None
    """The latest placement that they were counted under, where the files tell."""

    def numbered_from(self, first: int) -> LoadWindows:
        """The same, its layers counted from another number."""
        placement = self.placement and self.placement.numbered_from(first)
        return replace(self, layers=self.layers - self.layers[0] + first, placement=placement)

    def only(self, layers: Layers) -> LoadWindows:
        """The rows of these layers, which it must have."""
        rows = np.searchsorted(self.layers, layers)
        placement = self.placement and self.placement.only(layers)
        return replace(self, load=self.load[:, rows], layers=layers, placement=placement)


class LogicalCount:
    """Tokens of each expert, from those of its replicas, under one placement."""

    def __init__(self, placement: StoredPlacement) -> None:
        slots = placement.physical_to_logical
        self.num_slots = slots.size
        """Of all layers together."""
        self._shape = len(slots), placement.num_experts
        filled = slots >= 0
        self._filled = np.flatnonzero(filled)
        self._expert = (np.arange(len(slots))[:, None] * placement.num_experts + slots)[filled]
        """Of each filled slot, counted through all layers."""

    def of(self, physical: Array) -> Array:
        """Tokens of each expert, [num_layers, num_experts].

        Args:
            physical: [num_layers, num_replicas], tokens of each slot; what empty slots have is left out.
        """
        num_layers, num_experts = self._shape
        logical = np.zeros(num_layers * num_experts, np.float64 if physical.dtype.kind == "f" else np.int64)
        np.add.at(logical, self._expert, physical.ravel()[self._filled])
        return as_small(logical.reshape(self._shape))


def as_small(counts: Array) -> Array:
    """Counts as int32 where they fit, so that long recordings do."""
    fits = counts.dtype.kind in "iu" and counts.size and counts.max() <= _MOST_SMALL and counts.min() >= 0
    return counts.astype(np.int32) if fits else counts


def all_layers(rows: Array) -> Layers:
    """Numbers from 0, for what counts every layer, or tells none: [..., num_layers, num_experts or num_replicas]."""
    return np.arange(rows.shape[-2], dtype=np.int64)


def as_path(path: PathLike) -> Path:
    """A path, whatever kind of it was given."""
    return Path(path)
