"""Who is next: one weighted fair queue over callers, in seconds of the solver.

Start-time fair queueing (Goyal, Vin and Cheng, 1996). A job starts, in virtual time, where its caller's last job
ended, or now if that is past; it ends its cost over its weight later; the smallest start is next. A caller who sends
ten times the work waits in its own line, and a low-priority job advances its line faster, so it gets a smaller share
and never none.
"""

from __future__ import annotations

from enum import Enum
from itertools import islice
from typing import Generic, Protocol, TypeVar

from sortedcontainers import SortedDict


class Priority(Enum):
    """How a caller's job compares with others; the value is its weight, its share next to other lines."""

    NORMAL = 8
    LOW = 1


class Queued(Protocol):
    """What the queue has to know of a job."""

    caller: str
    priority: Priority

    cost: float


JobT = TypeVar("JobT", bound=Queued)
_Ticket = tuple[float, int]
_Line = tuple[str, Priority]


class FairQueue(Generic[JobT]):
    """Jobs in fair order. Adding, taking and discarding one cost the logarithm of the jobs that wait."""

    def __init__(self) -> None:
        self._jobs: SortedDict = SortedDict()  # ticket (virtual start, arrival) -> job
        self._tickets: dict[int, _Ticket] = {}  # id(job) -> ticket
        self._line_end: dict[_Line, float] = {}  # where the next job of a line starts, if that is after now
        self._now = 0.0
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self._jobs)

    def first(self, count: int) -> list[JobT]:
        """So many jobs, in the order they would be taken."""
        return list(islice(self._jobs.values(), count))

    def add(self, job: JobT) -> None:
        """Put a job at the end of its caller's line."""
        line = (job.caller, job.priority)
        start = max(self._now, self._line_end.get(line, 0.0))
        ticket = (start, self._arrivals)
        self._arrivals += 1
        self._line_end[line] = start + _cost(job)
        self._jobs[ticket] = job
        self._tickets[id(job)] = ticket

    def take(self, job: JobT) -> None:
        """Take a job out to be served. Virtual time is the first start that waits: no job waits in the past."""
        (self._now, _), _ = self._jobs.peekitem(0)
        self._remove(job)
        self._forget_past_lines()

    def discard(self, job: JobT) -> bool:
        """Take a job out unserved, if it is there; its line is not charged for it. Tells whether it was there."""
        if id(job) not in self._tickets:
            return False
        self._remove(job)
        line = (job.caller, job.priority)
        if line in self._line_end:  # it is forgotten when it ends in the past, also while a job of it waits
            self._line_end[line] -= _cost(job)
        self._forget_past_lines()
        return True

    def _remove(self, job: JobT) -> None:
        del self._jobs[self._tickets.pop(id(job))]

    def _forget_past_lines(self) -> None:
        # A line that ends in the past starts anew. Doing this when lines outnumber jobs bounds memory by the jobs.
        if not self._jobs:
            self._line_end.clear()
            self._now = 0.0
        elif len(self._line_end) > 2 * len(self._jobs) + 64:
            self._line_end = {line: end for line, end in self._line_end.items() if end > self._now}


def _cost(job: Queued) -> float:
    return job.cost / job.priority.value
