"""Device functions of the `cuda` solver that refine one restart of one row; cuda_kernels.py explains the layout."""

# ruff: noqa: ANN001, ANN201, N803 - what Triton's functions take and give are values on the device, of which Python's
# types know nothing; compile-time constants are in capitals, as in Triton's own code
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from trimtab_server.solvers.cuda_search_kernels import (
    CODE_BITS,
    CODE_MASK,
    FAR,
    ITEM_BITS,
    LOW,
    NOWHERE,
    PACK_BITS,
    PACK_MASK,
    PAIR_LANES,
    PAIR_MEMBERS,
    best_swap,
    first_received,
    least,
)


@triton.jit
def replace(members, spare, size, out_1, out_2, in_1, in_2, SPAN: tl.constexpr):
    """Write to `spare` the members without positions out_1 and out_2 and with in_1 and in_2 (-1: none), descending."""
    before_1 = 0
    before_2 = (in_1 > in_2).to(tl.int32)
    for block in range(0, size, SPAN):
        c = block + tl.arange(0, SPAN)
        kept = (c < size) & (c != out_1) & (c != out_2)
        member = tl.load(members + c, kept, other=-1)
        place = c - (c > out_1).to(tl.int32) - (c > out_2).to(tl.int32)
        place += (in_1 > member).to(tl.int32) + (in_2 > member).to(tl.int32)
        tl.store(spare + place, member, kept)
        before_1 += tl.sum((member > in_1).to(tl.int32), 0)
        before_2 += tl.sum((kept & (member > in_2)).to(tl.int32), 0)
    tl.store(spare + before_1 + (in_2 > in_1).to(tl.int32), in_1)
    tl.store(spare + before_2, in_2, in_2 >= 0)


@triton.jit
def copy_back(members, spare, size, SPAN: tl.constexpr):
    """Take what `replace` wrote."""
    for block in range(0, size, SPAN):
        c = block + tl.arange(0, SPAN)
        tl.store(members + c, tl.load(spare + c, c < size), c < size)


@triton.jit
def exchange(lists, spares, size, pairs, stale, h, p, i, j, paired, SPAN: tl.constexpr):
    """Swap candidate i of pack h with candidate j of pack p; returns the weight that h gives beyond what it gets."""
    nowhere = tl.full([], NOWHERE, tl.int32)
    out_1, out_2, back_1, back_2 = i, nowhere, j, nowhere
    if paired:
        first = size - tl.minimum(size, PAIR_MEMBERS)
        mine = CODE_MASK - (tl.load(pairs + h * PAIR_LANES + i) & CODE_MASK).to(tl.int32)
        theirs = CODE_MASK - (tl.load(pairs + p * PAIR_LANES + j) & CODE_MASK).to(tl.int32)
        out_1, out_2 = first + (mine >> 3), first + (mine & 7)
        back_1, back_2 = first + (theirs >> 3), first + (theirs & 7)
    given_1 = tl.load(lists + h * size + out_1)
    given_2 = tl.load(lists + h * size + out_2, paired, other=-1)
    taken_1 = tl.load(lists + p * size + back_1)
    taken_2 = tl.load(lists + p * size + back_2, paired, other=-1)
    replace(lists + h * size, spares + h * size, size, out_1, out_2, taken_1, taken_2, SPAN)
    replace(lists + p * size, spares + p * size, size, back_1, back_2, given_1, given_2, SPAN)
    tl.debug_barrier()
    copy_back(lists + h * size, spares + h * size, size, SPAN)
    copy_back(lists + p * size, spares + p * size, size, SPAN)
    tl.store(stale + h, 1)
    tl.store(stale + p, 1)
    return (given_1 >> ITEM_BITS) - (taken_1 >> ITEM_BITS) + (given_2 >> ITEM_BITS) - (taken_2 >> ITEM_BITS)


@triton.jit
def move_keys(rank, keys, m, key_h, key_p, f, LANES: tl.constexpr):
    """Bring the ranked packs back into order after h has given `f` to p; `keys` is the tile of `rank`."""
    lane = tl.arange(0, LANES)
    new_h = key_h - (f << PACK_BITS)
    new_p = key_p + (f << PACK_BITS)
    renewed = tl.where(keys == key_h, new_h, tl.where(keys == key_p, new_p, keys))
    place = lane - (keys > key_h).to(tl.int32) - (keys > key_p).to(tl.int32)
    place += (keys > new_h).to(tl.int32) + (keys > new_p).to(tl.int32)
    place = tl.where(keys == key_h, tl.sum((renewed < new_h).to(tl.int32), 0), place)
    place = tl.where(keys == key_p, tl.sum((renewed < new_p).to(tl.int32), 0), place)
    tl.store(rank + place, renewed, lane < m)


@triton.jit
def watch(reached, WATCH: tl.constexpr):
    """A tile, a lane a thread, of the lowest restart of the row that has ended at the target so far.

    Threads may see different values: only the minimum is the same for all of them, and may decide a branch.
    """
    return tl.load(reached + tl.zeros([WATCH], tl.int32), volatile=True)


@triton.jit
def refine(
    lists, spares, rank, pairs, stale, reached, restart, m, size, target, steps,
    LANES: tl.constexpr, ROUNDS: tl.constexpr, WIDTH: tl.constexpr, HEIGHT: tl.constexpr, SPAN: tl.constexpr,
    WATCH: tl.constexpr,
):  # fmt: skip
    """Swaps from the heaviest pack, in place; returns its load at the end. `rank` holds the packs' keys, ascending."""
    lane = tl.arange(0, LANES)
    heavy = tl.load(rank + m - 1) >> PACK_BITS
    step = 0
    while (step < steps) & (heavy > target):
        winner = watch(reached, WATCH)  # looked at when it has come
        keys = tl.load(rank + lane, lane < m, other=FAR)
        key_h = least(tl.where(keys >> PACK_BITS == heavy, keys, FAR))
        chosen, detail, paired = best_swap(lists, pairs, stale, rank, m, size, key_h, target, ROUNDS, WIDTH, HEIGHT)
        step += 1
        if chosen >> 16 == heavy:
            step = steps
        else:
            key_p = tl.load(rank + (chosen & LOW))
            light = key_p >> PACK_BITS
            h, p = (key_h & PACK_MASK).to(tl.int32), (key_p & PACK_MASK).to(tl.int32)
            i = (detail & LOW).to(tl.int32)
            if paired:
                given = tl.load(pairs + h * PAIR_LANES + i) >> CODE_BITS
                received = pairs + p * PAIR_LANES
                among = tl.minimum(size, PAIR_MEMBERS)
                j = first_received(
                    received, among * (among - 1) // 2, given, detail >> 16, heavy, light, CODE_BITS, PAIR_LANES
                )
            else:
                given = tl.load(lists + h * size + i) >> ITEM_BITS
                j = first_received(lists + p * size, size, given, detail >> 16, heavy, light, ITEM_BITS, SPAN)
            f = exchange(lists, spares, size, pairs, stale, h, p, i, j, paired, SPAN)
            move_keys(rank, keys, m, key_h, key_p, f, LANES)
            tl.debug_barrier()
            heavy = tl.load(rank + m - 1) >> PACK_BITS
        if tl.min(winner, 0) < restart:  # whatever this restart reaches, a lower one has won
            step = steps
    return heavy
