"""The restart packer: against its rules written plainly, against brute force, and against the batch around it."""

import hashlib
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab_server.solvers import torch_packer
from trimtab_server.solvers.bounds import lower_bound
from trimtab_server.solvers.numbers import KEY_SHIFT, Integers, noise_table, quantize
from trimtab_server.solvers.packing import solve_packs
from trimtab_server.solvers.problem import ALGORITHM, PackAnswer, PackOptions, PackProblem
from trimtab_server.solvers.torch_packer import TorchPacker

PACKER = TorchPacker("cpu")


def solve(weight: Any, num_packs: int, **options: Any) -> PackAnswer:
    (answer,) = solve_packs([PackProblem(np.asarray(weight), num_packs, PackOptions(**options))], PACKER)
    return answer


def plain_pack(whole: list[int], num_packs: int, multipliers: list[list[int]]) -> tuple[list[int], int, int]:
    """One row by the written rules, in plain Python: pack of each item, max load, winning restart."""
    best: tuple[int, int, list[int]] | None = None
    size = len(whole) // num_packs
    for restart, multiplier in enumerate(multipliers):
        noisy = [w * m >> KEY_SHIFT for w, m in zip(whole, multiplier, strict=True)]
        load, held, pack_of = [0] * num_packs, [0] * num_packs, [0] * len(whole)
        for item in sorted(range(len(whole)), key=lambda i: (-noisy[i], i)):
            pack = min((p for p in range(num_packs) if held[p] < size), key=lambda p: (load[p], p))
            load[pack] += whole[item]
            held[pack] += 1
            pack_of[item] = pack
        if best is None or max(load) < best[0]:
            best = (max(load), restart, pack_of)
    assert best is not None
    return best[2], best[0], best[1]


def plain_ranks(whole: list[int], pack_of: list[int]) -> list[int]:
    """Ranks by descending weight, ties by item."""
    rank, held = [0] * len(whole), dict.fromkeys(pack_of, 0)
    for item in sorted(range(len(whole)), key=lambda i: (-whole[i], i)):
        rank[item] = held[pack_of[item]]
        held[pack_of[item]] += 1
    return rank


shapes = st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6))


@st.composite
def weights(draw: st.DrawFn) -> tuple[Integers, int]:
    """Rows with ties, zeros, equal weights and ranges of 60 decades."""
    layers, size, num_packs = draw(shapes)
    value = draw(
        st.sampled_from([st.integers(0, 3), st.integers(0, 1000), st.floats(1e-30, 1e30), st.just(0), st.just(7)])
    )
    cells = st.lists(value, min_size=layers * size * num_packs, max_size=layers * size * num_packs)
    return np.array(draw(cells), np.float64).reshape(layers, -1), num_packs


@given(weights(), st.integers(1, 5), st.integers(0, 2**64 - 1))
def test_torch_does_what_the_rules_say(case: tuple[Integers, int], num_restarts: int, seed: int) -> None:
    """Packs, ranks, winners and loads equal those of the rules written plainly."""
    weight, num_packs = case
    answer = solve(weight, num_packs, num_restarts=num_restarts, seed=seed)
    whole, exponent = quantize(weight)
    multipliers = noise_table(weight.shape[1], num_restarts, 0.01, 0.15, seed).tolist()
    for row in range(len(weight)):
        integers = [int(w) for w in whole[row]]
        pack_of, largest, winner = plain_pack(integers, num_packs, multipliers)
        assert answer.pack_index[row].tolist() == pack_of
        assert answer.rank_in_pack[row].tolist() == plain_ranks(integers, pack_of)
        assert answer.winning_restart[row] == winner
        assert answer.max_load[row] == np.ldexp(float(largest), int(exponent[row]))


@given(weights(), st.integers(1, 4))
def test_an_answer_is_a_full_grid_of_packs_and_ranks(case: tuple[Integers, int], num_restarts: int) -> None:
    """Every pack holds equally many items, with ranks 0 to k - 1; figures are in order."""
    weight, num_packs = case
    answer = solve(weight, num_packs, num_restarts=num_restarts)
    size = weight.shape[1] // num_packs
    grid = {(pack, rank) for pack in range(num_packs) for rank in range(size)}
    for packs, ranks in zip(answer.pack_index.tolist(), answer.rank_in_pack.tolist(), strict=True):
        assert set(zip(packs, ranks, strict=True)) == grid
    assert (answer.lower_bound <= answer.max_load).all()
    assert (answer.mean_load <= answer.lower_bound).all()
    assert (answer.winning_restart < num_restarts).all()


def optimum(row: list[int], num_packs: int) -> int:
    """The least possible max load, by trying every packing."""
    if num_packs == 1:
        return sum(row)
    size, rest = len(row) // num_packs, range(1, len(row))
    best = sum(row)
    for others in combinations(rest, size - 1):  # the pack of item 0, and the best of what is left
        members = {0, *others}
        load = sum(row[i] for i in members)
        if load < best:
            best = min(best, max(load, optimum([row[i] for i in rest if i not in members], num_packs - 1)))
    return best


