"""Rebalances whose answers can be told by hand: GPUs that die, come back or are slow, and copies that are wasted."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.placement_rules import cluster_of, duplicates, experts_of, moves
from trimtab import InvalidArgumentError, wire
from trimtab.v1 import placement_pb2 as pb
from trimtab_server.rebalance_contract import read_rebalance
from trimtab_server.settings import read_settings
from trimtab_server.solvers.cpu_packer import CpuPacker
from trimtab_server.solvers.cpu_searcher import CpuSearcher
from trimtab_server.solvers.placement import PlacementAnswer, RebalanceProblem
from trimtab_server.solvers.placing import solve_rebalances

PACKER, SEARCHER = CpuPacker(threads=1), CpuSearcher(threads=1)
LIMITS = read_settings([]).request_limits
WASTED = [[0, 2, 0, 1, 3, 1]]


def asked(load: Any, num_gpus: int, num_replicas: int, previous: Any = None, **fields: Any) -> RebalanceProblem:
    request = pb.RebalanceRequest(
        load=wire.encode(np.asarray(load)), num_gpus=num_gpus, num_replicas=num_replicas, **fields
    )
    if previous is not None:
        request.previous.CopyFrom(wire.encode(np.asarray(previous)))
    return read_rebalance(request, LIMITS)[0]


def solve(problem: RebalanceProblem) -> PlacementAnswer:
    (answer,) = solve_rebalances([problem], PACKER, SEARCHER)
    return answer


def by_gpu(answer: PlacementAnswer, num_gpus: int, layer: int = 0) -> list[list[int]]:
    """The experts of each GPU, ascending."""
    return [sorted(held) for held in answer.physical_to_logical[layer].reshape(num_gpus, -1).tolist()]


def random_loads(layers: int, experts: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(0).lognormal(8, 1, (layers, experts)).astype(np.int64)


def test_a_gpu_that_came_back_is_filled() -> None:
    """Without a limit on moves its empty slots hold replicas again, and all is level."""
    answer = solve(asked([[8, 8, 8, 8]], 3, 6, [[0, 1, 2, 3, -1, -1]]))
    assert (answer.physical_to_logical >= 0).all()
    assert answer.before.tolist() == [pytest.approx((32 / 3) / 16)]
    assert answer.after.tolist() == [1.0]
    assert answer.moves.tolist() == [3]


@pytest.mark.parametrize(("budget", "filled"), [(0, []), (1, [0])])
def test_a_gpu_that_came_back_is_filled_as_far_as_moves_go(budget: int, filled: list[int]) -> None:
    """One move is a replica of the hottest expert, none leaves the slots empty."""
    answer = solve(asked([[9, 8, 1, 1]], 3, 6, [[0, 1, 2, 3, -1, -1]], max_moves=budget))
    assert answer.physical_to_logical.tolist() == [[0, 1, 2, 3, *filled, *[-1] * (2 - budget)]]
    assert answer.moves.tolist() == [budget]


@pytest.mark.parametrize("previous", [None, [[0, 1, 2, 3, 4, 5, 6, 7, 8]]])
def test_a_slower_gpu_gets_less_load(previous: Any) -> None:
    """Loads 1 to 9 on three GPUs: 9 for the one of half the others' speed, 18 for each of those."""
    load = np.arange(1, 10)
    answer = solve(asked([load], 3, 9, previous, gpu_speed=[2, 1, 2]))
    carried = [int(load[held].sum()) for held in by_gpu(answer, 3)]
    assert carried == [18, 9, 18]
    assert answer.after.tolist() == [1.0]


def test_duplicates_are_taken_apart_where_moves_are_free() -> None:
    """A second copy on a GPU is no use: where that costs no balancedness, another expert gets its slot."""
    problem = asked([[6, 6, 0, 0]], 2, 6, WASTED)
    answer = solve(problem)
    assert duplicates(cluster_of(problem), WASTED[0]) == 2
    assert answer.physical_to_logical.tolist() == [[0, 2, 3, 1, 3, 2]]
    assert answer.moves.tolist() == [2]


def test_duplicates_stay_where_they_may() -> None:
    """With allow_duplicates a balanced placement is left alone."""
    answer = solve(asked([[6, 6, 0, 0]], 2, 6, WASTED, allow_duplicates=True))
    assert answer.physical_to_logical.tolist() == WASTED
    assert not (answer.moves > 0).any()


