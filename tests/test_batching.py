"""The batcher, with a solver and a clock in the test's hand: no sleeping, no timing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from tests.fakes import FakeClock, FakeProblem, GatedSolver, Recorder
from trimtab.errors import DeadlineExceededError, OverloadedError, UnavailableError
from trimtab_server.batching import Batcher, BatchLimits
from trimtab_server.fair_queue import Priority

LIMITS = BatchLimits(
    max_queue_rows=100,
    max_queue_bytes=1000,
    max_queue_seconds=1e6,
    max_batch_rows=10,
    max_batch_requests=8,
    max_batch_seconds=1e6,
)


class Bench:
    """A batcher and everything around it."""

    def __init__(self, limits: BatchLimits = LIMITS) -> None:
        self.clock = FakeClock()
        self.solver = GatedSolver()
        self.seen = Recorder()
        self.batcher: Batcher[FakeProblem, str] = Batcher(
            self.solver.solve, self.solver.run, limits, self.seen, self.clock
        )
        self.batcher.start()

    @property
    def waiting(self) -> tuple[int, int]:
        return self.batcher.room.rows, self.batcher.room.bytes

    def submit(self, name: str, caller: str = "a", **options: Any) -> asyncio.Task[Any]:
        fields = {key: options.pop(key) for key in ("num_rows", "num_bytes", "share_key", "guilty") if key in options}
        problem = FakeProblem(name, **fields)
        return asyncio.ensure_future(self.batcher.submit(problem, caller=caller, **options))

    async def busy(self) -> asyncio.Task[Any]:
        """The device has a batch of one in its hands, and will until released."""
        task = self.submit("first")
        await settle()
        assert self.solver.batches == [["first"]]
        return task


def void(_: object) -> None:
    """Nothing of it."""


async def settle() -> None:
    """Let everything that can run, run."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
async def make_bench() -> AsyncIterator[Callable[..., Awaitable[Bench]]]:
    benches: list[Bench] = []

    async def make(**limits: Any) -> Bench:
        benches.append(Bench(replace(LIMITS, **limits)))
        await settle()
        return benches[-1]

    yield make
    for bench in benches:
        await bench.batcher.stop()


@pytest.fixture
async def bench(make_bench: Callable[..., Awaitable[Bench]]) -> Bench:
    return await make_bench()


async def test_the_pile_is_the_next_batch(bench: Bench) -> None:
    """What arrives while the device works is solved together, each gets its own answer."""
    first = await bench.busy()
    rest = [bench.submit(name) for name in "bcde"]
    await settle()
    assert len(bench.solver.batches) == 1
    bench.solver.release(2)
    assert [(await task).answer for task in (first, *rest)] == ["first", *"bcde"]
    assert bench.solver.batches == [["first"], ["b", "c", "d", "e"]]
    assert (await rest[0]).batch_requests == 4
    assert bench.seen.solves == [(1, 0.0), (4, 0.0)]


@pytest.mark.parametrize("seconds", [3, 1500])
async def test_seconds_are_told_as_they_passed(bench: Bench, seconds: int) -> None:
    """Waiting and solving, on the clock, however long after it began."""
    first = await bench.busy()
    second = bench.submit("b")
    await settle()
    bench.solver.on_solve = lambda: bench.clock.advance(seconds)
    bench.solver.release(2)
    assert (await first).solve_seconds == seconds
    solved = await second
    assert (solved.queue_seconds, solved.solve_seconds) == (seconds, seconds)
    assert bench.seen.waits == [0, seconds]


async def test_a_batch_is_capped_by_rows(bench: Bench) -> None:
    """Ten rows at most; a larger request goes alone."""
    await bench.busy()
    for name, rows in (("b", 4), ("c", 4), ("d", 4), ("e", 2), ("huge", 50)):
        bench.submit(name, num_rows=rows)
    await settle()
    bench.solver.release(9)
    await settle()
    assert bench.solver.batches[1:] == [["b", "c", "e"], ["d"], ["huge"]]


async def test_a_batch_is_capped_by_requests(make_bench: Callable[..., Awaitable[Bench]]) -> None:
    """With a cap of one, batching is off."""
    bench = await make_bench(max_batch_requests=1)
    await bench.busy()
    for name in "bc":
        bench.submit(name)
    await settle()
    bench.solver.release(3)
    await settle()
    assert bench.solver.batches == [["first"], ["b"], ["c"]]


