"""Random requests to rebalance: small shapes of every kind, most of them valid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from trimtab import InvalidArgumentError, wire
from trimtab.v1 import placement_pb2 as pb
from trimtab_server.checks import RequestLimits
from trimtab_server.rebalance_contract import read_rebalance
from trimtab_server.solvers.placement import RebalanceProblem

LIMITS = RequestLimits(max_rows=64, max_items=256, max_restarts=8, max_item_steps=1 << 20, max_message_bytes=1 << 20)
MAY_BE_IMPOSSIBLE = {"hierarchy", "max_moves", "num_replicas"}
"""What a random request may be refused for: the rest of it is right by construction."""

Slots = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Shape:
    """A cluster and what it is asked for: requests of one shape may share a solve."""

    num_windows: int
    num_experts: int
    num_gpus: int
    size: int  # slots of a GPU
    num_nodes: int
    num_groups: int
    hierarchy: int
    inactive: tuple[int, ...]
    allow_duplicates: bool
    num_restarts: int
    refine: bool

    @property
    def num_replicas(self) -> int:
        """Slots of a layer."""
        return self.num_gpus * self.size


def _divisors(number: int) -> list[int]:
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    """1 to 6 GPUs, some of them dead, for 2 to 12 experts; up to four slots a GPU beyond what is needed."""
    if draw(st.integers(0, 3)) == 0:
        return draw(_shapes_of_nodes())
    num_experts, num_gpus = draw(st.integers(2, 12)), draw(st.integers(1, 6))
    inactive = draw(st.lists(st.integers(0, num_gpus - 1), unique=True, max_size=min(2, num_gpus - 1)))
    allow_duplicates = draw(st.sampled_from([False, False, True]))
    size = -(-num_experts // (num_gpus - len(inactive))) + draw(st.integers(0, 4))
    if not allow_duplicates and draw(st.integers(0, 9)):
        size = min(size, num_experts)
    return Shape(
        draw(st.integers(1, 3)),
        num_experts,
        num_gpus,
        size,
        draw(st.sampled_from([0, *_divisors(num_gpus)])),
        draw(st.sampled_from([0, *_divisors(num_experts)])),
        draw(st.sampled_from([pb.HIERARCHY_UNSPECIFIED, pb.HIERARCHY_GLOBAL, pb.HIERARCHY_HIERARCHICAL])),
        tuple(inactive),
        allow_duplicates,
        draw(st.integers(1, 2)),
        draw(st.booleans()),
    )


@st.composite
def _shapes_of_nodes(draw: st.DrawFn) -> Shape:
    """Two or three nodes of two GPUs, groups that divide by them, slots for all of their experts."""
    num_nodes, groups_per_node, size_of_group = draw(st.sampled_from([2, 3])), draw(st.integers(1, 2)), 2
    experts_per_node = groups_per_node * size_of_group
    size = draw(st.integers(experts_per_node // 2, experts_per_node))
    inactive = (draw(st.integers(0, 2 * num_nodes - 1)),) if size == experts_per_node and draw(st.booleans()) else ()
    return Shape(
        draw(st.integers(1, 3)),
        num_nodes * experts_per_node,
        2 * num_nodes,
        size,
        num_nodes,
        num_nodes * groups_per_node,
        draw(st.sampled_from([pb.HIERARCHY_UNSPECIFIED, pb.HIERARCHY_HIERARCHICAL])),
        inactive,
        draw(st.booleans()),
        draw(st.integers(1, 2)),
        draw(st.booleans()),
    )


def _loads(rng: np.random.Generator, kind: str, shape: tuple[int, int, int]) -> npt.NDArray[Any]:
    if kind == "small":
        return rng.integers(0, 4, shape)
    if kind == "spike":
        return np.where(rng.random(shape) < 0.2, 1000, rng.integers(0, 10, shape))
    if kind == "equal":
        return np.full(shape, 7, np.int32)
    return np.rint(rng.lognormal(5, 1.5, shape))


def _previous(rng: np.random.Generator, shape: Shape, by_node: bool, holes: float) -> list[int]:
    """One layer: every expert somewhere, on its group's node where that is asked for and can be; the rest anything."""
    nodes, groups = shape.num_nodes or 1, shape.num_groups or 1
    if not by_node or groups % nodes or shape.num_experts > shape.num_replicas or nodes == 1:
        nodes = groups = 1
    home = rng.permutation(np.repeat(np.arange(nodes), groups // nodes))
    row = np.empty((nodes, shape.num_replicas // nodes), np.int64)
    for node in range(nodes):
        group_of = np.arange(shape.num_experts) // (shape.num_experts // groups)
        own = np.flatnonzero(home[group_of] == node)
        rest = rng.choice(own, row.shape[1] - len(own))
        row[node] = rng.permutation(np.concatenate([own, np.where(rng.random(len(rest)) < holes, -1, rest)]))
    return [int(expert) for expert in row.ravel()]


@st.composite
def requests(draw: st.DrawFn, shape: Shape, *, with_previous: bool) -> pb.RebalanceRequest:
    """Loads with zeros, whole windows and layers without any; budgets, gains and speeds of every kind."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num_layers = draw(st.integers(1, 3))
    kind = draw(st.sampled_from(["small", "spike", "equal", "wide"]))
    load = _loads(rng, kind, (shape.num_windows, num_layers, shape.num_experts))
    idle = draw(st.sampled_from([0.0, 0.0, 0.3]))
    load = np.where(rng.random((shape.num_windows, num_layers, 1)) < idle, 0, load).astype(load.dtype)
    request = pb.RebalanceRequest(
        load=wire.encode(load if shape.num_windows > 1 or draw(st.booleans()) else load[0]),
        num_replicas=shape.num_replicas,
        num_gpus=shape.num_gpus,
        num_nodes=shape.num_nodes,
        num_groups=shape.num_groups,
        hierarchy=shape.hierarchy,  # type: ignore[arg-type]  # an enum is an int
        inactive_gpus=shape.inactive,
        allow_duplicates=shape.allow_duplicates,
        gpu_speed=rng.choice([0.5, 1, 2, 3], shape.num_gpus) if draw(st.booleans()) else (),
        options=pb.PackOptions(
            num_restarts=shape.num_restarts,
            refine=shape.refine,
            seed=draw(st.integers(0, 3)),
            target_gap=draw(st.sampled_from([None, 0.0, 0.1])),
        ),
    )
    if with_previous:
        by_node, holes = draw(st.booleans()), draw(st.sampled_from([0.0, 0.0, 0.3, 1.0]))
        previous = [_previous(rng, shape, by_node, holes) for _ in range(num_layers)]
        request.previous.CopyFrom(wire.encode(np.array(previous, draw(st.sampled_from([np.int32, np.int64])))))
        budget = draw(st.sampled_from([None, 0, 1, 2, 4, 8, 16, 1000]))
        if budget is not None:
            request.max_moves = budget
        if draw(st.booleans()):
            request.min_gain = draw(st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0]))
    return request


def read(request: pb.RebalanceRequest) -> RebalanceProblem | None:
    """The problem of a request; None where it asks for what can't be."""
    try:
        problem, _ = read_rebalance(request, LIMITS)
    except InvalidArgumentError as error:
        assert {violation.field for violation in error.violations} <= MAY_BE_IMPOSSIBLE, error  # noqa: PT017  # else it is wrong
        return None
    return problem
