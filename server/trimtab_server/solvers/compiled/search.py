"""The search of one row: a recorded walk from a placement to better ones, step after step.

A step is the best that the GPU with the largest burden has to offer. When what it gains is too little, the exponent of
the smooth maximum is raised: it begins by levelling everything, and ends by lowering the highest GPU. The walk is
searched once; what a budget buys of it is chosen afterwards (`choice`).
"""

from __future__ import annotations

from typing import NamedTuple

from trimtab_server.solvers.compiled.jit import without_memory
from trimtab_server.solvers.compiled.levels import balancedness, count_moves, rescale, weigh
from trimtab_server.solvers.compiled.powers import HIGH, MIDDLE
from trimtab_server.solvers.compiled.repairs import emptiest, note_other_replica, note_replica_for, second_copy
from trimtab_server.solvers.compiled.sorting import Array
from trimtab_server.solvers.compiled.spares import note_best_replica
from trimtab_server.solvers.compiled.steps import SWAP, forget_step, take_step
from trimtab_server.solvers.compiled.swaps import bound_partners, first_partners, note_best_swap, other_partners
from trimtab_server.solvers.compiled.tables import (
    BURDEN,
    DUPLICATES,
    EXPERT,
    NONE,
    SQUARINGS,
    STATE,
    STEP_KIND,
    STEP_OTHER,
    STEP_RATE,
    STEP_SLOT,
    Row,
)

LOOSE = 2e-3
"""A step has to lower the sum of the burdens by so much of it, before the last exponent."""
TIGHT_ONE, TIGHT_MANY = 1e-5, 4e-4
"""The same with the last exponent: of one window, and of several, which never become level."""
FEW_SLOTS = 16
"""With so few slots a GPU, over all windows, replicas of any expert are tried at the end; with more it gains little."""

FILLED, SEARCHED, SEPARATED = 0, 1, 2
"""Places in the ends of a walk."""


class Trail(NamedTuple):
    """What a search did: N is one more than the most steps; entry 0 is where it began, and has no change."""

    slot: Array  # [N, 2] int32: slots that changed, NONE where there is but one
    expert: Array  # [N, 2] int32: what they then held
    moves: Array  # [N] int32: net moves so far
    balancedness: Array  # [N] float64: mean over the windows


@without_memory
def record(row: Row, trail: Trail, at: int) -> int:
    """Write down where the noted step led, or where it all began; the next place."""
    slot = row.ids[STATE, STEP_SLOT]
    other = row.ids[STATE, STEP_OTHER] if row.ids[STATE, STEP_KIND] == SWAP and slot >= 0 else NONE
    trail.slot[at, 0], trail.slot[at, 1] = slot, other
    trail.expert[at, 0] = row.ids[EXPERT, slot] if slot >= 0 else NONE
    trail.expert[at, 1] = row.ids[EXPERT, other] if other >= 0 else NONE
    trail.moves[at] = count_moves(row)
    trail.balancedness[at] = balancedness(row)
    return at + 1


@without_memory
def heaviest(row: Row) -> int:
    """The GPU with the largest burden, the lowest of equals."""
    top = 0
    for gpu in range(row.gpus):
        if row.figures[BURDEN, gpu] > row.figures[BURDEN, top]:
            top = gpu
    return top


@without_memory
def note_best_step(row: Row, top: int) -> None:
    """Note the best step that lightens the GPU `top`.

    After the first exponent replicas are looked at only where no swap helps: few of them are the best step by then, and
    they are half of the work.
    """
    forget_step(row)
    bound_partners(row, top)
    note_best_swap(row, top, first_partners(row))
    late = row.ids[STATE, SQUARINGS] >= MIDDLE
    if not late:
        note_best_replica(row, top)
    note_best_swap(row, top, other_partners(row))
    if late and row.ids[STATE, STEP_SLOT] == NONE:
        note_best_replica(row, top)


@without_memory
def walk(row: Row, trail: Trail, goal: float, ends: Array) -> None:
    """Improve a row until it is good enough, nothing helps, or the trail is full.

    Args:
        row: started, every expert with a replica. trail: memory.
        goal: a balancedness that is good enough.
        ends: [3] int32, the answer: how many entries the trail has when all slots are filled, when the search ends,
            and when second copies are separated.
    """
    forget_step(row)
    at = fill(row, trail, record(row, trail, 0))
    ends[FILLED] = at
    rescale(row)
    while at < trail.moves.size and trail.balancedness[at - 1] < goal:
        everything = weigh(row)
        top = heaviest(row)
        note_best_step(row, top)
        squarings = row.ids[STATE, SQUARINGS]
        least = LOOSE if squarings < HIGH else TIGHT_ONE if row.windows == 1 else TIGHT_MANY
        stuck = squarings == HIGH and row.figures[STEP_RATE, 0] <= everything * least
        if stuck and row.windows * row.size <= FEW_SLOTS:
            note_other_replica(row, top)
        if row.figures[STEP_RATE, 0] > everything * least:
            take_step(row)
            at = record(row, trail, at)
        elif squarings < HIGH:
            row.ids[STATE, SQUARINGS] = MIDDLE if squarings < MIDDLE else HIGH
            rescale(row)
        else:
            break
    ends[SEARCHED] = at
    if row.ids[STATE, DUPLICATES] == 0 and trail.balancedness[0] > 0:  # a layer without load keeps its placement
        at = separate(row, trail, at)
    ends[SEPARATED] = at


@without_memory
def fill(row: Row, trail: Trail, at: int) -> int:
    """Fill empty slots of live GPUs (one that came back has nothing else), each with the replica that helps most."""
    slot = emptiest(row)
    while slot != NONE and at < trail.moves.size:
        forget_step(row)
        note_replica_for(row, slot)
        if row.ids[STATE, STEP_SLOT] == NONE:  # its node has no experts at all
            break
        take_step(row)
        weigh(row)
        at = record(row, trail, at)
        slot = emptiest(row)
    return at


@without_memory
def separate(row: Row, trail: Trail, at: int) -> int:
    """Give second copies up for other replicas where that costs no balancedness."""
    slot = second_copy(row, 0)
    while slot != NONE and at < trail.moves.size:
        forget_step(row)
        note_replica_for(row, slot)
        if row.ids[STATE, STEP_SLOT] != NONE and row.figures[STEP_RATE, 0] >= 0:
            take_step(row)
            weigh(row)
            at = record(row, trail, at)
        slot = second_copy(row, slot + 1)
    return at
