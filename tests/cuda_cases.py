"""Packs small tasks with the `cuda` solver and prints, as JSON, how its answers compare; a process of its own.

With TRITON_INTERPRET=1 on the device `cpu`, Triton's interpreter running the kernels (about a millisecond an operation,
so the shapes are tiny); without it on a CUDA device. What is compared is every byte against the compiled CPU solver.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import torch
import triton
import triton.language as tl

from trimtab_server.solvers import cuda_buffers, cuda_kernels, cuda_packer, cuda_search_kernels, rules
from trimtab_server.solvers.bounds import lower_bound
from trimtab_server.solvers.cpu_packer import CpuPacker
from trimtab_server.solvers.cuda_packer import CudaPacker
from trimtab_server.solvers.numbers import noise_table, quantize
from trimtab_server.solvers.problem import PackResult, PackTask

Whole = npt.NDArray[np.float64]


def expected(task: PackTask) -> PackResult:
    """What another solver answers."""
    return CpuPacker(threads=1).pack(task)


def task_of(whole: Any, num_packs: int, restarts: int = 2, gap: float = -1.0, refine: bool = True) -> PackTask:
    """A task with one noise table for all rows; its targets are out of reach, unless a gap says how far they are."""
    rows: Whole = np.asarray(whole, np.float64)
    tables = noise_table(rows.shape[1], restarts, 0.05, 0.5, 7)[None]
    target = np.floor((1 + gap) * lower_bound(rows, num_packs))
    return PackTask(rows, num_packs, tables, np.zeros(len(rows), np.int64), target, refine)


def lognormal(rows: int, items: int, seed: int = 0) -> Whole:
    """Loads as experts have them."""
    return quantize(np.random.default_rng(seed).lognormal(0, 1, (rows, items)))[0]


def integers(rows: int, items: int, below: int, seed: int = 0) -> Whole:
    """Small whole numbers: many ties."""
    return np.random.default_rng(seed).integers(0, below, (rows, items)).astype(np.float64)


def far_singles() -> PackTask:
    """Rows, found by search, where neither a near single nor a pair helps but a far single does; a table each."""
    rows = [[1, 85, 53, 73, 66, 1, 58, 78, 0, 77, 75, 4], [3, 2, 87, 4, 4, 4, 4, 5, 3, 92, 3, 4]]
    tables = [
        [1.868, 1.2541, 1.6341, 1.9737, 1.5424, 1.6028, 1.4296, 1.6834, 1.2296, 1.2467, 1.1854, 1.988],
        [1.4641, 1.8161, 1.1134, 1.2267, 1.6237, 1.6667, 1.0833, 1.405, 1.7591, 1.5991, 1.1395, 1.5738],
    ]
    exact = np.ones((2, 12))
    multipliers = (np.stack([exact, np.array(tables)], axis=1) * (1 << 20)).astype(np.int32)
    return PackTask(np.array(rows, float), 6, multipliers, np.arange(2), np.zeros(2), refine=True)


def several_tables() -> PackTask:
    """Rows that take their noise from different tables, not in order."""
    task = task_of(lognormal(3, 12, 4), 4, 2, 1e-2)
    tables = np.stack([noise_table(12, 2, 0.05, 0.5, seed) for seed in (1, 2)])
    return PackTask(task.whole, 4, tables, np.array([1, 0, 1]), task.target, refine=True)


def heaviest_possible() -> Whole:
    """Row sums just below 2^40."""
    most = (1 << 40) - 1
    return np.array([[most, *[0] * 7], [most // 8 - i for i in range(8)]], float)


CASES: dict[str, Callable[[], PackTask]] = {
    "lognormal": lambda: task_of(lognormal(2, 20, 1), 4, 4),
    "ties": lambda: task_of(integers(2, 18, 5), 3),
    "zeros": lambda: task_of(np.zeros((2, 12)), 4),
    "equal": lambda: task_of(np.full((1, 12), 7), 3),
    "sparse": lambda: task_of(integers(2, 15, 9) * (integers(2, 15, 3, 1) == 0), 5),
    "heaviest": lambda: task_of(heaviest_possible(), 2),
    "one pack": lambda: task_of(lognormal(2, 9), 1, 3),
    "one item": lambda: task_of(np.ones((1, 1)), 1),
    "one item a pack": lambda: task_of(lognormal(2, 9), 9),
    "two items a pack": lambda: task_of(lognormal(2, 14, 2), 7),
    "five items a pack": lambda: task_of(integers(1, 30, 60, 3), 6),
    "eleven items a pack": lambda: task_of(integers(1, 33, 1000, 3), 3, 1),
    "many packs": lambda: task_of(integers(1, 120, 60, 5), 40, 1),
    "far singles": far_singles,
    "several tables": several_tables,
    "targets at different restarts": lambda: task_of(lognormal(6, 15), 3, 4, gap=0.003),
    "no refinement": lambda: task_of(lognormal(3, 24), 4, 3, refine=False),
    "no refinement, some at the target": lambda: task_of(integers(8, 8, 9), 4, 3, gap=0.05, refine=False),
}
TINY_TILES = cuda_packer.Cut(num_warps=1, lanes=32, rounds=4, width=2, height=4, span=4)
PATCHED: dict[str, tuple[Any, str, Any, Callable[[], PackTask]]] = {
    "tiles smaller than packs": (cuda_packer.Cut, "of", lambda *_: TINY_TILES, CASES["eleven items a pack"]),
    "sorted by torch": (cuda_buffers, "COUNTED_ITEMS", 4, several_tables),
    "split by rows": (cuda_packer, "ROWS_AT_ONCE", 2, lambda: task_of(lognormal(5, 12), 3, gap=0.003)),
}


class Searches(Counter[str]):
    """Counts the kinds of swaps that the interpreted kernels found."""

    def __init__(self) -> None:
        super().__init__()
        self._search = cuda_search_kernels.best_partner

    def __call__(self, *args: Any) -> Any:
        """Search as the kernel does."""
        chosen, detail = self._search(*args)
        heavy, partners, shift = args[6], args[5], args[8]
        if int(chosen) >> 16 < int(heavy):
            single = "single" if int(partners) <= rules.SINGLE_PARTNERS else "far single"
            self["pair" if int(shift) == int(cuda_search_kernels.CODE_BITS) else single] += 1
        return chosen, detail


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def probe(lists, rank, out, size, partners, target):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, PLR0917
    """One search of singles; the heaviest pack's list and key come last."""
    heavy = tl.load(rank + partners) >> 13
    own = lists + partners * size
    chosen, detail = cuda_search_kernels.best_partner(
        lists, size, size, own, rank, partners, heavy, tl.load(target), 16, 4, 4, 4
    )
    tl.store(out, chosen)
    tl.store(out + 1, detail)


