"""The restart packers: the same bytes from all, those that the rules say, sound bounds, and no batch to be seen."""

import hashlib
from collections.abc import Callable
from dataclasses import fields
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plain_packer import PlainPacker
from trimtab_server.solvers import torch_packer
from trimtab_server.solvers.bounds import lower_bound
from trimtab_server.solvers.cpu_packer import CpuPacker
from trimtab_server.solvers.numbers import Integers, quantize
from trimtab_server.solvers.packing import solve_packs
from trimtab_server.solvers.problem import ALGORITHM, PackAnswer, Packer, PackOptions, PackProblem
from trimtab_server.solvers.torch_packer import TorchPacker

PLAIN = PlainPacker()
CPU = CpuPacker(threads=2)
SOLVERS: list[Packer] = [CPU, TorchPacker("cpu")]
every_solver = pytest.mark.parametrize("packer", SOLVERS, ids=lambda packer: packer.name)


def solve(packer: Packer, weight: Any, num_packs: int, **options: Any) -> PackAnswer:
    (answer,) = solve_packs([PackProblem(np.asarray(weight), num_packs, PackOptions(**options))], packer)
    return answer


def same(one: PackAnswer, other: PackAnswer) -> None:
    for field in fields(PackAnswer):
        if field.name not in {"solver", "device"}:
            assert getattr(one, field.name).tobytes() == getattr(other, field.name).tobytes(), field.name


values = st.sampled_from(
    [
        st.integers(0, 3),
        st.integers(0, 60),
        st.integers(0, 10**6),
        st.floats(1e-30, 1e30),
        st.just(0),
        st.just(7),
        st.sampled_from([0, 0, 1, 10**6]),
    ]
)


@st.composite
def cases(draw: st.DrawFn, most_packs: int = 7, most_size: int = 10) -> tuple[Integers, int, dict[str, Any]]:
    """Rows with ties, zeros, equal weights, spikes and ranges of 60 decades; and options of every kind."""
    layers, num_packs, size = draw(st.integers(1, 3)), draw(st.integers(1, most_packs)), draw(st.integers(1, most_size))
    cells = st.lists(draw(values), min_size=layers * size * num_packs, max_size=layers * size * num_packs)
    options = {
        "num_restarts": draw(st.integers(1, 4)),
        "seed": draw(st.integers(0, 2**64 - 1)),
        "noise_max": draw(st.sampled_from([0.15, 1.0])),
        "refine": draw(st.booleans()) or draw(st.booleans()),
        "target_gap": draw(st.sampled_from([0.0, 1e-4, 1e-2, 0.3, 1e300])),
    }
    return np.array(draw(cells), np.float64).reshape(layers, -1), num_packs, options


@every_solver
@given(case=cases())
@settings(max_examples=300)
def test_a_solver_does_what_the_rules_say(packer: Packer, case: tuple[Integers, int, dict[str, Any]]) -> None:
    """Byte for byte what the rules, written plainly, give."""
    weight, num_packs, options = case
    same(solve(packer, weight, num_packs, **options), solve(PLAIN, weight, num_packs, **options))


@pytest.mark.parametrize("kind", ["lognormal", "spread", "integers", "equal", "sparse", "spike"])
@pytest.mark.parametrize(("num_items", "num_packs"), [(288, 32), (320, 64), (288, 144), (160, 32), (2048, 128)])
def test_solvers_agree_on_real_sizes(kind: str, num_items: int, num_packs: int) -> None:
    """Where the plain form is too slow, the solvers are held to each other."""
    rng = np.random.default_rng(num_items)
    shape = (3, num_items)
    makers: dict[str, Callable[[], Any]] = {
        "lognormal": lambda: rng.lognormal(0, 1, shape),
        "spread": lambda: 10.0 ** rng.uniform(-30, 30, shape),
        "integers": lambda: rng.integers(0, 9, shape),
        "equal": lambda: np.full(shape, 7),
        "sparse": lambda: np.where(rng.random(shape) < 0.3, rng.integers(1, 1000, shape), 0),
        "spike": lambda: np.where(np.arange(num_items) == 5, 10**6, rng.integers(1, 20, shape)),
    }
    weight = makers[kind]()
    one, *others = (solve(packer, weight, num_packs, num_restarts=3) for packer in SOLVERS)
    for other in others:
        same(one, other)


