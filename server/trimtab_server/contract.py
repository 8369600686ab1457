"""The contract's messages to checked problems, and answers back to messages: everything below knows no protobuf."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trimtab import wire
from trimtab.errors import InvalidArgumentError
from trimtab.v1 import placement_pb2 as pb
from trimtab.version import __version__
from trimtab_server.checks import RequestLimits, at_most, check_values, read_options, read_priority
from trimtab_server.fair_queue import Priority
from trimtab_server.jobs import Solved
from trimtab_server.solvers.placement import REBALANCE_ALGORITHM
from trimtab_server.solvers.problem import ALGORITHM, PackAnswer, Packer, PackProblem

_LAYER_BYTES = 3 * 8 + 5
"""Figures of a layer in an answer: three doubles and a small integer."""
_HEAD_BYTES = 1024


def read_pack(request: pb.PackRequest, limits: RequestLimits) -> tuple[PackProblem, Priority]:
    """The problem of a request, checked against the contract and the limits; rules of size come before any work.

    Raises:
        InvalidArgumentError: names the field, the rule and the numbers.
    """
    if not request.HasField("weight"):
        raise InvalidArgumentError.of("weight", "is required")
    weight = wire.decode(request.weight, "weight", ndim=(2,), data_types=wire.REQUEST_TYPES)
    num_layers, num_items = weight.shape
    options = read_options(request.options, limits)
    at_most("weight.shape", f"num_layers = {num_layers}", num_layers, "max_rows", limits)
    at_most("weight.shape", f"num_items = {num_items}", num_items, "max_items", limits)
    steps = num_layers * num_items * options.num_restarts
    product = f"{num_layers} layers x {num_items} items x {options.num_restarts} restarts = {steps}"
    at_most("weight.shape", product, steps, "max_item_steps", limits)
    answer_bytes = num_layers * (2 * num_items * wire.answer_dtype(num_items).itemsize + _LAYER_BYTES) + _HEAD_BYTES
    at_most("weight.shape", f"the answer's size of {answer_bytes} bytes", answer_bytes, "max_message_bytes", limits)
    _check_packs(request.num_packs, num_items)
    priority = read_priority(request.priority)
    check_values(weight, "weight")
    return PackProblem(weight, request.num_packs, options), priority


def _check_packs(num_packs: int, num_items: int) -> None:
    if not 1 <= num_packs <= num_items:
        raise InvalidArgumentError.of("num_packs", f"must be from 1 to num_items = {num_items}, got {num_packs}")
    if num_items % num_packs:
        below = next(n for n in range(num_packs, 0, -1) if num_items % n == 0)
        above = next(n for n in range(num_packs, num_items + 1) if num_items % n == 0)
        rule = f"must divide num_items = {num_items}, got {num_packs}; the nearest that do are {below} and {above}"
        raise InvalidArgumentError.of("num_packs", rule)


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
        execution=write_execution(solved, answer.solver, answer.device),
    )


def write_execution(solved: Solved[Any], solver: str, device: str) -> pb.Execution:
    """How an answer came about."""
    return pb.Execution(
        solver=solver,
        device=device,
        server_version=__version__,
        queue_seconds=solved.queue_seconds,
        solve_seconds=solved.solve_seconds,
        batch_requests=solved.batch_requests,
        batch_rows=solved.batch_rows,
    )


def write_description(packer: Packer, limits: Mapping[str, int]) -> pb.DescribeResponse:
    """The answer to Describe; `limits` are all those of the Limits message, by name."""
    return pb.DescribeResponse(
        server_version=__version__,
        algorithm=ALGORITHM,
        rebalance_algorithm=REBALANCE_ALGORITHM,
        solvers=[pb.Solver(name=packer.name, device=packer.device)],
        limits=pb.Limits(**limits),
    )
