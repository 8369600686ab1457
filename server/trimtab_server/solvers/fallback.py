"""A GPU's packer with a CPU's behind it: no error of the device loses a request."""

from __future__ import annotations

import gc
from collections.abc import Callable

import numpy as np
import torch

from trimtab_server.solvers.problem import Packer, PackResult, PackTask, tiny_task

OUT_OF_MEMORY = "out_of_memory"
DEVICE_ERROR = "device_error"
REASONS = (OUT_OF_MEMORY, DEVICE_ERROR)


class FallbackPacker:
    """Packs on the first packer; what fails there is split and tried again, then packed on the second.

    A task that is too large for the device's memory is halved, down to single rows. After any other failure a tiny
    task shows whether the device still works; when it does not, it is lost: all further tasks go to the second packer.
    """

    def __init__(
        self, first: Packer, second: Packer, on_fallback: Callable[[str], None], on_lost: Callable[[], None]
    ) -> None:
        """Put one packer behind another.

        Args:
            first: the device's. second: what answers where it fails.
            on_fallback: is told the reason, one of REASONS, each time the second packer has to answer.
            on_lost: is called once, when the device does not come back.
        """
        self._first = first
        self._second = second
        self._on_fallback = on_fallback
        self._on_lost = on_lost
        self._lost = False
        self.name = first.name
        self.device = first.device

    def memory_bytes(self) -> int:
        """Of the device; 0 when it is lost."""
        return 0 if self._lost else self._first.memory_bytes()

    def pack(self, task: PackTask) -> PackResult:
        """Pack every row, wherever it works."""
        if self._lost:
            return self._fall_back(task, DEVICE_ERROR)
        try:
            return self._first.pack(task)
        except torch.OutOfMemoryError:
            pass  # what the traceback holds of the device's memory has to go first, so not in here
        except Exception:  # noqa: BLE001  # a device fails in many ways; a task that breaks both packers raises below
            result = self._fall_back(task, DEVICE_ERROR)
            self._look_for_device()
            return result
        gc.collect()
        if len(task.whole) == 1:
            return self._fall_back(task, OUT_OF_MEMORY)
        half = len(task.whole) // 2
        return _joined(self.pack(task.part(slice(0, half))), self.pack(task.part(slice(half, None))))

    def _fall_back(self, task: PackTask, reason: str) -> PackResult:
        self._on_fallback(reason)
        return self._second.pack(task)

    def _look_for_device(self) -> None:
        try:
            self._first.pack(tiny_task())
        except Exception:  # noqa: BLE001  # as above
            self._lost = True
            self._on_lost()


def _joined(one: PackResult, other: PackResult) -> PackResult:
    pack_index, rank_in_pack, winner = (np.concatenate(pair) for pair in zip(one[:3], other[:3], strict=True))
    solved_by = one if one.device == "cpu" else other  # where a part had to go to the CPU, the answer says so
    return PackResult(pack_index, rank_in_pack, winner, solved_by.solver, solved_by.device)
