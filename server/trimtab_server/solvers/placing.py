"""Rebalancing problems in, placements out: what stands around every searcher, done once for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from trimtab_server.solvers.compiled.choice import NO_LIMIT, choose
from trimtab_server.solvers.compiled.figures import ROUNDING
from trimtab_server.solvers.compiled.walks import bound_rows, follow_rows, measure_rows
from trimtab_server.solvers.fresh import start_from_nothing
from trimtab_server.solvers.numbers import Integers, quantize
from trimtab_server.solvers.placement import (
    Figures,
    PlacementAnswer,
    RebalanceProblem,
    Searcher,
    SearchTask,
    Slots,
    Walks,
)
from trimtab_server.solvers.problem import Packer, parts_of

CURVE_POINTS = 64
_STEP_CANDIDATES = 1 << 27
"""What the steps of a row may look at, all told: it keeps rows of a size nobody has yet from taking minutes."""
_LEAST_STEPS = 64


class _Solved(NamedTuple):
    """Figures of all rows."""

    placed: Slots  # [rows, P]
    before: Figures  # [rows, T]
    after: Figures  # [rows, T]
    bound: Figures  # [rows, T]
    moves: npt.NDArray[np.int32]  # [rows]

    def part(self, rows: slice) -> _Solved:
        """Those of some rows."""
        return _Solved(self.placed[rows], self.before[rows], self.after[rows], self.bound[rows], self.moves[rows])


def solve_rebalances(problems: Sequence[RebalanceProblem], packer: Packer, searcher: Searcher) -> list[PlacementAnswer]:
    """Solve problems that share a solve (equal `share_key`) as one batch of rows, one answer a problem.

    A row's walk hangs on the row alone, and a budget is shared by the rows of one problem, so the batch cannot be seen.
    """
    solver, device = searcher.name, searcher.device
    whole, speed = _whole_loads(problems), _speeds(problems)
    if problems[0].previous is None:
        fresh = start_from_nothing(problems, whole, speed, packer)
        home, start = np.full_like(fresh.slots, -1), fresh.slots
        solver, device = fresh.solver, fresh.device
    else:
        home = np.concatenate([problem.previous for problem in problems if problem.previous is not None])
        size = home.shape[1] // speed.shape[1]
        start = np.where(np.repeat(speed > 0, size, axis=1), home, -1).astype(np.int32)
    bound = np.empty(whole.shape[:2])
    bound_rows(whole, speed, home.shape[1] // speed.shape[1], bound)
    task = search_task(problems, whole, speed, home, start, bound=bound)
    walks = searcher.search(task)
    chosen, curves = _choose(problems, walks)
    solved = _follow(task, walks, chosen, bound)
    return [
        _answer(problem, solved.part(part), curve, solver, device)
        for problem, part, curve in zip(problems, parts_of(problems), curves, strict=True)
    ]


def search_task(
    problems: Sequence[RebalanceProblem], whole: Integers, speed: Figures, home: Slots, start: Slots, *, bound: Figures
) -> SearchTask:
    """What a searcher gets to do for problems that share a solve; arrays as in `SearchTask`, bound [rows, T]."""
    first = problems[0]
    # Compiled code is made for one order in memory, and would be compiled again for another
    return SearchTask(
        np.ascontiguousarray(whole),
        np.ascontiguousarray(speed),
        _nodes(first),
        np.ascontiguousarray(home),
        np.ascontiguousarray(start),
        _mean(bound) / (1.0 + _gaps(problems)),
        first.allow_duplicates,
        _steps(problems),
    )


def _whole_loads(problems: Sequence[RebalanceProblem]) -> Integers:
    """[rows, T, E]: every window of every row on a scale of its own."""
    num_windows, _, num_experts = problems[0].load.shape
    rows = np.empty((sum(problem.num_rows for problem in problems), num_windows, num_experts))
    for problem, part in zip(problems, parts_of(problems), strict=True):
        rows[part] = problem.load.transpose(1, 0, 2)
    whole, _ = quantize(rows.reshape(-1, num_experts))
    return whole.reshape(rows.shape)


def _speeds(problems: Sequence[RebalanceProblem]) -> Figures:
    """[rows, G]: 1 where nothing is said, 0 where a GPU is inactive; the fastest live one has 1."""
    speed = np.array([np.ones(p.num_gpus) if p.gpu_speed is None else p.gpu_speed for p in problems], np.float64)
    for of_gpu, problem in zip(speed, problems, strict=True):
        of_gpu[list(problem.inactive_gpus)] = 0.0
    speed /= speed.max(axis=1, keepdims=True)
    return np.repeat(speed, [problem.num_rows for problem in problems], axis=0)


def _nodes(problem: RebalanceProblem) -> npt.NDArray[np.int32]:
    """[G]: the node of each GPU, all one where experts may go anywhere."""
    gpus_per_node = problem.num_gpus // problem.num_nodes if problem.hierarchical else problem.num_gpus
    return (np.arange(problem.num_gpus) // gpus_per_node).astype(np.int32)


def _gaps(problems: Sequence[RebalanceProblem]) -> Figures:
    """[rows]: the gap that is good enough; any is where nothing is to be refined."""
    gaps = [p.options.target_gap if p.previous is not None or p.options.refine else np.inf for p in problems]
    return np.repeat(gaps, [problem.num_rows for problem in problems])


def _steps(problems: Sequence[RebalanceProblem]) -> int:
    """The most steps of a row's walk."""
    first = problems[0]
    slots, windows = first.num_replicas, len(first.load)
    looked_at = windows * slots * (slots // first.num_gpus)
    return min(2 * slots + _LEAST_STEPS, max(_STEP_CANDIDATES // looked_at, _LEAST_STEPS))


def _choose(problems: Sequence[RebalanceProblem], walks: Walks) -> tuple[npt.NDArray[np.int32], list[Figures]]:
    """[rows], the entry of each walk, and of each problem the curve [points, 2] with sums of balancedness."""
    chosen = np.empty(len(walks.ends), np.int32)
    curves = []
    for problem, part in zip(problems, parts_of(problems), strict=True):
        curve = np.empty((CURVE_POINTS, 2))
        budget = NO_LIMIT if problem.max_moves is None else problem.max_moves
        points = choose(
            walks.trail.moves[part],
            walks.trail.balancedness[part],
            walks.ends[part],
            budget,
            max(problem.min_gain, ROUNDING),
            chosen[part],
            curve,
        )
        curves.append(curve[:points])
    return chosen, curves


def _follow(task: SearchTask, walks: Walks, chosen: npt.NDArray[np.int32], bound: Figures) -> _Solved:
    placed = walks.base.copy()
    follow_rows(walks.trail, chosen, task.home, task.speed.shape[1], placed)
    before, after = np.empty((2, *bound.shape))
    measure_rows(task.whole, task.speed, task.start, before)
    measure_rows(task.whole, task.speed, placed, after)
    moves = walks.trail.moves[np.arange(len(chosen)), chosen]
    return _Solved(placed, before, after, bound, moves)


def _answer(problem: RebalanceProblem, solved: _Solved, curve: Figures, solver: str, device: str) -> PlacementAnswer:
    has_previous = problem.previous is not None
    window_before = solved.before if has_previous else np.full_like(solved.before, np.nan)
    before, after, bound = (_mean(figures) for figures in (window_before, solved.after, solved.bound))
    live = int((~np.isnan(after)).sum())
    gain = np.where(np.isnan(after - before), 0.0, after - before)
    return PlacementAnswer(
        physical_to_logical=solved.placed,
        before=before,
        after=after,
        bound=bound,
        latest_before=window_before[:, -1],
        latest_after=solved.after[:, -1],
        latest_bound=solved.bound[:, -1],
        moves=solved.moves,
        layer_order=np.argsort(-gain, kind="stable"),
        curve=curve / (1, live) if has_previous and live else np.empty((0, 2)),
        has_previous=has_previous,
        hierarchical=problem.hierarchical,
        solver=solver,
        device=device,
    )


def _mean(figures: Figures) -> Figures:
    """[rows]: mean over the windows with load, added in order; nan where there are none."""
    total, known = np.zeros(len(figures)), np.zeros(len(figures))
    for window in figures.T:
        there = ~np.isnan(window)
        total += np.where(there, window, 0.0)
        known += there
    mean: Figures = np.divide(total, known, out=np.full(len(figures), np.nan), where=known > 0)
    return mean
