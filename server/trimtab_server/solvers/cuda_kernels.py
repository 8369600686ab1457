"""The `cuda` solver's kernels in Triton; the packing step of `problem.Packer`, the same bytes as every other solver.

Three launches a batch, nothing but the winners copied back:
  order   one program a tile of items of (restart, row): every item's place in the ordering, by counting greater keys.
  search  one program a (restart, row): greedy start and refinement, fused.
  choose  one program a tile of items of a row: the winning restart, written out as pack and rank of every item.

Why counting: n^2 comparisons in parallel beat the rounds of a sort where n is a few hundred, and need neither scratch
nor a second launch. Beyond COUNTED_ITEMS items torch sorts.

Layout. A member is one int64, weight << 16 | 65535 - item: descending members are the exact order of the numbers'
rules, so a pack is a descending list, position in it = rank in the pack, and nothing else is kept of an item. A pack's
key is load << 13 | pack; the packs' keys lie ascending in `rank`, so a partner in a given place is one load. A pair is
sum << 8 | 255 - code, where codes ascend as the rules number the pairs. It is a few KB a program in global memory that
stay in the L1 cache; `debug_barrier` stands wherever lanes read what other lanes wrote, or write over what others may
still read. No float decides anything: the float64 whole numbers become int64 when they are read.

Why it is exact. Greedy: the minimum over the keys of open packs is the lightest, ties to the lowest pack. Refinement: a
lane takes one given candidate of one partner, bisects the partner's descending list to where the received becomes small
enough, and so has the smallest V of that given: the minimum over lanes of max(V, target) << 16 | place is the rules'
choice of a partner, the minimum over that partner's lanes of V << 16 | position the V and the position given, and the
first position of the partner that gives the same V the position received. Each is a minimum of unique whole numbers
below 2^56, so no order of evaluation, tile or warp can change it.

A restart stops where a lower one of its row has ended at the target, for then it cannot win; what it leaves is never
read as an answer: `choose` takes the lowest restart at the target. Programs are numbered restart by restart, so in a
large batch most restarts but the first never start.
"""

# ruff: noqa: ANN001, ANN201, N803 - what Triton's functions take and give are values on the device, of which Python's
# types know nothing; compile-time constants are in capitals, as in Triton's own code
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from trimtab_server.solvers import numbers
from trimtab_server.solvers.cuda_refine_kernels import refine, watch
from trimtab_server.solvers.cuda_search_kernels import (
    FAR,
    ITEM_BITS,
    LOW,
    NOWHERE,
    PACK_BITS,
    PACK_MASK,
    PAIR_LANES,
    least,
)

NOISE_SHIFT = tl.constexpr(numbers.KEY_SHIFT)
CLOSED = tl.constexpr(1 << 54)  # added to the key of a full pack: above every open one's


@triton.jit
def ordering_keys(weight, multiplier, item, n):
    """The keys of the numbers' rule 3, and the whole weights; -1 beyond the row."""
    whole = tl.load(weight + item, item < n, other=0).to(tl.int64)
    noisy = (whole * tl.load(multiplier + item, item < n, other=0)) >> NOISE_SHIFT
    return tl.where(item < n, (noisy << ITEM_BITS) | (LOW - item), -1), whole


