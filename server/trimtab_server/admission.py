"""Who is let in to wait: by room, and by whether the deadline can be kept."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from trimtab.errors import DeadlineExceededError, OverloadedError
from trimtab_server.forecast import Forecast
from trimtab_server.jobs import Job
from trimtab_server.waiting_room import RoomLimits, WaitingRoom

_LEAST_WAIT, _MOST_WAIT = 0.02, 10.0
"""Seconds after which a refused caller is asked to come back."""

JobT = TypeVar("JobT", bound=Job[Any, Any])


class Admission(Generic[JobT]):
    """The waiting room and its door."""

    def __init__(self, limits: RoomLimits) -> None:
        self.room: WaitingRoom[JobT] = WaitingRoom(limits)
        self.forecast = Forecast()

    def admit(self, job: JobT) -> list[JobT]:
        """Let a job in; the jobs that have to go for it are the caller's to turn out, with `full`.

        Raises:
            DeadlineExceededError: its deadline has passed, or comes before a solve could end.
            OverloadedError: there is no room.
        """
        late = self.too_late(job, job.admitted)
        if late is not None:
            raise late
        greed = self.room.greed(job)
        if greed is not None:
            raise self.full(greed)
        obstacle = self.room.obstacle(job)
        rivals = self.room.rivals(job) if obstacle else []
        if obstacle and not rivals:
            raise self.full(obstacle)
        for rival in rivals:
            self.room.discard(rival)
        self.room.add(job)
        return rivals

    def too_late(self, job: JobT, now: float) -> DeadlineExceededError | None:
        """The error of a job whose deadline has passed, or that would be solved in vain."""
        if job.deadline is None:
            return None
        left = job.deadline - now
        if left <= 0:
            return DeadlineExceededError("the deadline passed before a solve began")
        needed = self.forecast.least_seconds(job.problem)
        if left >= needed:
            return None
        self.forecast.doubt(job.problem)
        message = f"the deadline comes in {left:.3g} s, and solving this takes about {needed:.3g} s"
        return DeadlineExceededError(message, reason="hopeless")

    def full(self, why: str) -> OverloadedError:
        """The error of a job for which there is no room, with the time after which there should be."""
        # Half of what waits will be gone after half of its solve time: room for most, without a herd at one instant.
        wait = min(max(self.room.seconds / 2, _LEAST_WAIT), _MOST_WAIT)
        return OverloadedError(f"the queue is full: {why}", wait)
