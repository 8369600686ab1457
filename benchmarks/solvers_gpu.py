"""What only a GPU can be asked: the answers of `cuda` against those of `cpu`, launches, kernels alone. Needs Triton."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.measuring import Spread, print_table, seconds
from benchmarks.solver_cases import Bench, Shape, check_same, make_task, milliseconds, progress
from benchmarks.solver_table import BATCHES, RESTARTS, SKIPPED, Cell, is_measured
from trimtab_server.solvers.cuda_packer import CudaPacker
from trimtab_server.solvers.problem import PackOptions, PackResult, PackTask

_cuda: Any = torch.cuda  # parts of it have no types
_HEAD_START_CYCLES = 2_000_000
"""About a millisecond."""


class TimedCudaPacker(CudaPacker):
    """One that times its kernels on the device, from the first one's start to the last one's end.

    The device is kept busy until all of a part's kernels wait in its queue: what they take is seen, and not how fast
    the host sends them. So the end-to-end time of this packer means nothing.
    """

    def __init__(self, device: str) -> None:
        super().__init__(device)
        self._spans: list[tuple[Any, Any]] = []

    def _launch(self, *arguments: Any, **named: Any) -> None:
        begin, end = (_cuda.Event(enable_timing=True) for _ in range(2))
        _cuda._sleep(_HEAD_START_CYCLES)  # noqa: SLF001  # torch has no public one
        begin.record()
        super()._launch(*arguments, **named)
        end.record()
        self._spans.append((begin, end))

    def pack(self, task: PackTask) -> PackResult:
        """Pack every row, timed."""
        self._spans.clear()
        return super().pack(task)

    def kernel_seconds(self, task: PackTask) -> float:
        """Of the kernels of a task.

        Raises:
            RuntimeError: the packer launched none where they are watched.
        """
        self.pack(task)
        torch.cuda.synchronize(self.device)
        if not self._spans:
            raise RuntimeError("CudaPacker no longer launches its kernels in _launch: time them where it does")
        return float(sum(begin.elapsed_time(end) for begin, end in self._spans)) / 1e3


def check_answers(bench: Bench, shapes: list[Shape]) -> None:
    """See that `cuda` gives the bytes of `cpu`, for every shape: all restarts, to the end, and without refinement.

    Raises:
        SystemExit: it does not.
    """
    assert bench.cuda  # noqa: S101  # called where there is one
    variants = [*(PackOptions(restarts) for restarts in RESTARTS), PackOptions(target_gap=0), PackOptions(refine=False)]
    for shape in shapes:
        progress(f"{shape}: seeing that cuda answers as cpu does")
        for options in variants:
            if is_measured(bench, shape, Cell("cpu", options.num_restarts, 1)):
                task = make_task(shape, options)
                check_same(f"{shape}, {options}, cpu and cuda", bench.cpu.pack(task)[:3], bench.cuda.pack(task)[:3])
    print(f"\ncuda gives the bytes of cpu for {', '.join(map(str, shapes))}.")


def _row(bench: Bench, timed: TimedCudaPacker, shape: Shape, cell: Cell) -> tuple[str, ...]:
    assert bench.cuda  # noqa: S101
    name = str(shape), str(cell.restarts), str(cell.requests)
    if not is_measured(bench, shape, cell):
        return *name, SKIPPED, "", "", ""
    packer, task = bench.cuda, make_task(shape, PackOptions(cell.restarts), range(cell.requests))
    timed.kernel_seconds(task)  # warms up
    first = seconds(lambda: packer.pack(task))
    rounds = bench.rounds if first < 0.1 else 3
    kernels, whole = [], []
    for _ in range(rounds):
        kernels.append(timed.kernel_seconds(task))
        whole.append(seconds(lambda: packer.pack(task)))
    share = Spread.of(kernels).median / Spread.of(whole).median
    times = (milliseconds(Spread.of(taken)) for taken in (kernels, whole))
    return *name, str(getattr(packer, "launches", "")), *times, f"{share:.0%}"


def print_kernels(bench: Bench, shapes: list[Shape]) -> None:
    """Launches, kernels alone and end to end, for a batch as a whole."""
    timed = TimedCudaPacker(bench.device)
    rows = []
    for shape in shapes:
        progress(f"{shape}: kernels")
        cells = [Cell("cuda", restarts, requests) for restarts in RESTARTS for requests in BATCHES]
        rows += [_row(bench, timed, shape, cell) for cell in cells]
    header = (
        "layers x items x packs",
        "restarts",
        "requests",
        "launches",
        "ms, kernels",
        "ms, end to end",
        "kernels' share",
    )
    print_table(f"Kernels on {torch.cuda.get_device_name(bench.device)}, a batch", header, rows)
