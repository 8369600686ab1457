"""Rows, one after the other: every restart's ordering, greedy start and refinement, and the winner's packing."""

from __future__ import annotations

import numpy as np

from trimtab_server.solvers.compiled.greedy import gather_packs, greedy
from trimtab_server.solvers.compiled.jit import compiled
from trimtab_server.solvers.compiled.refinement import refine
from trimtab_server.solvers.compiled.sorting import Array, bucket_sort
from trimtab_server.solvers.numbers import ITEM_BITS, KEY_SHIFT, MAX_ITEMS
from trimtab_server.solvers.rules import PAIR_MEMBERS

_LAST = MAX_ITEMS - 1


@compiled
def solve_rows(  # noqa: C901  # one loop nest over one set of scratch memory
    whole: Array,
    target: Array,
    tables: Array,
    table_index: Array,
    num_packs: int,
    steps: int,
    pack_index: Array,
    rank_in_pack: Array,
    winner: Array,
) -> None:
    """Pack every row; the rules are in `solvers.numbers` and `solvers.rules`.

    Args:
        whole: [rows, items] int64, a row's sum below 2^40. target: [rows] int64.
        tables: [tables, restarts, items] int32. table_index: [rows] int64.
        num_packs: divides items. steps: the most swaps of a restart; 0 does not refine.
        pack_index, rank_in_pack: [rows, items] int32, winner: [rows] int32, the answer.
    """
    num_rows, n = whole.shape
    size = n // num_packs
    pairs = min(size, PAIR_MEMBERS) * (min(size, PAIR_MEMBERS) - 1) // 2
    key, spare, bits = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64)
    real = bits.view(np.float64)
    buckets = np.empty(2 * n, np.int32)
    weight, item = np.empty(n, np.int64), np.empty(n, np.int64)
    member_of, sequence = np.empty(n, np.int64), np.empty(n, np.int64)
    pack_of = np.empty(n, np.int32)
    heap, load = np.empty(num_packs, np.int64), np.empty(num_packs, np.int64)
    order, spare_order = np.empty(num_packs, np.int64), np.empty(num_packs, np.int64)
    count = np.empty(num_packs, np.int32)
    member, held = np.empty((num_packs, size), np.int32), np.empty((num_packs, size), np.int64)
    pair_sum, pair_number = np.empty((num_packs, pairs), np.int64), np.empty((num_packs, pairs), np.int16)
    stale = np.empty(num_packs, np.bool_)
    edge = np.empty(max(n, PAIR_MEMBERS) + 1, np.int64)
    pair_key, pair_spare = np.empty(pairs, np.int64), np.empty(pairs, np.int64)
    for row in range(num_rows):
        table = tables[table_index[row]]
        least = np.int64(2**62)
        for restart in range(table.shape[0]):
            for i in range(n):
                key[i] = ((whole[row, i] * np.int64(table[restart, i])) >> KEY_SHIFT) << ITEM_BITS | (_LAST - i)
            ordered = bucket_sort(key, spare, real, bits, buckets, edge)
            for t in range(n):
                i = _LAST - (ordered[t] & _LAST)
                if restart == 0:  # the exact order makes the members
                    weight[t], item[t], member_of[i] = whole[row, i], i, t
                sequence[t] = member_of[i]
            greedy(weight, sequence, size, heap, count, pack_of)
            packs = gather_packs(weight, pack_of, count, member, held, load, order, spare_order, edge)
            if steps > 0:
                refine(
                    member, held, packs, target[row], steps, pair_sum, pair_number, stale, pair_key, pair_spare, edge
                )
            heaviest = packs[num_packs - 1] >> ITEM_BITS
            if heaviest < least:
                least, winner[row] = heaviest, restart
                for pack in range(num_packs):
                    for rank in range(size):
                        i = item[member[pack, rank]]
                        pack_index[row, i], rank_in_pack[row, i] = pack, rank
            if heaviest <= target[row]:
                break
