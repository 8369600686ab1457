"""The ranks of an engine: whether all of them have the plug-in, and how one tells the others what to place."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

JOIN_SECONDS = 10.0
"""How long ranks wait, once, for each other to say that they have the plug-in."""

_KEY = "trimtab/1"  # the number changes with what the ranks say to each other
_ALL, _SOME = "all", "some"


class Coordinator(Protocol):
    """What both engines have for a group of ranks, by the same names."""

    rank_in_group: int
    world_size: int
    cpu_group: Any
    """Its torch.distributed process group for tensors on the CPU."""


class Ranks:
    """The ranks of one group; each calls the same methods in the same order, on the thread that the engine calls on."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._rank = coordinator.rank_in_group
        self._size = coordinator.world_size
        self._group = coordinator.cpu_group

    @property
    def asks(self) -> bool:
        """Whether this is the rank that asks the service for all."""
        return self._rank == 0

    def all_have_it(self) -> bool:
        """Whether every rank of the group has the plug-in; the same answer on every rank that asks.

        A rank without it would meet the others' collective with another one of its own. So they agree by way of the
        group's store first, which no rank has to take part in: who sees all ranks there proposes "all", who has
        waited in vain proposes "some", and the first proposal holds for everybody.
        """
        if self._size == 1:
            return True
        store = self._group.get_group_store()
        store.set(f"{_KEY}/{self._rank}", "here")
        try:
            store.wait([f"{_KEY}/{rank}" for rank in range(self._size)], timedelta(seconds=JOIN_SECONDS))
            proposed = _ALL
        except RuntimeError:  # torch's DistStoreError is one, in all its versions
            proposed = _SOME
        return bool(store.compare_set(f"{_KEY}/agreed", "", proposed) == _ALL.encode())

    def tell(self, placement: npt.NDArray[np.int64] | None, shape: tuple[int, int]) -> npt.NDArray[np.int64] | None:
        """What the asking rank hands over, on every rank: a placement of this shape, or None.

        The group's own methods, as an engine's groups need not belong to torch's world. A broadcast may be over on
        some ranks before it fails on others; a barrier after it ends only when all have come so far, and both take
        few steps where there are many ranks.

        Raises:
            RuntimeError: the ranks could not be reached.
        """
        if self._size == 1:
            return placement
        import torch  # noqa: PLC0415  # the engine's own, where it calls

        told = torch.zeros(1 + shape[0] * shape[1], dtype=torch.int32)
        if placement is not None:
            told[0] = 1
            told[1:] = torch.from_numpy(placement).ravel()
        self._group.broadcast(told, 0).wait()
        self._group.barrier().wait()
        if not told[0]:
            return None
        found: npt.NDArray[np.int64] = told[1:].numpy().reshape(shape).astype(np.int64)
        return found
