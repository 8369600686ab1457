"""The `cuda` solver: the restart packer with refinement on a GPU, three fused kernels a batch (cuda_kernels.py)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import cycle
from types import ModuleType
from typing import Any

import numpy as np
import torch

from trimtab_server.solvers import rules
from trimtab_server.solvers.cuda_buffers import Shape, Slot
from trimtab_server.solvers.numbers import ITEM_BITS, KEY_SHIFT, MAX_ITEMS
from trimtab_server.solvers.problem import PackResult, PackTask

MEMORY_BUDGET = 2 << 30
"""Bytes that the buffers on the device may take, and a quarter more where they grew; a task beyond it is split by rows,
of which one is the least."""
ROWS_AT_ONCE = 1024
"""More rows are split too, so that the host fills and empties its buffers while the device works."""

_CELLS = 128  # candidates that a warp looks at together: more would halve the warps that fit, for want of registers
_COUNT_TILE = 64
_CHOOSE_TILE = 256


@dataclass(frozen=True)
class Cut:
    """How the search kernel is cut into tiles for a shape; all of it is compiled in, so it takes few values."""

    num_warps: int
    lanes: int
    rounds: int
    width: int
    height: int
    span: int

    @classmethod
    def of(cls, num_packs: int, size: int) -> Cut:
        """The tiles for so many packs of so many items."""
        warps = max(1, min(16, max(_power_of_two(num_packs) // 256, _power_of_two(size) // 64)))
        width = min(max(4, _power_of_two(size)), 32 * warps)
        return cls(
            num_warps=warps,
            lanes=max(32, _power_of_two(num_packs)),
            rounds=size.bit_length(),
            width=width,
            height=max(4, min(_CELLS * warps // width, _power_of_two(num_packs))),
            span=min(max(32, _power_of_two(size)), 128 * warps),
        )


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()


class CudaPacker:
    """The restart packer on a CUDA device, for one caller at a time; see `problem.Packer` for shapes.

    Where Triton interprets its kernels (TRITON_INTERPRET=1), and only there, the device can be `cpu`: the same code
    with neither stream nor pinned memory, for tests.
    """

    name = "cuda"

    def __init__(self, device: str = "cuda", memory_budget: int = MEMORY_BUDGET) -> None:
        """Take a device: `cuda` or `cuda:N`.

        Raises:
            RuntimeError: Triton is not installed, or there is no such device.
        """
        self._kernels = _kernels()
        self._device = _checked_device(device, interpreted=self._kernels.INTERPRETED)
        self._memory_budget = memory_budget
        self._stream = self._make_stream()
        self._slots = (Slot(self._device), Slot(self._device))
        self.device = str(self._device)
        self.launches = 0
        """Kernels that the latest `pack` launched."""

    def _make_stream(self) -> torch.cuda.Stream | None:
        if self._device.type == "cpu":
            return None
        return torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]

    def memory_bytes(self) -> int:
        """Bytes that torch holds on the GPU; 0 under the interpreter."""
        return torch.cuda.memory_reserved(self._device) if self._stream else 0

    def pack(self, task: PackTask) -> PackResult:
        """Pack every row, a bounded number of rows at a time; one part is filled while another is solved."""
        self.launches = 0
        rows, items = task.whole.shape
        shape = rows, items
        result = PackResult(
            np.empty(shape, np.int32), np.empty(shape, np.int32), np.empty(rows, np.int32), self.name, self.device
        )
        on_the_way: tuple[slice, Slot, Shape] | None = None
        with torch.inference_mode(), self._on_stream():
            for part, slot in zip(self._parts(task), cycle(self._slots), strict=False):
                started = (part, slot, self._start(task.part(part), slot))
                if on_the_way:
                    self._collect(*on_the_way, result)
                on_the_way = started
            if on_the_way:
                self._collect(*on_the_way, result)
        return result

    @contextmanager
    def _on_stream(self) -> Iterator[None]:
        """This packer's stream; what fails there leaves neither work on it nor memory behind."""
        where: AbstractContextManager[Any] = torch.cuda.stream(self._stream) if self._stream else nullcontext()
        with where:
            try:
                yield
            except BaseException:
                if self._stream:
                    self._stream.synchronize()
                self._slots = (Slot(self._device), Slot(self._device))
                raise

    def _parts(self, task: PackTask) -> list[slice]:
        """Even parts of at most ROWS_AT_ONCE rows and half of the budget, for two are on the way."""
        rows = len(task.whole)
        if not rows:
            return []
        row_bytes = Shape(task.part(slice(0, 1))).num_bytes
        most = max(1, min(ROWS_AT_ONCE, self._memory_budget // (2 * row_bytes)))
        at_once = -(-rows // -(-rows // most))
        return [slice(start, start + at_once) for start in range(0, rows, at_once)]

    def _start(self, task: PackTask, slot: Slot) -> Shape:
        """Send one part to the device and queue its kernels and the copy back."""
        shape = Shape(task)
        staged, sent = slot.host_in.section(shape.inputs), slot.device_in.section(shape.inputs)
        for name in ("whole", "target", "table_index", "tables"):
            np.copyto(staged.arrays[name], np.ascontiguousarray(getattr(task, name)).reshape(-1))
        staged.arrays["reached"].fill(shape.restarts)
        sent.whole.copy_(staged.whole, non_blocking=True)
        scratch, answer = slot.scratch.section(shape.scratch), slot.device_out.section(shape.outputs)
        self._launch(shape, task.refine, sent.fields | scratch.fields | answer.fields)
        slot.host_out.section(shape.outputs).whole.copy_(answer.whole, non_blocking=True)
        if slot.done:
            slot.done.record()
        return shape

    def _launch(self, shape: Shape, refine: bool, at: dict[str, torch.Tensor]) -> None:
        rows, restarts, items, packs = shape.rows, shape.restarts, shape.items, shape.packs
        ordering = (at["whole"], at["tables"], at["table_index"], at["sequence"], rows, restarts, items)
        if shape.counted:
            self._kernels.order[(rows * restarts, -(-items // _COUNT_TILE))](
                *ordering, TILE=_COUNT_TILE, CHUNK=32, num_warps=4, enable_fp_fusion=False,
            )  # fmt: skip
        else:
            order_by_sort(*ordering)
        cut = Cut.of(packs, shape.size)
        search_names = ("sequence", "packed", "rank", "pairs", "stale", "reached", "target", "peak")
        self._kernels.search[(rows * restarts,)](
            *(at[name] for name in search_names), rows, items, packs, rules.max_steps(packs) if refine else 0,
            LANES=cut.lanes, ROUNDS=cut.rounds, WIDTH=cut.width, HEIGHT=cut.height, SPAN=cut.span,
            WATCH=32 * cut.num_warps, num_warps=cut.num_warps, enable_fp_fusion=False,
        )  # fmt: skip
        choose_names = ("sequence", "peak", "target", "pack_index", "rank_in_pack", "winner")
        self._kernels.choose[(rows, -(-items // _CHOOSE_TILE))](
            *(at[name] for name in choose_names), rows, restarts, items, packs,
            RESTARTS=_power_of_two(restarts), TILE=_CHOOSE_TILE, num_warps=2, enable_fp_fusion=False,
        )  # fmt: skip
        self.launches += 2 + shape.counted

    @staticmethod
    def _collect(part: slice, slot: Slot, shape: Shape, result: PackResult) -> None:
        """Wait for one part and take its answer out of the staging buffer."""
        if slot.done:
            slot.done.synchronize()
        answer = slot.host_out.section(shape.outputs).arrays
        for whole, found in zip(result[:3], answer.values(), strict=True):
            whole[part] = found.reshape(whole[part].shape)


def order_by_sort(
    whole: torch.Tensor,
    tables: torch.Tensor,
    table_index: torch.Tensor,
    sequence: torch.Tensor,
    rows: int,
    restarts: int,
    items: int,
) -> None:
    """What the kernel `order` does, by torch's sort."""
    low = MAX_ITEMS - 1 - torch.arange(items, device=whole.device)
    weight = whole.view(rows, 1, items).to(torch.int64)
    key = weight * tables.view(-1, restarts, items)[table_index]
    key = ((key >> KEY_SHIFT) << ITEM_BITS) | low
    ending = key.sort(dim=2, descending=True).values & (MAX_ITEMS - 1)
    in_order = weight.expand(-1, restarts, -1).gather(2, MAX_ITEMS - 1 - ending)
    sequence.view(restarts, rows, items).copy_(((in_order << ITEM_BITS) | ending).transpose(0, 1))


def _kernels() -> ModuleType:
    try:
        from trimtab_server.solvers import cuda_kernels  # noqa: PLC0415 - Triton comes with the cuda extra alone
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] != "triton":
            raise
        raise RuntimeError("the cuda solver needs Triton: pip install 'trimtab[server,cuda]'") from missing
    return cuda_kernels


def _checked_device(name: str, *, interpreted: bool) -> torch.device:
    device = torch.device(name)
    if device.type == "cpu" and interpreted:
        return device
    if device.type != "cuda":
        raise RuntimeError(f"the cuda solver runs on a CUDA device, not on {name!r}")
    if interpreted:
        raise RuntimeError("TRITON_INTERPRET is set: Triton's interpreter works on device 'cpu' alone")
    if not torch.cuda.is_available():
        raise RuntimeError("the cuda solver needs a CUDA device, and torch sees none")
    if (device.index or 0) >= torch.cuda.device_count():
        raise RuntimeError(f"there is no device {name!r}: torch sees {torch.cuda.device_count()}")
    return device if device.index is not None else torch.device("cuda", torch.cuda.current_device())
