"""How long solves will take, from how long they took."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from trimtab_server.jobs import Problem

_MOST_KINDS = 256
"""Kinds of problems remembered, the latest ones: callers choose the kinds, so their number has to be bounded."""
_FIRST_SECONDS_PER_STEP = 1e-7
"""Before anything was solved: between what the compiled and the torch solver take."""
_NEWEST = 0.2
"""What the latest solve counts for in an average."""
_DOUBT = 0.9
"""What is left of the confidence in `least` after a call was refused on it."""
_SHORTEST = 1e-6
"""Seconds: a clock may not see how long a tiny solve takes."""


@dataclass
class _Rate:
    """Seconds a row of one kind."""

    average: float
    least: float
    """Falls at once and rises slowly, so that one slow solve (a compile, a busy machine) refuses nobody for long."""
    confidence: float = 1.0

    def learn(self, newest: float) -> None:
        self.average = _averaged(self.average, newest)
        self.least = min(newest, _averaged(self.least, newest))
        self.confidence = 1.0


class Forecast:
    """Seconds that problems will take to solve.

    Problems of a kind take about the same time a row, so there is a rate for each kind. One that was not seen lately is
    reckoned by its steps, the bound of its work, at the rate of all kinds together.
    """

    def __init__(self) -> None:
        self._rates: OrderedDict[Hashable, _Rate] = OrderedDict()
        self._per_step = _FIRST_SECONDS_PER_STEP

    def seconds(self, problem: Problem) -> float:
        """What a problem will probably take, alone."""
        rate = self._rates.get(problem.kind)
        return problem.num_steps * self._per_step if rate is None else problem.num_rows * rate.average

    def least_seconds(self, problem: Problem) -> float:
        """What it will take at least; 0 where its kind is not known: a call is refused on knowledge alone."""
        rate = self._rates.get(problem.kind)
        return 0.0 if rate is None else problem.num_rows * rate.least * rate.confidence

    def learn(self, problems: Sequence[Problem], seconds: float) -> None:
        """A batch took so long; each kind in it takes the same part of the surprise."""
        seconds = max(seconds, _SHORTEST)
        surprise = seconds / sum(self.seconds(each) for each in problems)
        per_row = {each.kind: self.seconds(each) / each.num_rows * surprise for each in problems}
        for kind, newest in per_row.items():
            self._rates.setdefault(kind, _Rate(newest, newest)).learn(newest)
            self._rates.move_to_end(kind)
        while len(self._rates) > _MOST_KINDS:
            self._rates.popitem(last=False)
        self._per_step = _averaged(self._per_step, seconds / sum(each.num_steps for each in problems))

    def doubt(self, problem: Problem) -> None:
        """A problem was refused for what its kind took at least; after some of those, one is let in to see."""
        rate = self._rates.get(problem.kind)
        if rate is not None:
            rate.confidence *= _DOUBT


def _averaged(average: float, newest: float) -> float:
    return average + _NEWEST * (newest - average)