def test_experts_of_a_dead_gpu_come_back_within_the_moves_that_needs() -> None:
    """As many as were lost, in all layers together; one less is refused, and says how many."""
    load = random_loads(3, 8)
    before = np.array(
        [[0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 4], [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 6, 7], [*range(8), *range(4)]]
    )
    problem = asked(load, 3, 12, before, inactive_gpus=[1], max_moves=9)
    answer = solve(problem)
    assert answer.moves.tolist() == [3, 2, 4]
    for row, held in zip(before.tolist(), answer.physical_to_logical.tolist(), strict=True):
        assert held[4:8] == [-1] * 4
        assert set(experts_of(held)) == set(range(8))
        assert moves(cluster_of(problem), row, held) == len(set(row[4:8]) - {*row[:4], *row[8:]})
    with pytest.raises(InvalidArgumentError, match=r"must be at least 9, to revive the experts .* got 8"):
        asked(load, 3, 12, before, inactive_gpus=[1], max_moves=8)


def test_moves_go_where_they_gain_most() -> None:
    """Two moves for two layers: the one that is out of balance gets them, and comes first in the order."""
    load = [[5, 5, 5, 5], [9, 9, 1, 1]]
    answer = solve(asked(load, 2, 4, [[0, 1, 2, 3]] * 2, max_moves=2))
    assert answer.moves.tolist() == [0, 2]
    assert answer.after.tolist() == [1.0, 1.0]
    assert answer.layer_order.tolist() == [1, 0]
    assert answer.curve.tolist() == [[0, pytest.approx((1 + 10 / 18) / 2)], [2, 1.0]]


def test_a_layer_that_gains_too_little_is_left() -> None:
    """Of two that could be level, the one that gains 0.05 stays where a tenth is asked for."""
    load = [[21, 19, 20, 24], [9, 9, 1, 1]]
    assert (solve(asked(load, 2, 4, [[0, 1, 2, 3]] * 2)).moves == 2).all()
    assert solve(asked(load, 2, 4, [[0, 1, 2, 3]] * 2, min_gain=0.1)).moves.tolist() == [0, 2]


def test_groups_stay_on_their_node_or_may_leave() -> None:
    """One node's groups are hot: only where experts may go anywhere does that level out."""
    load = [[9, 9, 9, 9, 1, 1, 1, 1]]
    nodes = {"num_nodes": 2, "num_groups": 2}
    kept = solve(asked(load, 4, 8, [list(range(8))], **nodes))
    assert kept.hierarchical
    assert kept.moves.tolist() == [0]
    spread = solve(asked(load, 4, 8, [list(range(8))], hierarchy=pb.HIERARCHY_GLOBAL, **nodes))
    assert not spread.hierarchical
    assert spread.after.tolist() == [1.0]
    assert by_gpu(spread, 4) != by_gpu(kept, 4)


def test_all_windows_count_alike() -> None:
    """A window of a thousandth of the tokens weighs as much as another in the mean, and the latest is told besides."""
    load = np.array([[[9000, 1000, 1000, 9000]], [[9, 9, 1, 1]]])
    answer = solve(asked(load, 2, 4, [[0, 1, 2, 3]], max_moves=0))
    assert answer.before.tolist() == [pytest.approx((1 + 10 / 18) / 2)]
    assert answer.latest_before.tolist() == [pytest.approx(10 / 18)]
    assert answer.after.tolist() == answer.before.tolist()


@pytest.mark.parametrize(
    ("load", "num_gpus", "num_replicas", "options"),
    [([0, 3, 0, 3, 2], 4, 12, {}), ([2, 1, 1, 0, 2, 2], 6, 24, {"num_restarts": 1, "refine": False})],
    ids=["by default", "unrefined"],
)
def test_no_gpu_gets_an_expert_twice_where_swaps_alone_do_not_help(
    load: list[int], num_gpus: int, num_replicas: int, options: dict[str, Any]
) -> None:
    """Few experts with many replicas: packed by load they meet on a GPU, and have to be taken apart."""
    problem = asked([load], num_gpus, num_replicas, options=pb.PackOptions(**options))
    (row,) = solve(problem).physical_to_logical.tolist()
    assert duplicates(cluster_of(problem), row) == 0
