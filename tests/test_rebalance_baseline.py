"""What the rebalance solver is measured against does what EPLB is said to do, and its figures are counted right."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest
from benchmarks.baselines import Packs, numpy_greedy, plain_greedy
from benchmarks.placement_quality import (
    Loads,
    Quality,
    balancedness,
    count_duplicates,
    count_moves,
    find_faults,
)
from benchmarks.rebalance_baseline import Placement, place_experts, placed_by, torch_greedy
from hypothesis import given
from hypothesis import strategies as st

from trimtab.cli.judging import copies_held
from trimtab.replication import count_replicas, replicate_experts
from trimtab.synthetic import generate_loads

Greedy = Callable[[npt.NDArray[np.float64], int], Packs]


def placement(*gpus: list[int]) -> Placement:
    """Of one layer, GPU by GPU."""
    return np.array([[expert for gpu in gpus for expert in gpu]], np.int32)


def best_max_load(weight: list[float], num_packs: int) -> float:
    """The least that the heaviest pack can carry, by trying everything."""
    size = len(weight) // num_packs
    if num_packs == 1:
        return sum(weight)
    first, *rest = range(len(weight))
    outcomes = []
    for others in combinations(rest, size - 1):
        pack = {first, *others}
        left = [weight[item] for item in rest if item not in pack]
        outcomes.append(max(sum(weight[item] for item in pack), best_max_load(left, num_packs - 1)))
    return min(outcomes)


@st.composite
def sizes_and_loads(draw: st.DrawFn) -> tuple[Loads, int, int]:
    """Loads [windows, layers, experts] of whole numbers, replicas and GPUs that divide them."""
    num_experts, num_gpus = draw(st.integers(1, 12)), draw(st.integers(1, 5))
    slots = -(-num_experts // num_gpus) + draw(st.integers(0, 3))
    shape = draw(st.integers(1, 3)), draw(st.integers(1, 4)), num_experts
    load = np.random.default_rng(draw(st.integers(0, 99))).integers(1, 50, shape)
    return load, slots * num_gpus, num_gpus


@given(sizes_and_loads())
def test_every_expert_is_placed_and_replicas_go_to_the_hottest(case: tuple[Loads, int, int]) -> None:
    """Every slot is filled; each expert has as many replicas as the rule gives for the mean over windows."""
    load, num_replicas, num_gpus = case
    placed = place_experts(load, num_replicas, num_gpus)
    assert placed.shape == (load.shape[1], num_replicas)
    assert placed.dtype == np.int32
    counts = count_replicas(placed.astype(np.int64), load.shape[2])
    assert counts.min() >= 1
    mean = load.mean(axis=0, dtype=np.float32)
    np.testing.assert_array_equal(counts.sum(axis=1), num_replicas)
    np.testing.assert_allclose((mean / counts).max(axis=1), hottest_share(mean, num_replicas), rtol=1e-6)


def hottest_share(mean: npt.NDArray[np.float32], num_replicas: int) -> npt.NDArray[np.float64]:
    """[layers]: the most load of a replica, by the client's own replication, which is the least there can be."""
    _, counts = replicate_experts(mean, num_replicas)
    share: npt.NDArray[np.float64] = (mean / counts).max(axis=1)
    return share


@pytest.mark.parametrize("greedy", [torch_greedy, plain_greedy, numpy_greedy])
def test_the_heaviest_go_first_to_the_lightest_pack_with_room(greedy: Greedy) -> None:
    """By hand: 9 | 7, then 6 to the second, 5 to the first, 4 to the second, which is full: 1 to the first."""
    weight = np.array([[1, 4, 5, 6, 7, 9], [9, 7, 6, 5, 4, 1]], np.float64)
    assert greedy(weight, 2).tolist() == [[0, 1, 0, 1, 1, 0], [0, 1, 1, 0, 1, 0]]


def test_a_full_pack_takes_nothing_more() -> None:
    """Two heavy items fill their packs with what is lightest, however light a full pack is."""
    weight = np.array([[8, 1, 1, 1, 1, 1]], np.float64)
    assert torch_greedy(weight, 2).tolist() == [[0, 1, 1, 1, 0, 0]]


def test_all_forms_of_the_baseline_place_alike() -> None:
    """What is timed without torch is the same work: whole numbers, so that rounding decides nothing."""
    load = np.random.default_rng(0).permuted(np.tile(4 ** np.arange(10), (2, 6, 1)), axis=2)
    load[1] = load[0]
    one, *others = (placed_by(greedy, load, 16, 4) for greedy in (torch_greedy, plain_greedy, numpy_greedy))
    for other in others:
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(one, place_experts(load, 16, 4))


