"""Levels, powers and burdens of a row, and what it has moved; in a written order, so that any machine agrees."""

from __future__ import annotations

from trimtab_server.solvers.compiled.jit import without_memory
from trimtab_server.solvers.compiled.powers import LOW, raised
from trimtab_server.solvers.compiled.sorting import Array
from trimtab_server.solvers.compiled.tables import (
    AWAY,
    BALANCED,
    BURDEN,
    COUNT,
    DUPLICATES,
    EXPERT,
    FIRST,
    GPU,
    HOME,
    LEVEL,
    LOAD,
    MOVED,
    NEXT,
    NODE,
    NONE,
    ORIGIN,
    POWER,
    SHARE,
    SLOWNESS,
    SPEED,
    SQUARINGS,
    STATE,
    WEIGHT,
    WHOLE,
    Row,
)


@without_memory
def start_row(row: Row, whole: Array, speed: Array, node: Array, home: Array, start: Array, duplicates: int) -> None:
    """Begin with a placement.

    Args:
        row: from `new_row`.
        whole: [T, E] float64. speed: [G], 0 where inactive. node: [G] int32, the node of each GPU.
        home: [P] int32, what was there before; all NONE where nothing is known. start: [P] int32, where to begin.
        duplicates: 1 where a GPU may hold an expert twice.
    """
    for t in range(row.windows):
        for expert in range(row.experts):
            row.loads[t, WHOLE, expert] = whole[t, expert]
    row.ids[STATE, DUPLICATES] = duplicates
    for gpu in range(row.gpus):
        row.figures[SPEED, gpu], row.ids[NODE, gpu] = speed[gpu], node[gpu]
        row.figures[SLOWNESS, gpu] = 1.0 / speed[gpu] if speed[gpu] > 0 else 0.0
    row.ids[FIRST] = NONE
    row.ids[ORIGIN] = NONE
    row.ids[COUNT] = 0
    for slot in range(row.slots - 1, -1, -1):
        expert = start[slot]
        row.ids[EXPERT, slot], row.ids[HOME, slot], row.ids[GPU, slot] = expert, home[slot], slot // row.size
        if home[slot] >= 0:
            row.ids[ORIGIN, home[slot]] = slot
        if expert >= 0:
            row.ids[COUNT, expert] += 1
            row.ids[NEXT, slot] = row.ids[FIRST, expert]
            row.ids[FIRST, expert] = slot
    for gpu in range(row.gpus):
        recount(row, gpu)
    row.ids[STATE, SQUARINGS] = LOW
    rescale(row)


@without_memory
def rescale(row: Row) -> None:
    """Scale every window so that its highest level is 1, and take new powers."""
    total_speed = 0.0
    for gpu in range(row.gpus):
        total_speed += row.figures[SPEED, gpu]
    for t in range(row.windows):
        total = 0.0
        for expert in range(row.experts):
            total += row.loads[t, WHOLE, expert]
        peak = highest(row, t)
        balanced = total / total_speed
        scale = 1.0 / max(peak, balanced) if total > 0 else 0.0
        row.spans[BALANCED, t] = balanced * scale
        for expert in range(row.experts):
            row.loads[t, LOAD, expert] = row.loads[t, WHOLE, expert] * scale
        for slot in range(row.slots):
            expert = row.ids[EXPERT, slot]
            row.loads[t, SHARE, slot] = row.loads[t, LOAD, expert] / row.ids[COUNT, expert] if expert >= 0 else 0.0
    for gpu in range(row.gpus):
        relevel(row, gpu)
    weigh(row)


@without_memory
def highest(row: Row, t: int) -> float:
    """The highest level of a window, in whole numbers."""
    peak = 0.0
    for gpu in range(row.gpus):
        carried = 0.0
        for slot in range(gpu * row.size, (gpu + 1) * row.size):
            expert = row.ids[EXPERT, slot]
            if expert >= 0:
                carried += row.loads[t, WHOLE, expert] / row.ids[COUNT, expert]
        peak = max(peak, carried * row.figures[SLOWNESS, gpu])
    return peak


@without_memory
def relevel(row: Row, gpu: int) -> None:
    """The levels of one GPU, from its slots in order: differences are never added up."""
    for t in range(row.windows):
        carried = 0.0
        for slot in range(gpu * row.size, (gpu + 1) * row.size):
            carried += row.loads[t, SHARE, slot]
        level = carried * row.figures[SLOWNESS, gpu]
        row.loads[t, LEVEL, gpu] = level
        row.loads[t, POWER, gpu] = row.figures[SPEED, gpu] * raised(level, row.ids[STATE, SQUARINGS])


@without_memory
def weigh(row: Row) -> float:
    """Weight every window and burden every GPU anew; the sum of the burdens.

    A window weighs its balancedness over its smooth maximum: how fast the balancedness, mean over the windows, falls as
    a soft maximum rises.
    """
    row.figures[BURDEN] = 0.0
    everything = 0.0
    for t in range(row.windows):
        peak = total = 0.0
        for gpu in range(row.gpus):
            peak = max(peak, row.loads[t, LEVEL, gpu])
            total += row.loads[t, POWER, gpu]
        weight = row.spans[BALANCED, t] / peak / total if peak > 0 and total > 0 else 0.0
        row.spans[WEIGHT, t] = weight
        for gpu in range(row.gpus):
            row.figures[BURDEN, gpu] += weight * row.loads[t, POWER, gpu]
        everything += weight * total
    return everything


@without_memory
def balancedness(row: Row) -> float:
    """Mean over the windows with load; 0 where there is none."""
    total, live = 0.0, 0
    for t in range(row.windows):
        if row.spans[BALANCED, t] > 0:
            peak = 0.0
            for gpu in range(row.gpus):
                peak = max(peak, row.loads[t, LEVEL, gpu])
            total += row.spans[BALANCED, t] / peak
            live += 1
    return total / live if live else 0.0


@without_memory
def recount(row: Row, gpu: int) -> None:
    """Which copies on a GPU it did not have before: of n equal ones, those beyond the number there were."""
    start, end = gpu * row.size, (gpu + 1) * row.size
    home, now = row.ids[HOME, start:end], row.ids[EXPERT, start:end]
    moved = 0
    for slot in range(row.size):
        away = now[slot] >= 0 and rank_of(now, slot) >= count_of(home, now[slot])
        row.ids[AWAY, start + slot] = away
        moved += away
    row.ids[MOVED, gpu] = moved


@without_memory
def count_of(slots: Array, expert: int) -> int:
    """How many slots hold an expert."""
    count = 0
    for other in slots:
        count += other == expert
    return count


@without_memory
def rank_of(slots: Array, slot: int) -> int:
    """How many slots before this one hold the same."""
    rank = 0
    for other in range(slot):
        rank += slots[other] == slots[slot]
    return rank


@without_memory
def count_moves(row: Row) -> int:
    """Copies that are held now and were not before."""
    moves = 0
    for gpu in range(row.gpus):
        moves += row.ids[MOVED, gpu]
    return moves


@without_memory
def holds(row: Row, expert: int, gpu: int) -> bool:
    """Whether a GPU has a replica of an expert."""
    slot = row.ids[FIRST, expert]
    while slot >= 0:
        if row.ids[GPU, slot] == gpu:
            return True
        slot = row.ids[NEXT, slot]
    return False
