"""What a budget buys of recorded walks: against trying all, and at its edges."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest

from trimtab_server.solvers.compiled import choice


def ends_of(entries: list[int]) -> npt.NDArray[np.int32]:
    """The ends of walks without holes and duplicates."""
    return np.array([[1, n, n] for n in entries], np.int32)


def test_the_choice_is_as_good_as_trying_all() -> None:
    """Of small walks, against every combination of entries: within the budget, and at most one row from the best."""
    rng = np.random.default_rng(11)
    for _ in range(300):
        entries = rng.integers(1, 6, 3).tolist()
        moves = rng.integers(0, 9, (3, 5)).astype(np.int32)  # walks go back and forth, and stand still
        moves[:, 0] = rng.integers(0, 2)
        moves = np.maximum(moves, moves[:, :1])
        values = rng.integers(0, 9, (3, 5)) / 8
        budget = int(moves[:, 0].sum() + rng.integers(0, 12))
        chosen, curve = np.empty(3, np.int32), np.empty((8, 2))
        points = choice.choose(moves, values, ends_of(entries), budget, 1e-12, chosen, curve)
        spent = sum(moves[row, chosen[row]] for row in range(3))
        got = sum(values[row, chosen[row]] for row in range(3))
        costs = [
            (sum(moves[r, e] for r, e in enumerate(combination)), sum(values[r, e] for r, e in enumerate(combination)))
            for combination in itertools.product(*(range(n) for n in entries))
        ]
        best = max(value for cost, value in costs if cost <= budget)
        whole_row = max(values[r, : entries[r]].max() - values[r, 0] for r in range(3))
        assert spent <= budget
        assert best - whole_row - 1e-12 <= got <= best + 1e-12
        assert (np.diff(curve[:points, 0]) > 0).all()
        assert (np.diff(curve[:points, 1]) > 0).all()
        assert curve[points - 1, 1] == pytest.approx(sum(values[r, : entries[r]].max() for r in range(3)))


def test_a_row_that_gains_too_little_stays() -> None:
    """With a least gain between those of two rows, one goes and the other stays, however many moves there are."""
    moves = np.array([[0, 2, 4], [0, 2, 4]], np.int32)
    values = np.array([[0.5, 0.52, 0.54], [0.5, 0.6, 0.7]])
    chosen, curve = np.empty(2, np.int32), np.empty((8, 2))
    for budget in (choice.NO_LIMIT, 100):
        choice.choose(moves, values, ends_of([3, 3]), budget, 0.05, chosen, curve)
        assert chosen.tolist() == [0, 2]


def test_without_a_limit_equals_cost_the_fewest_moves() -> None:
    """But slots are filled first, and second copies are separated where the balance stays."""
    moves = np.array([[0, 1, 4, 3, 5, 6]], np.int32)
    values = np.array([[0.5, 0.5, 0.8, 0.8, 0.8, 0.7]])
    for ends, expected in (([1, 4, 4], 3), ([1, 4, 6], 4), ([3, 3, 3], 2), ([2, 2, 2], 1)):
        chosen = np.empty(1, np.int32)
        choice.choose(moves, values, np.array([ends], np.int32), choice.NO_LIMIT, 1e-12, chosen, np.empty((8, 2)))
        assert chosen.tolist() == [expected]


def test_the_curve_is_thinned_to_the_points_there_is_room_for() -> None:
    """First and last stay, and the rest is spread over the moves."""
    moves = np.arange(0, 2000, 2, dtype=np.int32)[None]
    values = 1 - 0.5 ** np.linspace(1, 3, 1000)[None]
    curve = np.empty((64, 2))
    points = choice.choose(moves, values, ends_of([1000]), 0, 1e-12, np.empty(1, np.int32), curve)
    assert points == 64
    assert curve[0].tolist() == [0, values[0, 0]]
    assert curve[-1].tolist() == [1998, values[0, -1]]
    assert np.diff(curve[:, 0]).max() <= 34