def search_differs(device: str, seed: int) -> bool:
    """One random search against all of its candidates; values are few, so that every tie and boundary is met."""
    rng = np.random.default_rng(seed)
    partners, size = int(rng.integers(1, 7)), int(rng.integers(1, 12))
    held = -np.sort(-rng.integers(0, rng.integers(2, 30), (partners + 1, size)))
    light = np.sort(rng.integers(100, 112, partners))
    heavy = int(light[-1] + rng.integers(0, 12))
    target = int(rng.integers(100, heavy + 1)) - 1
    found = [
        (max(v, target), p, v, i)
        for p in range(partners)
        for i in range(size)
        for f in held[-1, i] - held[p]
        if (v := int(max(heavy - f, light[p] + f))) < heavy
    ]
    best = min(found, default=(heavy, 0, 0, 0))
    packs = np.arange(partners + 1)
    inputs = (held << 16, np.append(light, heavy) << 13 | packs, np.zeros(2, np.int64), np.array([target]))
    lists, rank, out, goal = (torch.from_numpy(array.reshape(-1)).to(device) for array in inputs)
    probe[(1,)](lists, rank, out, size, partners, goal)
    chosen, detail = out.tolist()
    return bool(chosen != best[0] << 16 | best[1] or (found and detail != best[2] << 16 | best[3]))


def choice(device: str) -> list[int]:
    """The winners of three rows at target 10; on a GPU two restarts can end at the target at the same time."""
    peak = torch.tensor([[30, 12, 9], [10, 11, 9], [9, 11, 30]], device=device)  # [restarts, rows]
    members = torch.full((9,), 65535, device=device)
    target = torch.full((3,), 10.0, dtype=torch.float64, device=device)
    pack_index, rank, winner = (torch.zeros(3, dtype=torch.int32, device=device) for _ in range(3))
    cuda_kernels.choose[(3, 1)](members, peak, target, pack_index, rank, winner, 3, 3, 1, 1, RESTARTS=4, TILE=32)
    chosen: list[int] = winner.tolist()
    return chosen


def compared(packer: CudaPacker, task: PackTask) -> dict[str, Any]:
    """How one answer compares."""
    answer, true = packer.pack(task), expected(task)
    differing = [
        name
        for name in ("pack_index", "rank_in_pack", "winning_restart")
        if getattr(answer, name).dtype != np.int32 or getattr(answer, name).tobytes() != getattr(true, name).tobytes()
    ]
    return {"differing": differing, "winners": answer.winning_restart.tolist(), "launches": packer.launches}


def main(device: str, interpreted: bool) -> None:
    """All cases, one JSON object."""
    packer = CudaPacker(device)
    found: dict[str, Any] = {}
    for name, make in CASES.items():
        searches = Searches()
        # on a device the kernels are compiled, and nothing can be counted inside
        where = mock.patch.object(cuda_search_kernels, "best_partner", searches) if interpreted else mock.MagicMock()
        with where:
            found[name] = compared(packer, make()) | {"swaps": dict(searches)}
    for name, (owner, attribute, value, make) in PATCHED.items():
        with mock.patch.object(owner, attribute, value):
            found[name] = compared(packer, make())
    small = CudaPacker(device, memory_budget=1)
    found["a row at a time"] = compared(small, task_of(lognormal(3, 8), 2))
    found["searches"] = {"differing": [seed for seed in range(80) if search_differs(device, seed)]}
    found["choice"] = {"differing": [] if (winners := choice(device)) == [1, 1, 0] else winners}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], interpreted=sys.argv[1] == "cpu")
