"""How long solves will take: by kind, by steps where a kind is new, and never wrong for ever."""

from __future__ import annotations

import pytest

from tests.fakes import FakeProblem
from trimtab_server.forecast import Forecast


def problem(kind: str = "same", rows: int = 1) -> FakeProblem:
    return FakeProblem(kind, rows, share_key=kind)


def knowing(*problems: FakeProblem, seconds: float) -> Forecast:
    """What has seen these solved twice, together, in so many seconds."""
    forecast = Forecast()
    for _ in range(2):
        forecast.learn(problems, seconds)
    return forecast


def test_a_kind_that_was_seen_is_known_by_the_row() -> None:
    """Twice the rows take twice as long."""
    forecast = knowing(problem(rows=2), problem(rows=3), seconds=10.0)
    assert forecast.seconds(problem(rows=4)) == pytest.approx(8.0)
    assert forecast.least_seconds(problem(rows=4)) == pytest.approx(8.0)


def test_the_first_solve_of_a_kind_refuses_nobody() -> None:
    """It may have compiled; the second tells."""
    forecast = Forecast()
    forecast.learn([problem()], 5.0)
    assert forecast.least_seconds(problem()) == 0
    assert forecast.seconds(problem()) == pytest.approx(5.0)
    forecast.learn([problem()], 0.5)
    assert forecast.least_seconds(problem()) == pytest.approx(0.5)


def test_more_rows_than_were_seen_are_not_known_to_take_longer() -> None:
    """A solve of one row is calling and waking; what a thousand take is known when a thousand were solved."""
    forecast = knowing(problem(rows=1), seconds=0.002)
    assert forecast.least_seconds(problem(rows=1000)) == pytest.approx(0.002)
    forecast.learn([problem(rows=1000)], 0.1)
    assert forecast.least_seconds(problem(rows=1000)) == pytest.approx(0.1)
    assert forecast.least_seconds(problem(rows=2000)) == pytest.approx(0.1)
    forecast.learn([problem(rows=1)], 0.002)
    assert forecast.least_seconds(problem(rows=1000)) < 0.001


def test_a_new_kind_goes_by_its_steps_and_is_not_known() -> None:
    """At the rate of all kinds; nobody is refused on that."""
    forecast = Forecast()
    assert forecast.seconds(problem("new", 3)) == pytest.approx(3e-7)
    forecast.learn([problem(rows=2)], 4.0)
    assert forecast.seconds(problem("new", 3)) == pytest.approx(6.0)
    assert forecast.least_seconds(problem("new", 3)) == 0


def test_tiny_solves_say_little_of_large_ones() -> None:
    """Thirty of one row that are nothing but calling and waking hardly change what a step takes."""
    forecast = Forecast()
    forecast.learn([problem("large", 10_000)], 1.0)
    for _ in range(3):
        forecast.learn([problem("tiny", 1)], 0.002)
    assert forecast.seconds(problem("new", 10_000)) == pytest.approx(1.0, rel=0.02)


def test_kinds_in_a_batch_share_its_time_as_they_were_known() -> None:
    """A batch twice as slow as thought makes both kinds slower, and the slow one stays the slow one."""
    forecast = Forecast()
    forecast.learn([problem("fast")], 1.0)
    forecast.learn([problem("slow")], 9.0)
    forecast.learn([problem("fast"), problem("slow")], 20.0)
    assert forecast.seconds(problem("fast")) == pytest.approx((0.8 + 2) / 1.8)
    assert forecast.seconds(problem("slow")) == pytest.approx((7.2 + 18) / 1.8)


def test_the_average_follows_and_the_least_falls_at_once() -> None:
    """One slow solve hardly counts for refusing, one fast solve counts in full."""
    forecast = knowing(problem(), seconds=1.0)
    forecast.learn([problem()], 101.0)
    assert forecast.least_seconds(problem()) == pytest.approx(21.0)
    assert forecast.seconds(problem()) == pytest.approx((1.8 * 0.8 + 101) / (1.8 * 0.8 + 1))
    forecast.learn([problem()], 0.5)
    assert forecast.least_seconds(problem()) == pytest.approx(0.5)
    assert forecast.seconds(problem()) > 20


def test_refusing_on_it_makes_it_doubtful_until_the_next_solve() -> None:
    """So a call is let in now and then; a solve restores what is known."""
    forecast = knowing(problem(), seconds=1.0)
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
    for name in ("kept", *(f"{i}" for i in range(255)), "kept", "one more"):
        for _ in range(2):
            forecast.learn([problem(name)], 1.0)
    assert forecast.least_seconds(problem("kept")) > 0
    assert forecast.least_seconds(problem("0")) == 0
    assert forecast.least_seconds(problem("1")) > 0
