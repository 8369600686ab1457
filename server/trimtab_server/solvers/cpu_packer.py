"""The solver for CPUs: the compiled restart packer, rows in chunks over a few threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from trimtab_server.solvers import rules
from trimtab_server.solvers.compiled import forget_compiled, keep_compiled
from trimtab_server.solvers.compiled.rows import solve_rows
from trimtab_server.solvers.problem import PackResult, PackTask, tiny_task

_CHUNKS_PER_THREAD = 4
"""Rows differ in how long they take, and so do threads beside other work: small chunks even it out."""


def default_threads() -> int:
    """The CPUs that this process may use, at most 8: rows of one request are few."""
    return min(len(os.sched_getaffinity(0)), 8)


class CpuPacker:
    """The restart packer on CPU threads; see `problem.Packer`."""

    name = "cpu"
    device = "cpu"

    def __init__(self, threads: int | None = None) -> None:
        """Compile, or load what was compiled before.

        Args:
            threads: how many work on a task, the calling one among them; by default `default_threads`.
        """
        self._threads = threads or default_threads()
        self._pool = ThreadPoolExecutor(max(self._threads - 1, 1), thread_name_prefix="solver")
        self._load()

    def _load(self) -> None:
        try:
            self.pack(tiny_task())
        except Exception:  # noqa: BLE001  # whatever a corrupt file of compiled code does to its reader
            forget_compiled()
            self.pack(tiny_task())
        keep_compiled()

    def memory_bytes(self) -> int:
        """0: the process's own figure tells."""
        return 0

    def pack(self, task: PackTask) -> PackResult:
        """Pack every row.

        The calling thread and those of the pool take chunks of rows in turn, until none is left: a thread that comes
        late delays nothing but its own chunk.
        """
        whole, target = task.whole.astype(np.int64), task.target.astype(np.int64)
        num_rows, num_items = whole.shape
        pack_index = np.empty((num_rows, num_items), np.int32)
        rank_in_pack = np.empty_like(pack_index)
        winner = np.empty(num_rows, np.int32)
        steps = rules.max_steps(task.num_packs) if task.refine else 0
        chunks = self._chunks(num_rows)

        def work() -> None:
            for part in chunks:
                answer = pack_index[part], rank_in_pack[part], winner[part]
                solve_rows(
                    whole[part], target[part], task.tables, task.table_index[part], task.num_packs, steps, *answer
                )

        helpers = [self._pool.submit(work) for _ in range(self._threads - 1)]
        work()
        for helper in helpers:
            if not helper.cancel():
                helper.result()
        return PackResult(pack_index, rank_in_pack, winner, self.name, self.device)

    def _chunks(self, num_rows: int) -> Iterator[slice]:
        size = max(1, -(-num_rows // (_CHUNKS_PER_THREAD * self._threads))) if self._threads > 1 else num_rows
        return iter([slice(start, start + size) for start in range(0, num_rows, size)])