@pytest.mark.parametrize("seed", range(20))
def test_no_packing_is_much_better(seed: int) -> None:
    """The heaviest pack carries at most 4/3 of the least that it could: the known bound of heaviest-first."""
    weight = np.random.default_rng(seed).lognormal(size=(1, 9))
    loads = np.bincount(torch_greedy(weight, 3)[0], weight[0], 3)
    best = best_max_load(weight[0].tolist(), 3)
    assert best <= loads.max() * (1 + 1e-12)
    assert loads.max() <= best * 4 / 3


def test_it_balances_real_sizes_as_it_is_known_to() -> None:
    """About 0.993 for DeepSeek-V3 on 32 GPUs, where experts in order reach about 0.6."""
    load = generate_loads(4, seed=3)[None]
    placed = place_experts(load, 288, 32)
    quality = Quality.of(placed, load, 32, None)
    assert 0.991 < quality.balancedness < 0.995
    in_order = np.tile(np.arange(256, dtype=np.int32), (4, 1))
    assert Quality.of(in_order, load, 32, None).balancedness < 0.7
    # it knows of no placement before: another window moves nearly everything
    later = generate_loads(4, num_windows=2, drift=0.1, seed=3)[1:]
    assert Quality.of(place_experts(later, 288, 32), later, 32, placed).moves > 0.9 * placed.size


def test_balancedness_is_counted_by_hand() -> None:
    """Replicas share evenly; the mean over windows, layer by layer."""
    load = np.array([[[6, 3, 1], [1, 1, 1]], [[2, 1, 1], [1, 1, 1]]])  # 2 windows, 2 layers
    placed = np.array([[0, 1, 0, 2], [0, 1, 0, 2]], np.int32)
    found = balancedness(load, copies_held(placed, 2, 3))
    np.testing.assert_allclose(found, [(5 / 6 + 1) / 2, 1])  # 3 + 3 | 3 + 1, then 1 + 1 | 1 + 1


def test_a_swap_is_two_moves_and_a_further_replica_one() -> None:
    """Slots within a GPU mean nothing; what leaves and comes back is no move; an empty slot holds nothing."""
    before = placement([0, 1, 2], [3, 4, 0])
    for after, moves in [
        (placement([2, 0, 1], [0, 3, 4]), 0),
        (placement([0, 1, 3], [2, 4, 0]), 2),
        (placement([0, 1, 2], [3, 4, 1]), 1),
        (placement([0, 1, 2], [3, 4, -1]), 0),
        (placement([0, 0, 2], [3, 4, 1]), 2),
    ]:
        assert count_moves(copies_held(before, 2, 5), copies_held(after, 2, 5)) == moves
    assert Quality.of(before, np.ones((1, 1, 5)), 2, before).moves == 0
    assert np.isnan(Quality.of(before, np.ones((1, 1, 5)), 2, None).moves)


def test_duplicates_are_copies_beyond_the_first() -> None:
    """On the same GPU; on another one they are replicas."""
    assert count_duplicates(copies_held(placement([0, 0, 0], [1, 1, 0]), 2, 2)).tolist() == [3]
    assert count_duplicates(copies_held(placement([0, 1, 2], [0, 1, 2]), 2, 3)).tolist() == [0]


BEFORE = placement([0, 1], [2, 0])


@pytest.mark.parametrize(
    ("after", "previous", "faults"),
    [
        (BEFORE, None, []),
        (BEFORE, BEFORE, []),
        (placement([0, 1], [2, 1]), BEFORE, []),
        (placement([0, 1], [2]), None, ["shape (1, 3), 1 layers and 2 GPUs there are"]),
        (placement([0, 1], [2, 3]), None, ["experts go from 0 to 3, 3 there are"]),
        (placement([0, 1], [2, -1]), None, ["experts go from -1 to 2, 3 there are"]),
        (placement([0, 1], [1, 0]), None, ["1 experts are nowhere"]),
        (placement([0, 0], [1, 2]), None, ["a GPU holds an expert twice"]),
        (placement([0, 2], [1, 0]), BEFORE, ["2 moves, 1 allowed"]),
        (placement([2, 1], [2, 0]), BEFORE, ["a layer is worse than before"]),
        (
            placement([0, 1], [2, 2]),
            BEFORE,
            ["a layer has more duplicates than before", "a layer is worse than before"],
        ),
    ],
)
def test_what_is_wrong_with_a_placement_is_named(
    after: Placement, previous: Placement | None, faults: list[str]
) -> None:
    """A benchmark of answers that are not valid would say nothing."""
    load = np.array([[[1, 8, 3]]])
    assert find_faults(after, load, 2, previous=previous, max_moves=1) == faults
