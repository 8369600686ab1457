"""The greedy start of one restart of one row, and the packs that it leaves."""

from __future__ import annotations

from trimtab_server.solvers.compiled.jit import compiled
from trimtab_server.solvers.compiled.sorting import Array, merge_sort

LOW = 0xFFFF
"""The low 16 bits of a key, which hold a pack."""


@compiled
def greedy(weight: Array, sequence: Array, size: int, heap: Array, count: Array, pack_of: Array) -> None:
    """Members in `sequence`, each to the lightest pack that is not full, ties to the lowest.

    Args:
        weight: [members] int64. sequence: [members] int64.
        size: members a pack holds.
        heap: [packs] int64, scratch: a binary heap of load << 16 | pack over the packs that are not full.
        count: [packs] int32, scratch.
        pack_of: [members] int32, the answer.
    """
    num_open = heap.size
    for pack in range(num_open):
        heap[pack] = pack
        count[pack] = 0
    for member in sequence:
        value = heap[0]
        pack = value & LOW
        pack_of[member] = pack
        count[pack] += 1
        if count[pack] < size:
            value += weight[member] << 16
        else:
            num_open -= 1
            value = heap[num_open]
        sift_down(heap, num_open, value)


@compiled
def sift_down(heap: Array, num_open: int, value: int) -> None:
    """Put `value` in the place of the heap's first, and the heap in order."""
    hole, child = 0, 1
    while child + 1 < num_open:
        least, other = heap[child], heap[child + 1]
        right = other < least
        least = other if right else least
        if least >= value:
            break
        heap[hole] = least
        hole = child + right
        child = 2 * hole + 1
    if child + 1 == num_open and heap[child] < value:
        heap[hole] = heap[child]
        hole = child
    heap[hole] = value


@compiled
def gather_packs(
    weight: Array,
    pack_of: Array,
    count: Array,
    member: Array,
    held: Array,
    load: Array,
    order: Array,
    spare: Array,
    edge: Array,
) -> Array:
    """The packs as refinement wants them.

    Args:
        weight, pack_of: [members], as `greedy` left them.
        count: [packs] int32, scratch. load, order, spare: [packs] int64, scratch. edge: [packs + 1] int64, scratch.
        member: [packs, size] int32, the members of each, ascending.
        held: [packs, size] int64, their weights.

    Returns:
        [packs]: load << 16 | pack, ascending (one of order and spare).
    """
    count[:] = 0
    load[:] = 0
    for m in range(weight.size):
        pack = pack_of[m]
        member[pack, count[pack]] = m
        held[pack, count[pack]] = weight[m]
        count[pack] += 1
        load[pack] += weight[m]
    for pack in range(load.size):
        order[pack] = -(load[pack] << 16 | pack)
    ordered = merge_sort(order, spare, edge)
    for pack in range(load.size):
        ordered[pack] = -ordered[pack]
    return ordered