@triton.jit(do_not_specialize=["rows", "restarts", "n"])
def order(
    whole, tables, table_index, sequence, rows, restarts, n,
    TILE: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """Sequence [restarts, rows, n]: the members of every row in every restart's order."""
    program = tl.program_id(0)
    row = (program % rows).to(tl.int64)
    restart = program // rows
    weight = whole + row * n
    multiplier = tables + (tl.load(table_index + row) * restarts + restart) * n
    item = tl.program_id(1) * TILE + tl.arange(0, TILE)
    key, mine = ordering_keys(weight, multiplier, item, n)
    greater = tl.zeros([TILE, CHUNK], tl.int32)
    for start in range(0, n, CHUNK):
        other, _ = ordering_keys(weight, multiplier, start + tl.arange(0, CHUNK), n)
        greater += (other[None, :] > key[:, None]).to(tl.int32)
    place = tl.sum(greater, 1)
    tl.store(sequence + program.to(tl.int64) * n + place, (mine << ITEM_BITS) | (LOW - item), item < n)


@triton.jit
def greedy(sequence, packed, n, m, size, LANES: tl.constexpr):
    """Members in order, each to the lightest open pack: `packed` [m, size], and the packs' keys."""
    lane = tl.arange(0, LANES)
    slot = lane * size
    end = slot + size
    key = lane + tl.where(lane < m, tl.zeros([LANES], tl.int64), CLOSED)
    for t in range(n):
        member = tl.load(sequence + t)
        here = lane == (least(key) & PACK_MASK).to(tl.int32)
        tl.store(packed + slot, member + tl.zeros([LANES], tl.int64), here)
        slot += here.to(tl.int32)
        key += tl.where(here, (member >> ITEM_BITS) << PACK_BITS, 0)
        key = tl.where(here & (slot == end), key + CLOSED, key)
    return key & (CLOSED - 1)


@triton.jit
def sort_packs(packed, lists, n, size, TILE: tl.constexpr):
    """Each pack's members, descending: a member's position is the number of greater ones in its pack."""
    for start in range(0, n, TILE):
        slot = start + tl.arange(0, TILE)
        first = slot // size * size
        member = tl.load(packed + slot, slot < n, other=0)
        position = tl.zeros([TILE], tl.int32)
        for c in range(size):
            position += (tl.load(packed + first + c, slot < n, other=0) > member).to(tl.int32)
        tl.store(lists + first + position, member, slot < n)


@triton.jit
def rank_packs(keys, unranked, rank, m, LANES: tl.constexpr):
    """The packs' keys, ascending; `unranked` [m] is scratch."""
    lane = tl.arange(0, LANES)
    tl.store(unranked + lane, keys, lane < m)
    tl.debug_barrier()
    place = tl.zeros([LANES], tl.int32)
    for pack in range(m):
        place += (tl.load(unranked + pack) < keys).to(tl.int32)
    tl.store(rank + place, keys, lane < m)


@triton.jit(do_not_specialize=["rows", "n", "m", "steps"])
def search(
    sequence, packed, rank, pairs, stale, reached, target, peak, rows, n, m, steps,
    LANES: tl.constexpr, ROUNDS: tl.constexpr, WIDTH: tl.constexpr, HEIGHT: tl.constexpr, SPAN: tl.constexpr,
    WATCH: tl.constexpr,
):  # fmt: skip
    """One restart of one row: `sequence` [restarts, rows, n] becomes its packs' members, `peak` its max load.

    Scratch a program: packed [n], rank [m], pairs [m, PAIR_LANES], stale [m]. `reached` [rows] begins above every
    restart. steps = 0: no refinement.
    """
    program = tl.program_id(0).to(tl.int64)
    row = (program % rows).to(tl.int32)
    restart = (program // rows).to(tl.int32)
    size = n // m
    goal = tl.load(target + row).to(tl.int64)
    heavy = tl.full([], FAR, tl.int64)
    if tl.min(watch(reached + row, WATCH), 0) > restart:
        lists, spares = sequence + program * n, packed + program * n
        keys = greedy(lists, spares, n, m, size, LANES)
        tl.debug_barrier()
        sort_packs(spares, lists, n, size, 4 * WATCH)
        lane = tl.arange(0, LANES)
        heavy = tl.max(tl.where(lane < m, keys >> PACK_BITS, 0), 0)
        if (steps > 0) & (heavy > goal):
            ranked, listed, changed = rank + program * m, pairs + program * m * PAIR_LANES, stale + program * m
            tl.debug_barrier()
            rank_packs(keys, spares, ranked, m, LANES)
            tl.store(changed + lane, tl.full([LANES], 1, tl.int32), lane < m)
            tl.debug_barrier()
            heavy = refine(
                lists, spares, ranked, listed, changed, reached + row, restart, m, size, goal, steps,
                LANES, ROUNDS, WIDTH, HEIGHT, SPAN, WATCH,
            )  # fmt: skip
        if heavy <= goal:
            tl.atomic_min(reached + row, restart)
    tl.store(peak + program, heavy)


@triton.jit(do_not_specialize=["rows", "restarts", "n", "m"])
def choose(
    members, peak, target, pack_index, rank_in_pack, winner, rows, restarts, n, m,
    RESTARTS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Per row the lowest restart at the target, else the smallest max load, ties to the lowest: its packing."""
    row = tl.program_id(0).to(tl.int64)
    restart = tl.arange(0, RESTARTS)
    load = tl.load(peak + restart * rows + row, restart < restarts, other=FAR)
    # all that ended at or below the target are equal, so that the lowest wins
    load = tl.maximum(load, tl.load(target + row).to(tl.int64))
    best = tl.min(tl.where(load == tl.min(load, 0), restart, NOWHERE), 0)
    slot = tl.program_id(1) * TILE + tl.arange(0, TILE)
    member = tl.load(members + (best * rows + row) * n + slot, slot < n, other=0)
    item = row * n + LOW - (member & LOW)
    size = n // m
    tl.store(pack_index + item, (slot // size).to(pack_index.dtype.element_ty), slot < n)
    tl.store(rank_in_pack + item, (slot % size).to(rank_in_pack.dtype.element_ty), slot < n)
    tl.store(winner + row, best)


INTERPRETED = not isinstance(search, triton.JITFunction)
"""Whether the kernels run in Python, on the CPU: TRITON_INTERPRET was set when they were made."""
