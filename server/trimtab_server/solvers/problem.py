"""What the packers are asked and what they answer."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from trimtab_server.solvers.numbers import Integers

ALGORITHM = "restart-packer/2"
"""Name and revision; the revision changes when any answer changes."""
_SMALLEST_GAP = 1e-9
"""Of two placements of integers that fit: smaller ones ask for the same search."""


@dataclass(frozen=True)
class PackOptions:
    """How to search; see the contract for the meaning of each."""

    num_restarts: int = 8
    noise_min: float = 0.01
    noise_max: float = 0.15
    seed: int = 0
    refine: bool = True
    target_gap: float = 1e-4

    @property
    def effort(self) -> int:
        """How far a search has to go, roughly: the power of ten of `target_gap`."""
        return round(math.log10(max(self.target_gap, _SMALLEST_GAP)))


@dataclass(frozen=True, eq=False)
class PackProblem:
    """Rows to pack: `weight` [num_layers, num_items], finite and at least 0, its items a multiple of num_packs."""

    weight: npt.NDArray[Any]
    num_packs: int
    options: PackOptions = field(default_factory=PackOptions)

    operation: ClassVar[str] = "pack"

    @property
    def num_rows(self) -> int:
        """Rows that this problem adds to a batch."""
        return int(self.weight.shape[0])

    @property
    def num_bytes(self) -> int:
        """Bytes it holds while it waits: the loads, and gRPC's own copy of the message that brought them."""
        return 2 * int(self.weight.nbytes)

    @property
    def num_steps(self) -> int:
        """A bound of its work: layers x items x restarts."""
        return int(self.weight.size) * self.options.num_restarts

    @property
    def share_key(self) -> Hashable:
        """Problems with equal keys can share a solve; seeds, noise and target gaps are free to differ."""
        return ("pack", self.weight.shape[1], self.num_packs, self.options.num_restarts, self.options.refine)

    @property
    def kind(self) -> Hashable:
        """Problems of equal kind take about equally long a row."""
        return (self.share_key, self.options.effort)


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
    solver: str
    device: str

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


@dataclass(frozen=True, eq=False)
class PackTask:
    """What a packer gets: rows of whole numbers that share a solve."""

    whole: Integers  # [rows, items], from numbers.quantize
    num_packs: int  # divides items
    tables: npt.NDArray[np.int32]  # [tables, restarts, items], from numbers.noise_table
    table_index: npt.NDArray[np.int64]  # [rows]: the table of each row
    target: Integers  # [rows]: the max load that is good enough; the lowest restart to reach it wins
    refine: bool  # whether every restart is refined

    def part(self, rows: slice) -> PackTask:
        """Some of the rows, as a task of their own: the answer for a row is the same in either."""
        return replace(self, whole=self.whole[rows], table_index=self.table_index[rows], target=self.target[rows])


class HasRows(Protocol):
    """A problem, of any kind."""

    @property
    def num_rows(self) -> int:
        """Rows that it adds to a batch."""
        ...


def parts_of(problems: Iterable[HasRows]) -> list[slice]:
    """The rows of each problem in the batch of all."""
    stops = list(accumulate((problem.num_rows for problem in problems), initial=0))
    return [slice(start, stop) for start, stop in pairwise(stops)]


def tiny_task() -> PackTask:
    """The smallest task there is, to see whether a packer works."""
    one = np.ones((1, 1))
    return PackTask(one, 1, np.full((1, 1, 1), 1 << 20, np.int32), np.zeros(1, np.int64), one[0], refine=True)


class PackResult(NamedTuple):
    """What a packer gives."""

    pack_index: npt.NDArray[np.int32]  # [rows, items]
    rank_in_pack: npt.NDArray[np.int32]  # [rows, items]
    winning_restart: npt.NDArray[np.int32]  # [rows]
    solver: str
    device: str


class Packer(Protocol):
    """A solver of the packing step; all of them give the same bytes."""

    name: str
    device: str

    def pack(self, task: PackTask) -> PackResult:
        """Pack every row."""
        ...

    def memory_bytes(self) -> int:
        """Bytes held on the device."""
        ...
