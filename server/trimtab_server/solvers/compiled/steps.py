"""Steps: what changes in one row when slots get other experts, done and foreseen, and the best one so far.

Steps compare by their rate: by how much the burdens fall for each move. A copy that its GPU did not have before has
cost its move already: taking it away again saves one, and a step counts as one move at least.
"""

from __future__ import annotations

from trimtab_server.solvers.compiled.jit import without_memory
from trimtab_server.solvers.compiled.levels import holds, recount, relevel
from trimtab_server.solvers.compiled.powers import raised
from trimtab_server.solvers.compiled.tables import (
    COUNT,
    DUPLICATES,
    EXPERT,
    FIRST,
    GPU,
    LEVEL,
    LOAD,
    NEXT,
    NONE,
    POWER,
    SHARE,
    SLOWNESS,
    SPEED,
    SQUARINGS,
    STATE,
    STEP_KIND,
    STEP_OTHER,
    STEP_RATE,
    STEP_SLOT,
    TOUCHED,
    TOUCHED_LIST,
    WEIGHT,
    Row,
)

SWAP, REPLICA = 0, 1


@without_memory
def forget_step(row: Row) -> None:
    """There is no step yet."""
    row.figures[STEP_RATE, 0] = 0.0
    row.ids[STATE, STEP_SLOT] = NONE


@without_memory
def note_step(row: Row, rate: float, kind: int, slot: int, other: int) -> None:
    """The best step so far: a SWAP of two slots, or one more REPLICA of the expert `other` in a slot."""
    row.figures[STEP_RATE, 0] = rate
    row.ids[STATE, STEP_KIND], row.ids[STATE, STEP_SLOT], row.ids[STATE, STEP_OTHER] = kind, slot, other


@without_memory
def take_step(row: Row) -> None:
    """Do the best step."""
    slot, other = row.ids[STATE, STEP_SLOT], row.ids[STATE, STEP_OTHER]
    if row.ids[STATE, STEP_KIND] == SWAP:
        swap(row, slot, other)
    else:
        replace(row, slot, other)


@without_memory
def put(row: Row, slot: int, expert: int) -> None:
    """Give a slot another expert, or none; shares and levels are the caller's."""
    old = row.ids[EXPERT, slot]
    if old >= 0:
        row.ids[COUNT, old] -= 1
        if row.ids[FIRST, old] == slot:
            row.ids[FIRST, old] = row.ids[NEXT, slot]
        else:
            before = row.ids[FIRST, old]
            while row.ids[NEXT, before] != slot:
                before = row.ids[NEXT, before]
            row.ids[NEXT, before] = row.ids[NEXT, slot]
    row.ids[EXPERT, slot] = expert
    if expert >= 0:
        row.ids[COUNT, expert] += 1
        row.ids[NEXT, slot] = row.ids[FIRST, expert]
        row.ids[FIRST, expert] = slot


@without_memory
def touch(row: Row, gpu: int, number: int) -> int:
    """Add a GPU to the list of those touched, once; how long it is now."""
    if row.ids[TOUCHED, gpu]:
        return number
    row.ids[TOUCHED, gpu] = 1
    row.ids[TOUCHED_LIST, number] = gpu
    return number + 1


@without_memory
def touch_holders(row: Row, expert: int, number: int) -> int:
    """As `touch`, all GPUs of an expert."""
    if expert >= 0:
        slot = row.ids[FIRST, expert]
        while slot >= 0:
            number = touch(row, row.ids[GPU, slot], number)
            slot = row.ids[NEXT, slot]
    return number


@without_memory
def share_out(row: Row, expert: int) -> None:
    """Share an expert's load among its replicas."""
    if expert >= 0:
        slot = row.ids[FIRST, expert]
        while slot >= 0:
            for t in range(row.windows):
                row.loads[t, SHARE, slot] = row.loads[t, LOAD, expert] / row.ids[COUNT, expert]
            slot = row.ids[NEXT, slot]


