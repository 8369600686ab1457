"""How long solves will take, from how long they took."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from trimtab_server.jobs import Problem

_MOST_KINDS = 256
"""Kinds of problems remembered, the latest ones: callers choose the kinds, so their number has to be bounded."""
_FIRST_SECONDS_PER_STEP = 1e-7
"""Before anything was solved: between what the compiled and the torch solver take."""
_KEPT = 0.8
"""What is left of older solves in an average when another is added."""
_DOUBT = 0.9
"""What is left of the confidence in `least` after a call was refused on it."""
_SHORTEST = 1e-6
"""Seconds: a clock may not see how long a tiny solve takes."""


@dataclass
class _Average:
    """Seconds over amount of work: large solves count for more, whose time is not that of calling and waking."""

    seconds: float = 0.0
    amount: float = 0.0

    @property
    def rate(self) -> float:
        return self.seconds / self.amount

    def add(self, seconds: float, amount: float) -> None:
        self.seconds = self.seconds * _KEPT + seconds
        self.amount = self.amount * _KEPT + amount


@dataclass
class _Kind:
    """What is known of one kind: seconds a row."""

    average: _Average = field(default_factory=_Average)
    least: float = 0.0
    """Falls at once and rises slowly, and is 0 after the first solve: one that was slow, as when it had to compile,
    must not refuse anybody."""
    least_rows: int = 0
    """Rows of the smallest solve that `least` comes from: more are not known to take longer."""
    confidence: float = 1.0

    def learn(self, seconds: float, rows: int, batch_rows: int) -> None:
        newest = seconds / rows
        is_first = not self.average.amount
        self.average.add(seconds, rows)
        self.confidence = 1.0
        if is_first:
            return
        if newest < self.least or not self.least:
            self.least, self.least_rows = newest, batch_rows
        else:
            self.least += (1 - _KEPT) * (newest - self.least)
            self.least_rows = min(self.least_rows, batch_rows)


class Forecast:
    """Seconds that problems will take to solve.

    Problems of a kind take about the same time a row, so there is a rate for each kind. One that was not seen lately is
    reckoned by its steps, the bound of its work, at the rate of all kinds together.
    """

    def __init__(self) -> None:
        self._kinds: OrderedDict[Hashable, _Kind] = OrderedDict()
        self._all = _Average()

    def seconds(self, problem: Problem) -> float:
        """What a problem will probably take, alone."""
        known = self._kinds.get(problem.kind)
        if known is not None:
            return problem.num_rows * known.average.rate
        return problem.num_steps * (self._all.rate if self._all.amount else _FIRST_SECONDS_PER_STEP)

    def least_seconds(self, problem: Problem) -> float:
        """What it will take at least; 0 where that is not known: a call is refused on knowledge alone."""
        known = self._kinds.get(problem.kind)
        return 0.0 if known is None else min(problem.num_rows, known.least_rows) * known.least * known.confidence

    def learn(self, problems: Sequence[Problem], seconds: float) -> None:
        """A batch took so long; each kind in it takes the same part of the surprise."""
        seconds = max(seconds, _SHORTEST)
        batch_rows = sum(each.num_rows for each in problems)
        surprise = seconds / sum(self.seconds(each) for each in problems)
        took = [(each, self.seconds(each) * surprise) for each in {each.kind: each for each in problems}.values()]
        for problem, own in took:
            self._kinds.setdefault(problem.kind, _Kind()).learn(own, problem.num_rows, batch_rows)
            self._kinds.move_to_end(problem.kind)
        while len(self._kinds) > _MOST_KINDS:
            self._kinds.popitem(last=False)
        self._all.add(seconds, sum(each.num_steps for each in problems))

    def doubt(self, problem: Problem) -> None:
        """A problem was refused for what its kind took at least; after some of those, one is let in to see."""
        known = self._kinds.get(problem.kind)
        if known is not None:
            known.confidence *= _DOUBT
