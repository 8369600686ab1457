"""How many replicas each expert gets when placing from nothing."""

from __future__ import annotations

import numpy as np

from trimtab_server.solvers.compiled.jit import compiled
from trimtab_server.solvers.compiled.sorting import Array


@compiled
def replicate_rows(load: Array, most: int, expert: Array, share: Array) -> None:
    """One replica for every expert, and each further one for the expert with the most load per replica.

    The greedy rule of DeepSeek's EPLB, which gives the least largest share there can be.

    Args:
        load: [rows, E] float64, above 0. most: replicas that an expert may have.
        expert: [rows, items] int32, the answer: the expert of each item, every expert once, then those given out.
        share: [rows, items] float64, the answer: what each item carries.
    """
    experts, items = load.shape[1], expert.shape[1]
    count = np.empty(experts, np.int64)
    each = np.empty(experts)
    for r in range(load.shape[0]):
        for e in range(experts):
            count[e], each[e], expert[r, e] = 1, load[r, e], e
        for item in range(experts, items):
            hottest = -1
            for e in range(experts):
                if count[e] < most and (hottest < 0 or each[e] > each[hottest]):
                    hottest = e
            expert[r, item] = hottest
            count[hottest] += 1
            each[hottest] = load[r, hottest] / count[hottest]
        for item in range(items):
            share[r, item] = each[expert[r, item]]
