"""The numbers that every solver works on, and the rules that make all of them give the same bytes.

1. Loads become integers once, on the host (`quantize`): per row a power-of-two scale and round-half-even, so that the
   sum of a row stays below 2^40. Held as float64 or int64 they add up exactly, in any order. Every decision is made on
   these integers, so no order of summation, no device and no batch can change it.
2. The noise of an ordering is a table of integer multipliers in units of 2^-20 (`noise_table`), from splitmix64 of
   seed, restart and item. It depends on neither row nor batch; requests with other seeds share a solve and carry
   their own table.
3. An ordering goes by descending key, `(weight * multiplier >> 14) << 16 | (65535 - item)`: at most 63 bits, unique
   within a row, so any sort agrees and equal noisy weights go by ascending item. Restart 0 multiplies by exactly 1.
4. Ties: the lightest open pack, then the lowest pack; the smallest maximum, then the lowest restart.
5. Reported figures are made on the host, in float64, from the integers.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

SUM_BITS = 40
"""A row of integers sums to less than 2^SUM_BITS."""
MULTIPLIER_BITS = 20
"""A multiplier of 1 is 2^MULTIPLIER_BITS; noise reaches 1, so multipliers stay at or below twice that."""
KEY_SHIFT = 14
ITEM_BITS = 16
MAX_ITEMS = 1 << ITEM_BITS
"""Items a row can have: their index fills a key's low bits."""
MAX_PACKS = 1 << (53 - SUM_BITS)
"""Packs a row can have: (load, pack) then fits the 53 bits that a float64 holds exactly."""

_CACHED_TABLE_BYTES = 1 << 20
_COARSE_BITS = 52

Integers = npt.NDArray[np.float64]
"""Whole numbers held as float64."""


def quantize(weight: npt.NDArray[Any]) -> tuple[Integers, npt.NDArray[np.int32]]:
    """The rows of `weight` as whole numbers, each row on its own power-of-two scale.

    Args:
        weight: [rows, items], finite and at least 0.

    Returns:
        whole: [rows, items], each row's sum below 2^40.
        exponent: [rows]; `weight` is about `ldexp(whole, exponent)`.
    """
    values: Integers = np.asarray(weight, np.float64)
    # Two steps, since the scale hangs on the row's sum and a sum of floats on its order: first by the largest item,
    # with room for all of them in an int64, then by the exact sum of those.
    coarse_bits = min(_COARSE_BITS, 62 - values.shape[1].bit_length())
    peak = np.frexp(values.max(axis=1))[1]
    coarse = _scaled(values, coarse_bits - peak)
    size = np.frexp(coarse.astype(np.int64).sum(axis=1).astype(np.float64))[1]
    exponent = peak - coarse_bits + size - (SUM_BITS - 1)
    return _scaled(values, -exponent), exponent.astype(np.int32)


def _scaled(values: Integers, exponent: npt.NDArray[Any]) -> Integers:
    """rint(values * 2^exponent) per row, in two factors since 2^exponent alone may not fit a float64."""
    half = exponent // 2
    first, second = np.ldexp(1.0, half), np.ldexp(1.0, exponent - half)
    scaled: Integers = values * first[:, None]
    scaled *= second[:, None]
    np.rint(scaled, out=scaled)
    return scaled


def noise_table(
    num_items: int, num_restarts: int, noise_min: float, noise_max: float, seed: int
) -> npt.NDArray[np.int32]:
    """[num_restarts, num_items]: multipliers in units of 2^-20, read-only.

    Restart 0 is all ones (the exact ordering); restart r multiplies by `1 + u * scale`, u uniform in [0, 1) and scale
    evenly spaced from noise_min to noise_max over the restarts 1 to num_restarts - 1.
    """
    make = _cached_table if num_items * num_restarts * 4 <= _CACHED_TABLE_BYTES else _table
    return make(num_items, num_restarts, noise_min, noise_max, seed)


def _table(num_items: int, num_restarts: int, noise_min: float, noise_max: float, seed: int) -> npt.NDArray[np.int32]:
    restart = np.arange(num_restarts, dtype=np.uint64)[:, None]
    item = np.arange(num_items, dtype=np.uint64)[None, :]
    uniform = splitmix64(splitmix64(np.uint64(seed) ^ splitmix64(restart)) + item) >> np.uint64(32)
    scale = np.zeros(num_restarts, np.uint64)
    if num_restarts > 1:
        steps = np.arange(num_restarts - 1) / max(num_restarts - 2, 1)
        scale[1:] = np.rint((noise_min + (noise_max - noise_min) * steps) * (1 << MULTIPLIER_BITS))
    noise: npt.NDArray[np.uint64] = (uniform * scale[:, None]) >> np.uint64(32)
    table: npt.NDArray[np.int32] = noise.astype(np.int32) + np.int32(1 << MULTIPLIER_BITS)
    table.flags.writeable = False
    return table


_cached_table = lru_cache(maxsize=64)(_table)


def splitmix64(state: npt.NDArray[np.uint64] | np.uint64) -> npt.NDArray[np.uint64]:
    """One step of Steele, Lea and Flood's SplitMix64 from each state (arithmetic modulo 2^64)."""
    with np.errstate(over="ignore"):
        mixed: npt.NDArray[np.uint64] = np.asarray(state, np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
        return mixed


def ordering_keys(
    whole: Integers, tables: npt.NDArray[np.int32], table_index: npt.NDArray[Any]
) -> npt.NDArray[np.int64]:
    """[rows, restarts, items]: the keys of rule 3, to be taken in descending order.

    Args:
        whole: [rows, items], from `quantize`.
        tables: [tables, restarts, items], from `noise_table`.
        table_index: [rows], the table of each row.
    """
    # ((weight * multiplier) >> 14) << 16 in one pass less: times four, and the low bits cleared
    weight = whole.astype(np.int64) << (ITEM_BITS - KEY_SHIFT)
    keys: npt.NDArray[np.int64] = weight[:, None, :] * tables[table_index]
    keys &= -MAX_ITEMS
    keys |= MAX_ITEMS - 1 - np.arange(whole.shape[1])
    return keys


def items_of(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The items that keys stand for."""
    return (MAX_ITEMS - 1) - (keys & (MAX_ITEMS - 1))
