"""Replicas go, one by one, to the expert with the most load per replica."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trimtab.errors import InvalidArgumentError
from trimtab.replication import count_replicas, replicate_experts, slot_weight, slots_of_experts
from trimtab.synthetic import generate_loads


def by_hand(load: list[int], num_replicas: int) -> tuple[list[int], list[int]]:
    """The rule for one layer, in exact fractions."""
    slots, count = list(range(len(load))), [1] * len(load)
    while len(slots) < num_replicas:
        share = [Fraction(value, n) for value, n in zip(load, count, strict=True)]
        hottest = share.index(max(share))
        slots.append(hottest)
        count[hottest] += 1
    return slots, count


@given(
    hnp.arrays(np.int64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.integers(0, 12)),
    st.integers(0, 20),
)
def test_every_layer_follows_the_rule(load: npt.NDArray[np.int64], further: int) -> None:
    """All layers at once give what each gives by hand, ties and layers without load included."""
    num_replicas = load.shape[1] + further
    physical_to_logical, logical_count = replicate_experts(load, num_replicas)
    expected = [by_hand(row.tolist(), num_replicas) for row in load]
    assert physical_to_logical.tolist() == [slots for slots, _ in expected]
    assert logical_count.tolist() == [count for _, count in expected]
    assert physical_to_logical.dtype == logical_count.dtype == np.int64


def test_ties_go_to_the_lowest_expert() -> None:
    """Equal load per replica, also after sharing: 8 over 2 ties with 4."""
    physical_to_logical, logical_count = replicate_experts([[4, 8, 4]], 6)
    assert physical_to_logical.tolist() == [[0, 1, 2, 1, 0, 1]]
    assert logical_count.tolist() == [[2, 3, 1]]


def test_slots_share_the_load_of_their_expert_evenly() -> None:
    """The weights of an expert's slots are equal and add up to its load."""
    load = generate_loads(5, 32, seed=2)
    physical_to_logical, logical_count = replicate_experts(load, 40)
    weight = slot_weight(load, physical_to_logical, logical_count)
    assert weight.shape == (5, 40)
    for layer in range(5):
        back = np.bincount(physical_to_logical[layer], weight[layer], minlength=32)
        np.testing.assert_allclose(back, load[layer], rtol=1e-12)
        for expert in range(32):
            assert np.ptp(weight[layer][physical_to_logical[layer] == expert]) == 0


def test_without_further_replicas_slots_are_the_experts() -> None:
    """As many replicas as experts changes nothing."""
    load = generate_loads(2, 8)
    physical_to_logical, logical_count = replicate_experts(load, 8)
    np.testing.assert_array_equal(slot_weight(load, physical_to_logical, logical_count), load)


@pytest.mark.parametrize("make", [np.ndarray.tolist, torch.from_numpy, np.float32])
def test_loads_come_in_any_form(make: Any) -> None:
    """Lists, torch tensors and other dtypes give the same answer."""
    load = generate_loads(2, 8) // 16
    np.testing.assert_array_equal(replicate_experts(make(load), 12)[0], replicate_experts(load, 12)[0])


def test_no_other_replicas_make_the_hottest_slot_of_real_loads_cooler(traces: list[Path]) -> None:
    """Without its last replica, each replicated expert would have the hottest slot: so the rule is optimal."""
    for path in traces:
        load = np.array(json.loads(path.read_text())["logical_count"])
        physical_to_logical, logical_count = replicate_experts(load, 288)
        hottest = slot_weight(load, physical_to_logical, logical_count).max(axis=1, keepdims=True)
        several = logical_count > 1
        one_less = np.divide(load, logical_count - 1, out=np.zeros(load.shape), where=several)
        assert (one_less >= hottest)[several].all()
        assert (logical_count.sum(axis=1) == 288).all()
        assert (hottest[3:] < load[3:].max(axis=1, keepdims=True)).all()


@pytest.mark.parametrize(
    ("load", "num_replicas", "message"),
    [
        ([[1, 2, 3]], 2, "num_replicas: must be at least num_experts = 3, so that every expert has one, got 2"),
        ([1, 2], 2, "load: must have shape [num_layers, num_experts], got [2]"),
        (np.zeros((0, 4)), 4, "load: every size must be at least 1, got [0, 4]"),
        ([[1.0, float("nan")]], 2, "load: every load must be finite and at least 0, got nan at [0, 1]"),
        ([[1, 2], [-1, 2]], 2, "load: every load must be finite and at least 0, got -1.0 at [1, 0]"),
        ([["a"]], 2, "load: must hold integers or floats of up to 64 bits, got dtype <U1"),
    ],
)
def test_bad_arguments_are_named(load: Any, num_replicas: int, message: str) -> None:
    """Each mistake is told with its rule and numbers."""
    with pytest.raises(InvalidArgumentError) as caught:
        replicate_experts(load, num_replicas)
    assert str(caught.value) == message


@given(
    hnp.arrays(np.int64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.integers(-1, 5)),
    st.integers(6, 8),
)
def test_counts_and_slots_are_those_of_the_placement(placed: npt.NDArray[np.int64], num_experts: int) -> None:
    """Slot by slot: empty ones belong to nobody, an expert may have none, what is short is padded with -1."""
    counts, slots = count_replicas(placed, num_experts), slots_of_experts(placed, num_experts)
    assert counts.dtype == slots.dtype == np.int64
    assert slots.shape == (len(placed), num_experts, max(counts.max(), 1))
    for layer, row in enumerate(placed.tolist()):
        assert counts[layer].tolist() == [row.count(expert) for expert in range(num_experts)]
        for expert in range(num_experts):
            held = [slot for slot, there in enumerate(row) if there == expert]
            assert slots[layer, expert].tolist() == held + [-1] * (slots.shape[2] - len(held))


def test_the_maps_of_a_small_placement() -> None:
    """By hand, with an empty slot."""
    placed = np.array([[2, 0, -1, 2], [1, 1, 1, 0]])
    assert count_replicas(placed, 3).tolist() == [[1, 0, 2], [1, 3, 0]]
    assert slots_of_experts(placed, 3).tolist() == [
        [[1, -1, -1], [-1, -1, -1], [0, 3, -1]],
        [[3, -1, -1], [0, 1, 2], [-1, -1, -1]],
    ]
