"""The reference solver: the restart packer as vectorized torch, on any device.

All rows and all restarts take their next item at once, so the loop is as long as a row has items, whatever the batch.
A pack's state is one float64, load * packs' power of two + pack: its minimum is the lightest pack, ties to the lowest,
and it is exact (see numbers.MAX_PACKS).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trimtab_server.solvers.numbers import items_of, ordering_keys
from trimtab_server.solvers.problem import PackResult, PackTask
from trimtab_server.solvers.torch_refinement import refine

_CPU_STATE_BYTES = 2 << 20  # the loop walks the whole state once an item: it should stay in a core's own cache
_CPU_KEYS_BYTES = 64 << 20
_CUDA_STATE_BYTES = 256 << 20
_CUDA_KEYS_BYTES = 1 << 30


class TorchPacker:
    """The restart packer on a torch device; see `problem.Packer`."""

    name = "torch"

    def __init__(self, device: str = "cpu") -> None:
        """Take a device: `cpu`, `cuda` or `cuda:N`.

        Raises:
            RuntimeError: the device is not there (torch's own words).
        """
        self._device = torch.device(device)
        self._infinity = torch.full((), torch.inf, dtype=torch.float64, device=self._device)
        self.device = str(self._infinity.device)

    def memory_bytes(self) -> int:
        """Bytes that torch holds on a GPU; 0 on the CPU, where the process's own figure tells."""
        return int(torch.cuda.memory_reserved(self._device)) if self._device.type == "cuda" else 0

    def pack(self, task: PackTask) -> PackResult:
        """Pack every row, a bounded number of rows at a time."""
        chunk = self._rows_at_once(task)
        with one_thread(), torch.inference_mode():
            parts = [self._pack_chunk(task.part(slice(i, i + chunk))) for i in range(0, len(task.whole), chunk)]
        pack_index, rank_in_pack, winner = (np.concatenate(part) for part in zip(*parts, strict=True))
        return PackResult(pack_index, rank_in_pack, winner, self.name, self.device)

    def _rows_at_once(self, task: PackTask) -> int:
        cuda = self._device.type == "cuda"
        state, keys = (_CUDA_STATE_BYTES, _CUDA_KEYS_BYTES) if cuda else (_CPU_STATE_BYTES, _CPU_KEYS_BYTES)
        _, num_restarts, num_items = task.tables.shape
        rows: int = min(state // (8 * num_restarts * task.num_packs), keys // (8 * num_restarts * num_items))
        return max(1, rows)

    def _pack_chunk(self, task: PackTask) -> tuple[npt.NDArray[np.int32], ...]:
        num_rows, num_items = task.whole.shape
        num_restarts, size = task.tables.shape[1], num_items // task.num_packs
        order = items_of(_descending(ordering_keys(task.whole, task.tables, task.table_index)))
        exact = order[:, 0]  # members are the items in exact order
        sequence = self._to_device(np.take_along_axis(exact.argsort(axis=1)[:, None, :], order, axis=2))
        weight = self._to_device(np.take_along_axis(task.whole, exact, axis=1).astype(np.int64))
        weight = weight.repeat_interleave(num_restarts, 0)
        placed = self._greedy(weight, sequence.flatten(0, 1), task.num_packs)
        member = _members(placed).view(-1, task.num_packs, size)
        target = self._to_device(task.target.astype(np.int64))
        if task.refine:
            refine(weight, member, target.repeat_interleave(num_restarts))
        largest = weight.gather(1, member.flatten(1)).view(member.shape).sum(2).amax(1).view(num_rows, num_restarts)
        winner = _winner(largest, target)
        chosen = member.view(num_rows, num_restarts, num_items)[torch.arange(num_rows, device=self._device), winner]
        items = np.take_along_axis(exact, chosen.cpu().numpy(), axis=1)
        pack_index, rank_in_pack = np.empty((2, num_rows, num_items), np.int32)
        places = np.arange(num_items, dtype=np.int32)[None, :]
        np.put_along_axis(pack_index, items, places // size, axis=1)
        np.put_along_axis(rank_in_pack, items, places % size, axis=1)
        return pack_index, rank_in_pack, winner.cpu().numpy().astype(np.int32)

    def _to_device(self, array: npt.NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)

    def _greedy(self, weight: Tensor, sequence: Tensor, num_packs: int) -> Tensor:
        """Each member in turn to the lightest pack that is not full, for all restarts of all rows at once.

        Args:
            weight: [states, items] int64, by member. sequence: [states, items], the members in their order.
            num_packs: m.

        Returns:
            [states, items]: the pack of each member.
        """
        num_states, num_items = sequence.shape
        size = num_items // num_packs
        scale = 1 << (num_packs - 1).bit_length()
        step = (weight.gather(1, sequence) * scale).double().t().contiguous()
        state = torch.arange(num_packs, dtype=torch.float64, device=self._device)[:, None].repeat(1, num_states)
        count = torch.zeros(num_packs, num_states, dtype=torch.int32, device=self._device)
        one = torch.ones(1, num_states, dtype=torch.int32, device=self._device)
        placed = torch.empty(num_items, num_states, dtype=torch.int64, device=self._device)
        lightest = torch.empty(num_states, dtype=torch.float64, device=self._device)
        for item in range(num_items):
            torch.amin(state, 0, out=lightest)
            pack = torch.bitwise_and(lightest.long(), scale - 1, out=placed[item]).unsqueeze(0)
            count.scatter_add_(0, pack, one)
            lightest += step[item]
            state.scatter_(0, pack, torch.where(count.gather(0, pack) == size, self._infinity, lightest))
        return torch.empty_like(sequence).scatter_(1, sequence, placed.t())


def _members(placed: Tensor) -> Tensor:
    """[states, items]: members by pack, ascending in each, of the packs that they were placed in."""
    if placed.device.type == "cpu":  # numpy's stable sort of 16-bit numbers is a radix sort, ten times faster
        return torch.from_numpy(np.argsort(placed.numpy().astype(np.uint16), axis=1, kind="stable"))
    return placed.sort(dim=1, stable=True).indices


def _winner(largest: Tensor, target: Tensor) -> Tensor:
    """[rows]: the lowest restart at most the target, else the lowest of those with the smallest largest load."""
    restart = torch.arange(largest.shape[1], device=largest.device)
    key = torch.where(largest <= target[:, None], 0, largest)  # all that reached the target are equally good
    return torch.where(key == key.amin(1, keepdim=True), restart, len(restart)).amin(1)


def _descending(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    keys.sort(axis=2)
    return keys[:, :, ::-1]


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: its loop of small operations collapses when several fight for the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
