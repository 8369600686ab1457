"""What has to be right before, or besides, the search: lost experts, empty slots, experts twice on a GPU."""

from __future__ import annotations

from trimtab_server.solvers.compiled.jit import without_memory
from trimtab_server.solvers.compiled.levels import weigh
from trimtab_server.solvers.compiled.steps import (
    REPLICA,
    may_hold,
    may_swap,
    note_step,
    replace,
    replacing_gain,
    swap,
    swapping_gain,
)
from trimtab_server.solvers.compiled.tables import (
    BURDEN,
    COUNT,
    EXPERT,
    FIRST,
    GPU,
    LOAD,
    NODE,
    NONE,
    ORIGIN,
    SPEED,
    STATE,
    STEP_RATE,
    STEP_SLOT,
    WEIGHT,
    Row,
)


@without_memory
def most_loaded_lost(row: Row) -> int:
    """The expert with the most load of those that have no replica; NONE where all have one."""
    lost, most = NONE, -1.0
    for expert in range(row.experts):
        if row.ids[COUNT, expert] == 0:
            load = 0.0
            for t in range(row.windows):
                load += row.spans[WEIGHT, t] * row.loads[t, LOAD, expert]
            if load > most:
                lost, most = expert, load
    return lost


@without_memory
def revive(row: Row) -> None:
    """Give every lost expert a replica on its node, the most loaded first, each where it weighs least."""
    lost = most_loaded_lost(row)
    while lost != NONE:
        node = row.ids[NODE, row.ids[GPU, row.ids[ORIGIN, lost]]]
        best, place = 0.0, NONE
        for slot in range(row.slots):
            gpu, old = row.ids[GPU, slot], row.ids[EXPERT, slot]
            spare = old < 0 or row.ids[COUNT, old] > 1
            if spare and row.figures[SPEED, gpu] > 0 and row.ids[NODE, gpu] == node:
                gain = replacing_gain(row, slot, lost)
                if place == NONE or gain > best:
                    best, place = gain, slot
        replace(row, place, lost)
        weigh(row)
        lost = most_loaded_lost(row)


@without_memory
def emptiest(row: Row) -> int:
    """The first empty slot of the live GPU with the smallest burden that has one; NONE where all are full."""
    found = NONE
    for slot in range(row.slots):
        gpu = row.ids[GPU, slot]
        if row.ids[EXPERT, slot] >= 0 or row.figures[SPEED, gpu] == 0:
            continue
        if found == NONE or row.figures[BURDEN, gpu] < row.figures[BURDEN, row.ids[GPU, found]]:
            found = slot
    return found


@without_memory
def note_replica_for(row: Row, slot: int) -> None:
    """Note the best replica for a slot, of the experts of its node, if none noted is better."""
    gpu = row.ids[GPU, slot]
    for expert in range(row.experts):
        if expert == row.ids[EXPERT, slot]:  # in place of itself: no change at all
            continue
        if row.ids[NODE, row.ids[GPU, row.ids[FIRST, expert]]] == row.ids[NODE, gpu] and may_hold(row, gpu, expert):
            gain = replacing_gain(row, slot, expert)
            if row.ids[STATE, STEP_SLOT] == NONE or gain > row.figures[STEP_RATE, 0]:
                note_step(row, gain, REPLICA, slot, expert)


@without_memory
def note_other_replica(row: Row, gpu: int) -> None:
    """Note the best replica of any expert for a slot of a GPU that can be given up, if none noted is better."""
    for slot in range(gpu * row.size, (gpu + 1) * row.size):
        if row.ids[EXPERT, slot] >= 0 and row.ids[COUNT, row.ids[EXPERT, slot]] > 1:
            note_replica_for(row, slot)


@without_memory
def second_copy(row: Row, start: int) -> int:
    """The next slot, from `start` on, that holds what an earlier slot of its GPU holds too; NONE at the end."""
    for slot in range(start, row.slots):
        for other in range(row.ids[GPU, slot] * row.size, slot):
            if row.ids[EXPERT, slot] >= 0 and row.ids[EXPERT, other] == row.ids[EXPERT, slot]:
                return slot
    return NONE


@without_memory
def separate_by_swaps(row: Row) -> None:
    """Swap second copies away to where they weigh least, until there are none; for placements from nothing.

    It ends: let a GPU hold an expert twice. No expert has more replicas than its node has GPUs, so some other lacks it.
    Where no swap with that one is allowed, it holds nothing but what the first holds, and lacks one of these, so it has
    a second copy itself, of fewer experts. So among all second copies there is one that can be swapped away.
    """
    slot = second_copy(row, 0)
    while slot != NONE:
        best, place = 0.0, NONE
        for other in range(row.slots):
            same_node = row.ids[NODE, row.ids[GPU, other]] == row.ids[NODE, row.ids[GPU, slot]]
            if same_node and row.ids[EXPERT, other] >= 0 and may_swap(row, slot, other):
                gain = swapping_gain(row, slot, other)
                if place == NONE or gain > best:
                    best, place = gain, other
        if place != NONE:
            swap(row, slot, place)
            weigh(row)
        slot = second_copy(row, slot + 1)
        if slot == NONE:
            slot = second_copy(row, 0)
