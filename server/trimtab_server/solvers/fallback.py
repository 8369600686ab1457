"""A GPU's packer with a CPU's behind it: no error of the device loses a request."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from trimtab_server.solvers.problem import Packer, PackResult, PackTask, tiny_task

OUT_OF_MEMORY = "out_of_memory"
DEVICE_ERROR = "device_error"
REASONS = (OUT_OF_MEMORY, DEVICE_ERROR)


class FallbackPacker:
    """Packs on the first packer; what fails there is split and tried again, then packed on the second.

    A task that is too large for the device's memory is halved until its parts fit; where not even a row does, the
    rest goes to the second packer. After any other failure a tiny
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
        import torch  # noqa: PLC0415  # heavy: a server on the CPU does without

        self._no_memory = torch.OutOfMemoryError
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
        parts: list[PackResult] = []
        start, size = 0, len(task.whole)
        while start < len(task.whole):
            part = task.part(slice(start, start + size))
            result = self._try_first(part)
            if result is None and len(part.whole) > 1:
                size = (len(part.whole) + 1) // 2  # and it stays so: what is left is no smaller
                continue
            if result is None:  # not even one row fits: neither will the others
                part = task.part(slice(start, None))
                result = self._fall_back(part, OUT_OF_MEMORY)
            parts.append(result)
            start += len(part.whole)
        return _joined(parts)

    def _try_first(self, task: PackTask) -> PackResult | None:
        """The first packer's answer, the second's where the device fails, None where memory does."""
        if self._lost:
            return self._fall_back(task, DEVICE_ERROR)
        try:
            return self._first.pack(task)
        except self._no_memory:
            return None
        except Exception:  # noqa: BLE001  # a device fails in many ways; a task that breaks both packers raises below
            result = self._fall_back(task, DEVICE_ERROR)
            self._look_for_device()
            return result

    def _fall_back(self, task: PackTask, reason: str) -> PackResult:
        self._on_fallback(reason)
        return self._second.pack(task)

    def _look_for_device(self) -> None:
        try:
            self._first.pack(tiny_task())
        except Exception:  # noqa: BLE001  # as above
            self._lost = True
            self._on_lost()


def _joined(parts: list[PackResult]) -> PackResult:
    if len(parts) == 1:
        return parts[0]
    pack_index, rank_in_pack, winner = (np.concatenate(arrays) for arrays in zip(*(p[:3] for p in parts), strict=True))
    solved_by = next((part for part in parts if part.device == "cpu"), parts[0])  # where the CPU had to help, say so
    return PackResult(pack_index, rank_in_pack, winner, solved_by.solver, solved_by.device)
