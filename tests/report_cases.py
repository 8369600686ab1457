"""Placements to report on, with figures found here by the plainest means."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trimtab import Execution, Placement
from trimtab.cli.report.gpu_loads import Gpus
from trimtab.cli.report.rebalance_report import write_rebalance_report

NAN = float("nan")
EXECUTION = Execution("cpu", "cpu", "1.2.3", 0.0, 0.0, 1, 1)


@dataclass(frozen=True)
class Case:
    """What is asked and answered; the first `inactive` GPUs are dead."""

    windows: npt.NDArray[Any]
    before: npt.NDArray[np.int64] | None
    after: npt.NDArray[np.int64]
    num_gpus: int
    inactive: tuple[int, ...] = ()
    speed: tuple[float, ...] | None = None
    layers: tuple[int, ...] | None = None
    curve: list[tuple[float, float]] = field(default_factory=list)

    @property
    def placement(self) -> Placement:
        """The answer, with the figures that a server would give."""
        none = np.full(len(self.after), NAN)
        before = none if self.before is None else self.balancedness(self.before)
        after = self.balancedness(self.after)
        bound = np.where(np.isnan(after), NAN, 1.0)
        return Placement(
            physical_to_logical=self.after,
            num_experts=self.windows.shape[2],
            balancedness_before=before,
            balancedness_after=after,
            bound=bound,
            latest_balancedness_before=before,
            latest_balancedness_after=after,
            latest_bound=bound,
            moves=np.array([len(self.moves_of(layer)) for layer in range(len(self.after))], np.int64),
            layer_order=np.arange(len(self.after)),
            curve=np.array(self.curve, np.float64).reshape(-1, 2),
            hierarchy="global",
            algorithm="plain/1",
            execution=EXECUTION,
        )

    def held(self, slots: npt.NDArray[np.int64] | None, layer: int, gpu: int) -> list[int]:
        """The experts in the slots of a GPU."""
        if slots is None:
            return []
        size = slots.shape[1] // self.num_gpus
        return [expert for expert in slots[layer, gpu * size : (gpu + 1) * size].tolist() if expert >= 0]

    def moves_of(self, layer: int) -> list[tuple[int, int]]:
        """The (GPU, expert) of each copy that is there after and not before, ascending."""
        moves = []
        for gpu in range(self.num_gpus):
            left = self.held(self.before, layer, gpu)
            for expert in sorted(self.held(self.after, layer, gpu)):
                if expert in left:
                    left.remove(expert)
                else:
                    moves.append((gpu, expert))
        return moves

    def levels(self, slots: npt.NDArray[np.int64], layer: int) -> list[list[float]]:
        """Load over speed over that of a balanced cluster, by window with load, by live GPU."""
        live = [gpu for gpu in range(self.num_gpus) if gpu not in self.inactive]
        speed = [1.0 if self.speed is None else self.speed[gpu] for gpu in range(self.num_gpus)]
        copies = [expert for gpu in live for expert in self.held(slots, layer, gpu)]
        found = []
        for window in self.windows[:, layer].tolist():
            carried = [
                sum(window[expert] / copies.count(expert) for expert in self.held(slots, layer, gpu)) for gpu in live
            ]
            balanced = sum(carried) / sum(speed[gpu] for gpu in live)
            if balanced > 0:
                found.append([load / (balanced * speed[gpu]) for gpu, load in zip(live, carried, strict=True)])
        return found

    def balancedness(self, slots: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """[num_layers]: the mean over windows with load."""
        by_layer = [[1 / max(window) for window in self.levels(slots, layer)] for layer in range(len(slots))]
        return np.array([sum(each) / len(each) if each else NAN for each in by_layer])

    def write(self, path: Path, name: str = "loads.npz") -> str:
        """The report's page."""
        write_rebalance_report(
            path,
            name,
            self.windows,
            self.placement,
            num_gpus=self.num_gpus,
            layers=self.layers,
            previous=self.before,
            inactive_gpus=self.inactive,
            gpu_speed=self.speed,
        )
        return path.read_text("utf-8")


def random_slots(rng: np.random.Generator, layers: int, experts: int, slots: int, empty: int = 0) -> Any:
    """[layers, slots]: every expert in one at least, some slots empty."""
    rows = []
    for _ in range(layers):
        row = np.concatenate([np.arange(experts), rng.integers(experts, size=slots - experts - empty), [-1] * empty])
        rows.append(rng.permutation(row))
    return np.array(rows, np.int64)


def random_case(seed: int, *, layers: int = 4, experts: int = 10, gpus: int = 4, slots: int = 16, **more: Any) -> Case:
    """Loads in three windows, the second layer without any and one more only in the last; two unlike placements."""
    rng = np.random.default_rng(seed)
    windows = rng.integers(1, 100, (3, layers, experts))
    windows[:, 1 % layers] = 0
    windows[:2, 2 % layers] = 0
    windows[0, 0, 0] = 2000
    before, after = (random_slots(rng, layers, experts, slots, empty=2) for _ in range(2))
    curve = [(0.0, 0.5), (4.0, 0.7), (10.0, 0.9)]
    return Case(windows, before, after, gpus, curve=curve, **more)


def gpus_of(case: Case) -> Gpus:
    """The GPUs of a case."""
    return Gpus(case.num_gpus, case.inactive, case.speed)


def plain_sources(case: Case) -> tuple[dict[tuple[int, int], int], list[int], list[int]]:
    """By the rule as it is told: copies by (from, to), loaded and local by GPU."""
    sent: dict[tuple[int, int], int] = {}
    loaded, local, total = ([0] * case.num_gpus for _ in range(3))
    for layer in range(len(case.after)):
        for gpu, expert in case.moves_of(layer):
            holders = [
                other
                for other in range(case.num_gpus)
                if other not in case.inactive and expert in case.held(case.before, layer, other)
            ]
            if gpu in holders:
                local[gpu] += 1
            elif not holders:
                loaded[gpu] += 1
            else:
                source = min(holders, key=lambda other: (total[other], other))
                total[source] += 1
                sent[source, gpu] = sent.get((source, gpu), 0) + 1
    return sent, loaded, local
