"""Figures of reports, against plain ones: who carries what, where copies come from, where to stop, what it is worth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.report_cases import gpus_of, plain_sources, random_case
from trimtab import Client
from trimtab.cli.cost_model import CostModel
from trimtab.cli.report.findings import find_worth, gain_points, hottest_experts
from trimtab.cli.report.gpu_loads import Gpus, measure_gpus, pool, told_range
from trimtab.cli.report.transfers import find_transfers
from trimtab.synthetic import generate_loads

CLUSTERS: list[dict[str, Any]] = [
    {},
    {"inactive": (1,)},
    {"speed": (1.0, 0.5, 2.0, 1.0)},
    {"inactive": (0, 3), "speed": (1.0, 0.5, 2.0, 1.0)},
]


@pytest.mark.parametrize("cluster", CLUSTERS, ids=["plain", "inactive", "speed", "both"])
def test_gpu_loads_are_those_counted_one_by_one(cluster: dict[str, Any]) -> None:
    """Mean over the windows with load; nan for layers without any and for dead GPUs, and nowhere else."""
    for seed in range(5):
        case = random_case(seed, **cluster)
        found = measure_gpus(case.windows, case.after, gpus_of(case))
        live = [gpu for gpu in range(case.num_gpus) if gpu not in case.inactive]
        for layer in range(len(case.after)):
            windows = case.levels(case.after, layer)
            expected = np.full(case.num_gpus, np.nan)
            if windows:
                expected[live] = np.mean(windows, axis=0)
            np.testing.assert_allclose(found.level[layer], expected, rtol=1e-12)
        np.testing.assert_allclose(found.balancedness, case.balancedness(case.after), rtol=1e-12)
        assert np.isnan(found.balancedness).tolist() == [False, True, False, False]


def test_gpu_loads_agree_with_the_solver() -> None:
    """Balancedness before and after, with a dead GPU, a slow one and two windows, is what the answer says."""
    load = generate_loads(3, 16, num_windows=2, drift=0.3, seed=1)
    asked: dict[str, Any] = {"num_gpus": 4, "inactive_gpus": [2], "gpu_speed": [1, 0.5, 1, 1]}
    with Client("local") as client:
        old = client.rebalance(load[0], num_gpus=4, num_replicas=24).physical_to_logical
        new = client.rebalance(load, num_replicas=24, previous=old, **asked)
    gpus = Gpus(4, [2], [1, 0.5, 1, 1])
    for slots, told in ((old, new.balancedness_before), (new.physical_to_logical, new.balancedness_after)):
        np.testing.assert_allclose(measure_gpus(load, slots, gpus).balancedness, told, rtol=1e-9)
    assert find_transfers(old, new.physical_to_logical, gpus).num_moves == new.moves.sum()


@pytest.mark.parametrize("inactive", [(), (1,), (0, 2)], ids=str)
def test_moves_come_from_where_the_rule_says(inactive: tuple[int, ...]) -> None:
    """Every move has one source: a live holder, storage, or the GPU itself."""
    kinds = np.zeros(3, np.int64)
    for seed in range(8):
        case = random_case(seed, inactive=inactive)
        after = case.after.copy()
        after.reshape(len(after), case.num_gpus, -1)[:, list(inactive)] = -1
        case = replace(case, after=after)
        found = find_transfers(case.before, after, gpus_of(case))
        sent, loaded, local = plain_sources(case)
        assert {(int(a), int(b)): int(found.sent[a, b]) for a, b in np.argwhere(found.sent)} == sent
        assert found.loaded.tolist() == loaded
        assert found.local.tolist() == local
        assert found.num_moves == case.placement.moves.sum()
        kinds += [found.sent.sum(), found.loaded.sum(), found.local.sum()]
    assert (kinds > 0).tolist() == [True, bool(inactive), True]


def test_without_a_placement_before_all_is_loaded() -> None:
    """Copies from nowhere are loaded by the GPU that gets them."""
    case = random_case(0)
    found = find_transfers(None, case.after, gpus_of(case))
    held = [sum(len(case.held(case.after, layer, gpu)) for layer in range(4)) for gpu in range(4)]
    assert found.loaded.tolist() == held
    assert found.sent.sum() + found.local.sum() == 0


def test_hottest_experts_are_those_counted_one_by_one() -> None:
    """Load over the mean of the layer's experts in the windows with load, and the live GPUs that hold them."""
    case = random_case(3, inactive=(1,))
    found = hottest_experts(case.windows, case.before, case.after, gpus_of(case), 12)
    shares = []
    for layer in range(4):
        live = [window for window in case.windows[:, layer].tolist() if sum(window)]
        for expert in range(10):
            share = sum(window[expert] / (sum(window) / 10) for window in live) / len(live) if live else 0.0
            shares.append((-share, layer, expert))
    assert [(hot.layer, hot.expert) for hot in found] == [(layer, expert) for _, layer, expert in sorted(shares)[:12]]
    assert [hot.share for hot in found] == pytest.approx([-share for share, _, _ in sorted(shares)[:12]])
    for hot in found:
        for slots, gpus in ((case.before, hot.gpus_before), (case.after, hot.gpus_after)):
            held = [gpu for gpu in (0, 2, 3) for expert in case.held(slots, hot.layer, gpu) if expert == hot.expert]
            assert list(gpus) == held


