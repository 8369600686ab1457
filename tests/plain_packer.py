"""The restart packer's rules by brute force, in plain Python integers: no heap, no staircase, no bound, no early exit.

Slow and short on purpose: this is what `solvers.numbers` and `solvers.rules` say, and the solvers are held to it.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from trimtab_server.solvers.numbers import ITEM_BITS, KEY_SHIFT, MAX_ITEMS
from trimtab_server.solvers.problem import PackResult, PackTask
from trimtab_server.solvers.rules import PAIR_MEMBERS, PAIR_PARTNERS, SINGLE_PARTNERS, max_steps

Packs = list[list[int]]  # the items of each pack
Weight = list[int]


class PlainPacker:
    """A `problem.Packer`, for tests."""

    name = "plain"
    device = "cpu"

    def memory_bytes(self) -> int:
        return 0

    def pack(self, task: PackTask) -> PackResult:
        pack_index, rank_in_pack = np.empty((2, *task.whole.shape), np.int32)
        winners = np.empty(len(task.whole), np.int32)
        for row, (whole, table, target) in enumerate(zip(task.whole, task.table_index, task.target, strict=True)):
            weight = [int(w) for w in whole]
            multipliers = task.tables[table].tolist()
            winners[row], packs = best_restart(weight, multipliers, task.num_packs, int(target), refined=task.refine)
            for pack, items in enumerate(packs):
                for rank, item in enumerate(in_order(items, weight)):
                    pack_index[row, item], rank_in_pack[row, item] = pack, rank
        return PackResult(pack_index, rank_in_pack, winners, self.name, self.device)


def best_restart(
    weight: Weight, multipliers: list[list[int]], num_packs: int, target: int, *, refined: bool
) -> tuple[int, Packs]:
    outcomes = []
    for restart, multiplier in enumerate(multipliers):
        packs = greedy(weight, multiplier, num_packs)
        if refined:
            refine(packs, weight, target)
        largest = max(loads(packs, weight))
        outcomes.append((0 if largest <= target else largest, restart, packs))
    _, winner, packs = min(outcomes, key=lambda outcome: outcome[:2])
    return winner, packs


def greedy(weight: Weight, multiplier: list[int], num_packs: int) -> Packs:
    size = len(weight) // num_packs
    key = [
        (w * m >> KEY_SHIFT) << ITEM_BITS | (MAX_ITEMS - 1 - item)
        for item, (w, m) in enumerate(zip(weight, multiplier, strict=True))
    ]
    packs: Packs = [[] for _ in range(num_packs)]
    for item in sorted(range(len(weight)), key=lambda item: -key[item]):
        load = loads(packs, weight)
        pack = min((p for p in range(num_packs) if len(packs[p]) < size), key=lambda p: (load[p], p))
        packs[pack].append(item)
    return packs


def refine(packs: Packs, weight: Weight, target: int) -> None:
    for _ in range(max_steps(len(packs))):
        load = loads(packs, weight)
        top = load.index(max(load))
        if load[top] <= target:
            return
        for members, partners in ((1, SINGLE_PARTNERS), (2, PAIR_PARTNERS), (1, len(packs))):
            swap = best_swap(packs, weight, top, target, members=members, partners=partners)
            if swap:
                break
        if swap is None:
            return
        partner, given, received = swap
        packs[top] = [item for item in packs[top] if item not in given] + list(received)
        packs[partner] = [item for item in packs[partner] if item not in received] + list(given)


def best_swap(
    packs: Packs, weight: Weight, top: int, target: int, *, members: int, partners: int
) -> tuple[int, tuple[int, ...], tuple[int, ...]] | None:
    """The partner, the items given and those received; None where nothing lowers the maximum."""
    load = loads(packs, weight)
    lightest = sorted(range(len(packs)), key=lambda pack: (load[pack], pack))[: min(partners, len(packs) - 1)]
    best_of_each = []
    for place, partner in enumerate(lightest):
        found = []
        for i, given in enumerate(groups(packs[top], weight, members)):
            for j, received in enumerate(groups(packs[partner], weight, members)):
                net = sum(weight[item] for item in given) - sum(weight[item] for item in received)
                found.append((max(load[top] - net, load[partner] + net), i, j, given, received))
        if found:
            value, _, _, given, received = min(found, key=lambda swap: swap[:3])
            best_of_each.append((max(value, target), place, value, partner, given, received))
    if not best_of_each:
        return None
    _, _, value, partner, given, received = min(best_of_each, key=lambda swap: swap[:2])
    return (partner, given, received) if value < load[top] else None


def groups(items: list[int], weight: Weight, members: int) -> list[tuple[int, ...]]:
    """Singles by rank, or pairs by (descending sum, number)."""
    ranked = in_order(items, weight)
    if members == 1:
        return [(item,) for item in ranked]
    pairs: list[tuple[int, ...]] = list(combinations(ranked[-PAIR_MEMBERS:], 2))
    return sorted(pairs, key=lambda pair: (-weight[pair[0]] - weight[pair[1]], pairs.index(pair)))


def in_order(items: list[int], weight: Weight) -> list[int]:
    return sorted(items, key=lambda item: (-weight[item], item))


def loads(packs: Packs, weight: Weight) -> list[int]:
    return [sum(weight[item] for item in pack) for pack in packs]
