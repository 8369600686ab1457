"""Signals that end the command between two steps, rather than in one."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """Waits, until the time is over or a signal came; a second signal ends the process as it would without this."""

    def __init__(self) -> None:
        self.signal: int | None = None
        """The one that came."""
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Take SIGTERM and SIGINT meanwhile."""
        before = {number: signal.signal(number, self._stop) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, _frame: Any) -> None:
        self.signal = number
        os.write(self._write, b".")
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def wait(self, seconds: float) -> bool:
        """Whether a signal came, before now or meanwhile."""
        return bool(select.select([self._read], [], [], seconds)[0])

    def close(self) -> None:
        """Give the pipe back."""
        os.close(self._read)
        os.close(self._write)
