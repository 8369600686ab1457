"""The search's kernels: against plain Python and brute force, and against their own source without the compiler."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from tests import placement_rules as rules
from tests.kept_venv import ROOT
from trimtab_server.solvers.compiled import choice, figures, levels, replicas, search, steps, swaps, tables, walks
from trimtab_server.solvers.cpu_packer import CpuPacker
from trimtab_server.solvers.cpu_searcher import CpuSearcher
from trimtab_server.solvers.placement import PlacementAnswer, RebalanceProblem
from trimtab_server.solvers.placing import search_task, solve_rebalances

FOUR = rules.alike(4, 3)
PACKER, SEARCHER = CpuPacker(threads=1), CpuSearcher(threads=1)

PROBE = """
import hashlib
import numpy as np
from trimtab_server.solvers.cpu_packer import CpuPacker
from trimtab_server.solvers.cpu_searcher import CpuSearcher
from trimtab_server.solvers.placement import RebalanceProblem
from trimtab_server.solvers.placing import solve_rebalances

rng, digest = np.random.default_rng(3), hashlib.sha256()
packer, searcher = CpuPacker(1), CpuSearcher(1)
for windows, experts, slots, gpus, extra in [
    (1, 16, 20, 4, {}), (3, 12, 18, 3, {"gpu_speed": (1.0, 0.5, 2.0)}), (2, 8, 16, 4, {"inactive_gpus": (1,)}),
    (1, 8, 12, 4, {"num_nodes": 2, "num_groups": 4, "hierarchical": True}), (1, 3, 12, 2, {"allow_duplicates": True}),
]:
    load = rng.lognormal(0, 1, (windows, 2, experts))
    load[:, 1] *= rng.integers(0, 2, experts)
    (fresh,) = solve_rebalances([RebalanceProblem(load, slots, gpus, **extra)], packer, searcher)
    later = rng.lognormal(0, 1, load.shape)
    for limit in (None, 7):
        problem = RebalanceProblem(
            later, slots, gpus, previous=fresh.physical_to_logical, max_moves=limit, **extra
        )
        (answer,) = solve_rebalances([problem], packer, searcher)
        for name in ("physical_to_logical", "before", "after", "bound", "moves", "curve"):
            digest.update(getattr(answer, name).tobytes())
