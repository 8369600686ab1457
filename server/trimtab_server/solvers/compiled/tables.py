"""The tables that hold the state of one row's search: where every replica is, what every GPU carries, what that weighs.

Words: the *level* of a GPU in a window is its load over its speed, scaled so that the highest was 1 when the exponent
p was last raised; its *power* is its speed times level^p; the smooth maximum of a window is the sum of the powers. A
GPU's *burden* is its part of the sum over windows, each weighted by what it counts for in the balancedness
(`levels.weigh`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from trimtab_server.solvers.compiled.jit import compiled
from trimtab_server.solvers.compiled.sorting import Array

NONE = -1
"""No expert, no slot."""

# Rows of `Row.ids` [.., P] int64; of a slot:
EXPERT = 0  # the expert that it holds, NONE where empty
NEXT = 1  # another slot of the same expert
HOME = 2  # the expert that it held before
AWAY = 3  # 1 where it holds a copy that its GPU did not have before
GPU = 4  # whose slot it is
# of an expert:
COUNT = 5  # replicas
FIRST = 6  # a slot of it
ORIGIN = 7  # a slot that held it before
# of a GPU:
NODE = 8  # experts stay within one
MOVED = 9  # copies that it did not have before
# of the row, by the names below:
STATE = 10
# scratch:
TOUCHED, TOUCHED_LIST, PARTNER, CANDIDATE, MINE = range(11, 16)
_IDS = 16

# Places in `Row.ids[STATE]`
SQUARINGS = 0  # p is 2^SQUARINGS
DUPLICATES = 1  # 1 where a GPU may hold an expert twice
STEP_KIND, STEP_SLOT, STEP_OTHER = 2, 3, 4  # the best step so far; its slot is NONE where there is none
_STATES = 5

# Rows of `Row.figures` [.., P] float64; of a GPU:
SPEED = 0  # 0 where it is inactive
SLOWNESS = 1  # 1 / speed, 0 where it is inactive
BURDEN = 2
# of the row, in place 0:
STEP_RATE = 3
# scratch:
BOUND, THEIR_SLOWNESS, BEFORE, WIDER, LOSS, RELIEF, START = range(4, 11)
_FIGURES = 11

# Rows of `Row.loads` [T, .., P] float64; of an expert:
WHOLE = 0  # its load as a whole number
LOAD = 1  # the same, scaled as the levels are
# of a slot:
SHARE = 2  # what it carries, scaled likewise
# of a GPU:
LEVEL = 3
POWER = 4
# scratch:
BACK, BASE, FULLER, HEFT, GIVEN = range(5, 10)
_LOADS = 10

# Rows of `Row.spans` [.., T] float64:
BALANCED = 0  # the level at which all GPUs would be if balanced; 0 for a window without load
WEIGHT = 1
_SPANS = 2


class Row(NamedTuple):
    """One row, in few tables: to compiled code each array is nine arguments, in every call."""

    windows: int
    experts: int
    slots: int
    gpus: int
    size: int  # slots a GPU
    ids: Array
    figures: Array
    loads: Array
    spans: Array
    after: Array  # [max(size, 2), P] float64, scratch


@compiled
def new_row(windows: int, experts: int, slots: int, gpus: int) -> Row:
    """Room for one row; it is used again for the next one."""
    width = max(slots, _STATES)
    return Row(
        windows,
        experts,
        slots,
        gpus,
        slots // gpus,
        np.zeros((_IDS, width), np.int64),
        np.zeros((_FIGURES, width)),
        np.zeros((windows, _LOADS, slots)),
        np.zeros((_SPANS, windows)),
        np.zeros((max(slots // gpus, 2), width)),
    )