@settings(max_examples=60)
@given(
    st.sampled_from([(1, 5), (2, 2), (2, 3), (2, 4), (3, 2), (3, 3), (4, 2), (5, 1)]),
    st.data(),
)
def test_the_bound_is_below_the_optimum_and_the_packing_above(shape: tuple[int, int], data: st.DataObject) -> None:
    """Integers against an exact optimum by brute force."""
    num_packs, size = shape
    row = data.draw(st.lists(st.integers(0, 50), min_size=num_packs * size, max_size=num_packs * size))
    weight = np.array([row], np.float64)
    exact = optimum(row, num_packs)
    assert lower_bound(weight, num_packs)[0] <= exact
    assert solve(weight, num_packs).max_load[0] >= exact


def test_the_bound_is_tight_where_crowding_decides() -> None:
    """M + 1 equal heavy items: two of them share a pack, and no mean says so."""
    assert lower_bound(np.array([[10.0, 10, 10, 0, 0, 0]]), 2)[0] == 20
    assert lower_bound(np.array([[9.0, 1, 2, 3, 4, 5]]), 3)[0] == 10  # the heaviest and the lightest beside it
    assert lower_bound(np.array([[4.0, 4, 4, 4]]), 2)[0] == 8  # the mean


def test_the_batch_cannot_be_seen() -> None:
    """The same bytes alone, in a batch, beside other seeds and noise, and whatever the place in it."""
    rng = np.random.default_rng(0)
    problems = [
        PackProblem(rng.lognormal(0, s, (3 + s, 24)), 6, PackOptions(4, 0.02 * s, 0.5, seed=s)) for s in range(6)
    ]
    alone = [solve_packs([problem], PACKER)[0] for problem in problems]
    for batch in (problems, problems[::-1], problems[2:] + problems[:2]):
        for problem, answer in zip(batch, solve_packs(batch, PACKER), strict=True):
            expected = alone[problems.index(problem)]
            for name, value in vars(expected).items():
                assert getattr(answer, name).tobytes() == value.tobytes(), name


def test_working_in_chunks_cannot_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row at a time gives what all rows at once give."""
    weight = np.random.default_rng(1).lognormal(0, 1, (17, 40))
    whole = solve(weight, 8)
    monkeypatch.setattr(torch_packer, "_CPU_STATE_BYTES", 1)
    np.testing.assert_array_equal(solve(weight, 8).pack_index, whole.pack_index)


def test_more_restarts_are_never_worse_and_seeds_matter() -> None:
    """Restart 0 is among all of them; another seed finds other packings."""
    weight = np.random.default_rng(2).lognormal(0, 1, (30, 64))
    one, many, other = (solve(weight, 8, **o) for o in ({"num_restarts": 1}, {}, {"seed": 1}))
    assert (many.max_load <= one.max_load).all()
    assert (many.max_load < one.max_load).any()
    assert (many.pack_index != other.pack_index).any()
    assert not one.winning_restart.any()


@pytest.mark.parametrize(
    ("weight", "num_packs"),
    [
        (np.zeros((2, 8)), 4),
        (np.ones((1, 8)), 8),
        (np.ones((1, 8)), 1),
        (np.full((2, 6), 1e38), 3),
        (np.array([[1e-30, 1e30, 1.0, 0.0]]), 2),
        (np.arange(3000.0)[None], 1000),
        (np.arange(8192.0)[None], 512),
    ],
    ids=["no load", "one item a pack", "one pack", "huge", "wide range", "many packs", "many items"],
)
def test_edges_are_answered(weight: Integers, num_packs: int) -> None:
    """The shapes and values at the edge of what is valid."""
    answer = solve(weight, num_packs, num_restarts=2)
    counts = np.apply_along_axis(np.bincount, 1, answer.pack_index, minlength=num_packs)
    assert (counts == weight.shape[1] // num_packs).all()
    assert (answer.lower_bound <= answer.max_load).all()
    assert (np.abs(answer.mean_load - weight.mean(1) * weight.shape[1] / num_packs) <= 1e-9 * answer.mean_load).all()


def test_a_layer_without_load_is_answered_in_order() -> None:
    """Trivially: the items stay in the order given, the exact ordering wins."""
    answer = solve(np.zeros((1, 6)), 3)
    assert answer.pack_index.tolist() == [[0, 0, 1, 1, 2, 2]]
    assert answer.winning_restart.tolist() == [0]
    assert np.isnan(answer.balancedness)


def test_balancedness_is_the_mean_over_layers_with_load() -> None:
    """Mean over max, before and after, the idle layer left out."""
    answer = solve([[3.0, 3, 1, 1], [0, 0, 0, 0]], 2)
    assert answer.balancedness == 1.0
    assert answer.balancedness_before == pytest.approx(4 / 6)


def test_answers_change_only_with_the_revision() -> None:
    """The digest of these answers belongs to this revision: where it changes, so must `ALGORITHM`."""
    weight = np.random.default_rng(3).integers(0, 1000, (20, 96))
    answer = solve(weight, 12, seed=5)
    digest = hashlib.sha256(answer.pack_index.tobytes() + answer.rank_in_pack.tobytes()).hexdigest()[:16]
    assert {ALGORITHM: digest} == {"restart-packer/1": "1fcc9e068ecb58bd"}


def test_a_device_that_is_not_there_is_refused() -> None:
    """In torch's own words, at once."""
    with pytest.raises((RuntimeError, AssertionError)):
        TorchPacker("cuda:99")
