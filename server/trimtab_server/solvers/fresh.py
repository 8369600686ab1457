"""A placement from nothing, as a start for the search: groups to nodes, replicas to experts, replicas to GPUs.

The plan is that of DeepSeek's EPLB, with the restart packer in place of its greedy one. Windows count alike here; what
a mean over them hides, and speeds, is left to the search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trimtab_server.solvers.compiled.replicas import replicate_rows
from trimtab_server.solvers.numbers import Integers
from trimtab_server.solvers.packing import solve_packs
from trimtab_server.solvers.placement import Figures, RebalanceProblem, Slots
from trimtab_server.solvers.problem import PackAnswer, Packer, PackProblem, parts_of

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class FreshStart:
    """Where searches from nothing begin."""

    slots: Slots  # [rows, P], -1 on inactive GPUs
    solver: str
    device: str


def start_from_nothing(
    problems: Sequence[RebalanceProblem], whole: Integers, speed: Figures, packer: Packer
) -> FreshStart:
    """Place the rows of problems that share a solve.

    Args:
        problems: without a previous placement, with one share_key.
        whole: [rows, T, E], all rows of all problems. speed: [rows, G], 0 where inactive.
        packer: what packs.
    """
    first = problems[0]
    num_rows, num_nodes = len(whole), first.num_nodes if first.hierarchical else 1
    expert = _experts_of_nodes(problems, whole, speed, packer) if num_nodes > 1 else _all_experts(whole)
    load = np.take_along_axis(_mean_load(whole)[:, None], expert, axis=2)
    size = first.num_replicas // first.num_gpus
    slots = np.full((num_rows, first.num_gpus, size), -1, np.int32)
    live = np.split(speed[0] > 0, num_nodes)
    for num_live in sorted({int(of_node.sum()) for of_node in live}):
        nodes = [node for node, of_node in enumerate(live) if of_node.sum() == num_live]
        # Nodes with equally many live GPUs are more rows of one packing
        item, weight = _replicate(load[:, nodes], num_live, size, first)
        pack, rank, answer = _pack(problems, weight, num_live, packer)
        by_node = num_rows, len(nodes), -1
        for place, node in enumerate(nodes):
            gpus = np.flatnonzero(live[node]) + node * (first.num_gpus // num_nodes)
            of_item = np.take_along_axis(expert[:, node], item[:, place], axis=1)
            to_gpu, to_slot = gpus[pack.reshape(by_node)[:, place]], rank.reshape(by_node)[:, place]
            slots[np.arange(num_rows)[:, None], to_gpu, to_slot] = of_item
    return FreshStart(slots.reshape(num_rows, -1), answer.solver, answer.device)


def _all_experts(whole: Integers) -> Indices:
    num_rows, _, num_experts = whole.shape
    return np.broadcast_to(np.arange(num_experts), (num_rows, 1, num_experts))


def _mean_load(whole: Integers) -> Figures:
    """[rows, items]: mean over the windows, each in parts of its sum; all ones for a row without load."""
    load = np.zeros((len(whole), whole.shape[2]))
    for window in np.moveaxis(whole, 1, 0):  # in a written order, as are all sums of what is not whole
        total = window.sum(axis=1, keepdims=True)
        load += window / np.maximum(total, 1.0)
    load[~load.any(axis=1)] = 1.0
    return load


def _experts_of_nodes(problems: Sequence[RebalanceProblem], whole: Integers, speed: Figures, packer: Packer) -> Indices:
    """[rows, nodes, E / nodes]: the experts of each node, ascending."""
    first, (num_rows, num_windows, num_experts) = problems[0], whole.shape
    load = _mean_load(whole.reshape(num_rows, num_windows, first.num_groups, -1).sum(axis=3))
    node_of_group, _, _ = _pack(problems, load[:, None], first.num_nodes, packer)
    node_speed = speed.reshape(num_rows, first.num_nodes, -1).cumsum(axis=2)[:, :, -1]  # in a written order
    node_of_group = _heaviest_to_fastest(node_of_group, load, node_speed)
    node_of_expert = np.repeat(node_of_group, num_experts // first.num_groups, axis=1)
    return np.argsort(node_of_expert, axis=1, kind="stable").reshape(num_rows, first.num_nodes, -1)


def _heaviest_to_fastest(pack: Indices, load: Figures, speed: Figures) -> Indices:
    """[rows, groups]: the node of each group, where the packs of groups go to nodes in the order of their speeds."""
    packs = np.arange(speed.shape[1])
    carried = np.stack([np.where(pack == p, load, 0.0).cumsum(axis=1)[:, -1] for p in packs], axis=1)
    heaviest = np.argsort(-carried, axis=1, kind="stable")
    fastest = np.argsort(-speed, axis=1, kind="stable")
    node = np.empty_like(heaviest)
    np.put_along_axis(node, heaviest, fastest, axis=1)
    same = (speed == speed[:, :1]).all(axis=1)
    node[same] = packs
    return np.take_along_axis(node, pack, axis=1)


def _replicate(load: Figures, num_gpus: int, size: int, problem: RebalanceProblem) -> tuple[Indices, Figures]:
    """(expert, weight) [rows, nodes, num_gpus * size] of the items to pack, experts by their place in `load`."""
    num_rows, num_nodes, num_experts = load.shape
    expert = np.empty((num_rows * num_nodes, num_gpus * size), np.int32)
    weight = np.empty(expert.shape)
    most = expert.shape[1] if problem.allow_duplicates else num_gpus
    replicate_rows(np.ascontiguousarray(load).reshape(-1, num_experts), most, expert, weight)
    return expert.astype(np.int64).reshape(num_rows, num_nodes, -1), weight.reshape(num_rows, num_nodes, -1)


def _pack(
    problems: Sequence[RebalanceProblem], weight: Figures, num_packs: int, packer: Packer
) -> tuple[Indices, Indices, PackAnswer]:
    """(pack, rank) [rows * nodes, items] of weight [rows, nodes, items], and an answer that tells who packed."""
    packs = [
        PackProblem(weight[part].reshape(-1, weight.shape[2]), num_packs, problem.options)
        for problem, part in zip(problems, parts_of(problems), strict=True)
    ]
    answers = solve_packs(packs, packer)
    index, rank = (
        np.concatenate([getattr(answer, name) for answer in answers]).astype(np.int64)
        for name in ("pack_index", "rank_in_pack")
    )
    return index, rank, answers[0]
