"""Device functions of the `cuda` solver that choose the next swap; cuda_kernels.py explains the layout."""

# ruff: noqa: ANN001, ANN201, N803 - what Triton's functions take and give are values on the device, of which Python's
# types know nothing; compile-time constants are in capitals, as in Triton's own code
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from trimtab_server.solvers import numbers, rules

LOW = tl.constexpr(numbers.MAX_ITEMS - 1)  # a member ends in LOW - item
ITEM_BITS = tl.constexpr(numbers.ITEM_BITS)
PACK_BITS = tl.constexpr(13)  # a pack's key is load << 13 | pack, below 2^53
PACK_MASK = tl.constexpr((1 << 13) - 1)
CODE_BITS = tl.constexpr(8)  # a pair's key is sum << 8 | 255 - code
CODE_MASK = tl.constexpr(255)
HALF_BITS = tl.constexpr(25)
HALF_MASK = tl.constexpr((1 << 25) - 1)
FAR = tl.constexpr((1 << 56) - 1)  # above every key and every value
NOWHERE = tl.constexpr((1 << 31) - 1)  # above every position

SINGLE_PARTNERS = tl.constexpr(rules.SINGLE_PARTNERS)
PAIR_PARTNERS = tl.constexpr(rules.PAIR_PARTNERS)
PAIR_MEMBERS = tl.constexpr(rules.PAIR_MEMBERS)
PAIR_LANES = tl.constexpr(32)  # 28 pairs of 8 members, padded
PAIR_ROUNDS = tl.constexpr(5)


@triton.jit
def least(keys):
    """The smallest of a tile of int64 in [0, 2^56).

    In two halves, for a warp finds the minimum of 32 bits in one instruction, that of 64 bits in five rounds of
    shuffles; this minimum is what every step of the greedy loop waits for.
    """
    high = (keys >> HALF_BITS).to(tl.int32)
    top = tl.min(high, 0)
    low = tl.where(high == top, (keys & HALF_MASK).to(tl.int32), NOWHERE)
    return (top.to(tl.int64) << HALF_BITS) | tl.min(low, 0)


@triton.jit
def count_above(values, inside, size, bound, ROUNDS: tl.constexpr):
    """How many of each lane's `size` values, descending, are at least its bound; ROUNDS = bit_length(size)."""
    count = tl.zeros_like(bound).to(tl.int32)
    for bit in tl.static_range(ROUNDS - 1, -1, -1):
        further = count + (1 << bit)
        value = tl.load(values + further - 1, inside & (further <= size), other=-FAR)
        count = tl.where(value >= bound, further, count)
    return count


@triton.jit
def swap_values(own, values, inside, size, heavy, light, i, SHIFT: tl.constexpr, ROUNDS: tl.constexpr):
    """The smallest V of each lane's candidate `i` of `own` against any of the partner's `values`; FAR if none.

    V falls while what is received is too much and rises after: it is smallest beside the crossing.
    """
    given = tl.load(own + i, inside, other=0) >> SHIFT
    bound = (given - ((heavy - light + 1) >> 1) + 1) << SHIFT
    crossing = count_above(values, inside, size, bound, ROUNDS)
    over = inside & (crossing > 0)
    under = inside & (crossing < size)
    more = given - (tl.load(values + crossing - 1, over, other=0) >> SHIFT)
    less = given - (tl.load(values + crossing, under, other=0) >> SHIFT)
    above = tl.where(over, tl.maximum(heavy - more, light + more), FAR)
    below = tl.where(under, tl.maximum(heavy - less, light + less), FAR)
    return tl.minimum(above, below)


@triton.jit
def best_partner(
    lists, stride, size, own, rank, partners, heavy, target,
    SHIFT: tl.constexpr, ROUNDS: tl.constexpr, WIDTH: tl.constexpr, HEIGHT: tl.constexpr,
):  # fmt: skip
    """The choice among the `partners` lightest packs: (max(V, target) << 16 | place, V << 16 | position given).

    Without any V below `heavy` the first is `heavy << 16`. A tile is HEIGHT partners by WIDTH positions; a lane keeps
    its lexicographic minimum over tiles. A later partner is heavier, so at least (heavy + light) / 2 remains: no
    later one can win once that, or the target, is reached.
    """
    cell = tl.arange(0, HEIGHT * WIDTH)
    first = tl.full([HEIGHT * WIDTH], FAR, tl.int64)
    second = tl.full([HEIGHT * WIDTH], FAR, tl.int64)
    chosen = heavy << 16
    start = 0
    hope = heavy - 1
    while (start < partners) & (chosen >> 16 > target) & (hope < chosen >> 16):
        place = start + cell // WIDTH
        known = place < partners
        key = tl.load(rank + place, known, other=0)
        values = lists + (key & PACK_MASK) * stride
        light = key >> PACK_BITS
        for block in range(0, size, WIDTH):
            i = block + cell % WIDTH
            inside = known & (i < size)
            value = swap_values(own, values, inside, size, heavy, light, i, SHIFT, ROUNDS)
            helps = inside & (value < heavy)
            ahead = tl.where(helps, (tl.maximum(value, target) << 16) | place, FAR)
            detail = tl.where(helps, (value << 16) | i, FAR)
            better = (ahead < first) | ((ahead == first) & (detail < second))
            first = tl.where(better, ahead, first)
            second = tl.where(better, detail, second)
        chosen = tl.minimum(chosen, least(first))
        start += HEIGHT
        hope = (heavy + (tl.load(rank + start, start < partners, other=0) >> PACK_BITS) + 1) >> 1
    return chosen, least(tl.where(first == chosen, second, FAR))


