"""Figures of layers, nan where a layer has none, and those of a call: summed up for people, made plain for JSON."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from trimtab.answers import Execution

Figures = npt.NDArray[np.float64]
NUM_WORST = 5


def mean_and_worst(figures: Figures, *, low_is_bad: bool = True) -> tuple[float, float] | None:
    """Of those that are not nan; None where all are."""
    known = figures[~np.isnan(figures)]
    if not known.size:
        return None
    return float(known.mean()), float(known.min() if low_is_bad else known.max())


def summary(figures: Figures, *, low_is_bad: bool = True) -> dict[str, float] | None:
    """The same for JSON."""
    found = mean_and_worst(figures, low_is_bad=low_is_bad)
    return None if found is None else {"mean": found[0], "worst": found[1]}


def plain(figures: Figures) -> list[float | None]:
    """Each of them, nan as None, which JSON has a word for."""
    return [None if np.isnan(value) else float(value) for value in figures]


def worst_layers(balancedness: Figures) -> npt.NDArray[np.int64]:
    """The layers with load that are balanced worst, worst first."""
    order = np.argsort(balancedness, kind="stable")  # nan goes last
    return order[: int((~np.isnan(balancedness)).sum())][:NUM_WORST]


def seconds_of(execution: Execution, total_seconds: float) -> dict[str, float]:
    """Where the time of a call went; what is neither queue nor solve is encoding, the wire and decoding."""
    queue, solve = execution.queue_seconds, execution.solve_seconds
    rest = max(total_seconds - queue - solve, 0.0)
    return {"queue": queue, "solve": solve, "wire_and_encode": rest, "total": total_seconds}


def call_as_json(execution: Execution, algorithm: str, total_seconds: float) -> dict[str, Any]:
    """How an answer came about."""
    return {
        "seconds": seconds_of(execution, total_seconds),
        "solver": execution.solver,
        "device": execution.device,
        "server_version": execution.server_version,
        "algorithm": algorithm,
        "batch_requests": execution.batch_requests,
    }
