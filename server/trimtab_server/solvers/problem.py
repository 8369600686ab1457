"""What the packers are asked and what they answer."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from trimtab_server.solvers.numbers import Integers

ALGORITHM = "restart-packer/1"
"""Name and revision; the revision changes when any answer changes."""


@dataclass(frozen=True)
class PackOptions:
    """How to search; see the contract for the meaning of each."""

    num_restarts: int = 8
    noise_min: float = 0.01
    noise_max: float = 0.15
    seed: int = 0


@dataclass(frozen=True, eq=False)
class PackProblem:
    """Rows to pack: `weight` [num_layers, num_items], finite and at least 0, its items a multiple of num_packs."""

    weight: npt.NDArray[Any]
    num_packs: int
    options: PackOptions = field(default_factory=PackOptions)

    @property
    def num_rows(self) -> int:
        """Rows that this problem adds to a batch."""
        return int(self.weight.shape[0])

    @property
    def num_bytes(self) -> int:
        """Bytes it holds while it waits."""
        return int(self.weight.nbytes)

    @property
    def share_key(self) -> Hashable:
        """Problems with equal keys can share a solve; seeds and noise are free to differ."""
        return ("pack", self.weight.shape[1], self.num_packs, self.options.num_restarts)


@dataclass(frozen=True, eq=False)
class PackAnswer:
    """The packing of a problem; figures in the unit of its weights."""

    pack_index: npt.NDArray[np.int32]  # [num_layers, num_items]
    rank_in_pack: npt.NDArray[np.int32]  # [num_layers, num_items]
    max_load: npt.NDArray[np.float64]  # [num_layers]
    mean_load: npt.NDArray[np.float64]  # [num_layers]
    lower_bound: npt.NDArray[np.float64]  # [num_layers]
    winning_restart: npt.NDArray[np.int32]  # [num_layers]
    initial_max_load: npt.NDArray[np.float64]  # [num_layers]: with the items left in the order given

    @property
    def balancedness(self) -> float:
        """Mean over the layers with load, nan where none has any."""
        return _mean_ratio(self.mean_load, self.max_load)

    @property
    def balancedness_before(self) -> float:
        """The same with the items left in the order given, k after k."""
        return _mean_ratio(self.mean_load, self.initial_max_load)


def _mean_ratio(mean: npt.NDArray[np.float64], largest: npt.NDArray[np.float64]) -> float:
    live = largest > 0
    return float((mean[live] / largest[live]).mean()) if live.any() else float("nan")


class Packer(Protocol):
    """A solver of the packing step: `torch` today; all packers give the same bytes."""

    name: str
    device: str

    def pack(
        self, whole: Integers, num_packs: int, tables: npt.NDArray[np.int32], table_index: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Pack every row.

        Args:
            whole: [rows, items] whole numbers, from `numbers.quantize`.
            num_packs: divides items.
            tables: [tables, restarts, items] multipliers, from `numbers.noise_table`.
            table_index: [rows], the table of each row.

        Returns:
            pack_index [rows, items], rank_in_pack [rows, items], winning_restart [rows].
        """
        ...

    def memory_bytes(self) -> int:
        """Bytes in use on the device."""
        ...
