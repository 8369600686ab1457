"""What the `cuda` solver keeps between calls: buffers on the device, pinned ones on the host, and what lies in them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from trimtab_server.solvers.problem import PackTask

COUNTED_ITEMS = 8192
"""With more items than that a row is sorted, not counted."""
PAIR_LANES = 32
"""Room for the pairs of a pack."""

_ALIGNMENT = 256
_LEAST_BYTES = 1 << 16
_SORT_BYTES = 64  # an item in the hands of torch's sort, at its peak

Layout = tuple[tuple[str, torch.dtype, int], ...]
"""Named arrays one after the other in one buffer, so that one copy moves all of them."""


class Section(NamedTuple):
    """The part of a buffer that a layout takes; views cost microseconds, so they are made once."""

    layout: Layout
    whole: torch.Tensor
    fields: dict[str, torch.Tensor]
    arrays: dict[str, npt.NDArray[Any]]  # the fields as numpy has them, on the host


class Buffer:
    """Bytes that are kept and grown, on a device or pinned on the host."""

    def __init__(self, device: torch.device, pinned: bool = False) -> None:
        self._device = device
        self._pinned = pinned
        self._held = self._allocate(0)
        self._section = Section((), self._held, {}, {})

    def section(self, layout: Layout) -> Section:
        """Room for the layout; what the last one held is gone."""
        if self._section.layout != layout:
            size = sum(_aligned(dtype, count) for _, dtype, count in layout)
            if self._held.numel() < size:
                self._grow(size)
            self._section = self._cut(layout, size)
        return self._section

    def _grow(self, size: int) -> None:
        step = max(_LEAST_BYTES, 1 << size.bit_length() >> 3)
        self._held = self._allocate(0)  # the old goes before the new comes
        self._section = Section((), self._held, {}, {})
        if self._device.type == "cuda":
            torch.cuda.empty_cache()  # to the device: nothing as small will be asked for again
        self._held = self._allocate(-(-size // step) * step)

    def _cut(self, layout: Layout, size: int) -> Section:
        fields, start = {}, 0
        for name, dtype, count in layout:
            fields[name] = self._held[start : start + count * dtype.itemsize].view(dtype)
            start += _aligned(dtype, count)
        on_host = self._device.type == "cpu"
        arrays = {name: field.numpy() for name, field in fields.items()} if on_host else {}
        return Section(layout, self._held[:size], fields, arrays)

    def _allocate(self, size: int) -> torch.Tensor:
        return torch.empty(size, dtype=torch.uint8, device=self._device, pin_memory=self._pinned)


def _aligned(dtype: torch.dtype, count: int) -> int:
    return -(-count * dtype.itemsize // _ALIGNMENT) * _ALIGNMENT


class Slot:
    """The buffers of one part of a task on its way."""

    def __init__(self, device: torch.device) -> None:
        cuda = device.type == "cuda"
        host = torch.device("cpu")
        self.host_in, self.host_out = Buffer(host, pinned=cuda), Buffer(host, pinned=cuda)
        self.device_in, self.device_out, self.scratch = Buffer(device), Buffer(device), Buffer(device)
        self.done = torch.cuda.Event() if cuda else None  # type: ignore[no-untyped-call]


class Shape:
    """The sizes and layouts of a part of a task."""

    def __init__(self, task: PackTask) -> None:
        self.rows, self.items = task.whole.shape
        self.packs, self.size = task.num_packs, task.whole.shape[1] // task.num_packs
        self.restarts = task.tables.shape[1]
        self.counted = self.items <= COUNTED_ITEMS
        cells, programs = self.rows * self.items, self.rows * self.restarts
        int32, int64, float64 = torch.int32, torch.int64, torch.float64
        out = torch.int16 if max(self.packs, self.size) <= np.iinfo(np.int16).max else int32
        pairs = programs * self.packs * PAIR_LANES if task.refine and self.size > 1 else 1
        self.inputs: Layout = (
            ("whole", float64, cells),
            ("target", float64, self.rows),
            ("table_index", int64, self.rows),
            ("tables", int32, task.tables.size),
            ("reached", int32, self.rows),
        )
        self.outputs: Layout = (("pack_index", out, cells), ("rank_in_pack", out, cells), ("winner", int32, self.rows))
        self.scratch: Layout = (
            ("sequence", int64, programs * self.items),
            ("packed", int64, programs * self.items),
            ("rank", int64, programs * self.packs),
            ("pairs", int64, pairs),
            ("stale", int32, programs * self.packs),
            ("peak", int64, programs),
        )

    @property
    def num_bytes(self) -> int:
        """What it takes on the device."""
        sort = 0 if self.counted else _SORT_BYTES * self.rows * self.restarts * self.items
        return sort + sum(
            _aligned(dtype, count) for layout in (self.inputs, self.outputs, self.scratch) for _, dtype, count in layout
        )