print(digest.hexdigest())
"""


def solve(load: object, num_replicas: int, num_gpus: int, **more: object) -> PlacementAnswer:
    """One problem, solved; loads [L, E] are one window."""
    array = np.asarray(load, np.float64)
    problem = RebalanceProblem(array if array.ndim == 3 else array[None], num_replicas, num_gpus, **more)  # type: ignore[arg-type]
    return solve_rebalances([problem], PACKER, SEARCHER)[0]


def test_without_the_jit_the_kernels_give_the_same_bytes() -> None:
    """Plain Python shows what compiled code hides: an index out of bounds, a number that overflows."""
    digests = []
    for environment, flags in (({}, ()), ({"NUMBA_DISABLE_JIT": "1"}, ("-W", "error::RuntimeWarning"))):
        command = [sys.executable, *flags, "-c", PROBE]
        variables = {**os.environ, **environment}
        done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        digests.append(done.stdout)
    assert digests[0] == digests[1]


def started(
    rng: np.random.Generator, windows: int, speed: list[float]
) -> tuple[tables.Row, list[list[float]], list[int]]:
    """A row of 8 experts in 12 slots on 4 GPUs, its loads and its slots."""
    slots = [int(e) for gpu in rng.permuted(np.arange(8).reshape(4, 2)).tolist() for e in (*gpu, -1)]
    for slot in range(2, 12, 3):
        slots[slot] = int(rng.choice([e for e in range(8) if e not in slots[slot - 2 : slot]]))
    whole = rng.integers(1, 1000, (windows, 8)).astype(np.float64)
    row = tables.new_row(windows, 8, 12, 4)
    home = np.array(slots, np.int32)
    levels.start_row(row, whole, np.array(speed), np.zeros(4, np.int32), home, home, 0)
    return row, whole.tolist(), slots


def smooth(row: tables.Row, load: list[list[float]], slots: list[int], speed: list[float], scale: list[float]) -> float:
    """The sum of the burdens of a placement, with the weights and scales that the row has."""
    total = 0.0
    for t, window in enumerate(load):
        for carried, s in zip(rules.gpu_loads(FOUR, slots, window), speed, strict=True):
            level = carried / s * scale[t]
            total += row.spans[tables.WEIGHT, t] * s * level ** (2 ** int(row.ids[tables.STATE, tables.SQUARINGS]))
    return total


def overlooked(step: tuple[str, int, int], slots: list[int], top: int) -> bool:
    """Whether it is a replica whose expert shares a further GPU with the one given up: candidates miss those."""
    kind, slot, expert = step
    on = [{gpu for gpu in range(4) if e in slots[3 * gpu : 3 * gpu + 3]} for e in (expert, slots[slot])]
    return kind == "replica" and bool((on[0] & on[1]) - {top})


@pytest.mark.parametrize("speed", [[1.0] * 4, [1.0, 0.5, 0.25, 1.0]], ids=["alike", "unlike"])
@pytest.mark.parametrize("windows", [1, 3])
def test_the_best_step_is_the_best_of_all(windows: int, speed: list[float]) -> None:
    """Of every swap and replica of the heaviest GPU none has a clearly higher rate, and the gain is what it is."""
    rng = np.random.default_rng(windows)
    for _ in range(40):
        row, load, slots = started(rng, windows, speed)
        levels.weigh(row)
        scale = [row.loads[t, tables.LOAD, 0] / load[t][0] for t in range(windows)]
        before = smooth(row, load, slots, speed, scale)
        top = search.heaviest(row)
        search.note_best_step(row, top)
        rates = {
            (kind, slot, other): (before - smooth(row, load, after, speed, scale))
            / max(rules.moves(FOUR, slots, after), 1)
            for kind, slot, other, after in rules.steps_from(FOUR, slots, top)
        }
        best = max(rate for step, rate in rates.items() if not overlooked(step, slots, top))
        if row.ids[tables.STATE, tables.STEP_SLOT] < 0:
            assert best <= 1e-9
            continue
        kind = "swap" if row.ids[tables.STATE, tables.STEP_KIND] == steps.SWAP else "replica"
        place = (kind, int(row.ids[tables.STATE, tables.STEP_SLOT]), int(row.ids[tables.STATE, tables.STEP_OTHER]))
        rate = row.figures[tables.STEP_RATE, 0]
        assert rates[place] == pytest.approx(rate, rel=1e-6, abs=1e-9)
        assert rate * swaps.CLEARLY >= best - 1e-9


def test_a_walk_s_record_is_what_happened() -> None:
    """Replayed, each entry has the moves and the balancedness that stand beside it."""
    rng = np.random.default_rng(8)
    load = rng.lognormal(0, 1, (3, 4, 24))
    previous = solve(rng.lognormal(0, 1, (4, 24)), 30, 6).physical_to_logical
    six = rules.alike(6, 5)
    for limit in range(0, 40, 3):
        answer = solve(load, 30, 6, previous=previous, max_moves=limit)
        assert answer.moves.sum() <= limit
        for layer in range(4):
            after = answer.physical_to_logical[layer].tolist()
            assert rules.moves(six, previous[layer].tolist(), after) == answer.moves[layer]
            value = rules.mean_balancedness(six, after, load[:, layer].tolist())
            assert value == pytest.approx(answer.after[layer], rel=1e-9)
            assert rules.duplicates(six, after) == 0


def test_more_moves_are_never_worse() -> None:
    """The balancedness of the whole request rises with its budget, up to what has no limit."""
    rng = np.random.default_rng(9)
    load, previous = rng.lognormal(0, 1, (6, 32)), solve(rng.lognormal(0, 1, (6, 32)), 40, 8).physical_to_logical
    values = [solve(load, 40, 8, previous=previous, max_moves=limit).balancedness for limit in range(0, 150, 10)]
    assert values == sorted(values)
    assert values[-1] <= solve(load, 40, 8, previous=previous).balancedness + 1e-12


def all_placements(num_experts: int, slots: int, num_gpus: int) -> list[list[int]]:
    """Every placement with all experts and no duplicates, up to the order of slots in a GPU."""
    size = slots // num_gpus
    gpus = list(itertools.combinations(range(num_experts), size))
    found = []
    for chosen in itertools.product(gpus, repeat=num_gpus):
        flat = [e for gpu in chosen for e in gpu]
        if len(set(flat)) == num_experts:
            found.append(flat)
    return found


def test_tiny_cases_come_close_to_the_best_there_is() -> None:
    """Against all placements of 5 experts in 3 x 3 slots: close to the best, never above it, nor it above the bound."""
    rng = np.random.default_rng(10)
    everything = all_placements(5, 9, 3)
    ratios = []
    for _ in range(12):
        load = rng.lognormal(0, 1, 5)
        best = max(rules.balancedness(rules.alike(3, 3), slots, load.tolist()) for slots in everything)
        start = everything[int(rng.integers(len(everything)))]
        for previous in (None, np.array([start], np.int32)):
            answer = solve(load[None], 9, 3, previous=previous)
            assert answer.after[0] <= best + 1e-9
            assert best <= answer.bound[0] + 1e-9
            ratios.append(answer.after[0] / best)
    assert np.mean(ratios) > 0.97
    assert min(ratios) > 0.92


@pytest.mark.parametrize(
    ("home", "placed", "expected"),
    [
        ([1, 2, 3], [3, 4, 1], [1, 4, 3]),
        ([1, 2, 3], [1, 2, 3], [1, 2, 3]),
        ([1, 1, 2], [2, 1, 5], [1, 5, 2]),
        ([-1, 7, -1], [3, 7, 4], [3, 7, 4]),
        ([5, 6, 7], [7, -1, 8], [-1, 8, 7]),
    ],
)
def test_what_stays_keeps_its_slot(home: list[int], placed: list[int], expected: list[int]) -> None:
    """And what is new takes the slots that are left."""
    slots = np.array(placed, np.int32)
    walks.keep_slots(np.array(home, np.int32), slots, np.empty(3, np.int32))
    assert slots.tolist() == expected


def test_the_bound_is_what_one_hot_expert_allows() -> None:
    """Half of all load on one expert, whose replicas can be at most two of the six: its share is a quarter."""
    whole = np.array([[50.0, 10, 10, 10, 10, 10], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]])
    bound = np.empty(3)
    figures.bound_row(whole, np.ones(7), 1, bound)
    assert bound[0] == pytest.approx(100 / 7 / 25)
    assert bound[1] == pytest.approx(6 / 7)
    assert np.isnan(bound[2])


def test_neither_threads_nor_batches_can_be_seen() -> None:
    """The same bytes from one thread and from three, alone and among others."""
    rng = np.random.default_rng(12)
    loads = rng.lognormal(0, 1, (5, 1, 7, 16))
    previous = solve(loads[0], 20, 4).physical_to_logical
    problems = [
        RebalanceProblem(load, 20, 4, previous=previous, max_moves=limit)
        for load, limit in zip(loads, (None, 0, 5, 30, 200), strict=True)
    ]
    alone = [solve_rebalances([problem], PACKER, SEARCHER)[0] for problem in problems]
    together = solve_rebalances(problems, PACKER, CpuSearcher(threads=3))
    for one, other in zip(alone, together, strict=True):
        for name in ("physical_to_logical", "before", "after", "bound", "moves", "layer_order", "curve"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), name)


@pytest.mark.parametrize("allow_duplicates", [False, True])
def test_every_step_of_a_walk_changes_something(allow_duplicates: bool) -> None:
    """No slot is given what it holds already: such a step would gain on paper, again and again."""
    rng = np.random.default_rng(13)
    for _ in range(10):
        load = rng.lognormal(0, 1, (1, 1, 6))
        start = rng.permutation(np.r_[np.arange(6), rng.integers(0, 6, 6)])[None].astype(np.int32)
        problem = RebalanceProblem(load, 12, 4, previous=start, allow_duplicates=allow_duplicates)
        task = search_task([problem], load.transpose(1, 0, 2), np.ones((1, 4)), start, start, bound=np.ones((1, 1)))
        base, trail, ends = SEARCHER.search(task)
        slots = base[0].copy()
        assert ends[0, -1] < task.max_steps
        for entry in range(1, ends[0, -1]):
            changed = [s for s in trail.slot[0, entry].tolist() if s >= 0]
            before = slots[changed].copy()
            slots[changed] = trail.expert[0, entry, : len(changed)]
            assert (before != slots[changed]).all()


def test_dense_placements_from_nothing_hold_no_expert_twice() -> None:
    """Where nearly every GPU holds nearly every expert, second copies are separated again and again until none is."""
    rng = np.random.default_rng(14)
    loads = np.vstack([[[2, 2, 1, 2, 2, 2, 1]], rng.integers(0, 4, (1500, 7))])
    answer = solve(loads, 24, 4)
    for layer in answer.physical_to_logical.tolist():
        assert rules.duplicates(rules.alike(4, 6), layer) == 0
        assert set(layer) == set(range(7))


def test_what_is_compiled_is_compiled_once() -> None:
    """Whatever is asked: a kernel with a second signature would be compiled while a request waits."""
    rng = np.random.default_rng(15)
    for windows in (1, 3):
        load = rng.lognormal(0, 1, (windows, 4, 8))
        previous = solve(load, 12, 4, gpu_speed=(1, 2, 1, 1)).physical_to_logical
        solve(load.astype(np.float32), 12, 4, previous=previous, max_moves=3, min_gain=0.1, inactive_gpus=(2,))
        solve(load, 12, 4, num_nodes=2, num_groups=2, hierarchical=True, allow_duplicates=True)
    rows = (walks.walk_rows, walks.follow_rows, walks.measure_rows, walks.bound_rows)
    kernels: list[Any] = [*rows, choice.choose, replicas.replicate_rows]
    assert [len(kernel.signatures) for kernel in kernels] == [1] * len(kernels)
