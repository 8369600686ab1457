"""What every GPU carries of every layer: loads and slots in, figures out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trimtab.cli.figures import Figures
from trimtab.cli.judging import Slots
from trimtab.cli.simulation import Windows
from trimtab.replication import count_replicas

Live = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Gpus:
    """The GPUs that experts are placed on."""

    num_gpus: int
    inactive_gpus: Sequence[int] = ()
    gpu_speed: Sequence[float] | None = None
    """[num_gpus]; None where all are alike."""

    @property
    def speed(self) -> Figures:
        """[num_gpus]: 0 where inactive."""
        speed = np.ones(self.num_gpus) if self.gpu_speed is None else np.array(self.gpu_speed, np.float64)
        speed[list(self.inactive_gpus)] = 0.0
        return speed

    @property
    def live(self) -> Live:
        """[num_gpus]: which of them serve."""
        found: Live = self.speed > 0
        return found

    def served(self, slots: Slots) -> Slots:
        """The slots as they are served: empty, -1, on GPUs that are not live."""
        return np.where(np.repeat(self.live, slots.shape[1] // self.num_gpus), slots, -1)


@dataclass(frozen=True, eq=False)
class GpuLoads:
    """What a placement makes of the loads."""

    level: Figures
    """[num_layers, num_gpus]: load over speed, over what it would be in balance: 1 everywhere in the best of cases.

    The mean over the windows in which a layer has load; nan for a layer without any, and for GPUs that are not live.
    """
    balancedness: Figures
    """[num_layers]: 1 over the highest level of a window, its mean over the windows; nan for a layer without load."""


def measure_gpus(windows: Windows, slots: Slots, gpus: Gpus) -> GpuLoads:
    """Share every expert's load among its live replicas, and add up what comes to each GPU.

    Args:
        windows: [num_windows, num_layers, num_experts].
        slots: [num_layers, num_replicas], -1 where empty; an expert without a live replica carries nothing.
        gpus: its GPUs divide num_replicas.
    """
    _, num_layers, num_experts = windows.shape
    served = gpus.served(slots)
    count = np.maximum(count_replicas(served, num_experts), 1)
    level, balancedness = np.zeros((num_layers, gpus.num_gpus)), np.zeros(num_layers)
    judged = np.zeros(num_layers)
    for load in windows:
        found = _levels_of_window(load / count, served, gpus.speed)
        peak = found.max(axis=1)
        with_load = peak > 0
        level += found
        balancedness += np.divide(1.0, peak, out=np.zeros(num_layers), where=with_load)
        judged += with_load
    judged[judged == 0] = np.nan
    return GpuLoads(np.where(gpus.live, level / judged[:, None], np.nan), balancedness / judged)


def _levels_of_window(share: Figures, served: Slots, speed: Figures) -> Figures:
    """[num_layers, num_gpus]: as `GpuLoads.level`, but 0 without load; share [num_layers, num_experts] a replica's."""
    num_layers, live = len(served), speed > 0
    carried = np.where(served >= 0, np.take_along_axis(share, served.clip(min=0), axis=1), 0.0)
    on_gpu = carried.reshape(num_layers, len(speed), -1).sum(axis=2)
    balanced = on_gpu.sum(axis=1, keepdims=True) / speed.sum() * speed
    found: Figures = np.divide(on_gpu, balanced, out=np.zeros_like(on_gpu), where=(balanced > 0) & live)
    return found


def experts_in_order(num_layers: int, num_experts: int, num_replicas: int) -> Slots:
    """[num_layers, num_replicas]: the experts one after the other, then from the first again, in every layer.

    It is how serving engines start where they are given no placement.
    """
    return np.tile(np.arange(num_replicas) % num_experts, (num_layers, 1))


def layer_load_shares(windows: Windows) -> Figures:
    """[num_layers, num_experts]: load over the mean of the layer's experts, mean over the windows in which it has load.

    It is 0 in a layer that never has any.
    """
    shares, judged = np.zeros(windows.shape[1:]), np.zeros((windows.shape[1], 1))
    for load in windows:
        mean = load.mean(axis=1, dtype=np.float64, keepdims=True)
        shares += np.divide(load, mean, out=np.zeros(load.shape), where=mean > 0)
        judged += mean > 0
    found: Figures = shares / np.maximum(judged, 1)
    return found


def pool(values: npt.NDArray[Any], most: int, rule: np.ufunc) -> npt.NDArray[Any]:
    """A matrix with at most so many rows and columns: neighbours become one, by the rule."""
    for axis in (0, 1):
        firsts = np.arange(0, values.shape[axis], pool_size(values.shape[axis], most))
        values = rule.reduceat(values, firsts, axis=axis)
    return values


def pool_size(count: int, most: int) -> int:
    """How many neighbours become one."""
    return -(-count // most)


def told_range(what: str, numbers: Sequence[int], place: int, size: int) -> str:
    """What stands at a place of a pooled matrix, by number: `GPU 3`, or `GPUs 6 to 7`."""
    first, last = numbers[place * size], numbers[min((place + 1) * size, len(numbers)) - 1]
    return f"{what} {first}" if first == last else f"{what}s {first} to {last}"
