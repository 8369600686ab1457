"""Who is told what the batcher does; metrics, or nobody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trimtab_server.jobs import Job


class Observer:
    """Is told what happens, as it happens; one of these does nothing about it."""

    def rejected(self, reason: str) -> None:
        """A job ended without being solved, or broke the solver."""

    def waited(self, job: Job[Any, Any], seconds: float) -> None:
        """A job went from the queue into a batch."""

    def solved(self, jobs: Sequence[Job[Any, Any]], answers: Sequence[Any], started: float, seconds: float) -> None:
        """A batch was solved, from `started` on the batcher's clock on."""


class Observers(Observer):
    """Several of them, told one after the other."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def rejected(self, reason: str) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.rejected(reason)

    def waited(self, job: Job[Any, Any], seconds: float) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.waited(job, seconds)

    def solved(self, jobs: Sequence[Job[Any, Any]], answers: Sequence[Any], started: float, seconds: float) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.solved(jobs, answers, started, seconds)
