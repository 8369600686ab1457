"""Sorts of unique int64 keys, descending. Keys are unique, so every sort agrees and the fastest may be taken."""

from __future__ import annotations

from typing import Any

import numpy as np

from trimtab_server.solvers.compiled.jit import compiled

Array = Any  # numba sees concrete arrays; what each holds stands in the docstrings


@compiled
def merge_runs(key: Array, spare: Array, edge: Array, runs: int) -> Array:
    """Keys in `runs` descending runs, beginning at edge[:runs], merged into one.

    Args:
        key: [n] int64, used up. spare: [n] int64.
        edge: [at least runs + 1] int64, used up.
        runs: how many.

    Returns:
        Whichever of key and spare holds the result.
    """
    edge[runs] = key.size
    while runs > 1:
        merged = 0
        for run in range(0, runs, 2):
            start, middle, end = edge[run], edge[run + 1], edge[min(run + 2, runs)]
            i, j, out = start, middle, start
            while i < middle and j < end:
                left = key[i] > key[j]
                spare[out] = key[i] if left else key[j]
                i += left
                j += not left
                out += 1
            while i < middle:
                spare[out] = key[i]
                i += 1
                out += 1
            while j < end:
                spare[out] = key[j]
                j += 1
                out += 1
            edge[merged] = start
            merged += 1
        edge[merged] = key.size
        runs = merged
        key, spare = spare, key
    return key


@compiled
def merge_sort(key: Array, spare: Array, edge: Array) -> Array:
    """As `merge_runs`, of keys in any order; edge [n + 1]."""
    for i in range(key.size):
        edge[i] = i
    return merge_runs(key, spare, edge, key.size)


@compiled
def bucket_sort(key: Array, spare: Array, real: Array, bits: Array, count: Array, edge: Array) -> Array:
    """As `merge_sort`, of keys of at least 0, for long arrays: four times as fast where keys are spread.

    Buckets are logarithmic (the top bits of the key as a float64, which order as the numbers do), then insertion puts
    each bucket in order; where that grows long, since keys cluster, merge sort takes over.

    Args:
        key: [n] int64. spare: [n] int64.
        real: [n] float64, and bits: the same memory as int64.
        count: [2n] int32, the buckets. edge: [n + 1] int64.
    """
    n = key.size
    low, high = np.int64(2**62), np.int64(0)
    for i in range(n):
        real[i] = key[i]
    for i in range(n):
        low, high = min(low, bits[i]), max(high, bits[i])
    shift = 0
    while (high - low) >> shift >= count.size:
        shift += 1
    count[:] = 0
    for i in range(n):
        bits[i] = (high - bits[i]) >> shift
        count[bits[i]] += 1
    position = 0
    for bucket in range(count.size):
        position, count[bucket] = position + count[bucket], position
    for i in range(n):
        spare[count[bits[i]]] = key[i]
        count[bits[i]] += 1
    budget = 8 * n
    for i in range(1, n):
        value, j = spare[i], i
        while j > 0 and spare[j - 1] < value:
            spare[j] = spare[j - 1]
            j -= 1
        spare[j] = value
        budget -= i - j
        if budget < 0:
            return merge_sort(key, spare, edge)
    return spare
