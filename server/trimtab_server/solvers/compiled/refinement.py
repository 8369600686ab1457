"""Refinement of one restart of one row: swaps from the heaviest pack, by the rules of `solvers.rules`.

In all of it: `member` and `held` [packs, size] are a pack's members, ascending, and their weights, so descending;
`order` [packs] is load << 16 | pack, ascending; a place is an index into `order`.
"""

from __future__ import annotations

from trimtab_server.solvers.compiled.greedy import LOW
from trimtab_server.solvers.compiled.jit import compiled
from trimtab_server.solvers.compiled.sorting import Array, merge_runs
from trimtab_server.solvers.rules import PAIR_MEMBERS, PAIR_PARTNERS, SINGLE_PARTNERS

ALL_PARTNERS = LOW


@compiled
def best_between(given: Array, received: Array, heavy: int, light: int, limit: int) -> tuple[int, int, int]:
    """The lexicographic minimum of (V, position given, position received) with V < limit; position -1 where none is.

    Twice V is the sum of the loads plus |2 f - their difference|. The minimum lies on the staircase along
    2 f = difference, which is walked in lexicographic order: so the first strict minimum is the answer, in time linear
    in the positions.
    """
    size = given.size
    difference, total = heavy - light, heavy + light
    least = 2 * limit - total
    i = j = 0
    best_i = best_j = -1
    while i < size and j < size:
        excess = 2 * (given[i] - received[j]) - difference
        enough = excess >= 0
        if abs(excess) < least:
            least, best_i, best_j = abs(excess), i, j
        i += enough
        j += not enough
    return (total + least) >> 1, best_i, best_j


@compiled
def best_single(held: Array, order: Array, heavy: int, top: int, target: int, partners: int) -> tuple[int, int, int]:
    """(place of the partner, position given, position received) of the single to do; place -1: none."""
    limit, place, given, received = heavy, -1, 0, 0
    for r in range(min(partners, order.size - 1)):
        light = order[r] >> 16
        if (heavy + light + 1) >> 1 >= limit:  # no swap does better than halving, and later partners are heavier
            break
        value, i, j = best_between(held[top], held[order[r] & LOW], heavy, light, limit)
        if i >= 0:
            limit, place, given, received = value, r, i, j
            if value <= target:
                break
    return place, given, received


@compiled
def sort_pairs(held: Array, pair_sum: Array, pair_number: Array, key: Array, spare: Array, edge: Array) -> None:
    """The pairs of one pack in order; held [size], pair_sum and pair_number [pairs] are filled."""
    size = held.size
    runs = n = 0
    for x in range(max(0, size - PAIR_MEMBERS), size - 1):
        edge[runs] = n
        runs += 1
        for y in range(x + 1, size):
            key[n] = (held[x] + held[y]) << 8 | (255 - n)
            n += 1
    ordered = merge_runs(key, spare, edge, runs)
    for t in range(n):
        pair_sum[t] = ordered[t] >> 8
        pair_number[t] = 255 - (ordered[t] & 255)


@compiled
def pair_positions(number: int, size: int) -> tuple[int, int]:
    """The two positions in a pack of the pair with this number."""
    x = max(0, size - PAIR_MEMBERS)
    while number >= size - 1 - x:
        number -= size - 1 - x
        x += 1
    return x, x + 1 + number


@compiled
def best_pair(
    held: Array,
    order: Array,
    heavy: int,
    top: int,
    target: int,
    pair_sum: Array,
    pair_number: Array,
    stale: Array,
    key: Array,
    spare: Array,
    edge: Array,
) -> tuple[int, int, int]:
    """As `best_single`, of pairs: positions are those among the pairs. Only packs that changed are sorted again."""
    limit, place, given, received = heavy, -1, 0, 0
    for r in range(min(PAIR_PARTNERS, order.size - 1)):
        light = order[r] >> 16
        if (heavy + light + 1) >> 1 >= limit:
            break
        partner = order[r] & LOW
        for pack in (top, partner):
            if stale[pack]:
                sort_pairs(held[pack], pair_sum[pack], pair_number[pack], key, spare, edge)
                stale[pack] = False
        value, i, j = best_between(pair_sum[top], pair_sum[partner], heavy, light, limit)
        if i >= 0:
            limit, place, given, received = value, r, i, j
            if value <= target:
                break
    return place, given, received


@compiled
def exchange(member: Array, held: Array, pack: int, i: int, partner: int, j: int) -> int:
    """Swap two members; both packs want `settle` when all is swapped. Returns the weight that `pack` has given."""
    member[pack, i], member[partner, j] = member[partner, j], member[pack, i]
    held[pack, i], held[partner, j] = held[partner, j], held[pack, i]
    return held[partner, j] - held[pack, i]  # type: ignore[no-any-return]


@compiled
def settle(member: Array, held: Array) -> None:
    """Bring the members [size] of one pack back into order."""
    for start in range(1, member.size):
        m, weight, i = member[start], held[start], start
        while i > 0 and member[i - 1] > m:
            member[i], held[i] = member[i - 1], held[i - 1]
            i -= 1
        member[i], held[i] = m, weight


@compiled
def move_key(order: Array, place: int, key: int) -> None:
    """Replace order[place] by `key`, which moves to where it belongs."""
    while place > 0 and order[place - 1] > key:
        order[place] = order[place - 1]
        place -= 1
    while place + 1 < order.size and order[place + 1] < key:
        order[place] = order[place + 1]
        place += 1
    order[place] = key


@compiled
def refine(
    member: Array,
    held: Array,
    order: Array,
    target: int,
    steps: int,
    pair_sum: Array,
    pair_number: Array,
    stale: Array,
    key: Array,
    spare: Array,
    edge: Array,
) -> None:
    """Swap in place until the heaviest pack is at most the target, nothing helps, or the steps are used up.

    Args:
        member, held, order: the packs; see above.
        target: a max load that is good enough. steps: the most swaps.
        pair_sum: [packs, pairs] int64, pair_number: [packs, pairs] int16, stale: [packs] bool, scratch.
        key, spare: [pairs] int64, edge: [PAIR_MEMBERS + 1] int64, scratch.
    """
    num_packs, size = member.shape
    stale[:] = True
    for _ in range(steps):
        heavy = order[num_packs - 1] >> 16
        if heavy <= target:
            return
        last = num_packs - 1
        while last > 0 and order[last - 1] >> 16 == heavy:
            last -= 1
        top = order[last] & LOW
        paired = False
        place, i, j = best_single(held, order, heavy, top, target, SINGLE_PARTNERS)
        if place < 0:
            place, i, j = best_pair(held, order, heavy, top, target, pair_sum, pair_number, stale, key, spare, edge)
            paired = place >= 0
        if place < 0:
            place, i, j = best_single(held, order, heavy, top, target, ALL_PARTNERS)
        if place < 0:
            return
        partner = order[place] & LOW
        if paired:
            a, b = pair_positions(pair_number[top, i], size)
            c, d = pair_positions(pair_number[partner, j], size)
            given = exchange(member, held, top, a, partner, c) + exchange(member, held, top, b, partner, d)
        else:
            given = exchange(member, held, top, i, partner, j)
        settle(member[top], held[top])
        settle(member[partner], held[partner])
        stale[top] = stale[partner] = True
        light = order[place] >> 16
        move_key(order, last, (heavy - given) << 16 | top)
        while order[place] & LOW != partner:  # the one that was heaviest may have come to lie below the partner
            place += 1
        move_key(order, place, (light + given) << 16 | partner)