@every_solver
@given(case=cases())
def test_an_answer_is_a_full_grid_of_packs_and_ranks(
    packer: Packer, case: tuple[Integers, int, dict[str, Any]]
) -> None:
    """Every pack holds equally many items, with ranks 0 to k - 1, heaviest first; figures are in order."""
    weight, num_packs, options = case
    answer = solve(packer, weight, num_packs, **options)
    size = weight.shape[1] // num_packs
    whole, _ = quantize(weight)
    for row, packs, ranks in zip(whole, answer.pack_index, answer.rank_in_pack, strict=True):
        order = np.lexsort((ranks, packs))
        assert packs[order].tolist() == np.repeat(np.arange(num_packs), size).tolist()
        assert ranks[order].tolist() == np.tile(np.arange(size), num_packs).tolist()
        assert order.tolist() == np.lexsort((np.arange(len(row)), -row, packs)).tolist()
    assert (answer.lower_bound <= answer.max_load).all()
    assert (answer.mean_load <= answer.lower_bound).all()
    assert (answer.winning_restart < options["num_restarts"]).all()


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


@settings(max_examples=100)
@given(st.sampled_from([(1, 5), (2, 2), (2, 3), (2, 4), (3, 2), (3, 3), (4, 2), (5, 1)]), st.data())
def test_the_bound_is_below_the_optimum_and_the_packing_above(shape: tuple[int, int], data: st.DataObject) -> None:
    """Integers against an exact optimum by brute force."""
    num_packs, size = shape
    row = data.draw(st.lists(st.integers(0, 50), min_size=num_packs * size, max_size=num_packs * size))
    weight = np.array([row], np.float64)
    exact = optimum(row, num_packs)
    assert lower_bound(weight, num_packs)[0] <= exact
    assert solve(CPU, weight, num_packs).max_load[0] >= exact


def test_the_bound_is_tight_where_crowding_decides() -> None:
    """m + 1 equal heavy items: two of them share a pack, and no mean says so."""  # noqa: D403  # m is its name
    assert lower_bound(np.array([[10.0, 10, 10, 0, 0, 0]]), 2)[0] == 20
    assert lower_bound(np.array([[9.0, 1, 2, 3, 4, 5]]), 3)[0] == 10  # the heaviest and the lightest beside it
    assert lower_bound(np.array([[4.0, 4, 4, 4]]), 2)[0] == 8  # the mean


@every_solver
def test_the_batch_cannot_be_seen(packer: Packer) -> None:
    """The same bytes alone, in a batch, beside other seeds, noise and targets, and whatever the place in it."""
    rng = np.random.default_rng(0)
    problems = [
        PackProblem(rng.lognormal(0, s, (3 + s, 24)), 6, PackOptions(4, 0.02 * s, 0.5, seed=s, target_gap=0.01 * s))
        for s in range(6)
    ]
    alone = [solve_packs([problem], packer)[0] for problem in problems]
    for batch in (problems, problems[::-1], problems[2:] + problems[:2]):
        for problem, answer in zip(batch, solve_packs(batch, packer), strict=True):
            same(answer, alone[problems.index(problem)])


