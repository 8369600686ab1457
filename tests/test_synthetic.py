"""Generated loads look like real ones, and are the same for the same seed."""

import json
from pathlib import Path

import numpy as np
import pytest

from trimtab.errors import InvalidArgumentError
from trimtab.synthetic import TOKENS_PER_EXPERT, Loads, generate_loads


def correlation(first: Loads, second: Loads) -> float:
    """Of the logarithms, mean over layers."""
    pairs = zip(np.log(first), np.log(second), strict=True)
    return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs]))


def middle_peak(load: Loads) -> float:
    """The hottest expert over the mean, in the middle layer."""
    return float(np.median(load.max(axis=1) / load.mean(axis=1)))


def middle_spread(load: Loads) -> float:
    """The standard deviation of the logarithms, in the middle layer."""
    return float(np.median(np.log(load).std(axis=1)))


def test_shape_and_type() -> None:
    """Counts of [layers, experts], or of [windows, layers, experts] when asked for windows, even for one."""
    assert generate_loads().shape == (58, 256)
    assert generate_loads(3, 7, num_windows=1).shape == (1, 3, 7)
    assert generate_loads(3, 7, num_windows=4).shape == (4, 3, 7)
    assert generate_loads(1, 1).dtype == np.int64


def test_a_seed_decides_everything() -> None:
    """The same arguments give the same counts; another seed gives others."""
    first, again = (generate_loads(num_windows=2, drift=0.3, seed=5) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (generate_loads(seed=6) != first[0]).mean() > 0.99


def test_the_first_window_hangs_on_the_seed_alone() -> None:
    """Asking for more windows, or for drift, keeps the first one."""
    np.testing.assert_array_equal(generate_loads(seed=3), generate_loads(num_windows=3, drift=0.5, seed=3)[0])


@pytest.mark.parametrize("seed", range(8))
def test_popularity_is_as_skewed_as_in_real_layers(seed: int) -> None:
    """The hottest expert has about 2.6 to 13.7 times the mean, 5 to 8 times in the middle layer; none is idle."""
    load = generate_loads(seed=seed)
    peak = load.max(axis=1) / load.mean(axis=1)
    assert 2.4 < peak.min() < 4
    assert 4.7 < np.median(peak) < 8
    assert 7 < peak.max() < 14.5
    assert load.min() > 0.01 * TOKENS_PER_EXPERT
    assert set(load.sum(axis=1)) == {256 * TOKENS_PER_EXPERT}


def test_it_looks_like_the_real_loads(traces: list[Path]) -> None:
    """Middle peak and spread of the logarithms lie between those of the real files, widened by a tenth."""
    real = [np.array(json.loads(path.read_text())["logical_count"]) for path in traces]
    made = generate_loads(seed=1)
    for figure in (middle_peak, middle_spread):
        seen = [figure(load[load.sum(axis=1) > 0]) for load in real]
        assert 0.9 * min(seen) < figure(made) < 1.1 * max(seen)


def test_every_layer_has_an_order_of_its_own() -> None:
    """No layer tells anything about the next, and no expert is hot everywhere."""
    load = generate_loads()
    assert abs(correlation(load[:-1], load[1:])) < 0.05
    assert load.mean(axis=0).max() < 2 * TOKENS_PER_EXPERT


@pytest.mark.parametrize("drift", [0.0, 0.2, 0.7, 1.0])
def test_drift_is_how_far_windows_wander(drift: float) -> None:
    """One window correlates with the next by `1 - drift`, and the skew stays what it was after many."""
    load = generate_loads(20, num_windows=30, drift=drift)
    for earlier in (0, 28):
        assert correlation(load[earlier], load[earlier + 1]) == pytest.approx(1 - drift, abs=0.06)
    spread = np.log(load).std(axis=2).mean(axis=1)
    assert spread[-1] == pytest.approx(spread[0], rel=0.1)
    assert (load[0] != load[1]).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_layers": 0}, "num_layers: must be at least 1, got 0"),
        ({"num_experts": -3}, "num_experts: must be at least 1, got -3"),
        ({"num_windows": 0}, "num_windows: must be at least 1, got 0"),
        ({"drift": 1.5}, "drift: must be from 0 to 1, got 1.5"),
        ({"drift": float("nan")}, "drift: must be from 0 to 1, got nan"),
        ({"seed": -1}, "seed: must be at least 0, got -1"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, int], message: str) -> None:
    """Each mistake is told with its rule and number."""
    with pytest.raises(InvalidArgumentError) as caught:
        generate_loads(**arguments)
    assert str(caught.value) == message
