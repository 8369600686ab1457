"""The one thread that works for the device."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


class DeviceThread:
    """Runs one function at a time; awaited in the event loop."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="device")
        self.is_busy = False
        """Whether a function runs; one that never returns keeps Python from ending by itself."""

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the function returns or raises."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._work, function, *arguments)

    def _work(self, function: Callable[..., Any], *arguments: Any) -> Any:
        self.is_busy = True
        try:
            return function(*arguments)
        finally:
            self.is_busy = False

    def close(self) -> None:
        """Begin nothing more, and wait for nothing."""
        self._executor.shutdown(wait=False, cancel_futures=True)