def test_neither_chunks_nor_threads_can_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row at a time gives what all rows at once give, on one thread or on five."""
    weight = np.random.default_rng(1).lognormal(0, 1, (17, 40))
    expected = solve(CPU, weight, 8)
    for threads in (1, 5):
        same(solve(CpuPacker(threads), weight, 8), expected)
    monkeypatch.setattr(torch_packer, "_CPU_STATE_BYTES", 1)
    same(solve(TorchPacker("cpu"), weight, 8), expected)


def test_more_effort_is_never_worse_and_seeds_matter() -> None:
    """Restarts and refinement only help; another seed finds other packings."""
    weight = np.random.default_rng(2).lognormal(0, 1, (30, 64))
    bare, one, many, other = (
        solve(CPU, weight, 8, target_gap=0.0, **options)
        for options in ({"num_restarts": 1, "refine": False}, {"num_restarts": 1}, {}, {"seed": 1})
    )
    for less, more in ((bare, one), (one, many)):
        assert (more.max_load <= less.max_load).all()
        assert (more.max_load < less.max_load).any()
    assert (many.pack_index != other.pack_index).any()
    assert not one.winning_restart.any()


def test_a_target_ends_the_search_at_the_lowest_restart_that_reaches_it() -> None:
    """Good enough is good enough: gaps are at most the target, the first restart wins where it gets there."""
    weight = np.random.default_rng(4).lognormal(0, 1, (40, 288))
    loose, strict = (solve(CPU, weight, 32, target_gap=gap) for gap in (1e-2, 0.0))
    gap = loose.max_load / loose.lower_bound - 1
    reached = gap <= 1e-2
    assert reached.mean() > 0.5
    assert (loose.winning_restart[reached] == 0).mean() > 0.9
    assert (strict.max_load <= loose.max_load).all()
    assert (strict.winning_restart > 0).any()


@every_solver
@pytest.mark.parametrize(
    ("weight", "num_packs"),
    [
        (np.zeros((2, 8)), 4),
        (np.ones((1, 8)), 8),
        (np.ones((1, 8)), 1),
        (np.full((2, 6), 1e38), 3),
        (np.array([[1e-30, 1e30, 1.0, 0.0]]), 2),
        (np.arange(3000.0)[None], 1000),
        (np.arange(8192.0)[None] ** 3, 512),
        (np.arange(8192.0)[None], 8192),
        (np.arange(8192.0)[None], 2),
    ],
    ids=["no load", "one item a pack", "one pack", "huge", "wide range", "many packs", "many items", "packs", "two"],
)
def test_edges_are_answered(packer: Packer, weight: Integers, num_packs: int) -> None:
    """The shapes and values at the edge of what is valid, by every solver with the same bytes."""
    answer = solve(packer, weight, num_packs, num_restarts=2)
    same(answer, solve(CPU, weight, num_packs, num_restarts=2))
    counts = np.apply_along_axis(np.bincount, 1, answer.pack_index, minlength=num_packs)
    assert (counts == weight.shape[1] // num_packs).all()
    assert (answer.lower_bound <= answer.max_load).all()
    assert (np.abs(answer.mean_load - weight.mean(1) * weight.shape[1] / num_packs) <= 1e-9 * answer.mean_load).all()


@every_solver
def test_a_layer_without_load_is_answered_in_order(packer: Packer) -> None:
    """Trivially: the items stay in the order given, the exact ordering wins."""
    answer = solve(packer, np.zeros((1, 6)), 3)
    assert answer.pack_index.tolist() == [[0, 0, 1, 1, 2, 2]]
    assert answer.winning_restart.tolist() == [0]
    assert np.isnan(answer.balancedness)


def test_balancedness_is_the_mean_over_layers_with_load() -> None:
    """Mean over max, before and after, the idle layer left out."""
    answer = solve(CPU, [[3.0, 3, 1, 1], [0, 0, 0, 0]], 2)
    assert answer.balancedness == 1.0
    assert answer.balancedness_before == pytest.approx(4 / 6)


def test_default_options_come_within_one_in_ten_thousand() -> None:
    """Quality that users were promised: mean gap at most 1e-4, worst row 3e-4, on loads like DeepSeek-V3's."""
    rng = np.random.default_rng(5)
    weight = rng.lognormal(0, 1, (200, 288))
    weight[:, :32] = np.sort(weight)[:, ::-1][:, :32] / 2  # as after replication: nothing stands out
    answer = solve(CPU, np.minimum(weight, 6), 32)
    gap = answer.max_load / answer.lower_bound - 1
    assert gap.mean() <= 1e-4
    assert gap.max() <= 3e-4


def test_answers_change_only_with_the_revision() -> None:
    """The digest of these answers belongs to this revision: where it changes, so must `ALGORITHM`."""
    weight = np.random.default_rng(3).integers(0, 1000, (20, 96))
    answer = solve(CPU, weight, 12, seed=5, target_gap=0.0)
    digest = hashlib.sha256(answer.pack_index.tobytes() + answer.rank_in_pack.tobytes()).hexdigest()[:16]
    assert {ALGORITHM: digest} == {"restart-packer/2": "39fd279fa11fb754"}


def test_a_device_that_is_not_there_is_refused() -> None:
    """In torch's own words, at once."""
    with pytest.raises((RuntimeError, AssertionError)):
        TorchPacker("cuda:99")
