"""The search on CPU threads, compiled."""

from __future__ import annotations

import numpy as np

from trimtab_server.solvers.compiled import load_compiled
from trimtab_server.solvers.compiled.search import Trail
from trimtab_server.solvers.compiled.walks import walk_rows
from trimtab_server.solvers.cpu_packer import CpuPacker
from trimtab_server.solvers.placement import RebalanceProblem, SearchTask, Walks
from trimtab_server.solvers.placing import solve_rebalances
from trimtab_server.solvers.row_threads import RowThreads

_CHUNKS_PER_THREAD = 10
"""A row takes some 0.3 ms: of 58 on two threads, a last chunk of eight would be a tenth of the time."""


class CpuSearcher:
    """The search of placements on CPU threads; see `placement.Searcher`."""

    name = "cpu"
    device = "cpu"

    def __init__(self, threads: int | None = None) -> None:
        """Compile, or load what was compiled before.

        Args:
            threads: how many work on a task, the calling one among them; by default one a CPU, at most 8.
        """
        self._threads = RowThreads(threads)
        load_compiled(self._use_all)

    def _use_all(self) -> None:
        load, packer = np.ones((1, 1, 2)), CpuPacker(threads=1)
        (fresh,) = solve_rebalances([RebalanceProblem(load, 2, 1)], packer, self)
        solve_rebalances([RebalanceProblem(load, 2, 1, previous=fresh.physical_to_logical)], packer, self)

    def search(self, task: SearchTask) -> Walks:
        """Search every row."""
        shape = (len(task.whole), task.max_steps + 1)
        trail = Trail(
            np.empty((*shape, 2), np.int32), np.empty((*shape, 2), np.int32), np.empty(shape, np.int32), np.empty(shape)
        )
        base = np.empty_like(task.start)
        ends = np.empty((len(task.whole), 3), np.int32)

        def solve(part: slice) -> None:
            walk_rows(
                task.whole[part],
                task.speed[part],
                task.node,
                task.home[part],
                task.start[part],
                task.goal[part],
                task.duplicates,
                base[part],
                Trail(*(array[part] for array in trail)),
                ends[part],
            )

        self._threads.run(len(task.whole), solve, _CHUNKS_PER_THREAD)
        return Walks(base, trail, ends)
