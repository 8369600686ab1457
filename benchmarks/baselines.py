"""What the solvers are measured against: the greedy in Python and in numpy, and the plain restart loop in torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trimtab_server.solvers.numbers import ITEM_BITS, KEY_SHIFT, MAX_ITEMS
from trimtab_server.solvers.problem import PackTask
from trimtab_server.solvers.torch_packer import one_thread

Packs = npt.NDArray[np.int64]


def plain_greedy(weight: npt.NDArray[Any], num_packs: int) -> Packs:
    """Heaviest first to the lightest open pack, layer by layer, in Python loops.

    Args:
        weight: [layers, items]. num_packs: divides items.

    Returns:
        [layers, items]: the pack of each item.
    """
    size = weight.shape[1] // num_packs
    answer = np.empty(weight.shape, np.int64)
    for layer, row in enumerate(weight.tolist()):
        load, held = [0.0] * num_packs, [0] * num_packs
        for item in sorted(range(len(row)), key=lambda i: -row[i]):  # used at once
            pack = min((p for p in range(num_packs) if held[p] < size), key=load.__getitem__)
            load[pack] += row[item]
            held[pack] += 1
            answer[layer, item] = pack
    return answer


def numpy_greedy(weight: npt.NDArray[Any], num_packs: int) -> Packs:
    """The same with numpy, one argmin an item; full packs weigh infinity."""
    size = weight.shape[1] // num_packs
    answer = np.empty(weight.shape, np.int64)
    order = np.argsort(-weight, axis=1, kind="stable")
    for layer, row in enumerate(weight):
        load, held = np.zeros(num_packs), [0] * num_packs
        for item in order[layer].tolist():
            pack = int(load.argmin())
            held[pack] += 1
            load[pack] = load[pack] + row[item] if held[pack] < size else np.inf
            answer[layer, item] = pack
    return answer


class TorchLoop:
    """The restart packer in its plain form, before any refinement: the baseline of all ratios.

    All restarts of all rows take their next item at once: `argmin` over [rows * restarts, packs] with full packs masked
    by `torch.where` against a preallocated infinity; float64 loads, one thread. It gives what `PackTask.refine = False`
    asks of a solver.
    """

    def __init__(self, device: str = "cpu") -> None:
        self._device = torch.device(device)
        self._infinity = torch.full((), torch.inf, dtype=torch.float64, device=self._device)

    def pack(self, task: PackTask) -> Packs:
        """[rows, items]: the pack of each item."""
        with one_thread(), torch.inference_mode():
            weight = torch.from_numpy(task.whole).to(self._device)
            keys = self._keys(weight, task)
            num_rows, num_restarts, _ = keys.shape
            order = torch.sort(keys, dim=2, descending=True).indices
            weight = weight[:, None].expand_as(order).gather(2, order).flatten(0, 1).t().contiguous()
            placed, largest = self._place(weight, task.num_packs)
            best = largest.view(num_rows, num_restarts).argmin(1)
            every_row = torch.arange(num_rows, device=self._device)
            of_item = torch.empty_like(order).scatter_(2, order, placed.t().view(order.shape))
            answer: Packs = of_item[every_row, best].cpu().numpy()
            return answer

    def _keys(self, weight: Tensor, task: PackTask) -> Tensor:
        """[rows, restarts, items]: the solvers' own keys (rule 3 of their numbers), so that the answers are theirs."""
        tables, table_index = (torch.from_numpy(part).to(self._device) for part in (task.tables, task.table_index))
        noisy = weight.long()[:, None] * tables[table_index]
        ending = MAX_ITEMS - 1 - torch.arange(weight.shape[1], device=self._device)
        return ((noisy >> KEY_SHIFT) << ITEM_BITS) | ending

    def _place(self, weight: Tensor, num_packs: int) -> tuple[Tensor, Tensor]:
        """[items, states], the pack of each item in its order, and [states], the largest load."""
        num_items, num_states = weight.shape
        size = num_items // num_packs
        load = torch.zeros(num_states, num_packs, dtype=torch.float64, device=self._device)
        left = torch.full_like(load, size, dtype=torch.int32)
        room = torch.ones_like(load, dtype=torch.bool)
        minus_one = torch.full((num_states, 1), -1, dtype=torch.int32, device=self._device)
        placed = torch.empty(num_items, num_states, dtype=torch.int64, device=self._device)
        for item in range(num_items):
            pack = torch.where(room, load, self._infinity).argmin(1, keepdim=True)
            load.scatter_add_(1, pack, weight[item, :, None])
            left.scatter_add_(1, pack, minus_one)
            room.scatter_(1, pack, left.gather(1, pack) > 0)
            placed[item] = pack[:, 0]
        return placed, load.amax(1)