def test_experts_without_load_are_not_hot() -> None:
    """Where there are fewer with load than asked for, only those are told."""
    windows = np.zeros((1, 2, 3))
    windows[0, 1, 2] = 5.0
    slots = np.array([[0, 1, 2], [0, 1, 2]])
    (hot,) = hottest_experts(windows, None, slots, Gpus(3), 20)
    assert (hot.layer, hot.expert, hot.share, hot.gpus_before, hot.gpus_after) == (1, 2, 3.0, (), (2,))


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ([(0, 0.5), (10, 0.9), (110, 1.0)], [(7, 0.78), (60, 0.95)]),
        ([(4, 0.5), (10, 0.5), (20, 0.7)], [(15, 0.6), (19, 0.68)]),
        ([(0, 0.8), (7, 0.8)], []),
        ([(3, 0.8)], []),
        ([], []),
    ],
)
def test_the_points_to_stop_at(curve: list[tuple[float, float]], expected: list[tuple[int, float]]) -> None:
    """The least whole number of moves with half, and with nine tenths, of the gain; none where nothing is gained."""
    points = gain_points(np.array(curve, np.float64).reshape(-1, 2), (0.5, 0.9))
    assert [point.moves for point in points] == [moves for moves, _ in expected]
    assert [point.balancedness for point in points] == pytest.approx([balancedness for _, balancedness in expected])


def test_what_a_rebalance_is_worth() -> None:
    """Time lost is the MoE share of what is idle; moves take what the GPU that gets most of them receives."""
    worth = find_worth(CostModel(), 0.8, 0.95, 100)
    assert (worth.lost_before, worth.lost_after) == pytest.approx((0.08, 0.02))
    assert worth.seconds_of_moves == pytest.approx(100 * 42 * 2**20 * 8 / 400e9)
    assert worth.seconds_to_pay_back == pytest.approx(worth.seconds_of_moves / 0.06)
    assert find_worth(CostModel(), 0.9, 0.9, 1).seconds_to_pay_back is None
    assert find_worth(CostModel(), None, 0.9, 1).won is None


def test_neighbours_share_a_place_where_a_map_is_too_fine() -> None:
    """By the rule, the last of them with fewer; nan only where all of them are."""
    values = np.arange(35, dtype=float).reshape(5, 7)
    values[0, :2] = values[:2, 4:6] = np.nan
    pooled = [[8, 10, np.nan, 13], [22, 24, 26, 27], [29, 31, 33, 34]]
    np.testing.assert_array_equal(pool(values, 4, np.fmax), pooled)
    assert pool(np.ones((3, 3)), 2, np.add).tolist() == [[4, 2], [2, 1]]
    layers = [3, 4, 9]
    assert [told_range("layer", layers, place, 2) for place in (0, 1)] == ["layers 3 to 4", "layer 9"]
