"""How far each row of a request goes along its walk: the best of all rows together for the moves there are."""

from __future__ import annotations

import numpy as np

from trimtab_server.solvers.compiled.figures import ROUNDING
from trimtab_server.solvers.compiled.jit import compiled
from trimtab_server.solvers.compiled.search import FILLED, SEARCHED, SEPARATED
from trimtab_server.solvers.compiled.sorting import Array

NO_LIMIT = -1


@compiled
def upper_hull(moves: Array, balancedness: Array, entries: int, min_gain: float, best_at: Array, hull: Array) -> int:
    """The entries of a walk that no mixture of others beats, by moves.

    Args:
        moves, balancedness: [N], of the walk. entries: how many there are.
        min_gain: entries that gain less than this over the first do not count.
        best_at: [most moves + 1] int32, scratch. hull: [N] int32, the answer: entries, moves ascending, 0 first.

    Returns:
        How many are on the hull.
    """
    best_at[:] = -1
    for entry in range(1, entries):
        if balancedness[entry] - balancedness[0] >= min_gain:
            at = moves[entry]
            if best_at[at] < 0 or balancedness[entry] > balancedness[best_at[at]]:
                best_at[at] = entry
    hull[0] = 0
    number = 1
    for at in range(moves[0], best_at.size):
        entry = best_at[at]
        if entry < 0 or balancedness[entry] <= balancedness[hull[number - 1]]:
            continue
        if at == moves[hull[number - 1]]:  # more for no moves
            number -= 1
        while number > 1 and not is_convex(moves, balancedness, hull[number - 2], hull[number - 1], entry):
            number -= 1
        hull[number] = entry
        number += 1
    return number


@compiled
def is_convex(moves: Array, balancedness: Array, first: int, middle: int, last: int) -> bool:
    """Whether the slope falls from the first part to the second."""
    rise, run = balancedness[middle] - balancedness[first], moves[middle] - moves[first]
    return rise * (moves[last] - moves[middle]) > (balancedness[last] - balancedness[middle]) * run  # type: ignore[no-any-return]


@compiled
def choose(
    moves: Array, balancedness: Array, ends: Array, budget: int, min_gain: float, chosen: Array, curve: Array
) -> int:
    """Take steps along all hulls, those with the most balancedness for a move first, while the budget lasts.

    What the next steps leave over goes to whatever entry of any walk still fits. Without a limit see `take_best`.

    Args:
        moves, balancedness: [rows, N], of each walk. ends: [rows, 3], of each; see `search.walk`.
        budget: moves there are for all rows, at least those of their first entries; or NO_LIMIT.
        min_gain: above 0; a row that gains less stays at its first entry.
        chosen: [rows] int32, the answer: an entry a row.
        curve: [points, 2], the answer: moves and the sum of the rows' balancedness along all hulls.

    Returns:
        How many points the curve has.
    """
    rows = moves.shape[0]
    entries = ends[:, SEPARATED]
    most = 0
    for row in range(rows):
        most = max(most, moves[row, : entries[row]].max())
    best_at = np.empty(most + 1, np.int32)
    hull = np.empty(moves.shape[1], np.int32)
    total_entries = entries.sum()
    slope, step_moves, step_gain = np.empty(total_entries), np.empty(total_entries, np.int64), np.empty(total_entries)
    step_row, step_entry = np.empty(total_entries, np.int32), np.empty(total_entries, np.int32)
    steps = 0
    for row in range(rows):
        vertices = upper_hull(moves[row], balancedness[row], entries[row], min_gain, best_at, hull)
        for vertex in range(vertices):
            entry = hull[vertex]
            if vertex == 0:
                chosen[row] = entry
            else:
                before = hull[vertex - 1]
                step_gain[steps] = balancedness[row, entry] - balancedness[row, before]
                step_moves[steps] = moves[row, entry] - moves[row, before]
                slope[steps] = -step_gain[steps] / step_moves[steps]
                step_row[steps], step_entry[steps] = row, entry
                steps += 1
    order = np.argsort(slope[:steps], kind="mergesort")
    curve[0] = 0.0
    for row in range(rows):
        curve[0, 0] += moves[row, chosen[row]]
        curve[0, 1] += balancedness[row, chosen[row]]
    points = trace_curve(step_moves[order], step_gain[order], curve)
    if budget == NO_LIMIT:
        for row in range(rows):
            chosen[row] = take_best(moves[row], balancedness[row], ends[row], min_gain)
    else:
        left = spend(moves, chosen, step_row, step_entry, order, budget)
        spend_rest(moves, balancedness, entries, min_gain, chosen, left)
    return points


@compiled
def trace_curve(step_moves: Array, step_gain: Array, curve: Array) -> int:
    """The curve from its first point on, step by step, thinned to the points there is room for; how many those are."""
    room, all_moves = curve.shape[0], step_moves.sum()
    moves, total = 0, curve[0, 1]
    points = 1
    for k in range(step_moves.size):
        moves += step_moves[k]
        total += step_gain[k]
        if moves * (room - 1) >= points * all_moves:  # the moves of the points are evenly spread
            curve[points, 0], curve[points, 1] = curve[0, 0] + moves, total
            points += 1
    return points


@compiled
def spend(moves: Array, chosen: Array, step_row: Array, step_entry: Array, order: Array, budget: int) -> int:
    """Take the steps in order while they fit; a row that has missed one takes no more. What is left."""
    left = budget
    for row in range(chosen.size):
        left -= moves[row, chosen[row]]
    stopped = np.zeros(chosen.size, np.bool_)
    for k in order:
        row, entry = step_row[k], step_entry[k]
        cost = moves[row, entry] - moves[row, chosen[row]]
        if cost > left:
            stopped[row] = True
        elif not stopped[row] and cost > 0:
            chosen[row] = entry
            left -= cost
    return left


@compiled
def spend_rest(moves: Array, balancedness: Array, entries: Array, min_gain: float, chosen: Array, left: int) -> None:
    """Again and again the entry of any walk that gains most and fits into what is left."""
    while left > 0:
        best, best_row, best_entry = 0.0, -1, -1
        for row in range(chosen.size):
            now = balancedness[row, chosen[row]]
            for entry in range(1, entries[row]):
                gain = balancedness[row, entry] - now
                fits = moves[row, entry] - moves[row, chosen[row]] <= left
                if gain > best and fits and balancedness[row, entry] - balancedness[row, 0] >= min_gain:
                    best, best_row, best_entry = gain, row, entry
        if best_row < 0:
            return
        left -= moves[best_row, best_entry] - moves[best_row, chosen[best_row]]
        chosen[best_row] = best_entry


@compiled
def take_best(moves: Array, balancedness: Array, ends: Array, min_gain: float) -> int:
    """Where a row goes without a limit: its best entry with all slots filled, of equals that with the fewest moves.

    Where filling costs balancedness, the best of all entries. Second copies are separated on top of the best entry, as
    far as that keeps its balancedness. Where no gain is enough, the row stays as it began; but filled, if no least gain
    was asked for.
    """
    filled = ends[FILLED] - 1
    start = filled if balancedness[filled] >= balancedness[0] else 0
    best = start
    for entry in range(start + 1, ends[SEARCHED]):
        gains = balancedness[entry] - balancedness[best]
        if gains > 0 or (gains == 0 and moves[entry] < moves[best]):
            best = entry
    if balancedness[best] - balancedness[0] < min_gain:
        if min_gain > ROUNDING:
            return 0
        best = start
    for entry in range(ends[SEARCHED], ends[SEPARATED]):
        if balancedness[entry] >= balancedness[best]:
            best = entry
    return best