@without_memory
def replace(row: Row, slot: int, expert: int) -> None:
    """One more replica of `expert` in place of what the slot holds, with all that follows from it."""
    old = row.ids[EXPERT, slot]
    put(row, slot, expert)
    share_out(row, old)
    share_out(row, expert)
    number = touch_holders(row, expert, touch_holders(row, old, touch(row, row.ids[GPU, slot], 0)))
    for k in range(number):
        gpu = row.ids[TOUCHED_LIST, k]
        row.ids[TOUCHED, gpu] = 0
        relevel(row, gpu)
    recount(row, row.ids[GPU, slot])


@without_memory
def swap(row: Row, slot: int, other: int) -> None:
    """Two slots of two GPUs change their experts."""
    expert, old = row.ids[EXPERT, slot], row.ids[EXPERT, other]
    put(row, slot, NONE)
    put(row, other, expert)
    put(row, slot, old)
    for t in range(row.windows):
        row.loads[t, SHARE, slot], row.loads[t, SHARE, other] = row.loads[t, SHARE, other], row.loads[t, SHARE, slot]
    for changed in (slot, other):
        relevel(row, row.ids[GPU, changed])
        recount(row, row.ids[GPU, changed])


@without_memory
def may_swap(row: Row, slot: int, other: int) -> bool:
    """Whether two slots of two GPUs hold different experts, and can change them without a new duplicate."""
    expert, old = row.ids[EXPERT, slot], row.ids[EXPERT, other]
    if expert == old:
        return False
    if row.ids[STATE, DUPLICATES]:
        return True
    if row.ids[COUNT, expert] > 1 and holds(row, expert, row.ids[GPU, other]):
        return False
    return not (row.ids[COUNT, old] > 1 and holds(row, old, row.ids[GPU, slot]))


@without_memory
def may_hold(row: Row, gpu: int, expert: int) -> bool:
    """Whether a GPU can get a replica of an expert without a new duplicate."""
    return row.ids[STATE, DUPLICATES] == 1 or not holds(row, expert, gpu)


@without_memory
def replacing_gain(row: Row, slot: int, expert: int) -> float:
    """By how much the burdens fall when a slot gets one more replica of `expert` in place of what it holds; exact."""
    old = row.ids[EXPERT, slot]
    number = touch_holders(row, expert, touch_holders(row, old, touch(row, row.ids[GPU, slot], 0)))
    gain = 0.0
    for k in range(number):
        gpu = row.ids[TOUCHED_LIST, k]
        row.ids[TOUCHED, gpu] = 0
        for t in range(row.windows):
            more = row.loads[t, LOAD, expert] / (row.ids[COUNT, expert] + 1)
            less = row.loads[t, LOAD, old] / (row.ids[COUNT, old] - 1) if old >= 0 and row.ids[COUNT, old] > 1 else 0.0
            change = 0.0
            for other in range(gpu * row.size, (gpu + 1) * row.size):
                if other == slot or row.ids[EXPERT, other] == expert:
                    change += more - row.loads[t, SHARE, other]
                elif old >= 0 and row.ids[EXPERT, other] == old:
                    change += less - row.loads[t, SHARE, other]
            level = row.loads[t, LEVEL, gpu] + change * row.figures[SLOWNESS, gpu]
            after = row.figures[SPEED, gpu] * raised(level, row.ids[STATE, SQUARINGS])
            gain += row.spans[WEIGHT, t] * (row.loads[t, POWER, gpu] - after)
    return gain


@without_memory
def swapping_gain(row: Row, slot: int, other: int) -> float:
    """By how much the burdens fall when two slots of two GPUs change their experts."""
    here, there = row.ids[GPU, slot], row.ids[GPU, other]
    squarings = row.ids[STATE, SQUARINGS]
    gain = 0.0
    for t in range(row.windows):
        given = row.loads[t, SHARE, slot] - row.loads[t, SHARE, other]
        less = raised(row.loads[t, LEVEL, here] - given * row.figures[SLOWNESS, here], squarings)
        more = raised(row.loads[t, LEVEL, there] + given * row.figures[SLOWNESS, there], squarings)
        before = row.loads[t, POWER, here] + row.loads[t, POWER, there]
        gain += row.spans[WEIGHT, t] * (before - row.figures[SPEED, here] * less - row.figures[SPEED, there] * more)
    return gain
