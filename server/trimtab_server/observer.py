"""Who is told what the batcher does; metrics, or nobody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Observer(Protocol):
    """Is told what happens, as it happens."""

    def queue_changed(self, num_rows: int, num_bytes: int) -> None:
        """So much waits now."""

    def rejected(self, reason: str) -> None:
        """A job ended without being solved, or broke the solver."""

    def waited(self, seconds: float) -> None:
        """A job went from the queue into a batch."""

    def solved(self, problems: Sequence[Any], answers: Sequence[Any], seconds: float) -> None:
        """A batch was solved."""
