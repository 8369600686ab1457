"""Rebalance's messages to checked problems, and its answers back to messages."""

from __future__ import annotations

import math

import numpy as np

from trimtab import wire
from trimtab.errors import InvalidArgumentError
from trimtab.replication import count_replicas
from trimtab.v1 import placement_pb2 as pb
from trimtab_server import hierarchy
from trimtab_server.checks import RequestLimits, at_most, check_values, read_options, read_priority
from trimtab_server.contract import write_execution
from trimtab_server.fair_queue import Priority
from trimtab_server.jobs import Solved
from trimtab_server.solvers.placement import REBALANCE_ALGORITHM, PlacementAnswer, RebalanceProblem, Slots, partners_of

_LAYER_BYTES = 6 * 8 + 2 * 5
"""Figures of a layer in an answer: six doubles and two small integers."""
_HEAD_BYTES = 4096
MOST_WINDOWS = 1024
"""Windows of a request; older ones tell nothing of the next traffic."""
_MOST_SPREAD = 1e6
"""How many times faster the fastest GPU may be than the slowest."""


def read_rebalance(request: pb.RebalanceRequest, limits: RequestLimits) -> tuple[RebalanceProblem, Priority]:
    """The problem of a request, checked against the contract and the limits; rules of size come before any work.

    Raises:
        InvalidArgumentError: names the field, the rule and the numbers.
    """
    load = _read_load(request, limits)
    num_windows, num_layers, num_experts = load.shape
    options = read_options(request.options, limits)
    num_nodes, num_groups = request.num_nodes or 1, request.num_groups or 1
    _check_numbers(request, num_experts, limits)
    _check_size(request, num_windows, num_layers, options.num_restarts, limits)
    inactive = _read_inactive(request, num_experts)
    speed = _read_speed(request)
    previous = _read_previous(request, num_layers, num_experts) if request.HasField("previous") else None
    _check_budget(request, previous, inactive, num_experts)
    cluster = hierarchy.Cluster(
        num_experts,
        request.num_replicas,
        request.num_gpus,
        num_nodes,
        num_groups,
        inactive,
        allow_duplicates=request.allow_duplicates,
    )
    hierarchical = _read_hierarchy(request.hierarchy, cluster, previous)
    priority = read_priority(request.priority)
    check_values(load if request.load.shape[2:] else load[0], "load")
    problem = RebalanceProblem(
        load,
        request.num_replicas,
        request.num_gpus,
        num_nodes,
        num_groups,
        hierarchical=hierarchical,
        previous=previous,
        max_moves=request.max_moves if request.HasField("max_moves") else None,
        min_gain=request.min_gain,
        inactive_gpus=inactive,
        gpu_speed=speed,
        allow_duplicates=request.allow_duplicates,
        options=options,
    )
    return problem, priority


def _read_load(request: pb.RebalanceRequest, limits: RequestLimits) -> wire.Array:
    if not request.HasField("load"):
        raise InvalidArgumentError.of("load", "is required")
    load = wire.decode(request.load, "load", ndim=(2, 3), data_types=wire.REQUEST_TYPES)
    at_most("load.shape", f"num_layers = {load.shape[-2]}", load.shape[-2], "max_rows", limits)
    at_most("load.shape", f"num_experts = {load.shape[-1]}", load.shape[-1], "max_items", limits)
    return load if load.ndim == 3 else load[None]  # noqa: PLR2004  # windows, layers, experts


def _check_numbers(request: pb.RebalanceRequest, num_experts: int, limits: RequestLimits) -> None:
    gpus, replicas = request.num_gpus, request.num_replicas
    if gpus < 1:
        raise InvalidArgumentError.of("num_gpus", f"must be at least 1, got {gpus}")
    at_most("num_gpus", str(gpus), gpus, "max_items", limits)
    at_most("num_replicas", str(replicas), replicas, "max_items", limits)
    if replicas < num_experts or replicas % gpus:
        least = math.ceil(max(replicas, num_experts) / gpus) * gpus
        rule = (
            f"must be at least num_experts = {num_experts} and a multiple of num_gpus = {gpus}, got {replicas}; the "
            f"smallest from there on is {least}, with {least - num_experts} redundant replicas"
        )
        raise InvalidArgumentError.of("num_replicas", rule)
    size = replicas // gpus
    if size > num_experts and not request.allow_duplicates:
        rule = (
            f"{size} slots a GPU are more than num_experts = {num_experts}, so a GPU would hold an expert twice; "
            "allow_duplicates lets it"
        )
        raise InvalidArgumentError.of("num_replicas", rule)
    for field, count, divides, whole in (
        ("num_nodes", request.num_nodes, "num_gpus", gpus),
        ("num_groups", request.num_groups, "num_experts", num_experts),
    ):
        if count < 0 or count > whole or whole % (count or 1):
            raise InvalidArgumentError.of(field, f"must divide {divides} = {whole} (0 is 1), got {count}")