async def test_only_what_may_share_a_solve_does(bench: Bench) -> None:
    """Another share key waits for a batch of its own."""
    await bench.busy()
    for name, key in (("b", 2), ("c", 1), ("d", 2), ("e", 3), ("f", 1)):
        bench.submit(name, share_key=key)
    await settle()
    bench.solver.release(4)
    await settle()
    assert bench.solver.batches[1:] == [["b", "d"], ["c", "f"], ["e"]]


async def test_a_flood_does_not_starve_others(bench: Bench) -> None:
    """A second caller's one request is in the next batch, in front of a line of thirty."""
    await bench.busy()
    for i in range(30):
        bench.submit(f"flood {i}", caller="flood")
    bench.submit("single", caller="single")
    await settle()
    bench.solver.release(2)
    await settle()
    assert "single" in bench.solver.batches[1]


async def test_low_priority_is_never_starved(bench: Bench) -> None:
    """A low request is answered while normal ones keep coming from others."""
    await bench.busy()
    low = bench.submit("low", caller="low", priority=Priority.LOW, num_rows=5)
    for i in range(40):
        bench.submit(f"normal {i}", caller=f"caller {i % 4}", num_rows=2)
        if i % 5 == 0:
            bench.solver.release()
        await settle()
    assert low.done()


async def test_a_full_queue_refuses_by_rows_and_by_bytes(bench: Bench) -> None:
    """With the numbers, the limit's name, and when to try again; what waits is untouched."""
    await bench.busy()
    kept = bench.submit("kept", num_rows=99)
    await settle()
    with pytest.raises(OverloadedError, match="99 layers wait, 2 more would pass max_queue_rows = 100") as caught:
        await bench.submit("too many", num_rows=2)
    assert caught.value.retry_after_seconds is not None
    with pytest.raises(OverloadedError, match="8 bytes wait, 993 more would pass max_queue_bytes = 1000"):
        await bench.submit("too large", num_bytes=993)
    assert bench.seen.reasons == ["overloaded", "overloaded"]
    bench.solver.release(2)
    assert (await kept).answer == "kept"


async def test_the_wait_asked_for_is_measured(bench: Bench) -> None:
    """Half the time that the rows in the queue will take, at the rate seen."""
    bench.solver.on_solve = lambda: bench.clock.advance(0.5)
    first = await bench.busy()
    bench.solver.release()
    await first  # half a second a row
    running = bench.submit("running")
    await settle()
    waiting = [bench.submit(f"{i}", num_rows=4) for i in range(5)]
    await settle()
    with pytest.raises(OverloadedError) as caught:
        await bench.submit("more", num_rows=90)
    assert caught.value.retry_after_seconds == pytest.approx(20 * 0.5 / 2)
    bench.solver.release(9)
    await asyncio.gather(running, *waiting)


async def test_who_gives_up_frees_the_room_at_once(bench: Bench) -> None:
    """A cancelled job leaves the queue, and no solve is spent on it."""
    await bench.busy()
    task = bench.submit("gone", num_rows=100)
    await settle()
    task.cancel()
    await settle()
    assert bench.waiting == (0, 0)
    assert bench.seen.reasons == ["cancelled"]
    kept = bench.submit("kept", num_rows=100)
    await settle()
    bench.solver.release(2)
    assert (await kept).answer == "kept"
    assert bench.solver.batches == [["first"], ["kept"]]


async def test_giving_up_during_the_solve_hurts_nobody(bench: Bench) -> None:
    """The others of the batch are answered."""
    first = await bench.busy()
    gone, kept = bench.submit("gone"), bench.submit("kept")
    await settle()
    bench.solver.release()
    await settle()
    gone.cancel()
    bench.solver.release()
    assert (await kept).answer == "kept"
    assert first.done()


async def test_an_expired_job_is_not_solved(bench: Bench) -> None:
    """A deadline that passed while it waited, or before it came."""
    await bench.busy()
    late = bench.submit("late", deadline=bench.clock.now() + 1)
    kept = bench.submit("kept", deadline=bench.clock.now() + 9)
    await settle()
    bench.clock.advance(1)
    bench.solver.release(2)
    with pytest.raises(DeadlineExceededError, match="passed before a solve began"):
        await late
    assert (await kept).answer == "kept"
    assert bench.solver.batches == [["first"], ["kept"]]
    with pytest.raises(DeadlineExceededError, match="passed before a solve began"):
        await bench.submit("past", deadline=bench.clock.now())
    assert bench.seen.reasons == ["expired", "expired"]


