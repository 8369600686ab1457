"""What imbalance and moves cost in seconds, by a model that is plain enough to be stated in a line each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trimtab.cli.figures import Figures
from trimtab.cli.simulation import Series

RULE_OF_IMBALANCE = "seconds lost to imbalance = window seconds x MoE share x (1 - balancedness), summed over windows"
RULE_OF_MOVES = (
    "seconds lost to moves = most copies that one GPU receives x expert size / bandwidth, summed over rebalances: GPUs "
    "receive in parallel, serving waits"
)


@dataclass(frozen=True)
class CostModel:
    """The constants; the defaults suit DeepSeek-V3 in FP8 on GPUs with a 400 Gbit/s network card each."""

    window_seconds: float = 60.0
    """How long a window lasts."""
    moe_share: float = 0.4
    """Of that time, the share that the MoE layers take, waiting for the heaviest GPU included."""
    expert_mib: float = 42.0
    """Size of a copy of an expert, in MiB."""
    bandwidth_gbps: float = 400.0
    """What a GPU receives, in Gbit/s."""

    def seconds_of_imbalance(self, series: Series) -> float:
        """Of all windows judged; one without load costs nothing."""
        idle: Figures = np.nan_to_num(1 - series.balancedness, nan=0.0)
        return float(self.window_seconds * self.moe_share * idle.sum())

    def seconds_of_moves(self, series: Series) -> float:
        """Of all rebalances."""
        bits = series.most_received.sum() * self.expert_mib * 2**20 * 8
        return float(bits / (self.bandwidth_gbps * 1e9))

    def seconds_served(self, series: Series) -> float:
        """How long the windows judged last."""
        return len(series.window) * self.window_seconds
