"""Whatever is asked, the placement is what the contract says: held to plain Python that counts slot by slot."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.placement_rules import (
    CLOSE,
    Cluster,
    Row,
    balancedness,
    cluster_of,
    duplicates,
    experts_of,
    keeps_groups,
    keeps_slots,
    mean_balancedness,
    moves,
)
from tests.rebalance_cases import read, requests, shapes
from trimtab_server.jobs import Solved
from trimtab_server.rebalance_contract import write_rebalance
from trimtab_server.solvers.cpu_packer import CpuPacker
from trimtab_server.solvers.cpu_searcher import CpuSearcher
from trimtab_server.solvers.placement import PlacementAnswer, RebalanceProblem
from trimtab_server.solvers.placing import solve_rebalances

PACKER, SEARCHER = CpuPacker(threads=1), CpuSearcher(threads=1)


def solve(*problems: RebalanceProblem) -> list[PlacementAnswer]:
    return solve_rebalances(problems, PACKER, SEARCHER)


def placement_bytes(answer: PlacementAnswer) -> bytes:
    response = write_rebalance(Solved(answer, 0.0, 0.0, 0.0, 1, len(answer.moves)))
    return response.placement.SerializeToString(deterministic=True)


@st.composite
def problems(draw: st.DrawFn, *, with_previous: bool) -> RebalanceProblem:
    """A problem that a random request comes to."""
    problem = read(draw(requests(draw(shapes()), with_previous=with_previous)))
    assume(problem is not None)
    assert problem is not None
    return problem


def rows_of(problem: RebalanceProblem, answer: PlacementAnswer) -> list[tuple[Row, Row, list[list[float]]]]:
    """Of each layer: the placement before on live GPUs (nothing, from nothing), the one after, loads by window."""
    before = np.full_like(answer.physical_to_logical, -1) if problem.previous is None else problem.previous
    cluster = cluster_of(problem)
    loads = problem.load.astype(float).transpose(1, 0, 2).tolist()
    whole = zip(before.tolist(), answer.physical_to_logical.tolist(), loads, strict=True)
    return [(cluster.without_dead(had), held, windows) for had, held, windows in whole]


def close(one: float, other: float) -> bool:
    return abs(one - other) <= CLOSE or (math.isnan(one) and math.isnan(other))


def revives(before: Row, num_experts: int) -> bool:
    return len(experts_of(before)) < num_experts


def check_placement(problem: RebalanceProblem, answer: PlacementAnswer) -> None:
    """What holds with and without a previous placement: every expert is there, figures and moves are right."""
    cluster, num_experts = cluster_of(problem), problem.load.shape[2]
    assert answer.physical_to_logical.shape == (problem.num_rows, problem.num_replicas)
    for layer, (before, after, windows) in enumerate(rows_of(problem, answer)):
        assert cluster.without_dead(after) == after
        assert set(after) - {-1} == set(range(num_experts))
        if problem.hierarchical:
            assert keeps_groups(cluster, after)
        assert answer.moves[layer] == moves(cluster, before, after)
        assert close(answer.after[layer], mean_balancedness(cluster, after, windows))
        assert close(answer.latest_after[layer], balancedness(cluster, after, windows[-1]))
        assert math.isnan(answer.after[layer]) or answer.bound[layer] >= answer.after[layer] - CLOSE
        assert (
            math.isnan(answer.latest_after[layer]) or answer.latest_bound[layer] >= answer.latest_after[layer] - CLOSE
        )
        assert math.isnan(answer.bound[layer]) == math.isnan(answer.after[layer]) == (not np.any(windows))
    assert placement_bytes(solve(problem)[0]) == placement_bytes(answer)


@settings(max_examples=400)
@given(problems(with_previous=False))
def test_what_is_placed_from_nothing_is_a_placement(problem: RebalanceProblem) -> None:
    """Live slots are full, no GPU has an expert twice unless it may, nothing is said of before."""
    (answer,) = solve(problem)
    check_placement(problem, answer)
    cluster = cluster_of(problem)
    for row in answer.physical_to_logical.tolist():
        assert all(-1 not in held for held in cluster.live(row))
        assert problem.allow_duplicates or duplicates(cluster, row) == 0
    assert np.isnan(answer.before).all()
    assert np.isnan(answer.latest_before).all()
    assert answer.curve.shape == (0, 2)
    assert answer.layer_order.tolist() == list(range(problem.num_rows))


@settings(max_examples=600)
@given(problems(with_previous=True))
def test_what_is_moved_is_within_what_was_asked(problem: RebalanceProblem) -> None:
    """Budget, gain, slots and duplicates are kept, and no layer is worse than it was."""
    (answer,) = solve(problem)
    check_placement(problem, answer)
    cluster = cluster_of(problem)
    assert problem.max_moves is None or answer.moves.sum() <= problem.max_moves
    for layer, (before, after, windows) in enumerate(rows_of(problem, answer)):
        assert close(answer.before[layer], mean_balancedness(cluster, before, windows))
        assert close(answer.latest_before[layer], balancedness(cluster, before, windows[-1]))
        assert keeps_slots(cluster, before, after)
        if problem.previous is not None and not problem.allow_duplicates:
            assert duplicates(cluster, after) <= duplicates(cluster, problem.previous[layer].tolist())
        if not revives(before, problem.load.shape[2]):
            check_layer_kept(problem, cluster, before, after, answer.after[layer] - answer.before[layer])
    check_order_and_curve(problem, answer)


def check_layer_kept(problem: RebalanceProblem, cluster: Cluster, before: Row, after: Row, gain: float) -> None:
    """A layer that loses no expert is not worse, and stays where it gains too little or may not move."""
    idle = math.isnan(gain)
    assert idle or gain >= -CLOSE
    if problem.max_moves == 0 or (0.0 if idle else gain) < problem.min_gain - CLOSE:
        assert after == before
    if idle:
        assert all(new == old for old, new in zip(before, after, strict=True) if old != -1)
        assert after == before or any(-1 in held for held in cluster.live(before))


def check_order_and_curve(problem: RebalanceProblem, answer: PlacementAnswer) -> None:
    """Layers by their gain, best first; points ascending, the curve never below where it begins."""
    gain = [0.0 if math.isnan(value) else value for value in (answer.after - answer.before).tolist()]
    assert answer.layer_order.tolist() == sorted(range(problem.num_rows), key=lambda layer: (-gain[layer], layer))
    assert len(answer.curve) <= 64
    assert len(answer.curve) > 0 or np.isnan(answer.after).all()
    points = answer.curve.tolist()
    for (fewer, lower), (more, higher) in pairwise(points):
        assert fewer < more
        assert lower <= higher + CLOSE
    assert all(0 <= value <= 1 + CLOSE for _, value in points)


@settings(max_examples=150)
@given(st.data(), st.booleans())
def test_the_batch_cannot_be_seen(data: st.DataObject, with_previous: bool) -> None:
    """Requests of one shape, each with its own loads, budget, speeds and seed, get the bytes that they get alone."""
    shape = data.draw(shapes())
    asked = [read(data.draw(requests(shape, with_previous=with_previous))) for _ in range(3)]
    found = [problem for problem in asked if problem is not None]
    assume(len(found) > 1)
    together = [problem for problem in found if problem.share_key == found[0].share_key]
    assume(len(together) > 1)
    alone = [placement_bytes(solve(problem)[0]) for problem in together]
    assert [placement_bytes(answer) for answer in solve(*together)] == alone
    assert [placement_bytes(answer) for answer in solve(*together[::-1])] == alone[::-1]
