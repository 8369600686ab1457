"""The contract's messages to checked problems, and answers back to messages: everything below knows no protobuf."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trimtab import wire
from trimtab.errors import InvalidArgumentError
from trimtab.v1 import placement_pb2 as pb
from trimtab.version import __version__
from trimtab_server.fair_queue import Priority
from trimtab_server.jobs import Solved
from trimtab_server.solvers.problem import ALGORITHM, PackAnswer, Packer, PackOptions, PackProblem

_PRIORITIES: dict[int, Priority] = {pb.PRIORITY_UNSPECIFIED: Priority.NORMAL, pb.PRIORITY_LOW: Priority.LOW}
_MAX_SUM = float(np.finfo(np.float32).max)
_MAX_NOISE = 1.0
_LAYER_BYTES = 3 * 8 + 5
"""Figures of a layer in an answer: three doubles and a small integer."""
_HEAD_BYTES = 1024


@dataclass(frozen=True)
class RequestLimits:
    """What one request may ask for; the names are those of the settings."""

    max_rows: int
    max_items: int
    max_restarts: int
    max_item_steps: int
    max_message_bytes: int


def read_pack(request: pb.PackRequest, limits: RequestLimits) -> tuple[PackProblem, Priority]:
    """The problem of a request, checked against the contract and the limits; rules of size come before any work.

    Raises:
        InvalidArgumentError: names the field, the rule and the numbers.
    """
    if not request.HasField("weight"):
        raise InvalidArgumentError.of("weight", "is required")
    weight = wire.decode(request.weight, "weight", ndim=(2,), data_types=wire.REQUEST_TYPES)
    num_layers, num_items = weight.shape
    options = _read_options(request.options, limits)
    _at_most("weight.shape", f"num_layers = {num_layers}", num_layers, "max_rows", limits)
    _at_most("weight.shape", f"num_items = {num_items}", num_items, "max_items", limits)
    steps = num_layers * num_items * options.num_restarts
    product = f"{num_layers} layers x {num_items} items x {options.num_restarts} restarts = {steps}"
    _at_most("weight.shape", product, steps, "max_item_steps", limits)
    answer_bytes = num_layers * (2 * num_items * wire.answer_dtype(num_items).itemsize + _LAYER_BYTES) + _HEAD_BYTES
    _at_most("weight.shape", f"the answer's size of {answer_bytes} bytes", answer_bytes, "max_message_bytes", limits)
    _check_packs(request.num_packs, num_items)
    priority = _PRIORITIES.get(request.priority)
    if priority is None:
        raise InvalidArgumentError.of(
            "priority", f"must be PRIORITY_UNSPECIFIED or PRIORITY_LOW, got {request.priority}"
        )
    _check_values(weight)
    return PackProblem(weight, request.num_packs, options), priority


def _at_most(field: str, what: str, value: int, limit: str, limits: RequestLimits) -> None:
    allowed = getattr(limits, limit)
    if value > allowed:
        raise InvalidArgumentError.of(field, f"{what} is above this server's {limit} = {allowed}")


def _read_options(options: pb.PackOptions, limits: RequestLimits) -> PackOptions:
    given = {field.name: value for field, value in options.ListFields()}  # optional fields that are absent: defaults
    read = PackOptions(**given)
    if read.num_restarts < 1:
        raise InvalidArgumentError.of("options.num_restarts", f"must be at least 1, got {read.num_restarts}")
    _at_most("options.num_restarts", str(read.num_restarts), read.num_restarts, "max_restarts", limits)
    if not 0 <= read.noise_min <= _MAX_NOISE:  # false for nan too
        raise InvalidArgumentError.of("options.noise_min", f"must be from 0 to 1, got {read.noise_min}")
    if not read.noise_min <= read.noise_max <= _MAX_NOISE:
        rule = f"must be from noise_min = {read.noise_min} to 1, got {read.noise_max}"
        raise InvalidArgumentError.of("options.noise_max", rule)
    if not 0 <= read.target_gap < float("inf"):
        raise InvalidArgumentError.of("options.target_gap", f"must be finite and at least 0, got {read.target_gap}")
    return read


def _check_packs(num_packs: int, num_items: int) -> None:
    if not 1 <= num_packs <= num_items:
        raise InvalidArgumentError.of("num_packs", f"must be from 1 to num_items = {num_items}, got {num_packs}")
    if num_items % num_packs:
        below = next(n for n in range(num_packs, 0, -1) if num_items % n == 0)
        above = next(n for n in range(num_packs, num_items + 1) if num_items % n == 0)
        rule = f"must divide num_items = {num_items}, got {num_packs}; the nearest that do are {below} and {above}"
        raise InvalidArgumentError.of("num_packs", rule)


def _check_values(weight: wire.Array) -> None:
    # A sum shows every nan and infinity, and a minimum every sign: two passes where all is well.
    with np.errstate(over="ignore", invalid="ignore"):
        sums = weight.sum(axis=1, dtype=np.float64)
    if weight.min() >= 0 and (sums <= _MAX_SUM).all():
        return
    wrong = ~np.isfinite(weight) | (weight < 0)
    if wrong.any():
        layer, item = np.unravel_index(int(wrong.argmax()), weight.shape)
        rule = f"every weight must be finite and at least 0, got {weight[layer, item]} at [{layer}, {item}]"
        raise InvalidArgumentError.of("weight", rule)
    first = int(np.argmax(sums > _MAX_SUM))
    rule = f"the sum of a layer must fit a float32, at most {_MAX_SUM:.4g}, got {sums[first]:.4g} in layer {first}"
    raise InvalidArgumentError.of("weight", rule)


def write_pack(solved: Solved[PackAnswer]) -> pb.PackResponse:
    """The response of a solved problem."""
    answer = solved.answer
    num_items = answer.pack_index.shape[1]
    dtype = wire.answer_dtype(num_items)  # packs are never more than items
    return pb.PackResponse(
        packing=pb.Packing(
            pack_index=wire.encode(answer.pack_index.astype(dtype)),
            rank_in_pack=wire.encode(answer.rank_in_pack.astype(dtype)),
            max_load=answer.max_load.tolist(),
            mean_load=answer.mean_load.tolist(),
            lower_bound=answer.lower_bound.tolist(),
            winning_restart=answer.winning_restart.tolist(),
            algorithm=ALGORITHM,
        ),
        execution=pb.Execution(
            solver=answer.solver,
            device=answer.device,
            server_version=__version__,
            queue_seconds=solved.queue_seconds,
            solve_seconds=solved.solve_seconds,
            batch_requests=solved.batch_requests,
            batch_rows=solved.batch_rows,
        ),
    )


def write_description(packer: Packer, limits: Mapping[str, int]) -> pb.DescribeResponse:
    """The answer to Describe; `limits` are all those of the Limits message, by name."""
    return pb.DescribeResponse(
        server_version=__version__,
        algorithm=ALGORITHM,
        solvers=[pb.Solver(name=packer.name, device=packer.device)],
        limits=pb.Limits(**limits),
    )
