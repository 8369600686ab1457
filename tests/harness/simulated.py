"""A real server with a simulated device: real gRPC, batcher and contract; a solve takes a fixed time a row.

Run: python -m tests.harness.simulated --seconds-per-row S -- [FLAGS OF trimtab-server]

What is measured with it is the service's, not the processor's: the device sleeps, and its answers are valid and cheap.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

import numpy as np

from trimtab.cli.server_process import ServerProcess, running_server
from trimtab_server import __main__ as command
from trimtab_server import server
from trimtab_server.solvers.cpu_searcher import CpuSearcher
from trimtab_server.solvers.placement import SearchTask, Walks
from trimtab_server.solvers.problem import PackResult, PackTask


class SimulatedPacker:
    """Deals items in order of weight to one pack after the other."""

    name, device = "simulated", "cpu"

    def __init__(self, seconds_per_row: float = 0.0) -> None:
        self._seconds_per_row = seconds_per_row

    def memory_bytes(self) -> int:
        """Nothing."""
        return 0

    def pack(self, task: PackTask) -> PackResult:
        """Pack every row, in its time."""
        time.sleep(self._seconds_per_row * len(task.whole))
        num_rows, num_items = task.whole.shape
        order = np.argsort(-task.whole, axis=1, kind="stable")
        place = np.empty_like(order)
        np.put_along_axis(place, order, np.broadcast_to(np.arange(num_items), order.shape), axis=1)
        pack, rank = (place % task.num_packs).astype(np.int32), (place // task.num_packs).astype(np.int32)
        return PackResult(pack, rank, np.zeros(num_rows, np.int32), self.name, self.device)


class SimulatedSearcher:
    """Finds every start good enough: only what has to be repaired is moved."""

    name, device = "simulated", "cpu"

    def __init__(self, seconds_per_row: float = 0.0) -> None:
        self._seconds_per_row = seconds_per_row
        self._searcher = CpuSearcher(threads=1)

    def search(self, task: SearchTask) -> Walks:
        """Search every row, in its time."""
        time.sleep(self._seconds_per_row * len(task.whole))
        return self._searcher.search(replace(task, goal=np.zeros_like(task.goal)))


@contextmanager
def simulated_server(seconds_per_row: float, *flags: str) -> Iterator[ServerProcess]:
    """Such a server as a process, ended on the way out."""
    module = ("-m", "tests.harness.simulated", f"--seconds-per-row={seconds_per_row}", "--")
    with running_server(*flags, command=module) as process:
        yield process


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM, as `trimtab-server` does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds-per-row", type=float, default=0.001, help="of a solve (default: 0.001)")
    parser.add_argument("flags", nargs="*", help="of trimtab-server, after --")
    given = parser.parse_args(arguments)
    # The command itself, start, drain and all, on a server that is given another device
    solvers: dict[str, Any] = {
        "packer": SimulatedPacker(given.seconds_per_row),
        "searcher": SimulatedSearcher(given.seconds_per_row),
    }
    sys.argv[1:] = given.flags
    with mock.patch.object(server, "Server", partial(server.Server, **solvers)):
        command.main()


if __name__ == "__main__":
    main()