async def test_a_call_cancelled_at_its_deadline_counts_as_expired(bench: Bench) -> None:
    """GRPC cancels a handler whose deadline passes; the reason is the deadline."""
    await bench.busy()
    late = bench.submit("late", deadline=bench.clock.now() + 1)
    await settle()
    bench.clock.advance(1)
    late.cancel()
    await settle()
    assert bench.seen.reasons == ["expired"]


async def test_only_the_guilty_job_fails(bench: Bench) -> None:
    """A batch that breaks the solver is solved one by one."""
    await bench.busy()
    jobs = [bench.submit(name, guilty=name == "c") for name in "bcd"]
    await settle()
    bench.solver.release(5)
    results = await asyncio.gather(*jobs, return_exceptions=True)
    assert [getattr(result, "answer", type(result)) for result in results] == ["b", RuntimeError, "d"]
    assert bench.solver.batches[1:] == [["b", "c", "d"], ["b"], ["c"], ["d"]]
    assert bench.seen.reasons == ["internal"]
    after = bench.submit("after")
    bench.solver.release()
    assert (await after).answer == "after"


async def test_a_solver_that_loses_an_answer_is_a_failure(bench: Bench) -> None:
    """Too few answers are an error for those who asked, not for the service."""
    await bench.busy()
    bench.solver.solve = lambda problems: []  # type: ignore[method-assign]  # noqa: ARG005
    bench.batcher._solve = bench.solver.solve
    task = bench.submit("b")
    bench.solver.release(2)
    with pytest.raises(ValueError, match="zip"):
        await task


async def test_without_a_delay_an_idle_device_starts_at_once(bench: Bench) -> None:
    """No timer by default."""
    bench.submit("b")
    await settle()
    assert bench.solver.batches == [["b"]]


async def test_a_delay_lets_more_arrive(make_bench: Callable[..., Awaitable[Bench]]) -> None:
    """An idle device waits so long after the first, or until a batch is full."""
    bench = await make_bench(max_queue_delay_seconds=0.01)
    bench.submit("b")
    await settle()
    bench.clock.advance(0.009)
    bench.submit("c")
    await settle()
    assert bench.solver.batches == []
    bench.clock.advance(0.001)
    await settle()
    assert bench.solver.batches == [["b", "c"]]
    bench.solver.release()
    await settle()
    for i in range(5):
        bench.submit(f"{i}", num_rows=2)
    await settle()
    assert len(bench.solver.batches[1]) == 5


async def test_draining_finishes_what_was_taken_and_takes_no_more(bench: Bench) -> None:
    """New work is refused, old work is answered, then the drain ends."""
    first = await bench.busy()
    second = bench.submit("b")
    await settle()
    drain = asyncio.ensure_future(bench.batcher.drain())
    await settle()
    with pytest.raises(UnavailableError, match="draining"):
        await bench.submit("late")
    assert not drain.done()
    bench.solver.release(2)
    await drain
    assert first.done()
    assert (await second).answer == "b"


async def test_stopping_tells_those_who_wait(bench: Bench) -> None:
    """Nothing is lost silently."""
    await bench.busy()
    waiting = bench.submit("b")
    await settle()
    await bench.batcher.stop()
    with pytest.raises(UnavailableError, match="stopped"):
        await waiting
    assert bench.waiting == (0, 0)


async def test_stopping_answers_the_batch_in_hand_too(bench: Bench) -> None:
    """Those whose solve will never be told get an error, not silence."""
    first = await bench.busy()
    await bench.batcher.stop()
    with pytest.raises(UnavailableError, match="stopped"):
        await first


async def test_a_fault_of_the_batcher_itself_leaves_nobody_waiting(bench: Bench) -> None:
    """Those it concerns get the fault; whoever comes after is served."""
    first = await bench.busy()
    bench.seen.waited = None  # type: ignore[assignment, method-assign]
    waiting = [bench.submit(name) for name in "bc"]
    await settle()
    bench.solver.release()
    await first
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [TypeError, TypeError]
    assert bench.waiting == (0, 0)
    bench.seen.waited = lambda job, seconds: None  # type: ignore[method-assign]  # noqa: ARG005
    after = bench.submit("after")
    bench.solver.release()
    assert (await after).answer == "after"


