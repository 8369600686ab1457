"""How a solve's time grows with rows, restarts and items: exponents of a fit, against those of what is allowed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.measuring import Spread, print_table, side_by_side, verdict
from benchmarks.solver_cases import Bench, Shape, make_task, progress
from trimtab_server.solvers.problem import PackOptions, PackTask

_NOISE = 0.05
"""What a fitted exponent may be above the allowed one: two runs differ by so much."""


class _Point(NamedTuple):
    shape: Shape
    restarts: int = 1


class _Series(NamedTuple):
    what: str
    points: list[_Point]
    size: Callable[[_Point], int]
    allowed: Callable[[_Point], float]


def _items_bound(point: _Point) -> float:
    """The most that items may cost: n log n times the square root of m."""
    _, items, packs = point.shape
    return items * math.log2(items) * math.sqrt(packs)


_SERIES = (
    _Series(
        "layers (288 items, 32 packs, 1 restart)",
        [_Point(Shape(32 << i, 288, 32)) for i in range(6)],
        lambda point: point.shape.layers,
        lambda point: point.shape.layers,
    ),
    _Series(
        "restarts (58 layers, 288 items, 32 packs)",
        [_Point(Shape(58, 288, 32), 1 << i) for i in range(7)],
        lambda point: point.restarts,
        lambda point: point.restarts,
    ),
    _Series(
        "items, 9 a pack (58 layers, 1 restart)",
        [_Point(Shape(58, 9 * packs, packs)) for packs in (8, 16, 32, 64, 128, 256, 512)],
        lambda point: point.shape.items,
        _items_bound,
    ),
    _Series(
        "items, 32 packs (58 layers, 1 restart)",
        [_Point(Shape(58, 64 << i, 32)) for i in range(8)],
        lambda point: point.shape.items,
        _items_bound,
    ),
)


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The slope of a line through the logarithms."""
    slope, _ = np.polyfit(np.log(sizes), np.log(values), 1)
    return float(slope)


def _row(bench: Bench, series: _Series) -> tuple[str, ...]:
    """Every restart is run to its end: a target gap of 0, so that what grows is the work and not the luck."""
    progress(f"growth with {series.what}")
    points = series.points[:: 2 if bench.quick else 1]
    tasks = [make_task(point.shape, PackOptions(point.restarts, target_gap=0)) for point in points]

    def call(task: PackTask) -> Callable[[], object]:
        return lambda: bench.fastest.pack(task)

    samples = side_by_side([call(task) for task in tasks], 3 if bench.quick else 9)
    seconds = [Spread.of(taken).median for taken in samples]
    sizes = [series.size(point) for point in points]
    most = exponent(sizes, [series.allowed(point) for point in points])
    _, reached, wanted, met = verdict("", exponent(sizes, seconds), round(most + _NOISE, 2), at_most=True)
    times = ", ".join(f"{size}: {taken * 1e3:.3g}" for size, taken in zip(sizes, seconds, strict=True))
    return series.what, times, reached, wanted, met


def print_growth(bench: Bench) -> None:
    """Measure and print the table."""
    rows = [_row(bench, series) for series in _SERIES]
    header = ("grows with", "ms at each size", "exponent", "wanted", "met")
    print_table(f"Growth, {bench.fastest.name}, target_gap 0", header, rows)
    print(f"\nAllowed: linear in layers and restarts, n log n sqrt(m) in items; {_NOISE:g} for noise.")
