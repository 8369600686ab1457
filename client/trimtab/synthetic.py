"""Realistic expert loads from a seed, for demos, tests and benchmarks.

Modelled on published expert counts of DeepSeek-V3: popularity is lognormal within a layer, its spread differs from
layer to layer, no expert is idle, and every layer has an order of its own.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from trimtab.errors import InvalidArgumentError

Loads = npt.NDArray[np.int64]

TOKENS_PER_EXPERT = 65_536
"""Mean load of an expert in a window; every layer routes the same tokens, so all layers sum to the same."""

# With 256 experts: the hottest of a layer has 2.5 to 14 times the mean, the middle layer 5 to 7 times.
_SPREAD = (0.52, 0.92)
_FURTHEST = 3.2  # standard deviations; beyond them no real layer was seen to go


def generate_loads(
    num_layers: int = 58,
    num_experts: int = 256,
    num_windows: int | None = None,
    drift: float = 0.0,
    seed: int = 0,
) -> Loads:
    """Token counts that look like those of a serving Mixture-of-Experts model; the same arguments, the same counts.

    Args:
        num_layers: layers, each with its own hot experts.
        num_experts: logical experts in a layer.
        num_windows: samples in time, latest last; None for one window without that dimension.
        drift: how far popularity wanders from one window to the next, from 0 (not at all: windows differ by what
            sampling adds) to 1 (each window is new). The logarithms of popularity correlate by `1 - drift`; real
            decode and prefill profiles of one deployment correlate by 0.7 to 0.9.
        seed: chooses everything; the first window hangs on neither drift nor the number of windows.

    Returns:
        [num_layers, num_experts], or [num_windows, num_layers, num_experts].

    Raises:
        InvalidArgumentError: a size below 1, a drift outside [0, 1], or a negative seed.
    """
    _check(num_layers, num_experts, num_windows, drift, seed)
    random = np.random.default_rng(seed)
    spread = random.uniform(*_SPREAD, (num_layers, 1))
    popularity = random.standard_normal((num_layers, num_experts))
    loads = np.empty((num_windows or 1, num_layers, num_experts), np.int64)
    for window in loads:
        window[:] = _count_tokens(random, spread * popularity.clip(-_FURTHEST, _FURTHEST))
        fresh = random.standard_normal(popularity.shape)
        popularity = (1 - drift) * popularity + math.sqrt(1 - (1 - drift) ** 2) * fresh
    return loads[0] if num_windows is None else loads


def _count_tokens(random: np.random.Generator, log_popularity: npt.NDArray[np.float64]) -> Loads:
    popularity = np.exp(log_popularity)
    share = popularity / popularity.sum(axis=1, keepdims=True)
    return random.multinomial(TOKENS_PER_EXPERT * share.shape[1], share)


def _check(num_layers: int, num_experts: int, num_windows: int | None, drift: float, seed: int) -> None:
    sizes = {"num_layers": num_layers, "num_experts": num_experts, "num_windows": num_windows}
    for name, size in sizes.items():
        if size is not None and size < 1:
            raise InvalidArgumentError.of(name, f"must be at least 1, got {size}")
    if not 0 <= drift <= 1:  # false for nan too
        raise InvalidArgumentError.of("drift", f"must be from 0 to 1, got {drift}")
    if seed < 0:
        raise InvalidArgumentError.of("seed", f"must be at least 0, got {seed}")