async def test_one_by_one_skips_whoever_is_gone(bench: Bench) -> None:
    """After a batch broke, a job that was cancelled or has expired is not solved again."""
    await bench.busy()
    gone, late = bench.submit("gone"), bench.submit("late", deadline=bench.clock.now() + 1)
    guilty, kept = bench.submit("guilty", guilty=True), bench.submit("kept")
    await settle()
    bench.solver.release()
    await settle()
    gone.cancel()
    bench.clock.advance(2)
    await settle()
    bench.solver.release(3)
    results = await asyncio.gather(late, guilty, kept, return_exceptions=True)
    assert [getattr(r, "answer", type(r)) for r in results] == [DeadlineExceededError, RuntimeError, "kept"]
    assert bench.solver.batches[2:] == [["guilty"], ["kept"]]


async def learned(bench: Bench, seconds_per_row: float) -> None:
    """Let the batcher see how long a row takes."""
    bench.solver.on_solve = lambda: bench.clock.advance(9 * seconds_per_row)
    bench.solver.release(2)
    for _ in range(2):
        await bench.submit("lesson", num_rows=9)
    bench.solver.on_solve = lambda: None
    bench.solver.batches.clear()
    bench.seen.reasons.clear()


async def test_what_cannot_be_answered_in_time_is_refused_at_once(bench: Bench) -> None:
    """A second a row, three rows, two seconds left: no solve is spent on it, and the reason is its own."""
    await learned(bench, 1.0)
    with pytest.raises(DeadlineExceededError, match=r"comes in 2 s, and solving this takes about 3 s") as caught:
        await bench.submit("hopeless", num_rows=3, deadline=bench.clock.now() + 2)
    assert caught.value.reason == "hopeless"
    assert bench.seen.reasons == ["hopeless"]
    bench.solver.release()
    assert (await bench.submit("in time", num_rows=3, deadline=bench.clock.now() + 3)).answer == "in time"


async def test_what_waited_too_long_for_a_solve_is_not_solved(bench: Bench) -> None:
    """When its turn comes there is too little time left."""
    await learned(bench, 1.0)
    await bench.busy()
    late = bench.submit("late", deadline=bench.clock.now() + 2.5)
    await settle()
    bench.solver.on_solve = lambda: bench.clock.advance(2)
    bench.solver.release(2)
    with pytest.raises(DeadlineExceededError, match="takes about"):
        await late
    assert bench.solver.batches == [["first"]]


async def test_nobody_joins_a_batch_that_would_make_another_too_late(bench: Bench) -> None:
    """Two seconds of work before a deadline in two seconds: the third goes next."""
    await learned(bench, 1.0)
    await bench.busy()
    tasks = [bench.submit("tight", deadline=bench.clock.now() + 2), *(bench.submit(name) for name in ("b", "c"))]
    await settle()
    bench.solver.release(3)
    await asyncio.gather(*tasks)
    assert bench.solver.batches[1:] == [["tight", "b"], ["c"]]


async def test_a_batch_is_capped_by_seconds(make_bench: Callable[..., Awaitable[Bench]]) -> None:
    """What is known to take longer goes alone, so that others' turn comes."""
    bench = await make_bench(max_batch_seconds=2.0)
    await learned(bench, 1.0)
    await bench.busy()
    for name, rows in (("b", 1), ("c", 1), ("d", 1), ("long", 5)):
        bench.submit(name, num_rows=rows)
    await settle()
    bench.solver.release(4)
    await settle()
    assert bench.solver.batches[1:] == [["b", "c"], ["d"], ["long"]]


async def test_who_fills_the_queue_makes_room_for_others(bench: Bench) -> None:
    """Its newest job is turned out, with the time to come back; its older ones and the newcomer are answered."""
    first = await bench.busy()
    hog = [bench.submit(f"hog {i}", caller="hog", num_rows=25) for i in range(4)]
    await settle()
    modest = bench.submit("modest", caller="modest", num_rows=25)
    with pytest.raises(OverloadedError, match="other callers came") as caught:
        await hog[3]
    assert caught.value.retry_after_seconds is not None
    assert bench.seen.reasons == ["overloaded"]
    assert bench.waiting == (100, 32)
    with pytest.raises(OverloadedError, match="100 layers wait"):
        await bench.submit("hog again", caller="hog", num_rows=25)
    bench.solver.release(9)
    assert [(await task).answer for task in (first, modest, *hog[:3])][1] == "modest"


