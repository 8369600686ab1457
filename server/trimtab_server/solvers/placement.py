"""What the rebalancer is asked and what it answers."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from trimtab_server.solvers.compiled.search import Trail
from trimtab_server.solvers.numbers import Integers
from trimtab_server.solvers.problem import PackOptions

REBALANCE_ALGORITHM = "placement-search/1"
"""Name and revision; the revision changes when any answer changes."""

Figures = npt.NDArray[np.float64]
Slots = npt.NDArray[np.int32]


def partners_of(num_replicas: int, num_gpus: int) -> int:
    """What a step of a search looks at for a replica: the slots of a GPU, or bounds of GPUs, which cost a quarter."""
    return max(num_replicas // num_gpus, num_gpus // 4)


@dataclass(frozen=True, eq=False)
class RebalanceProblem:
    """Rows to place: `load` [num_windows, num_layers, num_experts]; what the contract says of each field holds."""

    load: npt.NDArray[Any]
    num_replicas: int
    num_gpus: int
    num_nodes: int = 1
    num_groups: int = 1
    hierarchical: bool = False
    """Whether groups stay on their nodes; it is settled by now whether that can be."""
    previous: Slots | None = None  # [num_layers, num_replicas], -1 where empty
    max_moves: int | None = None
    min_gain: float = 0.0
    inactive_gpus: tuple[int, ...] = ()
    gpu_speed: tuple[float, ...] | None = None
    allow_duplicates: bool = False
    options: PackOptions = field(default_factory=PackOptions)

    operation: ClassVar[str] = "rebalance"

    @property
    def num_rows(self) -> int:
        """Rows that this problem adds to a batch."""
        return int(self.load.shape[1])

    @property
    def num_bytes(self) -> int:
        """Bytes it holds while it waits, gRPC's own copy of the message included."""
        return 2 * int(self.load.nbytes) + (0 if self.previous is None else 2 * int(self.previous.nbytes))

    @property
    def num_steps(self) -> int:
        """A bound of its work: windows x layers x replicas x what each is compared with."""
        return math.prod(self.load.shape[:2]) * self.num_replicas * partners_of(self.num_replicas, self.num_gpus)

    @property
    def share_key(self) -> Hashable:
        """Problems with equal keys can share a solve; budgets, speeds and seeds are free to differ."""
        windows, _, experts = self.load.shape
        nodes = (self.num_nodes, self.num_groups) if self.hierarchical else (1, 1)
        # Packing from nothing is of live GPUs alone; a search can leave out others in each row.
        start: Hashable = None
        if self.previous is None:
            start = (tuple(sorted(self.inactive_gpus)), self.options.num_restarts, self.options.refine)
        shape = (windows, experts, self.num_replicas, self.num_gpus)
        return ("rebalance", shape, nodes, self.allow_duplicates, start)

    @property
    def kind(self) -> Hashable:
        """Problems of equal kind take about equally long a row."""
        return (self.share_key, self.options.effort)


@dataclass(frozen=True, eq=False)
class PlacementAnswer:
    """The placement of a problem. Figures of layers without load, and `before` without `previous`, are nan."""

    physical_to_logical: Slots  # [num_layers, num_replicas], -1 where empty
    before: Figures  # [num_layers]: balancedness, mean over the windows with load
    after: Figures  # [num_layers]
    bound: Figures  # [num_layers]
    latest_before: Figures  # [num_layers]: the same of the latest window
    latest_after: Figures  # [num_layers]
    latest_bound: Figures  # [num_layers]
    moves: npt.NDArray[np.int32]  # [num_layers]
    layer_order: npt.NDArray[np.int64]  # [num_layers]: by gain, best first
    curve: Figures  # [points, 2]: moves, and the balancedness of the whole placement
    has_previous: bool
    hierarchical: bool
    solver: str
    device: str

    @property
    def balancedness(self) -> float:
        """Mean over the layers with load, nan where none has any."""
        return mean_of_known(self.after)

    @property
    def balancedness_before(self) -> float:
        """The same of the previous placement, nan where there was none."""
        return mean_of_known(self.before)


def mean_of_known(values: Figures) -> float:
    """The mean of those that are not nan, nan where all are."""
    known = values[~np.isnan(values)]
    return math.fsum(known) / known.size if known.size else float("nan")  # exact, so in no order


@dataclass(frozen=True, eq=False)
class SearchTask:
    """What a searcher gets: rows that share a search."""

    whole: Integers  # [rows, T, E]: loads as whole numbers
    speed: Figures  # [rows, G], 0 where inactive
    node: npt.NDArray[np.int32]  # [G]: experts stay within a node
    home: Slots  # [rows, P]: the placement before; all -1 where there was none
    start: Slots  # [rows, P]: where to begin; nothing on inactive GPUs
    goal: Figures  # [rows]: a balancedness that is good enough: where a search ends
    duplicates: bool  # whether a GPU may hold an expert twice
    max_steps: int


class Walks(NamedTuple):
    """What a searcher gives: a recorded walk a row."""

    base: Slots  # [rows, P]: where the walk begins, every expert with a replica
    trail: Trail  # of [rows, max_steps + 1]
    ends: npt.NDArray[np.int32]  # [rows, 3]: how many entries there are, see `compiled.search.walk`


class Searcher(Protocol):
    """A solver of the search; all of them give the same bytes."""

    name: str
    device: str

    def search(self, task: SearchTask) -> Walks:
        """Search every row."""
        ...
