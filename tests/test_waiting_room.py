"""What waits, and who makes room: limits, shares of callers, who is turned out."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab_server.fair_queue import Priority
from trimtab_server.waiting_room import RoomLimits, WaitingRoom

LIMITS = RoomLimits(rows=100, bytes=1000, seconds=10.0)
LOW, NORMAL = Priority.LOW, Priority.NORMAL


@dataclass(eq=False)
class Job:
    caller: str
    num_rows: int = 1
    num_bytes: int = 1
    cost: float = 0.01
    priority: Priority = NORMAL
    admitted: float = 0.0


def room_with(*jobs: Job, limits: RoomLimits = LIMITS) -> WaitingRoom[Job]:
    room: WaitingRoom[Job] = WaitingRoom(limits)
    for job in jobs:
        room.add(job)
    return room


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (Job("b", num_rows=41), "60 layers wait, 41 more would pass max_queue_rows = 100"),
        (Job("b", num_bytes=401), "600 bytes wait, 401 more would pass max_queue_bytes = 1000"),
        (Job("b", cost=4.01), "6 seconds of work wait, 4.01 more would pass max_queue_seconds = 10"),
    ],
)
def test_every_limit_is_named_with_its_numbers(job: Job, words: str) -> None:
    """By rows, bytes and seconds; what just fits has no obstacle."""
    room = room_with(*(Job("a", 20, 200, 2.0) for _ in range(3)))
    assert room.obstacle(job) == words
    assert room.obstacle(Job("b", 40, 400, 4.0)) is None


def test_a_job_longer_than_half_the_limit_counts_for_half() -> None:
    """It would hardly ever fit otherwise: it is let in when the room is half empty."""
    assert room_with().obstacle(Job("a", cost=99.0)) is None
    assert room_with(Job("b", cost=5.0)).obstacle(Job("a", cost=99.0)) is None
    words = "5.1 seconds of work wait, 5 more would pass max_queue_seconds = 10"
    assert room_with(Job("b", cost=2.5), Job("b", cost=2.6)).obstacle(Job("a", cost=99.0)) == words
    assert room_with(Job("b", cost=99.0)).seconds == 5.0


def test_a_caller_may_have_waiting_what_others_leave_and_its_first_job_always() -> None:
    """Others let three quarters be solved: a quarter of the ten seconds; alone all of them."""
    room = room_with(*(Job("a", cost=1.0) for _ in range(9)))
    assert room.greed(Job("a", cost=1.0)) is None
    assert room.greed(Job("a", cost=1.1)) is not None
    room = room_with(Job("a", cost=2.0), *(Job(name, cost=2.5) for name in "bcd"))
    assert room.greed(Job("a", cost=0.5)) is None
    assert room.greed(Job("a", cost=0.6)) == (
        "2 seconds of this caller's work wait, 0.6 more would pass 2.5, its share of max_queue_seconds = 10"
    )
    assert room.greed(Job("new", cost=9.0)) is None
    assert room.greed(Job("a", cost=0.6, priority=LOW)) is None  # another line of the same caller


def test_who_has_left_is_no_longer_reckoned_with() -> None:
    """Jobs that are taken free what their caller may have waiting."""
    room = room_with(*(Job("a", cost=3.0) for _ in range(3)), Job("b", cost=5.0))
    assert room.greed(Job("a", cost=1.0)) is not None
    (first,) = room.first(1)
    room.take(first)
    assert room.greed(Job("a", cost=1.0, admitted=30.0)) is None


def test_the_search_for_rivals_is_bounded() -> None:
    """A flood of tiny jobs is not walked through to make room for a large one."""
    flood = [Job("flood") for _ in range(100)]
    assert room_with(*flood).rivals(Job("new", 40)) == flood[:59:-1]
    limits = RoomLimits(rows=200, bytes=1000, seconds=10.0)
    assert room_with(*flood, *(Job("flood") for _ in range(100)), limits=limits).rivals(Job("new", 80)) == []


def test_the_newest_jobs_of_who_holds_most_make_room() -> None:
    """As many as it takes, newest first, until the newcomer would hold as much itself."""
    hog = [Job("hog", 10) for _ in range(9)]
    room = room_with(*hog, Job("other", 10))
    assert room.rivals(Job("new", 15)) == [hog[8], hog[7]]
    assert room.rivals(Job("new", 40)) == hog[:4:-1]
    assert room.rivals(Job("new", 45)) == []
    assert room.rivals(Job("hog", 1)) == []
    assert room.rivals(Job("other", 30)) == hog[:5:-1]


def test_low_priority_makes_room_first() -> None:
    """Whatever came later at normal priority stays."""
    low = Job("hog", 30, priority=LOW)
    room = room_with(Job("hog", 20), low, Job("hog", 50))
    assert room.rivals(Job("new", 10)) == [low]


def test_bytes_and_seconds_are_freed_too() -> None:
    """A room full of bytes or of work asks for as many jobs as hold that much."""
    large = [Job("hog", num_bytes=250) for _ in range(4)]
    assert room_with(*large).rivals(Job("new", num_bytes=300)) == large[:1:-1]
    long = [Job("hog", cost=2.5) for _ in range(4)]
    assert room_with(*long).rivals(Job("new", cost=3.0)) == long[:1:-1]


def test_an_empty_room_has_no_rivals() -> None:
    """A job that is too large for the limits finds nobody to blame."""
    assert room_with().rivals(Job("a", 101)) == []


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"), st.integers(1, 40), st.integers(1, 400), st.sampled_from(Priority), st.booleans()
        ),
        max_size=60,
    )
)
def test_books_hold_whatever_comes_and_goes(steps: list[tuple[str, int, int, Priority, bool]]) -> None:
    """Sums are those of the jobs inside, limits hold, and a rival never holds less than the newcomer would."""
    room: WaitingRoom[Job] = WaitingRoom(LIMITS)
    inside: list[Job] = []
    for caller, rows, size, priority, leave in steps:
        job = Job(caller, rows, size, rows / 50, priority)
        if room.obstacle(job) is not None:
            for rival in room.rivals(job):
                assert rival.caller != caller
                assert room.discard(rival)
                inside.remove(rival)
        if room.obstacle(job) is None:
            room.add(job)
            inside.append(job)
        if leave and inside:
            (first,) = room.first(1)
            room.take(first)
            inside.remove(first)
        assert (room.rows, room.bytes) == (sum(j.num_rows for j in inside), sum(j.num_bytes for j in inside))
        assert room.seconds == pytest.approx(sum(j.cost for j in inside), abs=1e-9)
        assert len(room) == len(inside)
        assert room.rows <= LIMITS.rows
        assert room.bytes <= LIMITS.bytes
    for job in inside:
        assert room.discard(job)
        assert not room.discard(job)
    assert (room.rows, room.bytes, room.seconds, len(room)) == (0, 0, 0.0, 0)
