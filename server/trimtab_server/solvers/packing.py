"""Packing problems in, answers out: what stands around every packer, done once for all of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from trimtab_server.solvers.bounds import lower_bound
from trimtab_server.solvers.numbers import SUM_BITS, Integers, noise_table, quantize
from trimtab_server.solvers.problem import PackAnswer, Packer, PackProblem, PackTask, parts_of

_MAX_LOAD = float(1 << SUM_BITS)


def solve_packs(problems: Sequence[PackProblem], packer: Packer) -> list[PackAnswer]:
    """Solve problems that share a solve (equal `share_key`) as one batch of rows, one answer a problem.

    A row's answer hangs on the row and its options alone, so the batch cannot be seen in it.
    """
    num_packs = problems[0].num_packs
    whole, exponent = quantize(_rows(problems))
    bound = lower_bound(whole, num_packs)
    tables, table_index = _noise(problems)
    task = PackTask(whole, num_packs, tables, table_index, _target(problems, bound), problems[0].options.refine)
    result = packer.pack(task)
    figures = np.stack(
        [
            _loads(whole, result.pack_index, num_packs).max(axis=1),
            whole.sum(axis=1) / num_packs,
            bound,
            whole.reshape(len(whole), num_packs, -1).sum(axis=2).max(axis=1),
        ]
    )
    max_load, mean_load, reported_bound, initial = np.ldexp(figures, exponent)
    return [
        PackAnswer(
            pack_index=result.pack_index[part],
            rank_in_pack=result.rank_in_pack[part],
            max_load=max_load[part],
            mean_load=mean_load[part],
            lower_bound=reported_bound[part],
            winning_restart=result.winning_restart[part],
            initial_max_load=initial[part],
            solver=result.solver,
            device=result.device,
        )
        for part in parts_of(problems)
    ]


def _rows(problems: Sequence[PackProblem]) -> Integers:
    rows = np.empty((sum(p.num_rows for p in problems), problems[0].weight.shape[1]))
    for problem, part in zip(problems, parts_of(problems), strict=True):
        rows[part] = problem.weight
    return rows


def _target(problems: Sequence[PackProblem], bound: Integers) -> Integers:
    """[rows]: the largest whole max load whose gap is at most each problem's target gap, but never below the bound."""
    gap = np.repeat([p.options.target_gap for p in problems], [p.num_rows for p in problems])
    target: Integers = np.maximum(np.ceil(bound), np.floor(bound * (1 + np.minimum(gap, _MAX_LOAD))))
    return np.minimum(target, _MAX_LOAD)


def _noise(problems: Sequence[PackProblem]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """The distinct noise tables of the problems, and each row's index into them."""
    index: dict[tuple[float, float, int], int] = {}
    choice = [
        index.setdefault((p.options.noise_min, p.options.noise_max, p.options.seed), len(index)) for p in problems
    ]
    num_items, num_restarts = problems[0].weight.shape[1], problems[0].options.num_restarts
    tables = np.stack([noise_table(num_items, num_restarts, *key) for key in index])
    return tables, np.repeat(choice, [p.num_rows for p in problems])


def _loads(whole: Integers, pack_index: npt.NDArray[np.int32], num_packs: int) -> Integers:
    """[rows, packs]: exact sums of whole numbers."""
    num_rows = len(whole)
    cells = pack_index + np.arange(num_rows, dtype=np.int64)[:, None] * num_packs
    loads = np.bincount(cells.ravel(), weights=whole.ravel(), minlength=num_rows * num_packs)
    return loads.astype(np.float64, copy=False).reshape(num_rows, num_packs)
