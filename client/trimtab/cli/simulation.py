"""Placing on the past, judging on what came next: load windows and a placing function in, series over time out.

Time goes window by window. Before a window is served, a policy may place anew, from windows that were served already;
then the window is served and judged, with the placement in force. So no placement is judged on what it was made from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from trimtab.cli.figures import Figures, mean_and_worst
from trimtab.cli.judging import Slots, count_received, layer_balancedness

Windows = npt.NDArray[Any]
Place = Callable[[Windows, Slots | None], Slots]
"""Windows [history, num_layers, num_experts] and the placement in force, None to place from nothing, to a placement."""

Policy = Literal["none", "fresh", "budgeted"]
"""`none` keeps the first placement, `fresh` places from nothing, `budgeted` from the placement in force."""


@dataclass(frozen=True)
class Schedule:
    """When to place, and on what; both count windows and are at least 1."""

    history: int
    """Windows that a placement is made from, the latest there are."""
    interval: int
    """Windows from one placement to the next."""

    @property
    def least_windows(self) -> int:
        """Fewest windows with a rebalance in them, and a window to judge it on."""
        return self.history + self.interval + 1

    def is_due(self, window: int) -> bool:
        """Whether to place anew before this window; the first placement is before the first window judged."""
        since_first = window - self.history
        return since_first > 0 and since_first % self.interval == 0


class _Step(NamedTuple):
    """A window that was judged; what its values mean, Series says."""

    window: int
    balancedness: float
    worst_layer: float
    rebalanced: bool
    moves: int
    most_received: int


@dataclass(frozen=True, eq=False)
class Series:
    """What a policy came to, in every window that was judged, [num_judged] each."""

    window: npt.NDArray[np.int64]
    """Which of the windows it is."""
    balancedness: Figures
    """Mean over the layers with load; nan in a window without any."""
    worst_layer: Figures
    """That of the layer that is balanced worst."""
    rebalanced: npt.NDArray[np.bool_]
    """Whether the policy placed anew before the window."""
    moves: npt.NDArray[np.int64]
    """Copies that changed GPUs for it."""
    most_received: npt.NDArray[np.int64]
    """Copies that came to the GPU that got most of them."""


@dataclass(frozen=True, eq=False)
class Simulation:
    """Windows to serve, and what all policies have in common."""

    windows: Windows
    """[num_windows, num_layers, num_experts], in the order of time; the first `history` of them are not judged."""
    num_gpus: int
    schedule: Schedule
    first: Slots
    """[num_layers, num_replicas]: the placement in force at the start, made from the first `history` windows."""
    place: Place

    def run(self, policy: Policy, on_window: Callable[[], None] = lambda: None) -> Series:
        """Serve the windows under a policy; `on_window` is called after each."""
        steps = []
        for step in self._serve(policy):
            steps.append(step)
            on_window()
        return Series(*(np.array(values) for values in zip(*steps, strict=True)))

    def _serve(self, policy: Policy) -> Iterator[_Step]:
        in_force = self.first
        for window in range(self.schedule.history, len(self.windows)):
            due = policy != "none" and self.schedule.is_due(window)
            before = in_force
            if due:
                past = self.windows[window - self.schedule.history : window]
                in_force = self.place(past, before if policy == "budgeted" else None)
            received = count_received(before, in_force, self.num_gpus)
            layers = layer_balancedness(self.windows[window], in_force, self.num_gpus)
            mean, worst = mean_and_worst(layers) or (np.nan, np.nan)
            yield _Step(window, mean, worst, due, int(received.sum()), int(received.max()))
