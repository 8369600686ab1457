"""How everything here is measured: warmed up, interleaved with its baseline, medians with their spread."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Spread:
    """Samples as their median, and the middle half of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        """Quartiles of the samples."""
        low, median, high = np.percentile(samples, [25, 50, 75])
        return cls(float(median), float(low), float(high))

    def scaled(self, factor: float) -> Spread:
        """In another unit."""
        return Spread(self.median * factor, self.low * factor, self.high * factor)

    def __format__(self, spec: str) -> str:
        return f"{self.median:{spec}} ({self.low:{spec}} to {self.high:{spec}})"


def seconds(function: Callable[[], object]) -> float:
    """How long one call takes."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def side_by_side(
    functions: Sequence[Callable[[], object]], rounds: int, warm: int = 1, *, after_long: bool = False
) -> list[list[float]]:
    """Seconds of each function, `rounds` times in turn, so that noise hits all alike.

    With `after_long` the first runs so much longer that the others find cold caches after it: each of them gets an
    untimed call right before its timed one.
    """
    for _ in range(warm):
        for function in functions:
            function()
    samples = []
    for _ in range(rounds):
        row = []
        for index, function in enumerate(functions):
            if after_long and index:
                function()
            row.append(seconds(function))
        samples.append(row)
    return [list(column) for column in zip(*samples, strict=True)]


def machine() -> str:
    """What this ran on, in a line."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = f"{len(names)} x {names[0]}" if names else model
    return f"{model}, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}"


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table in Markdown, so that it can go into the documentation as it is."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    print(f"\n### {title}\n")
    for cells in [header, ["-" * width for width in widths], *rows]:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |")


def verdict(name: str, value: float, bound: float, *, at_most: bool) -> tuple[str, str, str, str]:
    """A row of a table of figures: what was reached, what was wanted."""
    met = value <= bound if at_most else value >= bound
    return name, f"{value:.3g}", f"{'at most' if at_most else 'at least'} {bound:g}", "yes" if met else "NO"
