"""What a rebalance comes to beside its loads: the hottest experts, where to stop on its curve, and what it is worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trimtab.cli.cost_model import CostModel
from trimtab.cli.figures import Figures
from trimtab.cli.judging import Slots
from trimtab.cli.report.gpu_loads import Gpus, layer_load_shares
from trimtab.cli.simulation import Series, Windows

_ROUNDING = 1e-9
"""A gain of balancedness that is none."""


@dataclass(frozen=True)
class HotExpert:
    """An expert with much of its layer's load."""

    layer: int
    """Its row."""
    expert: int
    share: float
    """Its load over the mean of the layer's experts."""
    gpus_before: tuple[int, ...]
    """The live GPU of each of its replicas, ascending."""
    gpus_after: tuple[int, ...]


def hottest_experts(windows: Windows, before: Slots | None, after: Slots, gpus: Gpus, most: int) -> list[HotExpert]:
    """Those with the largest shares of all layers, largest first, ties by layer and expert; none without load."""
    shares = layer_load_shares(windows)
    num_experts = shares.shape[1]
    order = np.argsort(-shares, axis=None, kind="stable")[:most].tolist()
    return [
        HotExpert(
            layer, expert, float(shares[layer, expert]), *(_holders(s, layer, expert, gpus) for s in (before, after))
        )
        for layer, expert in (divmod(place, num_experts) for place in order)
        if shares[layer, expert] > 0
    ]


def _holders(slots: Slots | None, layer: int, expert: int, gpus: Gpus) -> tuple[int, ...]:
    if slots is None:
        return ()
    holders = np.flatnonzero(slots[layer] == expert) // (slots.shape[1] // gpus.num_gpus)
    return tuple(holders[gpus.live[holders]].tolist())


@dataclass(frozen=True)
class GainPoint:
    """Where on its curve a part of the gain is had."""

    share: float
    moves: int
    balancedness: float


def gain_points(curve: Figures, shares: Sequence[float]) -> list[GainPoint]:
    """The least moves for each share of what the whole curve gains, on straight lines between its points.

    Args:
        curve: [points, 2], moves and balancedness, ascending; one that gains nothing has no such points.
        shares: in (0, 1].
    """
    if not len(curve):
        return []
    moves, balancedness = curve[:, 0], np.maximum.accumulate(curve[:, 1])
    gain = balancedness[-1] - balancedness[0]
    if not gain > _ROUNDING:
        return []
    points = []
    for share in shares:
        goal = balancedness[0] + share * gain
        after = int(np.searchsorted(balancedness, goal - _ROUNDING))
        step = balancedness[after] - balancedness[after - 1]
        part = (goal - balancedness[after - 1]) / step
        least = math.ceil(moves[after - 1] + part * (moves[after] - moves[after - 1]) - _ROUNDING)
        points.append(GainPoint(share, least, float(np.interp(least, moves, balancedness))))
    return points


@dataclass(frozen=True)
class Worth:
    """What a rebalance gains and costs, by the cost model."""

    lost_before: float | None
    """Share of the time that is lost to imbalance; None where there was no placement before, or no load."""
    lost_after: float | None
    seconds_of_moves: float

    @property
    def won(self) -> float | None:
        """Share of the time that is won back."""
        if self.lost_before is None or self.lost_after is None:
            return None
        return self.lost_before - self.lost_after

    @property
    def seconds_to_pay_back(self) -> float | None:
        """After so long the moves have paid off; None where they do not."""
        return None if self.won is None or self.won <= _ROUNDING else self.seconds_of_moves / self.won


def find_worth(model: CostModel, before: float | None, after: float | None, most_received: int) -> Worth:
    """The worth of a rebalance from one balancedness to another, in which a GPU receives so many copies at most."""

    def lost(balancedness: float | None) -> float | None:
        if balancedness is None:
            return None
        return model.seconds_of_imbalance(one_window(balancedness)) / model.window_seconds

    return Worth(lost(before), lost(after), model.seconds_of_moves(one_window(1.0, most_received)))


def one_window(balancedness: float, most_received: int = 0) -> Series:
    """A window as the cost model takes it."""
    value = np.array([balancedness])
    received = np.array([most_received])
    return Series(np.zeros(1, np.int64), value, value, received > 0, received, received)
