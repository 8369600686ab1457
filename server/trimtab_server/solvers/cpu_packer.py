"""The solver for CPUs: the compiled restart packer, rows in chunks over a few threads."""

from __future__ import annotations

import numpy as np

from trimtab_server.solvers import rules
from trimtab_server.solvers.compiled import load_compiled
from trimtab_server.solvers.compiled.rows import solve_rows
from trimtab_server.solvers.problem import PackResult, PackTask, tiny_task
from trimtab_server.solvers.row_threads import RowThreads

_CHUNKS_PER_THREAD = 4


class CpuPacker:
    """The restart packer on CPU threads; see `problem.Packer`."""

    name = "cpu"
    device = "cpu"

    def __init__(self, threads: int | None = None) -> None:
        """Compile, or load what was compiled before.

        Args:
            threads: how many work on a task, the calling one among them; by default one a CPU, at most 8.
        """
        self._threads = RowThreads(threads)
        load_compiled(lambda: self.pack(tiny_task()))

    def memory_bytes(self) -> int:
        """0: the process's own figure tells."""
        return 0

    def pack(self, task: PackTask) -> PackResult:
        """Pack every row."""
        whole, target = task.whole.astype(np.int64), task.target.astype(np.int64)
        num_rows, num_items = whole.shape
        pack_index = np.empty((num_rows, num_items), np.int32)
        rank_in_pack = np.empty_like(pack_index)
        winner = np.empty(num_rows, np.int32)
        steps = rules.max_steps(task.num_packs) if task.refine else 0

        def solve(part: slice) -> None:
            answer = pack_index[part], rank_in_pack[part], winner[part]
            solve_rows(whole[part], target[part], task.tables, task.table_index[part], task.num_packs, steps, *answer)

        self._threads.run(num_rows, solve, _CHUNKS_PER_THREAD)
        return PackResult(pack_index, rank_in_pack, winner, self.name, self.device)
