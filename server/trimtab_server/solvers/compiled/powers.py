"""High powers by repeated squaring, one kernel an exponent: the compiler makes vectors of loops that it can unroll.

Arrays come whole, with how much of them counts: a part of a table would not be known to be contiguous.
"""

from __future__ import annotations

from collections.abc import Callable

from trimtab_server.solvers.compiled.jit import without_memory
from trimtab_server.solvers.compiled.sorting import Array

LOW, MIDDLE, HIGH = 4, 6, 9
"""The exponents of the search, 16, 64 and 512, as powers of two."""


@without_memory
def raised(value: float, squarings: int) -> float:
    """Value ** (2 ** squarings)."""
    for _ in range(squarings):
        value *= value
    return value


def _pair_kernel(squarings: int) -> Callable[..., None]:
    def add_pair(
        out: Array,
        rows: int,
        columns: int,
        given: Array,
        start: Array,
        back: Array,
        base: Array,
        slowness: Array,
        speed: Array,
        of: float,
    ) -> None:
        for i in range(rows):
            amount, at, total = given[i], start[i], out[i]
            for k in range(columns):
                here = at + back[k]
                there = base[k] + amount * slowness[k]
                for _ in range(squarings):
                    here *= here
                    there *= there
                total[k] += of * here + speed[k] * there

    return without_memory(add_pair)


def _single_kernel(squarings: int) -> Callable[..., None]:
    def add_single(
        out: Array, rows: int, columns: int, given: Array, base: Array, slowness: Array, speed: Array
    ) -> None:
        for i in range(rows):
            amount, total = given[i], out[i]
            for k in range(columns):
                there = base[k] + amount * slowness[k]
                for _ in range(squarings):
                    there *= there
                total[k] += speed[k] * there

    return without_memory(add_single)


_PAIR_LOW, _PAIR_MIDDLE, _PAIR_HIGH = _pair_kernel(LOW), _pair_kernel(MIDDLE), _pair_kernel(HIGH)
_SINGLE_LOW, _SINGLE_MIDDLE, _SINGLE_HIGH = _single_kernel(LOW), _single_kernel(MIDDLE), _single_kernel(HIGH)


@without_memory
def add_pair(
    squarings: int,
    out: Array,
    rows: int,
    columns: int,
    given: Array,
    start: Array,
    back: Array,
    base: Array,
    slowness: Array,
    speed: Array,
    of: float,
) -> None:
    """What both GPUs of swaps would weigh in the smooth maximum, with p = 2^squarings.

    `out[i, k] += of * (start[i] + back[k])^p + speed[k] * (base[k] + given[i] * slowness[k])^p`
    """
    if squarings == LOW:
        _PAIR_LOW(out, rows, columns, given, start, back, base, slowness, speed, of)
    elif squarings == MIDDLE:
        _PAIR_MIDDLE(out, rows, columns, given, start, back, base, slowness, speed, of)
    else:
        _PAIR_HIGH(out, rows, columns, given, start, back, base, slowness, speed, of)


@without_memory
def add_single(
    squarings: int, out: Array, rows: int, columns: int, given: Array, base: Array, slowness: Array, speed: Array
) -> None:
    """What GPUs that get a replica would weigh: `out[i, k] += speed[k] * (base[k] + given[i] * slowness[k])^p`."""
    if squarings == LOW:
        _SINGLE_LOW(out, rows, columns, given, base, slowness, speed)
    elif squarings == MIDDLE:
        _SINGLE_MIDDLE(out, rows, columns, given, base, slowness, speed)
    else:
        _SINGLE_HIGH(out, rows, columns, given, base, slowness, speed)
