"""When `trimtab watch` finds a placement worth its moves: the rule, counted here by hand."""

from dataclasses import replace

import numpy as np
import pytest

from tests.watch_parts import answer_of, placement_of
from trimtab.cli.cost_model import CostModel
from trimtab.cli.simulation import Series
from trimtab.watch.decision import Worth

OLD, NEW = placement_of(0), placement_of(1)
MODEL = CostModel(moe_share=0.5, expert_mib=1000, bandwidth_gbps=8.388608)
"""A copy takes a second: 1000 MiB are 8.388608 Gbit."""


def test_the_first_placement_is_taken_whatever_it_moves() -> None:
    """There is nothing to keep."""
    decision = Worth(MODEL, 0.001).decide(answer_of(NEW, None, 0.5, 0.75, moves=16))
    assert decision.is_kept is None
    assert decision.words == "places 16 copies from nothing, balancedness 0.7500"
    assert decision.figures == {"moves": 16, "balancedness_before": None, "balancedness_after": 0.75}


def test_it_is_worth_it_when_more_seconds_are_gained_than_moves_take() -> None:
    """From one placement to the other GPU 0 gets a copy in each of two layers, GPU 1 none: 2 seconds."""
    answer = answer_of(NEW, OLD, 0.5, 0.75)
    assert Worth(MODEL, 16.0).decide(answer).is_kept == "not_worth"  # 0.25 x 0.5 x 16 are 2 s
    decision = Worth(MODEL, 16.1).decide(answer)
    assert decision.is_kept is None
    assert decision.words == (
        "3 moves take balancedness from 0.5000 to 0.7500, gaining 2.01 s in 16.1 s for 2 s of moving"
    )


def test_its_seconds_are_those_of_a_replay() -> None:
    """One model for both."""
    worth = Worth(MODEL, 60.0)
    one = np.array([1])
    series = Series(one, np.array([0.75]), one * 1.0, one == 1, one, one * 7)
    window = replace(MODEL, window_seconds=60.0)
    assert worth.seconds_of_moves(7) == pytest.approx(MODEL.seconds_of_moves(series))
    assert worth.seconds_gained(0.75, 1.0) == pytest.approx(window.seconds_of_imbalance(series))


def test_where_fewer_moves_would_pay_it_names_them() -> None:
    """From the curve of the same answer, each move taken to last as long as those of the answer."""
    answer = answer_of(NEW, OLD, 0.5, 0.75, moves=10)
    steep = np.array([(0.0, 0.5), (1.0, 0.7), (4.0, 0.74), (10.0, 0.75)])
    answer = replace(answer, placement=replace(answer.placement, curve=steep))
    decision = Worth(MODEL, 12.0).decide(answer)  # of 2 s for all moves, 0.2 for the first, which gains 1.2
    assert decision.is_kept == "not_worth"
    assert decision.words.endswith("; --max-moves 1 would be worth it")
    assert "would be worth it" not in Worth(MODEL, 1.0).decide(answer).words


def test_nothing_to_gain_is_told_as_such() -> None:
    """No move, or none that helps."""
    for moves, after in ((0, 0.5), (4, 0.5), (4, 0.4)):
        decision = Worth(MODEL, 1e6).decide(answer_of(OLD, OLD, 0.5, after, moves))
        assert (decision.is_kept, decision.words) == (
            "no_gain",
            "nothing to gain within the budget, balancedness 0.5000",
        )


def test_layers_without_load_count_for_nothing() -> None:
    """The mean is over the others; without any there is nothing to decide by."""
    answer = answer_of(NEW, OLD, 0.5, 0.75)
    before, after = np.array([np.nan, 0.2]), np.array([np.nan, 0.6])
    placement = replace(answer.placement, balancedness_before=before, balancedness_after=after)
    some = replace(answer, placement=placement)
    assert Worth(MODEL, 600.0).decide(some).figures == {
        "moves": 3,
        "balancedness_before": 0.2,
        "balancedness_after": 0.6,
    }
    none = replace(answer, placement=replace(answer.placement, balancedness_after=np.full(2, np.nan)))
    assert Worth(MODEL, 600.0).decide(none).is_kept == "no_load"
