"""What a placement is worth, and what none can be worth more than; from the whole numbers, in a written order."""

from __future__ import annotations

import numpy as np

from trimtab_server.solvers.compiled.jit import without_memory
from trimtab_server.solvers.compiled.sorting import Array

_HALVINGS = 60
ROUNDING = 1e-12
"""Differences that are those of rounding, and no gain."""


@without_memory
def measure_row(whole: Array, speed: Array, expert: Array, count: Array, balancedness: Array) -> None:
    """The balancedness of a placement in every window.

    Args:
        whole: [T, E] float64. speed: [G], 0 where inactive. expert: [P] int32, -1 where empty.
        count: [E] int32, scratch.
        balancedness: [T], the answer: what is carried over all speed, over the highest level; nan without load.
    """
    size = expert.size // speed.size
    count[:] = 0
    for slot in range(expert.size):
        if expert[slot] >= 0:
            count[expert[slot]] += 1
    for t in range(whole.shape[0]):
        total = total_speed = peak = 0.0
        for gpu in range(speed.size):
            carried = 0.0
            for slot in range(gpu * size, (gpu + 1) * size):
                if expert[slot] >= 0:
                    carried += whole[t, expert[slot]] / count[expert[slot]]
            if speed[gpu] > 0:
                total += carried
                total_speed += speed[gpu]
                peak = max(peak, carried / speed[gpu])
        balancedness[t] = min(total / total_speed / peak, 1.0) if peak > 0 else np.nan


@without_memory
def bound_row(whole: Array, speed: Array, size: int, bound: Array) -> None:
    """What the balancedness of no placement exceeds.

    The highest level is at least that of a balanced cluster, and at least that of the largest share of an expert on the
    fastest GPU. Shares of at most v need the sum of ceil(load / v) replicas, so the least largest share is bracketed by
    halving, and its lower end is taken.

    Args:
        whole: [T, E] float64. speed: [G], 0 where inactive. size: slots a GPU.
        bound: [T], the answer; nan for a window without load.
    """
    live, total_speed, fastest = 0, 0.0, 0.0
    for gpu in range(speed.size):
        live += speed[gpu] > 0
        total_speed += speed[gpu]
        fastest = max(fastest, speed[gpu])
    for t in range(whole.shape[0]):
        total = 0.0
        for e in range(whole.shape[1]):
            total += whole[t, e]
        if total == 0:
            bound[t] = np.nan
            continue
        level = total / total_speed
        low, high = level * fastest, total
        bound[t] = 1.0
        if not enough_slots(whole[t], low, live * size):
            for _ in range(_HALVINGS):
                middle = (low + high) / 2
                if enough_slots(whole[t], middle, live * size):
                    high = middle
                else:
                    low = middle
            bound[t] = min(level / (low / fastest) * (1.0 + ROUNDING), 1.0)


@without_memory
def enough_slots(load: Array, share: float, slots: int) -> bool:
    """Whether so many slots hold replicas that carry at most `share` each."""
    needed = 0.0
    for e in range(load.size):
        needed += max(np.ceil(load[e] / share), 1.0)
    return needed <= slots
