"""Who is next: shares in cost, by caller and priority."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab_server.fair_queue import FairQueue, Priority


@dataclass(eq=False)
class Job:
    caller: str
    cost: float = 1
    priority: Priority = Priority.NORMAL


def served(queue: FairQueue[Job], count: int) -> list[Job]:
    taken = []
    for _ in range(count):
        (job,) = queue.first(1)
        queue.take(job)
        taken.append(job)
    return taken


def test_one_caller_is_served_in_order() -> None:
    """First come, first served, within a line."""
    queue: FairQueue[Job] = FairQueue()
    jobs = [Job("a", rows) for rows in (5, 1, 3)]
    for job in jobs:
        queue.add(job)
    assert served(queue, 3) == jobs
    assert not queue


def test_a_flood_waits_in_its_own_line() -> None:
    """A caller with one job is next but one, however many another has sent before."""
    queue: FairQueue[Job] = FairQueue()
    for _ in range(100):
        queue.add(Job("flood"))
    single = Job("single")
    queue.add(single)
    assert single in served(queue, 2)


def test_shares_are_in_rows_not_jobs() -> None:
    """A caller of large jobs and one of small ones get equal rows."""
    queue: FairQueue[Job] = FairQueue()
    for _ in range(100):
        queue.add(Job("large", 10))
    for _ in range(1000):
        queue.add(Job("small", 1))
    rows = {"large": 0.0, "small": 0.0}
    for job in served(queue, 220):
        rows[job.caller] += job.cost
    assert rows["large"] == pytest.approx(rows["small"], abs=10)


def test_low_priority_gets_a_smaller_share_and_never_none() -> None:
    """One row in nine, next to a normal line that never ends."""
    queue: FairQueue[Job] = FairQueue()
    for _ in range(200):
        queue.add(Job("a"))
        queue.add(Job("b", priority=Priority.LOW))
    low = sum(job.priority is Priority.LOW for job in served(queue, 180))
    assert low == pytest.approx(20, abs=1)


def test_who_gave_up_is_not_charged() -> None:
    """After its jobs were taken back, a caller is next as if it had never sent them."""
    queue: FairQueue[Job] = FairQueue()
    given_up = [Job("a", 50) for _ in range(10)]
    for job in [*given_up, Job("b"), Job("b")]:
        queue.add(job)
    for job in given_up:
        assert queue.discard(job)
    again = Job("a")
    queue.add(again)
    assert again in served(queue, 2)
    assert not queue.discard(again)


def test_riding_along_does_not_move_time() -> None:
    """A job taken out of turn, to share a solve, leaves those before it where they were."""
    queue: FairQueue[Job] = FairQueue()
    jobs = [Job("a"), Job("b"), Job("a"), Job("a")]
    for job in jobs:
        queue.add(job)
    queue.take(jobs[3])
    queue.add(late := Job("c"))
    assert served(queue, 4) == [jobs[0], jobs[1], late, jobs[2]]


@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "add", "take", "ride", "drop"]), st.integers(0, 99), st.integers(1, 5)),
        max_size=400,
    ),
    st.integers(1, 200),
)
def test_whatever_comes_and_goes_nothing_is_lost(steps: list[tuple[str, int, int]], num_callers: int) -> None:
    """Adding, taking in and out of turn, and discarding, by few callers or many: no job is lost, memory is bounded."""
    queue: FairQueue[Job] = FairQueue()
    waiting: list[Job] = []
    for serial, (step, index, rows) in enumerate(steps):
        if step == "add":
            waiting.append(Job(f"caller {(serial * 7 + index) % num_callers}", rows))
            queue.add(waiting[-1])
        elif waiting and step == "take":
            waiting.remove(*served(queue, 1))
        elif waiting and step == "ride":
            queue.take(waiting.pop(index % len(waiting)))
        elif waiting:
            assert queue.discard(waiting.pop(index % len(waiting)))
        assert len(queue) == len(waiting) == len(queue.first(999))
        assert len(queue._line_end) <= 2 * len(queue) + 65


def test_a_line_that_was_forgotten_while_its_job_waited_can_lose_it() -> None:
    """A job whose line has ended, after an earlier one of it was discarded, can still be discarded."""
    queue: FairQueue[Job] = FairQueue()
    first, second = Job("x"), Job("x")
    queue.add(first)
    queue.add(second)
    assert queue.discard(first)
    for caller in range(200):
        queue.add(Job(f"caller {caller}", 9))
    for _ in range(150):
        job = next(job for job in queue.first(999) if job is not second)
        queue.take(job)
        queue._now = max(queue._now, 1.0)
    assert queue.discard(second)
