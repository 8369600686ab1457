"""The last solves, for the status page: what they were, and what they made of each layer."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from trimtab_server.jobs import Job
from trimtab_server.observer import Observer
from trimtab_server.solvers.placement import Figures, PlacementAnswer, mean_of_known
from trimtab_server.solvers.problem import PackAnswer

KEPT = 20


class Balancedness(NamedTuple):
    """Of the layers of a solve, worked out when somebody looks: the event loop has better things to do."""

    figures: Figures  # [num_layers]
    over: Figures | None = None  # [num_layers]: what they are to be divided by

    @property
    def by_layer(self) -> Figures:
        """[num_layers], nan where there is no load, or was no placement."""
        if self.over is None:
            return self.figures
        ratio = np.full(len(self.figures), np.nan)
        np.divide(self.figures, self.over, out=ratio, where=self.over > 0)
        return ratio

    @property
    def mean(self) -> float:
        """Over the layers with load, nan where none has any."""
        return mean_of_known(self.by_layer)


class Solve(NamedTuple):
    """A request that was solved. It holds figures by layer, never the placement."""

    at: float
    """When, on the batcher's clock."""
    operation: str
    solver: str
    before: Balancedness
    after: Balancedness
    moves: npt.NDArray[np.int32] | None  # [num_layers]; None where there was no placement to move from
    seconds: float
    """In the solver, of the whole batch."""
    requests: int
    """In the batch."""

    @property
    def layers(self) -> int:
        """How many it has."""
        return len(self.after.figures)


class RecentSolves(Observer):
    """An observer of the batcher that keeps a little of the last solves."""

    def __init__(self) -> None:
        self._solves: deque[Solve] = deque(maxlen=KEPT)
        self._lock = threading.Lock()

    def solved(self, jobs: Sequence[Job[Any, Any]], answers: Sequence[Any], started: float, seconds: float) -> None:  # noqa: ARG002
        """A batch was solved; it is looked at once its answers are on their way."""
        asyncio.get_running_loop().call_soon(self._keep, answers, started + seconds, seconds)

    def _keep(self, answers: Sequence[PackAnswer | PlacementAnswer], at: float, seconds: float) -> None:
        solves = [_solve_of(answer, at, seconds, len(answers)) for answer in answers[-KEPT:]]
        with self._lock:
            self._solves.extend(solves)

    @property
    def latest(self) -> list[Solve]:
        """Those that are kept, latest first; may be asked on any thread."""
        with self._lock:
            return list(reversed(self._solves))


def _solve_of(answer: PackAnswer | PlacementAnswer, at: float, seconds: float, requests: int) -> Solve:
    if isinstance(answer, PackAnswer):
        before = Balancedness(answer.mean_load, answer.initial_max_load)
        after = Balancedness(answer.mean_load, answer.max_load)
        return Solve(at, "pack", answer.solver, before, after, None, seconds, requests)
    moves = answer.moves if answer.has_previous else None
    before, after = Balancedness(answer.before), Balancedness(answer.after)
    return Solve(at, "rebalance", answer.solver, before, after, moves, seconds, requests)