async def test_a_solve_that_does_not_come_back_ends_all_waiting(make_bench: Callable[..., Awaitable[Bench]]) -> None:
    """UNAVAILABLE to who waits, in the solver and in the queue, and to who comes later; and it is told."""
    bench = await make_bench(solve_timeout_seconds=5.0)
    first = await bench.busy()
    waiting = bench.submit("waiting")
    await settle()
    bench.clock.advance(4.9)
    await settle()
    assert not bench.batcher.stuck.is_set()
    bench.clock.advance(0.2)
    for task in (first, waiting, bench.submit("later")):
        with pytest.raises(UnavailableError, match="the solver does not come back"):
            await task
    assert bench.batcher.stuck.is_set()
    assert bench.seen.reasons == ["unavailable"] * 3
    assert bench.waiting == (0, 0)


async def test_a_solve_that_comes_back_in_time_is_not_stuck(make_bench: Callable[..., Awaitable[Bench]]) -> None:
    """Its watchdog goes with it, and so it does for one that fails."""
    bench = await make_bench(solve_timeout_seconds=5.0)
    bench.solver.release(3)
    await bench.submit("a")
    with pytest.raises(RuntimeError):
        await bench.submit("guilty", guilty=True)
    bench.clock.advance(9)
    assert not bench.batcher.stuck.is_set()
    assert (await bench.submit("b")).answer == "b"


async def test_a_call_cancelled_as_its_batch_forms_is_dropped_and_counted(bench: Bench) -> None:
    """In the same turn of the loop: no solve is spent on it, it is counted once, and nothing spins."""
    first = await bench.busy()
    gone, kept = bench.submit("gone"), bench.submit("kept")
    await settle()
    bench.solver.on_solve = lambda: void(gone.cancel())
    bench.solver.release(2)
    assert (await kept).answer == "kept"
    await first
    assert bench.solver.batches == [["first"], ["kept"]]
    assert bench.seen.reasons == ["cancelled"]
    assert bench.waiting == (0, 0)


async def test_a_stuck_solve_that_fails_at_last_is_counted_once(make_bench: Callable[..., Awaitable[Bench]]) -> None:
    """Its job was told long ago."""
    bench = await make_bench(solve_timeout_seconds=5.0)
    guilty = bench.submit("guilty", guilty=True)
    await settle()
    bench.clock.advance(6)
    with pytest.raises(UnavailableError):
        await guilty
    bench.solver.release()
    await settle()
    assert bench.seen.reasons == ["unavailable"]


@pytest.mark.parametrize(("between", "joins"), [(14, True), (15, False)])
async def test_only_so_far_is_a_queue_of_unlike_jobs_looked_through(
    make_bench: Callable[..., Awaitable[Bench]], between: int, joins: bool
) -> None:
    """Eight jobs for each that a batch may hold: a long queue must not hold up the loop."""
    bench = await make_bench(max_batch_requests=2)
    await bench.busy()
    for name, key in (("leader", 1), *((f"unlike {i}", 2) for i in range(between)), ("like", 1)):
        bench.submit(name, share_key=key)
    await settle()
    bench.solver.release(2)
    await settle()
    assert bench.solver.batches[1] == (["leader", "like"] if joins else ["leader"])


async def test_a_batch_is_exactly_what_the_cap_allows(bench: Bench) -> None:
    """One row more is one too many."""
    await bench.busy()
    for name, rows in (("b", 4), ("c", 4), ("d", 3), ("e", 4), ("f", 7)):
        bench.submit(name, num_rows=rows)
    await settle()
    bench.solver.release(4)
    await settle()
    assert bench.solver.batches[1:] == [["b", "c"], ["d", "e"], ["f"]]


@pytest.mark.parametrize(("passed", "reason"), [(0, "cancelled"), (4.5, "cancelled"), (5, "expired"), (7, "expired")])
async def test_who_gives_up_is_counted_by_its_deadline(bench: Bench, passed: float, reason: str) -> None:
    """Cancelled before it, expired from then on."""
    await bench.busy()
    task = bench.submit("gone", deadline=bench.clock.now() + 5)
    await settle()
    bench.clock.advance(passed)
    task.cancel()
    await settle()
    assert bench.seen.reasons == [reason]


