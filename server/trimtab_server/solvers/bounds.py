"""What no packing can beat: the lower bound of the heaviest pack's load."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trimtab_server.solvers.numbers import Integers


def lower_bound(whole: Integers, num_packs: int) -> npt.NDArray[np.float64]:
    """[rows]: the smallest max load that any packing of [rows, items] into packs of equal count could have.

    The largest of three bounds, with m packs of k items: the mean pack; the heaviest item with the k - 1 lightest
    beside it; and, for each j, since of the j*m + 1 heaviest items some pack holds j + 1: the j + 1 lightest of those
    and the k - j - 1 lightest of all. Exact on whole numbers (the mean may be a fraction).
    """
    num_items = whole.shape[1]
    size = num_items // num_packs
    ascending = np.sort(whole, axis=1)
    # lightest[:, i] is the sum of the i lightest items
    lightest = np.zeros((len(whole), num_items + 1))
    np.cumsum(ascending, axis=1, out=lightest[:, 1:])
    shared = np.arange(size)  # j, and j = 0 is the heaviest item's bound
    start = num_items - shared * num_packs - 1
    heavy = lightest[:, start + shared + 1] - lightest[:, start]
    crowded = heavy + lightest[:, size - shared - 1]
    bound: npt.NDArray[np.float64] = np.maximum(lightest[:, -1] / num_packs, crowded.max(axis=1))
    return bound
