"""Whether an answer is one at all: every rule of the contract that can be counted, whatever was asked."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.placement_rules import cluster_of, duplicates, experts_of, moves
from trimtab import InvalidArgumentError
from trimtab.answers import read_packing, read_placement
from trimtab.v1 import placement_pb2 as pb
from trimtab_server.rebalance_contract import read_rebalance
from trimtab_server.settings import Settings

_LIMITS = Settings().request_limits


def wrong_with(method: str, raw: bytes, answer: bytes) -> str:
    """What is wrong with an answer to these bytes; nothing where it is valid."""
    if method == "Describe":
        return "" if pb.DescribeResponse.FromString(answer).server_version else "a description without a version"
    try:
        if method == "Pack":
            return _wrong_packing(pb.PackRequest.FromString(raw), pb.PackResponse.FromString(answer))
        return _wrong_placement(pb.RebalanceRequest.FromString(raw), pb.RebalanceResponse.FromString(answer))
    except InvalidArgumentError as error:
        return f"answered, but {error}"


def _wrong_packing(request: pb.PackRequest, response: pb.PackResponse) -> str:
    packing = read_packing(response)
    shape = tuple(request.weight.shape)
    if packing.pack_index.shape != shape or packing.rank_in_pack.shape != shape or len(packing.max_load) != shape[0]:
        return f"the packing has shape {packing.pack_index.shape}, asked for {shape}"
    places = range(shape[1] // request.num_packs)
    wanted = sorted((pack, rank) for pack in range(request.num_packs) for rank in places)
    for pack, rank in zip(packing.pack_index.tolist(), packing.rank_in_pack.tolist(), strict=True):
        if sorted(zip(pack, rank, strict=True)) != wanted:
            return f"packs {pack} with ranks {rank} are not {request.num_packs} full packs"
    if not (packing.lower_bound <= packing.max_load * (1 + 1e-9)).all():
        return "a packing is better than its lower bound"
    return ""


def _wrong_placement(request: pb.RebalanceRequest, response: pb.RebalanceResponse) -> str:
    problem: Any = read_rebalance(request, _LIMITS)[0]
    _, layers, experts = problem.load.shape
    placement = read_placement(response, experts)
    if placement.physical_to_logical.shape != (layers, problem.num_replicas):
        return f"the placement has shape {placement.physical_to_logical.shape}"
    if problem.max_moves is not None and placement.moves.sum() > problem.max_moves:
        lost = problem.previous is not None and problem.inactive_gpus
        if not lost:  # what died with its GPU is revived whatever it costs
            return f"{placement.moves.sum()} moves, at most {problem.max_moves} were allowed"
    rows = zip(placement.physical_to_logical.tolist(), placement.moves.tolist(), strict=True)
    wrong = (_wrong_layer(problem, layer, row, told) for layer, (row, told) in enumerate(rows))
    return next((found for found in wrong if found), "")


def _wrong_layer(problem: Any, layer: int, row: list[int], told: int) -> str:
    cluster, experts = cluster_of(problem), problem.load.shape[2]
    before = None if problem.previous is None else problem.previous[layer].tolist()
    if set(experts_of(row)) != set(range(experts)):
        return f"layer {layer} holds {Counter(row)} of {experts} experts"
    if cluster.without_dead(row) != row:
        return f"layer {layer} has experts on a dead GPU"
    if not problem.allow_duplicates and duplicates(cluster, row) > (duplicates(cluster, before) if before else 0):
        return f"layer {layer} has more duplicates than before"
    if before is not None and moves(cluster, before, row) != told:
        return f"layer {layer} says {told} moves, does {moves(cluster, before, row)}"
    return ""
