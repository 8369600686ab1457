"""The one thread that works for the device."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


class DeviceThread:
    """Runs one function at a time; awaited in the event loop."""

    def __init__(self, on_worked: Callable[[float], None]) -> None:
        """`on_worked` is told, on that thread, how many seconds a function ran."""
        self._on_worked = on_worked
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="device")
        self.is_busy = False
        """Whether a function runs; one that never returns keeps Python from ending by itself."""

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the function returns or raises."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._work, function, *arguments)

    def _work(self, function: Callable[..., Any], *arguments: Any) -> Any:
        self.is_busy, begin = True, time.perf_counter()
        try:
            return function(*arguments)
        finally:
            self.is_busy = False
            self._on_worked(time.perf_counter() - begin)

    def close(self) -> None:
        """Begin nothing more, and wait for nothing."""
        self._executor.shutdown(wait=False, cancel_futures=True)
