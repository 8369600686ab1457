"""What the solver benchmarks solve, with what, and how they look at the answers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.baselines import TorchLoop
from benchmarks.measuring import Spread
from benchmarks.workload import Weight
from trimtab.replication import replicate_experts, slot_weight
from trimtab_server.solvers.cpu_packer import CpuPacker
from trimtab_server.solvers.packing import solve_packs
from trimtab_server.solvers.problem import Packer, PackOptions, PackProblem, PackResult, PackTask
from trimtab_server.solvers.torch_packer import TorchPacker

Answer = npt.NDArray[Any]

SEEDS = 20
"""Loads that gaps are taken over, and that longer timings go round."""
_EXPERTS = {320: 256, 160: 128, 416: 384}  # others: eight for nine items, as 256 for 288
_SIGMA = 1.0


class Shape(NamedTuple):
    """The size of a request."""

    layers: int
    items: int
    packs: int

    @classmethod
    def parse(cls, text: str) -> Shape:
        """From "58x288x32".

        Raises:
            ValueError: not three such numbers.
        """
        layers, items, packs = map(int, text.split("x"))
        if min(layers, items, packs) < 1 or items % packs:
            raise ValueError(text)
        return cls(layers, items, packs)

    def __str__(self) -> str:
        return f"{self.layers}x{self.items}x{self.packs}"


COMMON = Shape(58, 288, 32)
"""DeepSeek-V3 on 32 GPUs: figures, curve and growth are about it."""
SHAPES = (
    COMMON,
    Shape(58, 320, 64),
    Shape(58, 288, 144),
    Shape(94, 160, 32),
    Shape(60, 416, 32),
    Shape(48, 144, 8),
    Shape(256, 8192, 512),
)


@dataclass(frozen=True)
class Bench:
    """What is measured, and how long."""

    device: str  # of the torch loop, of the torch reference and, but for "cpu", of the cuda solver
    loop: TorchLoop
    torch: TorchPacker
    cpu: CpuPacker
    cuda: Packer | None
    rounds: int
    quick: bool

    @property
    def fastest(self) -> Packer:
        """The solver that this machine is about."""
        return self.cuda or self.cpu

    @property
    def solvers(self) -> dict[str, Packer]:
        """Those with refinement; all give the same bytes."""
        solvers: dict[str, Packer] = {"torch": self.torch, "cpu": self.cpu}
        return solvers | {"cuda": self.cuda} if self.cuda else solvers


@lru_cache(maxsize=2 * SEEDS)
def request_weight(shape: Shape, seed: int) -> Weight:
    """[layers, items]: lognormal expert loads, replicated greedily."""
    num_experts = _EXPERTS.get(shape.items, -(-shape.items * 8 // 9))
    load = np.random.default_rng(seed).lognormal(0, _SIGMA, (shape.layers, num_experts))
    return slot_weight(load, *replicate_experts(load, shape.items)).astype(np.float32)


def problems(shape: Shape, options: PackOptions, seeds: Iterable[int]) -> list[PackProblem]:
    """A request for each seed; seeds past the last begin again."""
    return [PackProblem(request_weight(shape, seed % SEEDS), shape.packs, options) for seed in seeds]


class _TaskTaker:
    """A packer that keeps what it is asked, and answers anything: how a benchmark gets at a solver's own task."""

    name = device = "none"

    def pack(self, task: PackTask) -> PackResult:
        self.task = task
        zeros = np.zeros(task.whole.shape, np.int32)
        return PackResult(zeros, zeros, zeros[:, 0], self.name, self.device)

    def memory_bytes(self) -> int:
        return 0


def make_task(shape: Shape, options: PackOptions, seeds: Iterable[int] = (0,)) -> PackTask:
    """What a solver gets for a batch of a request for each seed."""
    taker = _TaskTaker()
    solve_packs(problems(shape, options, seeds), taker)
    return taker.task


class Turns:
    """A call that goes round the seeds: one request, another one each time."""

    def __init__(self, solve: Callable[[PackTask], object], shape: Shape, options: PackOptions) -> None:
        self._solve = solve
        self._tasks = cycle([make_task(shape, options, [seed]) for seed in range(SEEDS)])

    def __call__(self) -> object:
        """Solve the next."""
        return self._solve(next(self._tasks))


class Gap(NamedTuple):
    """How far the heaviest pack is above the lower bound, as a share of it."""

    mean: float
    worst: float

    @classmethod
    def of(cls, packer: Packer, shape: Shape, options: PackOptions) -> Gap:
        """Over the layers of all seeds."""
        gaps = []
        for seed in range(SEEDS):
            (answer,) = solve_packs(problems(shape, options, [seed]), packer)
            gaps.append(answer.max_load / answer.lower_bound - 1)
        return cls(float(np.mean(gaps)), float(np.max(gaps)))

    def cells(self) -> tuple[str, str]:
        """Of a table."""
        return f"{self.mean:.1e}", f"{self.worst:.1e}"


def check_same(name: str, expected: Sequence[Answer], found: Sequence[Answer]) -> None:
    """See that two solvers gave the same bytes.

    Raises:
        SystemExit: they did not; the message says in how many rows.
    """
    for one, other in zip(expected, found, strict=True):
        different = (one != other).reshape(len(one), -1).any(axis=1)
        if different.any():
            raise SystemExit(f"{name}: the answers differ in {int(different.sum())} of {len(one)} rows")


def milliseconds(taken: Spread) -> str:
    """Of seconds."""
    spread = taken.scaled(1e3)
    return f"{spread:.3g}" if spread.high < 999.5 else f"{spread:.0f}"


def progress(text: str) -> None:
    """A line on standard error."""
    print(text, file=sys.stderr, flush=True)
