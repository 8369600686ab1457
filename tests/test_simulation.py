"""The simulation of a replay and its figures: nothing is judged on what it was made from, and all is counted right."""

from typing import Any

import numpy as np
import pytest

from trimtab.cli.cost_model import CostModel
from trimtab.cli.judging import count_received, layer_balancedness
from trimtab.cli.replay import Plan, ReplayReport, in_words
from trimtab.cli.simulation import Policy, Schedule, Series, Simulation

FIRST = np.array([[0, 1, 2, 3]])
SWAPPED = np.array([[0, 2, 1, 3]])


class Recorder:
    """Places as it is told, and remembers what it was given: windows by their number, and what was in force."""

    def __init__(self, *placements: Any) -> None:
        self.placements = list(placements)
        self.asked: list[tuple[list[int], Any]] = []

    def __call__(self, past: Any, in_force: Any) -> Any:
        self.asked.append((past[:, 0, 0].tolist(), None if in_force is None else in_force.tolist()))
        return self.placements[(len(self.asked) - 1) % len(self.placements)]


def numbered(count: int) -> Any:
    """Windows [count, 1, 4], each filled with its number: the same balancedness in all but the first."""
    return np.broadcast_to(np.arange(count)[:, None, None], (count, 1, 4)).copy()


def simulate(policy: Policy, place: Recorder, *, windows: int = 8, history: int = 1, interval: int = 1) -> Series:
    """Two GPUs of two slots, four experts."""
    return Simulation(numbered(windows), 2, Schedule(history, interval), FIRST, place).run(policy)


def test_nothing_is_judged_on_what_it_was_made_from() -> None:
    """Every placement is made from windows before those it is judged on, whatever history and interval."""
    for history in (1, 2, 3):
        for interval in (1, 2, 3):
            place = Recorder(SWAPPED)
            series = simulate("fresh", place, history=history, interval=interval)
            judged_from = series.window[series.rebalanced].tolist()
            assert judged_from == list(range(history + interval, 8, interval))
            assert [past for past, _ in place.asked] == [list(range(w - history, w)) for w in judged_from]
            assert series.window.tolist() == list(range(history, 8))


def test_policies_place_from_what_they_say() -> None:
    """`none` never, `fresh` from nothing, `budgeted` from what is in force by then."""
    asked = {}
    for policy in ("none", "fresh", "budgeted"):
        place = Recorder(SWAPPED, FIRST)
        simulate(policy, place, windows=4)
        asked[policy] = place.asked
    assert asked == {
        "none": [],
        "fresh": [([1], None), ([2], None)],
        "budgeted": [([1], FIRST.tolist()), ([2], SWAPPED.tolist())],
    }


def test_moves_are_counted_where_they_are_made() -> None:
    """Before the window that they are for, in copies that changed GPUs; placing the same again costs none."""
    series = simulate("budgeted", Recorder(SWAPPED, SWAPPED, FIRST), windows=6, interval=1)
    assert series.moves.tolist() == [0, 2, 0, 2, 2]
    assert series.most_received.tolist() == [0, 1, 0, 1, 1]
    assert series.rebalanced.tolist() == [False, True, True, True, True]


def test_windows_are_judged_with_the_placement_in_force() -> None:
    """The new placement counts from the window after the one that it was made from."""
    windows = np.array([[[1, 1, 1, 1]], [[3, 3, 1, 1]], [[3, 3, 1, 1]], [[0, 0, 0, 0]]])
    place = Recorder(SWAPPED)
    series = Simulation(windows, 2, Schedule(1, 1), FIRST, place).run("fresh")
    np.testing.assert_allclose(series.balancedness, [4 / 6, 1, np.nan])
    np.testing.assert_allclose(series.worst_layer, [4 / 6, 1, np.nan])


def test_the_mean_and_the_worst_are_of_layers_with_load() -> None:
    """A layer without load is none of them."""
    windows = np.array([[[1, 1, 1, 1]] * 3, [[3, 3, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]]])
    series = Simulation(windows, 2, Schedule(1, 1), np.repeat(FIRST, 3, axis=0), Recorder()).run("none")
    assert series.balancedness.tolist() == pytest.approx([(4 / 6 + 1) / 2])
    assert series.worst_layer.tolist() == pytest.approx([4 / 6])


