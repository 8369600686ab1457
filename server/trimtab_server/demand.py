"""Who came lately and for how much: what a caller can count on beside the others."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

from trimtab_server.fair_queue import Priority


@dataclass
class _Use:
    """Seconds of work that came, fading with time."""

    seconds: float = 0.0
    at: float = 0.0

    def now(self, now: float, fading: float) -> float:
        """What is left of it."""
        return self.seconds * math.exp(min(self.at - now, 0.0) / fading)

    def add(self, seconds: float, now: float, fading: float) -> None:
        self.seconds, self.at = self.now(now, fading) + seconds, now


class Demand:
    """What lines (a caller at a priority) have let solve in the last seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lines: OrderedDict[tuple[str, Priority], _Use] = OrderedDict()  # who came last is last
        self._all = _Use()
        self._weight = 0

    def came(self, caller: str, priority: Priority, cost: float, now: float) -> None:
        """A job of so many seconds was let in."""
        self._forget(now)
        line = (caller, priority)
        if line not in self._lines:
            self._lines[line] = _Use()
            self._weight += priority.value
        for use in (self._lines[line], self._all):
            use.add(cost, now, self._seconds)
        self._lines.move_to_end(line)

    def share(self, caller: str, priority: Priority, now: float) -> float:
        """The part of the solver that a line can count on.

        Its fair share among those who came lately; more where many of them ask for little: a third of what all others
        leave (the rest is for those who come next), an eighth of that at low priority, which has to yield.
        """
        self._forget(now)
        own = self._lines.get((caller, priority))
        others = self._weight - (priority.value if own else 0)
        used = self._all.now(now, self._seconds) - (own.now(now, self._seconds) if own else 0.0)
        left = (1 - max(used, 0.0) / self._seconds) / 3 * priority.value / Priority.NORMAL.value
        return max(priority.value / (priority.value + others), left)

    def _forget(self, now: float) -> None:
        while self._lines:
            (line, use) = next(iter(self._lines.items()))
            if use.at >= now - self._seconds:
                break
            del self._lines[line]
            self._weight -= line[1].value