def _check_size(
    request: pb.RebalanceRequest, num_windows: int, num_layers: int, num_restarts: int, limits: RequestLimits
) -> None:
    if num_windows > MOST_WINDOWS:
        raise InvalidArgumentError.of("load.shape", f"num_windows must be at most {MOST_WINDOWS}, got {num_windows}")
    replicas, gpus = request.num_replicas, request.num_gpus
    partners = partners_of(replicas, gpus)
    steps = num_windows * num_layers * replicas * partners
    larger = f"{partners} slots a GPU" if partners == replicas // gpus else f"{partners} (a quarter of the GPUs)"
    product = f"{num_windows} windows x {num_layers} layers x {replicas} replicas x {larger} = {steps}"
    at_most("load.shape", product, steps, "max_item_steps", limits)
    if not request.HasField("previous"):
        steps = num_layers * replicas * num_restarts
        product = f"{num_layers} layers x {replicas} replicas x {num_restarts} restarts = {steps}"
        at_most("load.shape", product, steps, "max_item_steps", limits)
    answer_bytes = num_layers * (replicas * wire.answer_dtype(replicas).itemsize + _LAYER_BYTES) + _HEAD_BYTES
    at_most("load.shape", f"the answer's size of {answer_bytes} bytes", answer_bytes, "max_message_bytes", limits)


def _read_inactive(request: pb.RebalanceRequest, num_experts: int) -> tuple[int, ...]:
    gpus, inactive = request.num_gpus, list(request.inactive_gpus)
    seen: set[int] = set()
    for gpu in inactive:
        if not 0 <= gpu < gpus:
            raise InvalidArgumentError.of("inactive_gpus", f"must be from 0 to num_gpus - 1 = {gpus - 1}, got {gpu}")
        if gpu in seen:
            raise InvalidArgumentError.of("inactive_gpus", f"must name each GPU once, names {gpu} more than once")
        seen.add(gpu)
    size, live = request.num_replicas // gpus, gpus - len(inactive)
    if live * size < num_experts:
        rule = f"must leave a slot for each of {num_experts} experts, leave {live} GPUs x {size} slots = {live * size}"
        raise InvalidArgumentError.of("inactive_gpus", rule)
    return tuple(inactive)


def _read_speed(request: pb.RebalanceRequest) -> tuple[float, ...] | None:
    speed = tuple(request.gpu_speed)
    if not speed:
        return None
    if len(speed) != request.num_gpus:
        rule = f"must have one value for each of num_gpus = {request.num_gpus}, has {len(speed)}"
        raise InvalidArgumentError.of("gpu_speed", rule)
    for gpu, value in enumerate(speed):
        if not 0 < value < math.inf:  # false for nan too
            raise InvalidArgumentError.of("gpu_speed", f"must be finite and above 0, got {value} for GPU {gpu}")
    if max(speed) > _MOST_SPREAD * min(speed):
        rule = f"the fastest may be at most {_MOST_SPREAD:g} times the slowest, got {max(speed)} and {min(speed)}"
        raise InvalidArgumentError.of("gpu_speed", rule)
    return speed


