"""Who is told what the batcher does; metrics, or nobody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from trimtab_server.jobs import Job


class Observer(Protocol):
    """Is told what happens, as it happens."""

    def rejected(self, reason: str) -> None:
        """A job ended without being solved, or broke the solver."""

    def waited(self, seconds: float) -> None:
        """A job went from the queue into a batch."""

    def solved(self, jobs: Sequence[Job[Any, Any]], answers: Sequence[Any], started: float, seconds: float) -> None:
        """A batch was solved, from `started` on the batcher's clock on."""
