"""What `trimtab rebalance` does, and what it found, ready to be shown."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trimtab.answers import Placement
from trimtab.cli.figures import Figures, call_as_json, mean_and_worst, plain, summary, worst_layers
from trimtab.cli.files import Windows
from trimtab.cli.judging import Slots
from trimtab.client import Client
from trimtab.formats import LoadWindows, StoredPlacement
from trimtab.formats.stored import Layers

_SHARES = (0, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)
"""Of all the moves that a curve has: balancedness rises steeply, then hardly, so each point halves the moves."""


@dataclass(frozen=True, eq=False)
class RebalanceReport:
    """A placement, the loads it is for, and how long it took."""

    windows: Windows
    """[num_windows, num_layers, num_experts]."""
    layers: Layers
    """[num_layers]: the model's number of each."""
    num_gpus: int
    placement: Placement
    previous: Slots | None
    """[num_layers, num_replicas]: the placement in force; None where there was none."""
    total_seconds: float

    @property
    def has_previous(self) -> bool:
        """Whether there was a placement in force."""
        return self.previous is not None

    @property
    def stored(self) -> StoredPlacement:
        """The placement, as it is written down."""
        return StoredPlacement(self.placement.physical_to_logical, self.layers, self.num_gpus)

    @property
    def live(self) -> npt.NDArray[np.bool_]:
        """[num_layers]: which layers have load."""
        found: npt.NDArray[np.bool_] = ~np.isnan(self.placement.balancedness_after)
        return found

    @property
    def balancedness(self) -> float | None:
        """Mean over the layers with load; None where none has any."""
        found = mean_and_worst(self.placement.balancedness_after)
        return found and found[0]

    @property
    def num_moves(self) -> int:
        """Moves of all layers."""
        return int(self.placement.moves.sum())

    @property
    def num_filled(self) -> int:
        """Slots of all layers that hold an expert."""
        return int((self.placement.physical_to_logical >= 0).sum())

    @property
    def has_empty(self) -> bool:
        """Whether a slot holds no expert."""
        return self.num_filled < self.placement.physical_to_logical.size

    @property
    def hottest(self) -> Figures:
        """[num_layers]: load of the hottest expert over the mean, over all windows; nan without load."""
        load = self.windows.sum(axis=0, dtype=np.float64)
        found: Figures = np.divide(load.max(axis=1), load.mean(axis=1), out=np.full(len(load), np.nan), where=self.live)
        return found

    @property
    def curve_points(self) -> Figures:
        """[points, 2]: some moves and the balancedness that they buy, from the placement's curve; none without one."""
        curve = self.placement.curve
        if not len(curve):
            return curve
        at_most = np.searchsorted(curve[:, 0], np.array(_SHARES) * curve[-1, 0], side="right") - 1
        points: Figures = curve[np.unique(at_most.clip(min=0))]
        return points


def run_rebalance(
    client: Client, loads: LoadWindows, num_gpus: int, previous: StoredPlacement | None, **options: Any
) -> RebalanceReport:
    """Rebalance; the connection is made before the clock starts. The options are those of the client.

    Raises:
        TrimtabError: the call failed.
    """
    client.describe(timeout=options.get("timeout"))
    begin = time.perf_counter()
    slots = None if previous is None else previous.physical_to_logical
    placement = client.rebalance(loads.load, num_gpus=num_gpus, previous=slots, **options)
    seconds = time.perf_counter() - begin
    return RebalanceReport(loads.load, loads.layers, num_gpus, placement, slots, seconds)


def as_json(report: RebalanceReport) -> dict[str, Any]:
    """The report in plain types; figures that are not there (no load, no placement before) are null."""
    placement, (num_windows, num_layers, num_experts) = report.placement, report.windows.shape
    return {
        "num_windows": num_windows,
        "num_layers": num_layers,
        "layers": report.layers.tolist(),
        "num_layers_without_load": int(num_layers - report.live.sum()),
        "num_experts": num_experts,
        "num_replicas": placement.physical_to_logical.shape[1],
        "num_gpus": report.num_gpus,
        "hierarchy": placement.hierarchy,
        "balancedness_before": summary(placement.balancedness_before),
        "balancedness_after": summary(placement.balancedness_after),
        "bound": summary(placement.bound),
        "latest_balancedness_before": summary(placement.latest_balancedness_before),
        "latest_balancedness_after": summary(placement.latest_balancedness_after),
        "latest_bound": summary(placement.latest_bound),
        "moves": report.num_moves,
        "moved_share": report.num_moves / report.num_filled,
        "curve": [{"moves": int(moves), "balancedness": value} for moves, value in placement.curve.tolist()],
        "layer_order": report.layers[placement.layer_order].tolist(),
        "worst_layers": report.layers[worst_layers(placement.balancedness_after)].tolist(),
        "per_layer": {
            "balancedness_before": plain(placement.balancedness_before),
            "balancedness_after": plain(placement.balancedness_after),
            "bound": plain(placement.bound),
            "moves": placement.moves.tolist(),
        },
        **call_as_json(placement.execution, placement.algorithm, report.total_seconds),
    }
