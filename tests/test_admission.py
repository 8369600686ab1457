"""Who is let in: what the refusals say, and what they cost the next."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.fakes import FakeProblem
from trimtab.errors import DeadlineExceededError, OverloadedError
from trimtab_server.admission import Admission
from trimtab_server.fair_queue import Priority
from trimtab_server.jobs import Job
from trimtab_server.waiting_room import RoomLimits

NOW = 50.0
AnyJob = Job[Any, Any]


@pytest.fixture
def admission() -> Admission[AnyJob]:
    """A door that knows: a row takes a second."""
    made: Admission[AnyJob] = Admission(RoomLimits(rows=100, bytes=1000, seconds=1000.0))
    for _ in range(2):
        made.forecast.learn([FakeProblem("lesson", 9)], 9.0)
    return made


async def job(rows: int = 1, caller: str = "a", deadline: float | None = None, cost: float | None = None) -> AnyJob:
    """A job that would take a second a row."""
    reply = asyncio.get_running_loop().create_future()
    seconds = float(rows) if cost is None else cost
    return Job(FakeProblem("job", rows), caller, Priority.NORMAL, deadline, NOW, seconds, reply)


@pytest.mark.parametrize(
    ("waiting", "after"), [(1, 0.5), (9, 4.5), (20, 10.0), (21, 10.0), (99, 10.0), (0.01, 0.02), (0.05, 0.025)]
)
async def test_the_time_to_come_back_is_half_of_what_waits(
    admission: Admission[AnyJob], waiting: float, after: float
) -> None:
    """At least 20 ms and at most 10 s."""
    admission.room.add(await job(cost=waiting))
    assert admission.full("why").retry_after_seconds == pytest.approx(after)
    assert str(admission.full("why")) == "the queue is full: why"


@pytest.mark.parametrize("left", [0.0, -1.0, -30.0])
async def test_a_deadline_that_has_passed_is_no_matter_of_how_long_it_takes(
    admission: Admission[AnyJob], left: float
) -> None:
    """Refused, and no forecast is doubted for it."""
    known = admission.forecast.least_seconds(FakeProblem("p"))
    error = admission.too_late(await job(deadline=NOW + left), NOW)
    assert isinstance(error, DeadlineExceededError)
    assert (str(error), error.reason) == ("the deadline passed before a solve began", "expired")
    assert admission.forecast.least_seconds(FakeProblem("p")) == known


async def test_a_deadline_that_just_fits_is_kept(admission: Admission[AnyJob]) -> None:
    """Three rows in three seconds; not in a little less, and that is doubted the next time."""
    assert admission.too_late(await job(3), NOW) is None
    assert admission.too_late(await job(3, deadline=NOW + 3.0), NOW) is None
    error = admission.too_late(await job(3, deadline=NOW + 2.5), NOW)
    assert isinstance(error, DeadlineExceededError)
    assert str(error) == "the deadline comes in 2.5 s, and solving this takes about 3 s"
    assert error.reason == "hopeless"
    assert admission.too_late(await job(3, deadline=NOW + 2.75), NOW) is None


async def test_a_deadline_within_a_second_is_not_one_that_has_passed(admission: Admission[AnyJob]) -> None:
    """What matters is whether it can be kept."""
    admission.forecast.learn([FakeProblem("quick", 9)], 0.9)
    assert admission.too_late(await job(deadline=NOW + 0.5), NOW) is None


async def test_who_is_refused_leaves_the_room_as_it_was(admission: Admission[AnyJob]) -> None:
    """Too late, too greedy, or too large."""
    admission.room.add(await job(90))
    admission.room.add(await job(1, caller="other", cost=600.0))
    for refused, error in (
        (await job(3, caller="late", deadline=NOW + 1), DeadlineExceededError),
        (await job(1, cost=950.0), OverloadedError),
        (await job(95, caller="large"), OverloadedError),
    ):
        with pytest.raises(error):
            admission.admit(refused)
        assert (admission.room.rows, len(admission.room)) == (91, 2)


async def test_a_greedy_caller_is_told_its_share_and_turns_nobody_out(admission: Admission[AnyJob]) -> None:
    """Though the room has space, and though another holds more."""
    admission.room.add(await job(1, cost=400.0))
    admission.room.add(await job(1, caller="other", cost=550.0))
    with pytest.raises(OverloadedError, match="its share of max_queue_seconds = 1000"):
        admission.admit(await job(1, cost=150.0))
    assert len(admission.room) == 2


async def test_who_makes_room_is_out_and_who_came_is_in(admission: Admission[AnyJob]) -> None:
    """The newest of the largest holder goes."""
    jobs = [await job(30) for _ in range(3)]
    for each in jobs:
        assert admission.admit(each) == []
    newcomer = await job(20, caller="new")
    assert admission.admit(newcomer) == [jobs[2]]
    assert admission.room.first(9) == [jobs[0], newcomer, jobs[1]]
