"""The reference solver: the restart packer as vectorized torch, on any device.

All rows and all restarts take their next item at once, so the loop is as long as a row has items, whatever the batch.
A pack's state is one float64, load * packs' power of two + pack: its minimum is the lightest pack, ties to the lowest,
and it is exact (see numbers.MAX_PACKS).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch

from trimtab_server.solvers.numbers import MAX_PACKS, Integers, items_of, ordering_keys

_CPU_STATE_BYTES = 2 << 20  # the loop walks the whole state once an item: it should stay in a core's own cache
_CPU_KEYS_BYTES = 64 << 20
_CUDA_STATE_BYTES = 256 << 20
_CUDA_KEYS_BYTES = 1 << 30

Triple = tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32]]


class TorchPacker:
    """The restart packer on a torch device; see `problem.Packer` for shapes."""

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
        return torch.cuda.memory_reserved(self._device) if self._device.type == "cuda" else 0

    def pack(
        self, whole: Integers, num_packs: int, tables: npt.NDArray[np.int32], table_index: npt.NDArray[np.int64]
    ) -> Triple:
        """Pack every row, a bounded number of rows at a time; see `problem.Packer`."""
        chunk = self._rows_at_once(tables.shape[1], whole.shape[1], num_packs)
        with _one_thread(), torch.inference_mode():
            parts = [
                self._pack_chunk(whole[i : i + chunk], num_packs, tables, table_index[i : i + chunk])
                for i in range(0, len(whole), chunk)
            ]
        pack_index, rank, winner = (np.concatenate(part) for part in zip(*parts, strict=True))
        return pack_index, rank, winner

    def _rows_at_once(self, num_restarts: int, num_items: int, num_packs: int) -> int:
        cuda = self._device.type == "cuda"
        state, keys = (_CUDA_STATE_BYTES, _CUDA_KEYS_BYTES) if cuda else (_CPU_STATE_BYTES, _CPU_KEYS_BYTES)
        return max(1, min(state // (8 * num_restarts * num_packs), keys // (8 * num_restarts * num_items)))

    def _pack_chunk(
        self, whole: Integers, num_packs: int, tables: npt.NDArray[np.int32], table_index: npt.NDArray[np.int64]
    ) -> Triple:
        num_rows, num_items = whole.shape
        num_restarts = tables.shape[1]
        order = items_of(_descending(ordering_keys(whole, tables, table_index)))
        sorted_weight = np.take_along_axis(whole[:, None, :], order, axis=2)
        placed, load = self._greedy(sorted_weight.reshape(num_rows * num_restarts, num_items), num_packs)
        largest = load.amax(dim=0).reshape(num_rows, num_restarts).cpu().numpy()
        winner = largest.argmin(axis=1)  # numpy's argmin takes the first of equals: the lowest restart
        columns = torch.from_numpy(np.arange(num_rows) * num_restarts + winner).to(self._device)
        pack_in_order = placed[:, columns].t().cpu().numpy()
        pack_index = np.empty((num_rows, num_items), np.int32)
        np.put_along_axis(pack_index, order[np.arange(num_rows), winner], pack_in_order, axis=1)
        return pack_index, ranks(pack_index, order[:, 0], num_packs), winner.astype(np.int32)

    def _greedy(self, sorted_weight: Integers, num_packs: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Each item in turn to the lightest pack that is not full, for all columns at once.

        Args:
            sorted_weight: [columns, items], a column being an ordering of a row.
            num_packs: m.

        Returns:
            placed: [items, columns], the pack of each item in its order. load: [packs, columns].
        """
        num_columns, num_items = sorted_weight.shape
        size = num_items // num_packs
        scale = float(1 << (num_packs - 1).bit_length())
        weight = torch.from_numpy(np.ascontiguousarray(sorted_weight.T)).to(self._device)
        step = weight * scale
        state = torch.arange(num_packs, dtype=torch.float64, device=self._device)[:, None].repeat(1, num_columns)
        count = torch.zeros(num_packs, num_columns, dtype=torch.int32, device=self._device)
        one = torch.ones(1, num_columns, dtype=torch.int32, device=self._device)
        placed = torch.empty(num_items, num_columns, dtype=torch.int64, device=self._device)
        lightest = torch.empty(num_columns, dtype=torch.float64, device=self._device)
        for item in range(num_items):
            torch.amin(state, 0, out=lightest)
            pack = torch.bitwise_and(lightest.long(), int(scale) - 1, out=placed[item]).unsqueeze(0)
            count.scatter_add_(0, pack, one)
            lightest += step[item]
            state.scatter_(0, pack, torch.where(count.gather(0, pack) == size, self._infinity, lightest))
        load = torch.zeros_like(state).scatter_add_(0, placed, weight)
        return placed, load


def _descending(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    keys.sort(axis=2)
    return keys[:, :, ::-1]


def ranks(
    pack_index: npt.NDArray[np.int32], exact_order: npt.NDArray[np.int64], num_packs: int
) -> npt.NDArray[np.int32]:
    """[rows, items]: each item's place in its pack, by the exact ordering (descending weight, ties by item)."""
    num_rows, num_items = pack_index.shape
    size = num_items // num_packs
    pack = np.take_along_axis(pack_index, exact_order, axis=1)
    # packs fit 16 bits, where numpy's stable sort is a radix sort
    by_pack = np.argsort(pack.astype(np.uint16), axis=1, kind="stable")
    rank = np.empty_like(pack_index)
    places = np.broadcast_to(np.tile(np.arange(size, dtype=np.int32), num_packs), (num_rows, num_items))
    np.put_along_axis(rank, np.take_along_axis(exact_order, by_pack, axis=1), places, axis=1)
    return rank


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch on one thread: its loop of small operations collapses when several fight for the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


assert MAX_PACKS <= 1 << 16, "ranks() sorts packs as 16-bit numbers"  # noqa: S101  # a rule between two constants