async def test_a_batch_that_is_more_than_full_does_not_wait_for_others(
    make_bench: Callable[..., Awaitable[Bench]],
) -> None:
    """Though an idle device waits for more in general."""
    bench = await make_bench(max_queue_delay_seconds=5.0)
    bench.submit("huge", num_rows=50)
    await settle()
    assert bench.solver.batches == [["huge"]]
    bench.solver.release()
    await settle()
    for i in range(9):
        bench.submit(f"{i}")
    await settle()
    assert [len(batch) for batch in bench.solver.batches[1:]] == [8]


async def test_a_clock_that_goes_past_the_delay_ends_the_wait(make_bench: Callable[..., Awaitable[Bench]]) -> None:
    """No clock hits a moment exactly."""
    bench = await make_bench(max_queue_delay_seconds=5.0)
    bench.submit("b")
    await settle()
    bench.clock.advance(7)
    await settle()
    assert bench.solver.batches == [["b"]]


async def test_a_batcher_that_stopped_works_no_more(bench: Bench) -> None:
    """Its task has ended, and what comes is refused in the words of the end."""
    await bench.batcher.stop()
    assert bench.batcher._owner is not None
    assert bench.batcher._owner.done()
    with pytest.raises(UnavailableError, match="stopped before this request was answered"):
        await bench.submit("late")
    never_begun: Batcher[FakeProblem, str] = Batcher(
        bench.solver.solve, bench.solver.run, LIMITS, bench.seen, bench.clock
    )
    await never_begun.stop()


def test_limits_stand() -> None:
    """Nobody changes them under way."""
    with pytest.raises(FrozenInstanceError):
        LIMITS.max_batch_rows = 1  # type: ignore[misc]


async def test_of_two_in_a_batch_only_the_guilty_one_fails(bench: Bench) -> None:
    """The smallest batch that can be taken apart."""
    await bench.busy()
    guilty, innocent = bench.submit("guilty", guilty=True), bench.submit("innocent")
    await settle()
    bench.solver.release(4)
    assert (await innocent).answer == "innocent"
    with pytest.raises(RuntimeError, match="broken by a guilty problem"):
        await guilty
    assert bench.solver.batches[1:] == [["guilty", "innocent"], ["guilty"], ["innocent"]]
    assert bench.seen.reasons == ["internal"]


async def test_jobs_solved_one_by_one_have_each_their_own_watchdog(
    make_bench: Callable[..., Awaitable[Bench]],
) -> None:
    """A batch that failed after three seconds of five, and then each of its jobs for three: nothing is stuck."""
    bench = await make_bench(solve_timeout_seconds=5.0)
    first = await bench.busy()
    guilty, innocent = bench.submit("guilty", guilty=True), bench.submit("innocent")
    await settle()
    bench.solver.on_solve = lambda: bench.clock.advance(3)
    bench.solver.release(4)
    await first
    with pytest.raises(RuntimeError, match="broken by a guilty problem"):
        await guilty
    assert (await innocent).answer == "innocent"
    assert not bench.batcher.stuck.is_set()


async def test_who_drops_out_as_a_batch_forms_holds_up_nobody_behind(bench: Bench) -> None:
    """One is late, one is cancelled in that moment: the next still joins the batch."""
    await bench.busy()
    bench.submit("leader")
    late = bench.submit("late", deadline=bench.clock.now() + 1)
    gone = bench.submit("gone")
    kept = bench.submit("kept")
    await settle()

    def happen() -> None:
        bench.clock.advance(2)
        gone.cancel()

    bench.solver.on_solve = happen
    bench.solver.release(2)
    assert (await kept).answer == "kept"
    with pytest.raises(DeadlineExceededError):
        await late
    assert bench.solver.batches == [["first"], ["leader", "kept"]]
    assert sorted(bench.seen.reasons) == ["cancelled", "expired"]


async def test_who_gave_up_in_a_batch_that_failed_holds_up_nobody_behind(bench: Bench) -> None:
    """Its mates are solved one by one all the same."""
    await bench.busy()
    guilty, gone, kept = bench.submit("guilty", guilty=True), bench.submit("gone"), bench.submit("kept")
    await settle()
    bench.solver.release()
    await settle()
    assert bench.solver.batches[1] == ["guilty", "gone", "kept"]
    gone.cancel()
    bench.solver.release(3)
    assert (await kept).answer == "kept"
    with pytest.raises(RuntimeError):
        await guilty
    assert bench.solver.batches[2:] == [["guilty"], ["kept"]]
