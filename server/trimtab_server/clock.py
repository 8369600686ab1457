"""Time as a thing that can be handed in, so that tests need not wait for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """What the batcher knows of time."""

    def now(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call back in the event loop when so much time has passed, unless the handle is cancelled."""
        ...


class SystemClock:
    """The machine's own monotonic clock: setting the wall clock does not move it."""

    def now(self) -> float:
        """Seconds since some moment."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call back in the event loop when so much time has passed, unless the handle is cancelled."""
        return asyncio.get_running_loop().call_later(seconds, callback)
