"""What a caller can count on beside the others."""

from __future__ import annotations

import math

import pytest

from trimtab_server.demand import Demand
from trimtab_server.fair_queue import Priority

LOW, NORMAL = Priority.LOW, Priority.NORMAL


def test_who_is_alone_counts_on_all_of_it() -> None:
    """However much it has let solve."""
    demand = Demand(10.0)
    assert demand.share("a", NORMAL, 0.0) == 1
    demand.came("a", NORMAL, 50.0, 0.0)
    assert demand.share("a", NORMAL, 0.0) == 1


def test_what_others_leave_is_there_for_who_asks_more() -> None:
    """A third of it: many who ask for little leave nearly all."""
    demand = Demand(10.0)
    for i in range(100):
        demand.came(f"{i}", NORMAL, 0.01, 0.0)
    assert demand.share("a", NORMAL, 0.0) == pytest.approx(0.9 / 3)
    assert demand.share("0", NORMAL, 0.0) == pytest.approx(0.901 / 3)
    assert demand.share("a", LOW, 0.0) == pytest.approx(0.9 / 24)


def test_the_fair_share_is_never_lost() -> None:
    """Whatever others let solve; low priority counts an eighth of normal."""
    demand = Demand(10.0)
    for name in "bcd":
        demand.came(name, NORMAL, 100.0, 0.0)
    assert demand.share("a", NORMAL, 0.0) == pytest.approx(1 / 4)
    assert demand.share("a", LOW, 0.0) == pytest.approx(1 / 25)
    demand.came("a", LOW, 1.0, 0.0)
    assert demand.share("a", LOW, 0.0) == pytest.approx(1 / 25)
    assert demand.share("b", NORMAL, 0.0) == pytest.approx(8 / 25)


def test_use_fades_and_who_does_not_come_back_is_forgotten() -> None:
    """After the seconds that count, there is nobody to share with."""
    demand = Demand(10.0)
    for i in range(50):
        demand.came(f"{i}", NORMAL, 0.1, 0.0)
    assert demand.share("a", NORMAL, 0.0) == pytest.approx(0.5 / 3)
    assert demand.share("a", NORMAL, 10.0) == pytest.approx((1 - 0.5 / math.e) / 3)
    assert demand.share("a", NORMAL, 10.5) == 1


def test_callers_cannot_grow_what_is_remembered() -> None:
    """Each with a name of its own, one after the other: those of the last seconds are kept."""
    demand = Demand(5.0)
    for i in range(2000):
        demand.came(f"{i}", NORMAL, 0.001, i / 10)
    assert len(demand._lines) <= 51
