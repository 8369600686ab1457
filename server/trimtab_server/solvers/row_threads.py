"""Rows in chunks over a few threads, for compiled code that lets go of the GIL."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


def default_threads() -> int:
    """The CPUs that this process may use, at most 8: rows of one request are few."""
    return min(len(os.sched_getaffinity(0)), 8)


class RowThreads:
    """A few threads that share rows. Numba's own parallel threads abort when two callers meet; these do not."""

    def __init__(self, threads: int | None = None) -> None:
        """Make the threads.

        Args:
            threads: how many work at once, the calling one among them; by default `default_threads`.
        """
        self._threads = threads or default_threads()
        self._pool = ThreadPoolExecutor(max(self._threads - 1, 1), thread_name_prefix="solver")

    def run(self, num_rows: int, solve: Callable[[slice], None], chunks_per_thread: int) -> None:
        """Call `solve` for all rows, chunk by chunk.

        The calling thread and those of the pool take chunks in turn, until none is left: a thread that comes late
        delays nothing but its own chunk. Rows differ in how long they take, and so do threads beside other work: small
        chunks even it out.
        """
        size = max(1, -(-num_rows // (chunks_per_thread * self._threads))) if self._threads > 1 else num_rows
        chunks = iter([slice(start, start + size) for start in range(0, num_rows, size)])

        def work() -> None:
            for part in chunks:
                solve(part)

        helpers = [self._pool.submit(work) for _ in range(self._threads - 1)]
        work()
        for helper in helpers:
            if not helper.cancel():
                helper.result()
