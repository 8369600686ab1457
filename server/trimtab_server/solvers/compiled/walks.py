"""Rows, one after the other: their walks, and the placements that were chosen of them."""

from __future__ import annotations

import numpy as np

from trimtab_server.solvers.compiled.figures import bound_row, measure_row
from trimtab_server.solvers.compiled.jit import compiled
from trimtab_server.solvers.compiled.levels import count_of, rank_of, start_row
from trimtab_server.solvers.compiled.repairs import revive, separate_by_swaps
from trimtab_server.solvers.compiled.search import Trail, walk
from trimtab_server.solvers.compiled.sorting import Array
from trimtab_server.solvers.compiled.tables import EXPERT, NONE, new_row


@compiled
def walk_rows(
    whole: Array,
    speed: Array,
    node: Array,
    home: Array,
    start: Array,
    goal: Array,
    duplicates: bool,
    base: Array,
    trail: Trail,
    ends: Array,
) -> None:
    """Search every row.

    Args:
        whole: [rows, T, E] float64. speed: [rows, G], 0 where inactive. node: [G] int32: experts stay within one.
        home: [rows, P] int32, the placement before; all -1 where there was none.
        start: [rows, P] int32, where to begin: nothing on inactive GPUs.
        goal: [rows], a balancedness that is good enough: where a search ends.
        duplicates: whether a GPU may hold an expert twice.
        base: [rows, P] int32, the answer: where the walk begins, every expert with a replica.
        trail: of [rows, N], the answer. ends: [rows, 3] int32, the answer; see `search.walk`.
    """
    rows, windows, experts = whole.shape
    slots, gpus = home.shape[1], speed.shape[1]
    row = new_row(windows, experts, slots, gpus)
    for r in range(rows):
        start_row(row, whole[r], speed[r], node, home[r], start[r], duplicates)
        revive(row)
        if not duplicates and count_of(home[r], NONE) == slots:
            separate_by_swaps(row)
        for slot in range(slots):
            base[r, slot] = row.ids[EXPERT, slot]
        own = Trail(trail.slot[r], trail.expert[r], trail.moves[r], trail.balancedness[r])
        walk(row, own, goal[r], ends[r])


@compiled
def follow_rows(trail: Trail, chosen: Array, home: Array, gpus: int, placed: Array) -> None:
    """The placements that were chosen, with all that stays on a GPU in the slot that it had.

    Args:
        trail: of [rows, N]. chosen: [rows] int32, the entry of each row.
        home: [rows, P] int32, as in `walk_rows`. gpus: how many.
        placed: [rows, P] int32, where the walks begin; and the answer.
    """
    size = home.shape[1] // gpus
    rest = np.empty(size, np.int32)
    for r in range(placed.shape[0]):
        for entry in range(1, chosen[r] + 1):
            for k in range(2):
                if trail.slot[r, entry, k] >= 0:
                    placed[r, trail.slot[r, entry, k]] = trail.expert[r, entry, k]
        for gpu in range(gpus):
            changed = False
            for slot in range(gpu * size, (gpu + 1) * size):
                changed |= placed[r, slot] != home[r, slot]
            if changed:
                keep_slots(home[r, gpu * size : (gpu + 1) * size], placed[r, gpu * size : (gpu + 1) * size], rest)


@compiled
def keep_slots(home: Array, placed: Array, rest: Array) -> None:
    """Reorder the slots of one GPU in place: what was there keeps its slot, the rest follows in the order it has.

    Args:
        home, placed: [size] int32. rest: [size] int32, scratch.
    """
    size = placed.size
    number = 0
    for slot in range(size):
        if placed[slot] < 0 or rank_of(placed, slot) >= count_of(home, placed[slot]):
            rest[number] = placed[slot]
            number += 1
    stays = np.zeros(size, np.bool_)
    for slot in range(size):
        stays[slot] = home[slot] >= 0 and rank_of(home, slot) < count_of(placed, home[slot])
    taken = 0
    for slot in range(size):
        if stays[slot]:
            placed[slot] = home[slot]
        else:
            placed[slot] = rest[taken]
            taken += 1


@compiled
def measure_rows(whole: Array, speed: Array, placed: Array, balancedness: Array) -> None:
    """[rows, T]: the balancedness of [rows, P] placements; see `measure_row`."""
    count = np.empty(whole.shape[2], np.int32)
    for r in range(whole.shape[0]):
        measure_row(whole[r], speed[r], placed[r], count, balancedness[r])


@compiled
def bound_rows(whole: Array, speed: Array, size: int, bound: Array) -> None:
    """[rows, T]: the bounds; see `bound_row`."""
    for r in range(whole.shape[0]):
        bound_row(whole[r], speed[r], size, bound[r])
