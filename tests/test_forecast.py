"""How long solves will take: by kind, by steps where a kind is new, and never wrong for ever."""

from __future__ import annotations

import pytest

from tests.fakes import FakeProblem
from trimtab_server.forecast import Forecast


def problem(kind: str = "same", rows: int = 1) -> FakeProblem:
    return FakeProblem(kind, rows, share_key=kind)


def test_a_kind_that_was_seen_is_known_by_the_row() -> None:
    """Twice the rows take twice as long."""
    forecast = Forecast()
    forecast.learn([problem(rows=2), problem(rows=3)], 10.0)
    assert forecast.seconds(problem(rows=4)) == pytest.approx(8.0)
    assert forecast.least_seconds(problem(rows=4)) == pytest.approx(8.0)


def test_a_new_kind_goes_by_its_steps_and_is_not_known() -> None:
    """At the rate of all kinds; nobody is refused on that."""
    forecast = Forecast()
    for _ in range(60):
        forecast.learn([problem(rows=2)], 4.0)
    assert forecast.seconds(problem("new", 3)) == pytest.approx(6.0, rel=1e-3)
    assert forecast.least_seconds(problem("new", 3)) == 0


def test_kinds_in_a_batch_share_its_time_as_they_were_known() -> None:
    """A batch twice as slow as thought makes both kinds slower, and the slow one stays the slow one."""
    forecast = Forecast()
    forecast.learn([problem("fast")], 1.0)
    forecast.learn([problem("slow")], 9.0)
    forecast.learn([problem("fast"), problem("slow")], 20.0)
    assert forecast.seconds(problem("fast")) == pytest.approx(1.2)
    assert forecast.seconds(problem("slow")) == pytest.approx(10.8)


def test_the_average_follows_and_the_least_falls_at_once() -> None:
    """One slow solve hardly counts for refusing, one fast solve counts in full."""
    forecast = Forecast()
    forecast.learn([problem()], 1.0)
    forecast.learn([problem()], 101.0)
    assert forecast.seconds(problem()) == pytest.approx(21.0)
    forecast.learn([problem()], 0.5)
    assert forecast.least_seconds(problem()) == pytest.approx(0.5)
    assert forecast.seconds(problem()) == pytest.approx(16.9)


def test_refusing_on_it_makes_it_doubtful_until_the_next_solve() -> None:
    """So a call is let in now and then; a solve restores what is known."""
    forecast = Forecast()
    forecast.learn([problem()], 1.0)
    for _ in range(7):
        forecast.doubt(problem())
    assert forecast.least_seconds(problem()) == pytest.approx(0.9**7)
    assert forecast.seconds(problem()) == pytest.approx(1.0)
    forecast.learn([problem()], 1.0)
    assert forecast.least_seconds(problem()) == pytest.approx(1.0)
    forecast.doubt(problem("never seen"))
    assert forecast.least_seconds(problem("never seen")) == 0


def test_a_solve_too_short_for_the_clock_is_no_division_by_zero() -> None:
    """It took something."""
    forecast = Forecast()
    forecast.learn([problem()], 0.0)
    forecast.learn([problem()], 0.0)
    assert 0 < forecast.seconds(problem()) <= 1e-6


def test_only_the_latest_kinds_are_remembered() -> None:
    """Callers choose the kinds, so their number is bounded; one that is used stays."""
    forecast = Forecast()
    forecast.learn([problem("kept")], 1.0)
    for i in range(255):
        forecast.learn([problem(f"{i}")], 1.0)
    forecast.learn([problem("kept")], 1.0)
    forecast.learn([problem("one more")], 1.0)
    assert forecast.least_seconds(problem("kept")) > 0
    assert forecast.least_seconds(problem("0")) == 0
    assert forecast.least_seconds(problem("1")) > 0
