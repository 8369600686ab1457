"""The one way in which functions here are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

from trimtab_server.solvers.compiled import CACHE_FOLDER, NUMBA

Function = TypeVar("Function", bound=Callable[..., Any])


def without_memory(function: Function) -> Function:
    """As `compiled`, for what allocates nothing and never divides by 0: no reference is counted, no division checked.

    With arrays in tuples, counting references would take more time than the work.
    """
    return _compile(function, _nrt=False, error_model="numpy")


def compiled(function: Function) -> Function:
    """Compile without the GIL, kept on disk, and without fast mathematics: integers in, the same integers out."""
    return _compile(function)


def _compile(function: Function, **options: Any) -> Function:
    before = NUMBA.CACHE_DIR
    NUMBA.CACHE_DIR = str(CACHE_FOLDER or "")  # numba looks at it now; other users of numba keep their own
    try:
        return cast("Function", numba.njit(nogil=True, cache=CACHE_FOLDER is not None, **options)(function))
    finally:
        NUMBA.CACHE_DIR = before
