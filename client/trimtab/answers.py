"""What calls return: frozen dataclasses of numpy arrays, read from the answers on the wire."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from trimtab import wire
from trimtab.errors import InvalidArgumentError
from trimtab.replication import count_replicas, slots_of_experts
from trimtab.v1 import placement_pb2 as pb

_PLACEMENT_FIGURES = (
    "balancedness_before",
    "balancedness_after",
    "bound",
    "latest_balancedness_before",
    "latest_balancedness_after",
    "latest_bound",
)


@dataclass(frozen=True)
class Execution:
    """How an answer came about; nothing here is promised to repeat."""

    solver: str
    device: str
    server_version: str
    queue_seconds: float
    solve_seconds: float
    batch_requests: int
    batch_rows: int


@dataclass(frozen=True, eq=False)
class Packing:
    """Where every item goes, and how good that is; loads are in the unit of the request's weights."""

    pack_index: npt.NDArray[np.int64]
    """[num_layers, num_items]: the pack of each item."""
    rank_in_pack: npt.NDArray[np.int64]
    """[num_layers, num_items]: its place in that pack, by descending weight, ties by item."""
    max_load: npt.NDArray[np.float64]
    """[num_layers]: load of the heaviest pack."""
    mean_load: npt.NDArray[np.float64]
    """[num_layers]: mean load of a pack."""
    lower_bound: npt.NDArray[np.float64]
    """[num_layers]: no packing with equal counts has a smaller max_load."""
    winning_restart: npt.NDArray[np.int32]
    """[num_layers]: which ordering won, 0 being the exact one."""
    algorithm: str
    """Name and revision; it changes when answers change."""
    execution: Execution

    @property
    def balancedness(self) -> npt.NDArray[np.float64]:
        """[num_layers]: mean load over max load, in (0, 1]; nan for a layer without load."""
        return _ratio(self.mean_load, self.max_load)

    @property
    def gap(self) -> npt.NDArray[np.float64]:
        """[num_layers]: max load over lower bound, minus 1; nan for a layer without load."""
        return _ratio(self.max_load, self.lower_bound) - 1


@dataclass(frozen=True, eq=False)
class Placement:
    """Where every expert goes, and what that gains.

    Figures of a layer without load, and those of "before" where there was no previous placement, are nan.
    """

    physical_to_logical: npt.NDArray[np.int64]
    """[num_layers, num_replicas]: the expert of each slot, -1 on inactive GPUs and where a slot stays empty."""
    num_experts: int
    """Logical experts of a layer."""
    balancedness_before: npt.NDArray[np.float64]
    """[num_layers]: of the previous placement, mean over the windows."""
    balancedness_after: npt.NDArray[np.float64]
    """[num_layers]: of this placement, mean over the windows."""
    bound: npt.NDArray[np.float64]
    """[num_layers]: no placement on these slots has a higher balancedness; mean over the windows."""
    latest_balancedness_before: npt.NDArray[np.float64]
    """[num_layers]: of the previous placement, in the latest window."""
    latest_balancedness_after: npt.NDArray[np.float64]
    """[num_layers]: of this placement, in the latest window."""
    latest_bound: npt.NDArray[np.float64]
    """[num_layers]: the bound in the latest window."""
    moves: npt.NDArray[np.int64]
    """[num_layers]: copies held now and not before; all of them where there was no previous placement."""
    layer_order: npt.NDArray[np.int64]
    """[num_layers]: the layers by what they gain, best first."""
    curve: npt.NDArray[np.float64]
    """[points, 2]: moves of the whole request, and the balancedness that they would have bought; ascending."""
    hierarchy: str
    """`global` or `hierarchical`: whether groups stay together on a node."""
    algorithm: str
    """Name and revision; it changes when answers change."""
    execution: Execution

    @cached_property
    def logical_count(self) -> npt.NDArray[np.int64]:
        """[num_layers, num_experts]: replicas of each expert."""
        return count_replicas(self.physical_to_logical, self.num_experts)

    @cached_property
    def logical_to_physical(self) -> npt.NDArray[np.int64]:
        """[num_layers, num_experts, most replicas of any]: the slots of each expert, ascending, padded with -1."""
        return slots_of_experts(self.physical_to_logical, self.num_experts)


@dataclass(frozen=True)
class Description:
    """What a server is: its version, algorithms, solvers with their devices, and limits by name."""

    server_version: str
    algorithm: str
    rebalance_algorithm: str
    solvers: tuple[tuple[str, str], ...]
    limits: dict[str, int]


def _ratio(over: npt.NDArray[np.float64], under: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.divide(over, under, out=np.full_like(over, np.nan), where=under > 0)


def read_packing(response: pb.PackResponse) -> Packing:
    """The packing of an answer.

    Raises:
        InvalidArgumentError: the answer is not what the contract says (from another service, say).
    """
    packing = response.packing
    pack_index, rank_in_pack = (
        wire.decode(tensor, name, ndim=(2,), data_types=wire.ANSWER_TYPES).astype(np.int64)
        for tensor, name in ((packing.pack_index, "pack_index"), (packing.rank_in_pack, "rank_in_pack"))
    )
    return Packing(
        pack_index=pack_index,
        rank_in_pack=rank_in_pack,
        max_load=np.array(packing.max_load),
        mean_load=np.array(packing.mean_load),
        lower_bound=np.array(packing.lower_bound),
        winning_restart=np.array(packing.winning_restart, np.int32),
        algorithm=packing.algorithm,
        execution=_read_execution(response.execution),
    )


def read_placement(response: pb.RebalanceResponse, num_experts: int) -> Placement:
    """The placement of an answer.

    Raises:
        InvalidArgumentError: the answer is not what the contract says (from another service, say).
    """
    placement = response.placement
    name = "physical_to_logical"
    slots = wire.decode(placement.physical_to_logical, name, ndim=(2,), data_types=wire.ANSWER_TYPES)
    if slots.min() < -1 or slots.max() >= num_experts:
        rule = f"must hold experts from -1 to {num_experts - 1}, holds {slots.min()} to {slots.max()}"
        raise InvalidArgumentError.of(name, rule)
    known = pb.Hierarchy.DESCRIPTOR.values_by_number.get(placement.hierarchy)
    hierarchy = known.name.removeprefix("HIERARCHY_").lower() if known else str(placement.hierarchy)
    return Placement(
        physical_to_logical=slots.astype(np.int64),
        num_experts=num_experts,
        **{field: np.array(getattr(placement, field)) for field in _PLACEMENT_FIGURES},
        moves=np.array(placement.moves, np.int64),
        layer_order=np.array(placement.layer_order, np.int64),
        curve=np.array([(point.moves, point.balancedness) for point in placement.curve]).reshape(-1, 2),
        hierarchy=hierarchy,
        algorithm=placement.algorithm,
        execution=_read_execution(response.execution),
    )


def _read_execution(execution: pb.Execution) -> Execution:
    return Execution(**{field.name: getattr(execution, field.name) for field in execution.DESCRIPTOR.fields})


def read_description(response: pb.DescribeResponse) -> Description:
    """The description in an answer."""
    return Description(
        server_version=response.server_version,
        algorithm=response.algorithm,
        rebalance_algorithm=response.rebalance_algorithm,
        solvers=tuple((solver.name, solver.device) for solver in response.solvers),
        limits={field.name: getattr(response.limits, field.name) for field in response.limits.DESCRIPTOR.fields},
    )
