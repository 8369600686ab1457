"""One more replica of an expert of the GPU with the largest burden, in place of one that another expert can spare.

What the expert's GPUs gain, less what giving up the other costs, is right but where both are on one GPU: so it only
finds candidates, and those are weighed exactly.
"""

from __future__ import annotations

from trimtab_server.solvers.compiled.jit import without_memory
from trimtab_server.solvers.compiled.powers import add_single, raised
from trimtab_server.solvers.compiled.steps import REPLICA, may_hold, note_step, replacing_gain
from trimtab_server.solvers.compiled.swaps import CLEARLY
from trimtab_server.solvers.compiled.tables import (
    BASE,
    BEFORE,
    BURDEN,
    CANDIDATE,
    COUNT,
    DUPLICATES,
    EXPERT,
    FIRST,
    FULLER,
    GIVEN,
    GPU,
    HEFT,
    LEVEL,
    LOAD,
    LOSS,
    MINE,
    NEXT,
    NODE,
    POWER,
    RELIEF,
    SHARE,
    SLOWNESS,
    SPEED,
    SQUARINGS,
    STATE,
    STEP_RATE,
    THEIR_SLOWNESS,
    WEIGHT,
    WIDER,
    Row,
)

MOST_EXACT = 64
"""Candidates that are weighed exactly: enough wherever experts share few GPUs, and a bound where they share all."""


@without_memory
def note_best_replica(row: Row, top: int) -> None:
    """Note the best one, if none noted is better."""
    spare = gather_spares(row, top)
    if spare == 0:
        return
    number = gather_own(row, top, weigh_losses(row, top, spare))
    row.after[:number, :spare] = 0.0
    for t in range(row.windows):
        for i in range(number):
            expert = row.ids[EXPERT, row.ids[MINE, i]]
            row.loads[t, GIVEN, i] = row.loads[t, LOAD, expert] / (row.ids[COUNT, expert] + 1)
        add_spares(row, t, number, spare, BASE)
    exact = 0
    for i in range(number):
        expert = row.ids[EXPERT, row.ids[MINE, i]]
        for k in range(spare):
            slot = row.ids[CANDIDATE, k]
            promised = row.figures[RELIEF, i] + row.figures[BEFORE, k] - row.after[i, k]
            if promised <= row.figures[STEP_RATE, 0] or row.ids[EXPERT, slot] == expert:
                continue
            if may_hold(row, row.ids[GPU, slot], expert):
                exact += 1
                if exact > MOST_EXACT:
                    return
                gain = replacing_gain(row, slot, expert)
                if gain > row.figures[STEP_RATE, 0]:
                    note_step(row, gain, REPLICA, slot, expert)


@without_memory
def add_spares(row: Row, t: int, rows: int, columns: int, base: int) -> None:
    """Add what the GPUs of spare slots would weigh in a window, with GIVEN upon `base`."""
    add_single(
        row.ids[STATE, SQUARINGS],
        row.after,
        rows,
        columns,
        row.loads[t, GIVEN],
        row.loads[t, base],
        row.figures[THEIR_SLOWNESS],
        row.loads[t, HEFT],
    )


@without_memory
def gather_spares(row: Row, top: int) -> int:
    """The slots of the node that can be given up, side by side; how many.

    BASE is the level of a GPU without the slot, FULLER with what it would take over from another that is given up.
    """
    number = 0
    for expert in range(row.experts):
        if row.ids[COUNT, expert] == 1:
            continue
        row.figures[LOSS, expert] = 0.0
        slot = row.ids[FIRST, expert]
        while slot >= 0:
            gpu = row.ids[GPU, slot]
            of_use = gpu != top or row.ids[STATE, DUPLICATES] == 1  # `top` itself has all its experts already
            if of_use and row.ids[NODE, gpu] == row.ids[NODE, top]:
                row.ids[CANDIDATE, number] = slot
                row.figures[THEIR_SLOWNESS, number] = row.figures[SLOWNESS, gpu]
                row.figures[BEFORE, number] = row.figures[BURDEN, gpu]
                row.figures[WIDER, number] = 1.0 / (row.ids[COUNT, expert] - 1)
                number += 1
            slot = row.ids[NEXT, slot]
    for t in range(row.windows):  # window by window, so that what is read and written lies side by side
        weight = row.spans[WEIGHT, t]
        for k in range(number):
            slot, slowness = row.ids[CANDIDATE, k], row.figures[THEIR_SLOWNESS, k]
            expert, gpu = row.ids[EXPERT, slot], row.ids[GPU, slot]
            share, level = row.loads[t, SHARE, slot], row.loads[t, LEVEL, gpu]
            more = row.loads[t, LOAD, expert] * row.figures[WIDER, k] - share
            row.loads[t, BASE, k] = level - share * slowness
            row.loads[t, FULLER, k] = level + more * slowness
            row.loads[t, HEFT, k] = weight * row.figures[SPEED, gpu]
    return number


@without_memory
def weigh_losses(row: Row, top: int, spare: int) -> float:
    """Into BEFORE: of each spare slot, the burden of its GPU less what the others of its expert would take over.

    Returns:
        The most that any of them gives by being given up: no replica gains more than this and its expert's relief.
    """
    row.after[:2, :spare] = 0.0
    for t in range(row.windows):
        row.loads[t, GIVEN, 0] = 0.0
        add_spares(row, t, 1, spare, FULLER)
    for k in range(spare):
        slot = row.ids[CANDIDATE, k]
        # What `top` takes over is left out: it is lightened at the same time, so the two can't be told apart
        row.after[1, k] = row.after[0, k] - row.figures[BEFORE, k] if row.ids[GPU, slot] != top else 0.0
        row.figures[LOSS, row.ids[EXPERT, slot]] += row.after[1, k]
        row.after[0, k] = 0.0
    for t in range(row.windows):
        add_spares(row, t, 1, spare, BASE)
    most = 0.0
    for k in range(spare):
        slot = row.ids[CANDIDATE, k]
        others = row.figures[LOSS, row.ids[EXPERT, slot]] - row.after[1, k]
        row.figures[BEFORE, k] -= others
        most = max(row.figures[BEFORE, k] - row.after[0, k], most)
    return most


@without_memory
def gather_own(row: Row, top: int, most: float) -> int:
    """The slots of `top` whose experts might gain clearly more than the best step, into MINE and RELIEF; how many."""
    number = 0
    for slot in range(top * row.size, (top + 1) * row.size):
        if row.ids[EXPERT, slot] >= 0:
            relief = relief_of(row, row.ids[EXPERT, slot])
            if relief + most > row.figures[STEP_RATE, 0] * CLEARLY:
                row.ids[MINE, number] = slot
                row.figures[RELIEF, number] = relief
                number += 1
    return number


@without_memory
def relief_of(row: Row, expert: int) -> float:
    """By how much the burdens of an expert's GPUs fall with one replica more."""
    relief = 0.0
    slot = row.ids[FIRST, expert]
    while slot >= 0:
        gpu = row.ids[GPU, slot]
        for t in range(row.windows):
            less = row.loads[t, SHARE, slot] - row.loads[t, LOAD, expert] / (row.ids[COUNT, expert] + 1)
            level = row.loads[t, LEVEL, gpu] - less * row.figures[SLOWNESS, gpu]
            after = row.figures[SPEED, gpu] * raised(level, row.ids[STATE, SQUARINGS])
            relief += row.spans[WEIGHT, t] * (row.loads[t, POWER, gpu] - after)
        slot = row.ids[NEXT, slot]
    return relief
