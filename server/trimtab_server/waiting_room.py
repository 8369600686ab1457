"""What waits: in fair order, within limits, and shared by the callers where it is full.

A queue that refuses whoever comes when it is full belongs to the caller who sends fastest. Here the caller who holds
the most of a full queue makes room instead (longest queue drop: Suter, Lakshman, Stiliadis and Choudhury, 1998): its
newest jobs are turned out, as long as it then still holds no less than the newcomer's caller would.

Nor may a caller have more waiting than its turns will take care of in `max_queue_seconds`: its fair share of
that, or a third of what others have left free lately.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from sortedcontainers import SortedList

from trimtab_server.demand import Demand
from trimtab_server.fair_queue import FairQueue, Priority, Queued

_MOST_RIVALS = 64
"""Jobs that are looked at to make room for one: a flood of small ones must not hold up the event loop."""


@dataclass(frozen=True)
class RoomLimits:
    """What may wait."""

    rows: int
    bytes: int
    seconds: float


class Waiting(Queued, Protocol):
    """What the room has to know of a job."""

    admitted: float

    @property
    def num_rows(self) -> int:
        """Rows of the job."""
        ...

    @property
    def num_bytes(self) -> int:
        """Bytes that it holds."""
        ...


JobT = TypeVar("JobT", bound=Waiting)


@dataclass
class _Held(Generic[JobT]):
    """What a caller has in the room: its share of the limits, and by priority its jobs, oldest first, and seconds."""

    share: float = 0.0
    jobs: dict[Priority, dict[int, JobT]] = field(default_factory=lambda: {Priority.LOW: {}, Priority.NORMAL: {}})
    seconds: dict[Priority, float] = field(default_factory=lambda: dict.fromkeys(Priority, 0.0))


class WaitingRoom(Generic[JobT]):
    """Jobs that wait. Every operation costs the logarithm of the jobs and callers there; `rivals` at some more."""

    def __init__(self, limits: RoomLimits) -> None:
        self._limits = limits
        self._queue: FairQueue[JobT] = FairQueue()
        self._held: dict[str, _Held[JobT]] = {}
        self._callers: SortedList = SortedList()  # (share, caller)
        self._demand = Demand(limits.seconds)
        self.rows = self.bytes = 0
        self.seconds = 0.0

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def fullness(self) -> float:
        """The part of its limits that is taken, of the one nearest to its end; 1: full."""
        limits = self._limits
        return max(self.rows / limits.rows, self.bytes / limits.bytes, self.seconds / limits.seconds)

    def first(self, count: int) -> list[JobT]:
        """So many jobs, in the order they would be taken."""
        return self._queue.first(count)

    def obstacle(self, job: JobT) -> str | None:
        """Why a job does not fit now, with the numbers; None where it does."""
        limits = self._limits
        if self.rows + job.num_rows > limits.rows:
            return f"{self.rows} layers wait, {job.num_rows} more would pass max_queue_rows = {limits.rows}"
        if self.bytes + job.num_bytes > limits.bytes:
            return f"{self.bytes} bytes wait, {job.num_bytes} more would pass max_queue_bytes = {limits.bytes}"
        if self.seconds + self._seconds(job) > limits.seconds:
            waits = f"{self.seconds:.3g} seconds of work wait, {self._seconds(job):.3g} more"
            return f"{waits} would pass max_queue_seconds = {limits.seconds:g}"
        return None

    def greed(self, job: JobT) -> str | None:
        """Why a job's caller has enough waiting, with the numbers; None where it has not."""
        held = self._held.get(job.caller)
        seconds = held.seconds[job.priority] if held else 0.0
        if seconds == 0:
            return None
        allowed = self._limits.seconds * self._demand.share(job.caller, job.priority, job.admitted)
        if seconds + self._seconds(job) <= allowed:
            return None
        waits = (
            f"{seconds:.3g} seconds of this caller's work wait, {self._seconds(job):.3g} more would pass {allowed:.3g}"
        )
        return f"{waits}, its share of max_queue_seconds = {self._limits.seconds:g}"

    def rivals(self, job: JobT) -> list[JobT]:
        """Jobs to turn out so that this one fits: the newest of the caller that holds the most, low priority first.

        Empty where nobody holds so much more than the job's own caller.
        """
        if not self._callers:
            return []
        share, caller = self._callers[-1]
        own = self._held.get(job.caller, _Held()).share + self._share(job)
        rows, size, seconds = self.rows + job.num_rows, self.bytes + job.num_bytes, self.seconds + self._seconds(job)
        found: list[JobT] = []
        limits = self._limits
        for jobs in self._held[caller].jobs.values():
            for rival in reversed(jobs.values()):
                share -= self._share(rival)
                if share < own or len(found) == _MOST_RIVALS:
                    return []
                found.append(rival)
                rows, size, seconds = rows - rival.num_rows, size - rival.num_bytes, seconds - self._seconds(rival)
                if rows <= limits.rows and size <= limits.bytes and seconds <= limits.seconds:
                    return found
        return []

    def add(self, job: JobT) -> None:
        """Let a job in, at the end of its caller's line."""
        self._queue.add(job)
        self._held.setdefault(job.caller, _Held()).jobs[job.priority][id(job)] = job
        self._demand.came(job.caller, job.priority, job.cost, job.admitted)
        self._count(job, 1)

    def take(self, job: JobT) -> None:
        """Take a job out to be served."""
        self._queue.take(job)
        self._left(job)

    def discard(self, job: JobT) -> bool:
        """Take a job out unserved, if it is there, and tell whether it was."""
        found = self._queue.discard(job)
        if found:
            self._left(job)
        return found

    def _left(self, job: JobT) -> None:
        del self._held[job.caller].jobs[job.priority][id(job)]
        self._count(job, -1)

    def _count(self, job: JobT, sign: int) -> None:
        self.rows += sign * job.num_rows
        self.bytes += sign * job.num_bytes
        seconds = sign * self._seconds(job)
        self.seconds = self.seconds + seconds if self._queue else 0.0  # no rounding is carried along
        held = self._held[job.caller]
        self._callers.discard((held.share, job.caller))
        held.share += sign * self._share(job)
        held.seconds[job.priority] = held.seconds[job.priority] + seconds if held.jobs[job.priority] else 0.0
        if any(held.jobs.values()):
            self._callers.add((held.share, job.caller))
        else:
            del self._held[job.caller]

    def _share(self, job: JobT) -> float:
        """The part of the room that a job takes: of the limit that it is nearest to."""
        limits = self._limits
        return max(job.num_rows / limits.rows, job.num_bytes / limits.bytes, self._seconds(job) / limits.seconds)

    def _seconds(self, job: JobT) -> float:
        """What a job counts for. One longer than half the limit counts for half: it would hardly ever fit otherwise."""
        return min(job.cost, self._limits.seconds / 2)
