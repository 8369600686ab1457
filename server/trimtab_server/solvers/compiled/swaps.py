"""Swaps of a slot of the GPU with the largest burden: the best of all, found without looking at most."""

from __future__ import annotations

from trimtab_server.solvers.compiled.jit import without_memory
from trimtab_server.solvers.compiled.powers import add_pair, raised
from trimtab_server.solvers.compiled.steps import SWAP, may_swap, note_step
from trimtab_server.solvers.compiled.tables import (
    AWAY,
    BACK,
    BASE,
    BEFORE,
    BOUND,
    BURDEN,
    CANDIDATE,
    EXPERT,
    GIVEN,
    GPU,
    HEFT,
    LEVEL,
    MOVED,
    NODE,
    PARTNER,
    SHARE,
    SLOWNESS,
    SPEED,
    SQUARINGS,
    START,
    STATE,
    STEP_RATE,
    THEIR_SLOWNESS,
    WEIGHT,
    Row,
)

FIRST_PARTNERS = 4
"""Partners that are looked at before all others: what they offer leaves few of those to look at."""
CLEARLY = 1.05
"""By how much more any other has to promise: with high exponents nearly all promise nearly the same."""


@without_memory
def bound_partners(row: Row, top: int) -> None:
    """Into BOUND: no swap with a GPU has a higher rate; -1 for those that are no partners.

    At best a swap levels both GPUs in every window, by convexity. It costs two moves where both have only what they had
    before.
    """
    for gpu in range(row.gpus):
        if gpu == top or row.ids[NODE, gpu] != row.ids[NODE, top] or row.figures[SPEED, gpu] == 0:
            row.figures[BOUND, gpu] = -1.0
            continue
        here, there = row.figures[SPEED, top], row.figures[SPEED, gpu]
        gain = row.figures[BURDEN, top] + row.figures[BURDEN, gpu]
        for t in range(row.windows):
            level = (here * row.loads[t, LEVEL, top] + there * row.loads[t, LEVEL, gpu]) / (here + there)
            gain -= row.spans[WEIGHT, t] * (here + there) * raised(level, row.ids[STATE, SQUARINGS])
        cheap = row.ids[MOVED, top] > 0 or row.ids[MOVED, gpu] > 0
        row.figures[BOUND, gpu] = gain if cheap else gain / 2


@without_memory
def first_partners(row: Row) -> int:
    """Those with the highest bounds into PARTNER, taken out of BOUND; how many."""
    number = 0
    while number < FIRST_PARTNERS:
        best = 0
        for gpu in range(row.gpus):
            if row.figures[BOUND, gpu] > row.figures[BOUND, best]:
                best = gpu
        if row.figures[BOUND, best] <= 0:
            break
        row.ids[PARTNER, number] = best
        row.figures[BOUND, best] = -1.0
        number += 1
    return number


@without_memory
def other_partners(row: Row) -> int:
    """All others that promise clearly more than the best step so far, likewise."""
    number = 0
    for gpu in range(row.gpus):
        if row.figures[BOUND, gpu] > row.figures[STEP_RATE, 0] * CLEARLY:
            row.ids[PARTNER, number] = gpu
            number += 1
    return number


@without_memory
def gather_slots(row: Row, top: int, partners: int) -> int:
    """The slots of the first `partners` in PARTNER side by side, for `add_pair`; how many."""
    number = 0
    for k in range(partners):
        gpu = row.ids[PARTNER, k]
        for slot in range(gpu * row.size, (gpu + 1) * row.size):
            if row.ids[EXPERT, slot] >= 0:
                row.ids[CANDIDATE, number] = slot
                row.figures[THEIR_SLOWNESS, number] = row.figures[SLOWNESS, gpu]
                row.figures[BEFORE, number] = row.figures[BURDEN, top] + row.figures[BURDEN, gpu]
                number += 1
    slowness = row.figures[SLOWNESS, top]
    for t in range(row.windows):  # window by window, so that what is read and written lies side by side
        weight = row.spans[WEIGHT, t]
        for k in range(number):
            slot = row.ids[CANDIDATE, k]
            gpu, share = row.ids[GPU, slot], row.loads[t, SHARE, slot]
            row.loads[t, BACK, k] = share * slowness
            row.loads[t, BASE, k] = row.loads[t, LEVEL, gpu] - share * row.figures[THEIR_SLOWNESS, k]
            row.loads[t, HEFT, k] = weight * row.figures[SPEED, gpu]
    return number


@without_memory
def note_best_swap(row: Row, top: int, partners: int) -> None:
    """Note the best swap of a slot of `top` with one of the first `partners` in PARTNER, if none noted is better."""
    number = gather_slots(row, top, partners)
    if number == 0:
        return
    row.after[: row.size, :number] = 0.0
    for t in range(row.windows):
        for i in range(row.size):
            given = row.loads[t, SHARE, top * row.size + i]
            row.loads[t, GIVEN, i] = given
            row.figures[START, i] = row.loads[t, LEVEL, top] - given * row.figures[SLOWNESS, top]
        add_pair(
            row.ids[STATE, SQUARINGS],
            row.after,
            row.size,
            number,
            row.loads[t, GIVEN],
            row.figures[START],
            row.loads[t, BACK],
            row.loads[t, BASE],
            row.figures[THEIR_SLOWNESS],
            row.loads[t, HEFT],
            row.spans[WEIGHT, t] * row.figures[SPEED, top],
        )
    best = row.figures[STEP_RATE, 0]
    for i in range(row.size):
        slot = top * row.size + i
        if row.ids[EXPERT, slot] >= 0:
            for k in range(number):
                gain = row.figures[BEFORE, k] - row.after[i, k]
                if gain > best:
                    other = row.ids[CANDIDATE, k]
                    cost = max(2 - row.ids[AWAY, slot] - row.ids[AWAY, other], 1)
                    if gain > best * cost and may_swap(row, slot, other):
                        best = gain / cost
                        note_step(row, best, SWAP, slot, other)
