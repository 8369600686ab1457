"""A rebalance with all that is shown of it, each figure found once and when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from trimtab.answers import Placement
from trimtab.cli.cost_model import CostModel
from trimtab.cli.figures import Figures, mean_and_worst
from trimtab.cli.judging import Slots
from trimtab.cli.report.findings import GainPoint, HotExpert, Worth, find_worth, gain_points, hottest_experts
from trimtab.cli.report.gpu_loads import GpuLoads, Gpus, experts_in_order, measure_gpus
from trimtab.cli.report.transfers import Transfers, find_transfers
from trimtab.cli.simulation import Windows

_SHARES_OF_GAIN = (0.5, 0.9)
_MOST_HOT = 20
_MIB_PER_GIB = 1024


@dataclass(frozen=True, eq=False)
class Rebalanced:
    """What was asked, and the answer."""

    windows: Windows
    """[num_windows, num_layers, num_experts]."""
    gpus: Gpus
    previous: Slots | None
    """[num_layers, num_replicas]: the placement before, None where there was none."""
    placement: Placement
    layers: Sequence[int]
    """[num_layers]: the model's number of each."""
    model: CostModel

    @property
    def slots(self) -> Slots:
        """[num_layers, num_replicas]: the placement made."""
        return self.placement.physical_to_logical

    @cached_property
    def compared(self) -> Slots | None:
        """What it is shown beside: the placement before, else experts in order, if all GPUs are there to hold them."""
        if self.previous is not None or not self.gpus.live.all():
            return self.previous
        return experts_in_order(len(self.slots), self.placement.num_experts, self.slots.shape[1])

    @cached_property
    def gpus_before(self) -> GpuLoads | None:
        """Of what it is compared with."""
        return None if self.compared is None else measure_gpus(self.windows, self.compared, self.gpus)

    @cached_property
    def gpus_after(self) -> GpuLoads:
        """Of the placement made."""
        return measure_gpus(self.windows, self.slots, self.gpus)

    @property
    def layers_before(self) -> Figures | None:
        """[num_layers]: balancedness of what it is compared with."""
        if self.previous is not None:
            return self.placement.balancedness_before
        return None if self.gpus_before is None else self.gpus_before.balancedness

    @property
    def balancedness_before(self) -> float | None:
        """The same, of the whole; None where there is nothing to compare with, or no load."""
        return None if self.layers_before is None else mean_of(self.layers_before)

    @property
    def balancedness_after(self) -> float | None:
        """Of the whole placement made; None without load."""
        return mean_of(self.placement.balancedness_after)

    @property
    def num_moves(self) -> int:
        """Of all layers."""
        return int(self.placement.moves.sum())

    @property
    def num_filled(self) -> int:
        """Slots of all layers that hold an expert."""
        return int((self.slots >= 0).sum())

    @cached_property
    def transfers(self) -> Transfers:
        """Where the moves come from."""
        return find_transfers(self.previous, self.slots, self.gpus)

    @property
    def gib_per_copy(self) -> float:
        """Size of a copy of an expert."""
        return self.model.expert_mib / _MIB_PER_GIB

    @cached_property
    def worth(self) -> Worth:
        """What it gains and costs."""
        most = int(self.transfers.received.max())
        return find_worth(self.model, self.balancedness_before, self.balancedness_after, most)

    @cached_property
    def points(self) -> list[GainPoint]:
        """Where on the curve half and most of the gain are had."""
        return gain_points(self.placement.curve, _SHARES_OF_GAIN)

    @cached_property
    def hottest(self) -> list[HotExpert]:
        """Of all layers."""
        return hottest_experts(self.windows, self.previous, self.slots, self.gpus, _MOST_HOT)

    @property
    def without_load(self) -> int:
        """Layers that have none."""
        return int(np.isnan(self.placement.balancedness_after).sum())


def mean_of(figures: Figures) -> float | None:
    """Of those that are not nan; None where all are."""
    found = mean_and_worst(figures)
    return found and found[0]