def _read_previous(request: pb.RebalanceRequest, num_layers: int, num_experts: int) -> Slots:
    field = "previous"
    types = (pb.DATA_TYPE_INT32, pb.DATA_TYPE_INT64)
    previous = wire.decode(request.previous, field, ndim=(2,), data_types=types)
    expected = (num_layers, request.num_replicas)
    if previous.shape != expected:
        rule = f"must be [num_layers, num_replicas] = {list(expected)}, got {list(previous.shape)}"
        raise InvalidArgumentError.of(f"{field}.shape", rule)
    wrong = (previous < -1) | (previous >= num_experts)
    if wrong.any():
        layer, slot = (int(i) for i in np.unravel_index(int(wrong.argmax()), previous.shape))
        rule = f"must hold experts from 0 to {num_experts - 1}, or -1 where a slot is empty"
        raise InvalidArgumentError.of(field, f"{rule}, got {previous[layer, slot]} at [{layer}, {slot}]")
    slots: Slots = previous.astype(np.int32)
    missing = count_replicas(slots, num_experts) == 0
    if missing.any():
        layer = int(missing.any(axis=1).argmax())
        experts = np.flatnonzero(missing[layer])
        rule = f"must hold every expert, layer {layer} lacks {len(experts)}, the first is {experts[0]}"
        raise InvalidArgumentError.of(field, rule)
    return slots


def _check_budget(
    request: pb.RebalanceRequest, previous: Slots | None, inactive: tuple[int, ...], num_experts: int
) -> None:
    for field in ("max_moves", "min_gain"):
        if request.HasField(field) and previous is None:
            raise InvalidArgumentError.of(field, "needs previous: what it limits are changes of that")
    if not 0 <= request.min_gain <= 1:  # false for nan too
        raise InvalidArgumentError.of("min_gain", f"must be from 0 to 1, got {request.min_gain}")
    if request.max_moves < 0:
        raise InvalidArgumentError.of("max_moves", f"must be at least 0, got {request.max_moves}")
    if previous is None or not inactive or not request.HasField("max_moves"):
        return
    by_gpu = previous.reshape(len(previous), request.num_gpus, -1)
    live = np.delete(by_gpu, inactive, axis=1).reshape(len(previous), -1)
    needed = int((count_replicas(live, num_experts) == 0).sum())
    if needed > request.max_moves:
        rule = f"must be at least {needed}, to revive the experts that only inactive GPUs hold, got {request.max_moves}"
        raise InvalidArgumentError.of("max_moves", rule)


def _read_hierarchy(wanted: int, cluster: hierarchy.Cluster, previous: Slots | None) -> bool:
    if wanted not in pb.Hierarchy.values():
        rule = "must be HIERARCHY_UNSPECIFIED, HIERARCHY_GLOBAL or HIERARCHY_HIERARCHICAL"
        raise InvalidArgumentError.of("hierarchy", f"{rule}, got {wanted}")
    if wanted == pb.HIERARCHY_GLOBAL or (wanted == pb.HIERARCHY_UNSPECIFIED and cluster.num_nodes == 1):
        return False
    obstacle = hierarchy.obstacle(cluster, previous)
    if obstacle and wanted == pb.HIERARCHY_HIERARCHICAL:
        raise InvalidArgumentError.of("hierarchy", f"can't be HIERARCHICAL: {obstacle}; GLOBAL can")
    return not obstacle


def write_rebalance(solved: Solved[PlacementAnswer]) -> pb.RebalanceResponse:
    """The response of a solved problem."""
    answer = solved.answer
    dtype = wire.answer_dtype(answer.physical_to_logical.shape[1])  # experts are never more than slots
    return pb.RebalanceResponse(
        placement=pb.Placement(
            physical_to_logical=wire.encode(answer.physical_to_logical.astype(dtype)),
            balancedness_before=answer.before.tolist(),
            balancedness_after=answer.after.tolist(),
            bound=answer.bound.tolist(),
            latest_balancedness_before=answer.latest_before.tolist(),
            latest_balancedness_after=answer.latest_after.tolist(),
            latest_bound=answer.latest_bound.tolist(),
            moves=answer.moves.tolist(),
            layer_order=answer.layer_order.tolist(),
            curve=[pb.CurvePoint(moves=int(moves), balancedness=value) for moves, value in answer.curve.tolist()],
            hierarchy=pb.HIERARCHY_HIERARCHICAL if answer.hierarchical else pb.HIERARCHY_GLOBAL,
            algorithm=REBALANCE_ALGORITHM,
        ),
        execution=write_execution(solved, answer.solver, answer.device),
    )