@triton.jit
def first_received(values, size, given, value, heavy, light, SHIFT: tl.constexpr, SPAN: tl.constexpr):
    """The first position of `values` that brings V to exactly `value` for the weight given."""
    nearest = tl.full([SPAN], NOWHERE, tl.int32)
    for block in range(0, size, SPAN):
        j = block + tl.arange(0, SPAN)
        moved = given - (tl.load(values + j, j < size, other=0) >> SHIFT)
        exact = (j < size) & (tl.maximum(heavy - moved, light + moved) == value)
        nearest = tl.minimum(nearest, tl.where(exact, j, NOWHERE))
    return tl.min(nearest, 0)


@triton.jit
def list_pairs(members, pairs, size):
    """Write one pack's pairs as keys, descending: sum, then the lower code (first position << 3 | second)."""
    among = tl.minimum(size, PAIR_MEMBERS)
    number = tl.arange(0, PAIR_LANES)
    x = tl.zeros([PAIR_LANES], tl.int32)
    for t in tl.static_range(1, PAIR_MEMBERS - 1):
        x += (number >= t * (2 * among - t - 1) // 2).to(tl.int32) * (t < among - 1)
    y = number - x * (2 * among - x - 1) // 2 + x + 1
    real = number < among * (among - 1) // 2
    last = members + size - among
    total = (tl.load(last + x, real, other=0) >> ITEM_BITS) + (tl.load(last + y, real, other=0) >> ITEM_BITS)
    key = tl.where(real, (total << CODE_BITS) | (CODE_MASK - (x * 8 + y)), -1)
    place = tl.sum((key[None, :] > key[:, None]).to(tl.int32), 1)
    tl.store(pairs + place, key, real)


@triton.jit
def renew_pairs(lists, size, pairs, stale, rank, partners, heaviest):
    """List the pairs anew of those among the heaviest pack and its partners that have changed."""
    lane = tl.arange(0, PAIR_LANES)
    pack = tl.where(lane < partners, tl.load(rank + lane, lane < partners, other=0) & PACK_MASK, heaviest).to(tl.int32)
    changed = (lane <= partners) & (tl.load(stale + pack) != 0)
    waiting = tl.where(changed, (lane << 16) | pack, NOWHERE)
    todo = tl.min(waiting, 0)
    while todo < NOWHERE:
        list_pairs(lists + (todo & LOW) * size, pairs + (todo & LOW) * PAIR_LANES, size)
        waiting = tl.where(waiting == todo, NOWHERE, waiting)
        todo = tl.min(waiting, 0)
    tl.debug_barrier()
    tl.store(stale + pack, tl.zeros([PAIR_LANES], tl.int32), changed)


@triton.jit
def best_swap(
    lists, pairs, stale, rank, m, size, key_h, target,
    ROUNDS: tl.constexpr, WIDTH: tl.constexpr, HEIGHT: tl.constexpr,
):  # fmt: skip
    """The rules' choice: a near single, else a pair, else any single; (chosen, detail) as `best_partner`, paired."""
    heavy = key_h >> PACK_BITS
    h = (key_h & PACK_MASK).to(tl.int32)
    own = lists + h * size
    among = tl.minimum(size, PAIR_MEMBERS)
    num_pairs = among * (among - 1) // 2
    paired = tl.full([], False, tl.int1)
    near = tl.minimum(SINGLE_PARTNERS, m - 1)
    chosen, detail = best_partner(
        lists, size, size, own, rank, near, heavy, target, ITEM_BITS, ROUNDS, WIDTH, SINGLE_PARTNERS
    )
    if (chosen >> 16 == heavy) & (num_pairs > 0):
        near = tl.minimum(PAIR_PARTNERS, m - 1)
        renew_pairs(lists, size, pairs, stale, rank, near, h)
        chosen, detail = best_partner(
            pairs, PAIR_LANES, num_pairs, pairs + h * PAIR_LANES, rank, near, heavy, target,
            CODE_BITS, PAIR_ROUNDS, PAIR_LANES, SINGLE_PARTNERS,
        )  # fmt: skip
        paired = chosen >> 16 < heavy
    if (chosen >> 16 == heavy) & (m - 1 > SINGLE_PARTNERS):
        chosen, detail = best_partner(
            lists, size, size, own, rank, m - 1, heavy, target, ITEM_BITS, ROUNDS, WIDTH, HEIGHT
        )
    return chosen, detail, paired