def test_balancedness_and_moves_are_those_of_plain_loops() -> None:
    """On random loads and placements, with empty slots, duplicates and a layer without load."""
    random = np.random.default_rng(3)
    for _ in range(20):
        load = random.integers(0, 50, (4, 5)).astype(float)
        load[1] = 0
        before, after = (random.permuted(np.tile([0, 1, 2, 3, 4, 0, 1, -1], (4, 1)), axis=1) for _ in range(2))
        expected = np.full(4, np.nan)
        received = np.zeros(2, int)
        for layer in range(4):
            on_gpu = np.zeros(2)
            for slot, expert in enumerate(after[layer].tolist()):
                if expert >= 0:
                    on_gpu[slot // 4] += load[layer, expert] / after[layer].tolist().count(expert)
            if on_gpu.any():
                expected[layer] = on_gpu.mean() / on_gpu.max()
            for gpu in range(2):
                held = before[layer, 4 * gpu : 4 * gpu + 4].tolist()
                for expert in after[layer, 4 * gpu : 4 * gpu + 4].tolist():
                    if expert in held:
                        held.remove(expert)
                    elif expert >= 0:
                        received[gpu] += 1
        np.testing.assert_allclose(layer_balancedness(load, after, 2), expected)
        assert count_received(before, after, 2).tolist() == received.tolist()


def series_of(balancedness: Any, moves: Any, most_received: Any) -> Series:
    """A series with these values, a rebalance wherever there are moves."""
    moves = np.array(moves)
    figures = np.array(balancedness, float)
    return Series(np.arange(1, len(moves) + 1), figures, figures, moves > 0, moves, np.array(most_received))


def test_seconds_are_counted_as_the_model_says() -> None:
    """By hand: imbalance a window at a time, moves by the GPU that receives most, no cost without load."""
    model = CostModel(window_seconds=100, moe_share=0.5, expert_mib=1e9 / 8 / 2**20, bandwidth_gbps=2)
    series = series_of([0.8, np.nan, 0.5], [0, 9, 7], [0, 4, 6])
    assert model.seconds_of_imbalance(series) == pytest.approx(100 * 0.5 * (0.2 + 0.5))
    assert model.seconds_of_moves(series) == pytest.approx((4 + 6) * 1 / 2)


def report_of(series: dict[Policy, Series]) -> ReplayReport:
    """A report of these policies, 200 s served."""
    plan = Plan(list(series), Schedule(1, 1), 9, None, CostModel(100, 0.5, 1e9 / 8 / 2**20, 1))
    return ReplayReport((3, 1, 4), 2, None, plan, series)  # type: ignore[arg-type]  # nobody asks for the first placement


NONE, FRESH = series_of([0.6, 0.4], [0, 0], [0, 0]), series_of([0.6, 0.9], [0, 40], [0, 30])
GOOD, BAD, STILL = (
    series_of([0.6, 0.8], [0, 8], [0, 2]),
    series_of([0.6, 0.3], [0, 8], [0, 2]),
    series_of([0.6, 0.4], [0, 0], [0, 0]),
)


SERVED = "Rebalanced by trimtab within 9 moves a rebalance, serving loses {:.1f} s of 200 s. "
ALONE = "Placed once and left alone it loses 50.0 s: rebalancing {}."
NOTHING = "Placed from nothing each time it loses 55.0 s, with {}."
WON, LOST = (
    "wins back 9.0% of the time",
    "costs 3.5% of the time: try a longer --history, a longer --interval or fewer --max-moves",
)


@pytest.mark.parametrize(
    ("series", "words"),
    [
        (
            {"none": NONE, "fresh": FRESH, "budgeted": GOOD},
            f"{SERVED.format(32)}{ALONE.format(WON)} {NOTHING.format('5.0 times the moves')}",
        ),
        ({"none": NONE, "budgeted": BAD}, f"{SERVED.format(57)}{ALONE.format(LOST)}"),
        (
            {"fresh": FRESH, "budgeted": STILL},
            f"{SERVED.format(50)}{NOTHING.format('40 moves where trimtab makes none')}",
        ),
        ({"budgeted": GOOD}, SERVED.format(32).rstrip()),
        ({"none": NONE}, "Add --policy budgeted to see what rebalancing within a budget of moves would gain."),
    ],
    ids=["won", "lost", "no moves", "alone", "none"],
)
def test_the_last_line_says_what_is_gained_or_lost(series: dict[Policy, Series], words: str) -> None:
    """In words, and no more than what was replayed."""
    assert in_words(report_of(series)) == words
