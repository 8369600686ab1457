"""The number rules: what makes "the same bytes" possible."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trimtab_server.solvers import numbers

finite = st.floats(0, 1e30, allow_subnormal=True)
rows = hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=finite)


@given(rows)
def test_a_row_becomes_whole_numbers_below_two_to_the_forty(weight: numbers.Integers) -> None:
    """Whole, not negative, sum below 2^40, at least 2^38 where there is load."""
    whole, _ = numbers.quantize(weight)
    assert (whole == np.rint(whole)).all()
    assert (whole >= 0).all()
    sums = whole.sum(axis=1)
    assert (sums < 2.0**numbers.SUM_BITS).all()
    assert (sums[weight.max(axis=1) > 0] >= 2.0 ** (numbers.SUM_BITS - 2) - weight.shape[1]).all()


@given(rows)
def test_the_scale_gives_the_weights_back(weight: numbers.Integers) -> None:
    """Half a step at most is lost of each weight."""
    whole, exponent = numbers.quantize(weight)
    for row, back, step in zip(weight, whole, exponent, strict=True):
        for value, integer in zip(row, back, strict=True):
            assert abs(math.ldexp(integer, int(step)) - value) <= math.ldexp(0.5, int(step))


@given(rows, st.randoms(use_true_random=False))
def test_neither_neighbours_nor_order_change_a_row(weight: numbers.Integers, random: object) -> None:
    """A row alone, and with its items in another order, becomes the same numbers."""
    whole, exponent = numbers.quantize(weight)
    order = np.arange(weight.shape[1])
    random.shuffle(order)  # type: ignore[attr-defined]
    for row in range(len(weight)):
        alone, scale = numbers.quantize(weight[row : row + 1, order])
        np.testing.assert_array_equal(alone[0], whole[row, order])
        assert scale[0] == exponent[row]


@given(rows, st.integers(-60, 60))
def test_a_power_of_two_in_the_unit_changes_nothing(weight: numbers.Integers, power: int) -> None:
    """Scaling all loads by a power of two gives the same whole numbers."""
    weight = np.where(weight < 1e-200, 0.0, weight)  # nothing lost to subnormal numbers
    np.testing.assert_array_equal(numbers.quantize(weight)[0], numbers.quantize(np.ldexp(weight, power))[0])


@pytest.mark.parametrize("scale", [5e-324, 1e-308, 1e-30, 1.0, 1e30, 1e38])
@pytest.mark.parametrize("num_items", [1, 288, 8192, 65536])
def test_extreme_ranges_and_widths_stay_in_bounds(scale: float, num_items: int) -> None:
    """One heavy item among many, and all alike, from subnormal numbers to 1e38."""
    weight = np.full((2, num_items), scale / num_items if scale > 1 else scale)
    weight[1, 0] = scale
    whole, _ = numbers.quantize(weight)
    assert (whole.sum(axis=1) < 2.0**numbers.SUM_BITS).all()
    assert (whole.max(axis=1) > 0).all()


def test_layers_without_load_stay_zero() -> None:
    """Zeros have no scale, and need none."""
    whole, _ = numbers.quantize(np.zeros((3, 5)))
    assert not whole.any()


def test_splitmix64_is_the_published_one() -> None:
    """The first outputs for seed 0, as its authors' C code prints them."""
    golden = 0x9E3779B97F4A7C15
    states = np.array([(i * golden) % 2**64 for i in range(3)], np.uint64)
    assert [hex(x) for x in numbers.splitmix64(states)] == [
        "0xe220a8397b1dcdaf",
        "0x6e789e6aa1b965f4",
        "0x6c45d188009454f",
    ]


def test_the_first_restart_is_exact_and_noise_grows() -> None:
    """Multipliers: exactly 1, then up to 1 + scale with scale from noise_min to noise_max."""
    one = 1 << numbers.MULTIPLIER_BITS
    table = numbers.noise_table(4096, 8, 0.01, 0.15, 0)
    noise = (table - one) / one
    assert not noise[0].any()
    for restart in range(1, 8):
        scale = 0.01 + 0.14 * (restart - 1) / 6
        assert noise[restart].min() >= 0
        assert noise[restart].max() < scale
        assert noise[restart].mean() == pytest.approx(scale / 2, rel=0.05)


def test_two_restarts_use_the_least_noise() -> None:
    """With one noisy restart its scale is noise_min."""
    one = 1 << numbers.MULTIPLIER_BITS
    assert (numbers.noise_table(4096, 2, 0.01, 0.15, 0)[1].max() - one) / one < 0.01


def test_noise_hangs_on_seed_restart_and_item_alone() -> None:
    """More items add to a table and change nothing in it; another seed changes it."""
    table = numbers.noise_table(100, 4, 0.1, 0.1, 7)
    np.testing.assert_array_equal(table, numbers.noise_table(300, 4, 0.1, 0.1, 7)[:, :100])
    assert (table[1:] != numbers.noise_table(100, 4, 0.1, 0.1, 8)[1:]).mean() > 0.99
    assert (table[1] != table[2]).mean() > 0.99


def test_noise_takes_every_seed_and_large_tables() -> None:
    """The whole range of a fixed64, and a table too large to keep."""
    assert numbers.noise_table(8, 2, 0.1, 0.1, 2**64 - 1).shape == (2, 8)
    large = numbers.noise_table(65536, 8, 0.0, 1.0, 3)
    assert large.max() < 2 << numbers.MULTIPLIER_BITS


@given(rows)
def test_keys_order_by_noisy_weight_then_item(weight: numbers.Integers) -> None:
    """Against Python's own integers and sort."""
    whole, _ = numbers.quantize(weight)
    table = numbers.noise_table(weight.shape[1], 3, 0.0, 1.0, 5)
    keys = numbers.ordering_keys(whole, table[None], np.zeros(len(whole), np.int64))
    assert keys.min() >= 0
    for row in range(len(whole)):
        for restart in range(3):
            noisy = [int(w) * int(m) >> numbers.KEY_SHIFT for w, m in zip(whole[row], table[restart], strict=True)]
            expected = sorted(range(len(noisy)), key=lambda item: (-noisy[item], item))
            assert numbers.items_of(np.sort(keys[row, restart])[::-1]).tolist() == expected
