"""The last solves, for the status page: what they were, and what they made of each layer."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trimtab_server.jobs import Job
from trimtab_server.observer import Observer
from trimtab_server.solvers.placement import PlacementAnswer
from trimtab_server.solvers.problem import PackAnswer

KEPT = 20
MOST_LAYERS = 512
"""Of a solve, whose figures are kept."""
_Figures = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Solve:
    """A request that was solved; what is not known, as before where there was no placement, is nan."""

    at: float
    """When, on the batcher's clock."""
    operation: str
    solver: str
    layers: int
    before: float
    """Balancedness: the mean over all layers with load."""
    after: float
    moves: int | None
    """None where there was no placement to move from."""
    seconds: float
    """In the solver, of the whole batch."""
    requests: int
    """In the batch."""
    before_by_layer: _Figures  # [at most MOST_LAYERS]
    after_by_layer: _Figures  # the same


class RecentSolves:
    """An observer that keeps a little of the last solves, and passes everything on to another."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self.rejected = observer.rejected
        self.waited: Callable[[float], None] = observer.waited
        self._solves: deque[Solve] = deque(maxlen=KEPT)
        self._lock = threading.Lock()

    def solved(self, jobs: Sequence[Job[Any, Any]], answers: Sequence[Any], started: float, seconds: float) -> None:
        """A batch was solved; it is looked at once its answers are on their way."""
        self._observer.solved(jobs, answers, started, seconds)
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
    some = slice(MOST_LAYERS)
    moves = None
    if isinstance(answer, PackAnswer):
        operation, layers = "pack", len(answer.max_load)
        before = _ratio(answer.mean_load[some], answer.initial_max_load[some])
        after = _ratio(answer.mean_load[some], answer.max_load[some])
    else:
        operation, layers = "rebalance", len(answer.after)
        before, after = answer.before[some].astype(np.float32), answer.after[some].astype(np.float32)
        if answer.has_previous:
            moves = int(answer.moves.sum())
    return Solve(
        at=at,
        operation=operation,
        solver=answer.solver,
        layers=layers,
        before=answer.balancedness_before,
        after=answer.balancedness,
        moves=moves,
        seconds=seconds,
        requests=requests,
        before_by_layer=before,
        after_by_layer=after,
    )


def _ratio(mean: npt.NDArray[np.float64], largest: npt.NDArray[np.float64]) -> _Figures:
    """Balancedness by layer, nan where there is no load."""
    ratio = np.full(len(mean), np.nan)
    np.divide(mean, largest, out=ratio, where=largest > 0)
    return ratio.astype(np.float32)
