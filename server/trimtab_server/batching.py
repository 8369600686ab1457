"""The batcher: the sole owner of the queue and of the device thread.

Handlers call `submit` and wait. One task takes what waits, groups what may share a solve, and hands it to the one
device thread; while that works, arrivals pile up, and the pile is the next batch. No timer is needed for that;
`max_queue_delay_seconds` is there for devices that gain from fuller batches.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic

from trimtab.errors import (
    CancelledError,
    DeadlineExceededError,
    InternalError,
    TrimtabError,
    UnavailableError,
)
from trimtab_server.admission import Admission
from trimtab_server.clock import Clock
from trimtab_server.fair_queue import Priority
from trimtab_server.jobs import AnswerT, Job, ProblemT, Solved
from trimtab_server.observer import Observer
from trimtab_server.waiting_room import RoomLimits

Solve = Callable[[Sequence[ProblemT]], Sequence[AnswerT]]
RunOnDevice = Callable[..., Awaitable[Any]]


_SCAN = 8
"""Jobs looked at for a batch, per job it may hold: a long queue of unlike jobs must not hold up the event loop."""


@dataclass(frozen=True)
class BatchLimits:
    """What the batcher takes on."""

    max_queue_rows: int
    max_queue_bytes: int
    max_batch_rows: int
    max_batch_requests: int
    max_batch_seconds: float
    max_queue_seconds: float
    max_queue_delay_seconds: float = 0.0
    solve_timeout_seconds: float | None = None


class Batcher(Generic[ProblemT, AnswerT]):
    """Batches jobs into solves on one device thread; make it inside the event loop, then `start` it."""

    def __init__(
        self,
        solve: Solve[ProblemT, AnswerT],
        run_on_device: RunOnDevice,
        limits: BatchLimits,
        observer: Observer,
        clock: Clock,
    ) -> None:
        """Put a batcher before a solver.

        Args:
            solve: problems with one share_key to answers in the same order; runs on the device thread.
            run_on_device: awaits `run_on_device(function, *arguments)` on the one device thread.
            limits: what to take on.
            observer: is told what happens.
            clock: the time.
        """
        self._solve = solve
        self._run_on_device = run_on_device
        self._limits = limits
        self._observer = observer
        self._clock = clock
        self._admission: Admission[Job[ProblemT, AnswerT]] = Admission(
            RoomLimits(limits.max_queue_rows, limits.max_queue_bytes, limits.max_queue_seconds)
        )
        self.room = self._admission.room
        """What waits."""
        self._forecast = self._admission.forecast
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._refusal: str | None = None  # why nothing is taken any more
        self._in_hand: list[Job[ProblemT, AnswerT]] = []
        self._owner: asyncio.Task[None] | None = None
        self.stuck = asyncio.Event()
        """A solve did not come back in time: the device thread is lost, and with it this batcher."""

    def start(self) -> None:
        """Start the owner task."""
        self._owner = asyncio.create_task(self._own(), name="batcher")

    async def submit(
        self,
        problem: ProblemT,
        *,
        caller: str,
        priority: Priority = Priority.NORMAL,
        deadline: float | None = None,
        trace: Any = None,
    ) -> Solved[AnswerT]:
        """The answer to a problem.

        Args:
            problem: what to solve.
            caller: whose line it joins.
            priority: its weight next to others.
            deadline: on the batcher's clock; a job that has not begun by then is dropped.
            trace: what the observer may want to know of it.

        Raises:
            UnavailableError: the server drains.
            OverloadedError: the queue is full, or became so while this caller held the most of it.
            DeadlineExceededError: the deadline passed while it waited, or comes before a solve could end.
            Exception: whatever the solver raised for this problem alone.
        """
        reply: asyncio.Future[Solved[AnswerT]] = asyncio.get_running_loop().create_future()
        cost = self._forecast.seconds(problem)
        job = Job(problem, caller, priority, deadline, self._clock.now(), cost, reply, trace)
        self._admit(job)
        self._arrived.set()
        self._idle.clear()
        try:
            return await reply
        except asyncio.CancelledError:
            self._abandon(job)
            raise

    async def drain(self) -> None:
        """Take no new work, and wait until all that was taken is answered."""
        self._refusal = "the server is draining; try another"
        self._arrived.set()  # whoever waits for a fuller batch need not
        await self._idle.wait()

    async def stop(self) -> None:
        """End the owner task; what still waits gets UnavailableError."""
        self._refusal = "the server stopped before this request was answered; try another"
        if self._owner is not None:
            self._owner.cancel()
            await asyncio.gather(self._owner, return_exceptions=True)
        self._fail_all(partial(UnavailableError, self._refusal))

    def _admit(self, job: Job[ProblemT, AnswerT]) -> None:
        """Let a job in, if need be by turning out others; or raise why not."""
        try:
            if self._refusal is not None:
                raise UnavailableError(self._refusal)
            rivals = self._admission.admit(job)
        except TrimtabError as error:
            self._observer.rejected(error.reason)
            raise
        for rival in rivals:
            self._refuse(rival, self._admission.full("other callers came, and this one held the most of it"))

    def _abandon(self, job: Job[ProblemT, AnswerT]) -> None:
        """Nobody waits for the job any more: forget it at once, so that its room is free."""
        if self.room.discard(job):
            expired = job.deadline is not None and job.deadline <= self._clock.now()
            self._observer.rejected(DeadlineExceededError.reason if expired else CancelledError.reason)

    def _refuse(self, job: Job[ProblemT, AnswerT], error: Exception) -> None:
        """A job that is out of the room ends without having been solved."""
        self._observer.rejected(getattr(error, "reason", InternalError.reason))
        if not job.reply.done():
            job.reply.set_exception(error)

    def _fail_all(self, make_error: Callable[[], Exception]) -> None:
        """Whatever waits or is being solved ends with an error."""
        lost = [job for job in self._in_hand if not job.reply.done()]
        while self.room:
            (job,) = self.room.first(1)
            self.room.discard(job)
            lost.append(job)
        for job in lost:
            self._refuse(job, make_error())

    async def _own(self) -> None:
        while True:
            try:
                await self._serve_next()
            except Exception as error:  # noqa: BLE001, PERF203  # a fault of ours must not leave callers waiting for ever
                self._fail_all(partial(_same, error))

    async def _serve_next(self) -> None:
        self._in_hand = []  # an idle server must not hold on to the loads of its last batch
        if not self.room:
            self._idle.set()
            self._arrived.clear()
            await self._arrived.wait()
            await self._let_more_arrive()
        self._take_batch(self._in_hand)
        if self._in_hand:
            await self._solve_batch(self._in_hand)

    async def _let_more_arrive(self) -> None:
        end = self._clock.now() + self._limits.max_queue_delay_seconds
        while not self._is_batch_full() and (left := end - self._clock.now()) > 0:
            self._arrived.clear()
            timer = asyncio.ensure_future(self._clock.sleep(left))
            arrival = asyncio.ensure_future(self._arrived.wait())
            try:
                await asyncio.wait((timer, arrival), return_when=asyncio.FIRST_COMPLETED)
            finally:
                timer.cancel()
                arrival.cancel()

    def _is_batch_full(self) -> bool:
        enough = self.room.rows >= self._limits.max_batch_rows or len(self.room) >= self._limits.max_batch_requests
        return enough or self._refusal is not None

    def _take_batch(self, batch: list[Job[ProblemT, AnswerT]]) -> None:
        """Into `batch`: the next job in fair order, and those behind it that may share its solve, up to the caps."""
        now = self._clock.now()
        limits = self._limits
        rows, seconds, end = 0, 0.0, math.inf
        for job in self.room.first(_SCAN * limits.max_batch_requests):
            if job.reply.done():  # cancelled in this very moment
                self._abandon(job)
                continue
            late = self._admission.too_late(job, now)
            if late is not None:
                self.room.discard(job)
                self._refuse(job, late)
                continue
            # a batch is answered when all of it is solved: nobody may join who would make another too late
            longer = seconds + job.cost
            sooner = end if job.deadline is None else min(end, job.deadline)
            if not batch or (
                rows + job.num_rows <= limits.max_batch_rows
                and job.share_key == batch[0].share_key
                and longer <= limits.max_batch_seconds
                and now + longer <= sooner
            ):
                self.room.take(job)
                batch.append(job)
                self._observer.waited(job, now - job.admitted)
                rows, seconds, end = rows + job.num_rows, longer, sooner
            if len(batch) == limits.max_batch_requests or rows >= limits.max_batch_rows:
                break

    async def _solve_batch(self, batch: list[Job[ProblemT, AnswerT]]) -> None:
        started = self._clock.now()
        problems = [job.problem for job in batch]
        try:
            answers = await self._run_watched(problems)
            replies = list(zip(batch, answers, strict=True))
        except Exception as error:  # noqa: BLE001  # whatever a solver raises, it must not end the service
            await self._isolate(batch, error)
            return
        seconds = self._clock.now() - started
        rows = sum(problem.num_rows for problem in problems)
        self._forecast.learn(problems, seconds)
        for job, answer in replies:
            if not job.reply.done():
                job.reply.set_result(Solved(answer, started, started - job.admitted, seconds, len(batch), rows))
        self._observer.solved(batch, answers, started, seconds)

    async def _run_watched(self, problems: list[ProblemT]) -> Sequence[AnswerT]:
        """What the solver answers; a watchdog goes along with this one solve."""
        timeout = self._limits.solve_timeout_seconds
        watchdog = None if timeout is None else self._clock.call_later(timeout, self._lose_device)
        try:
            answers: Sequence[AnswerT] = await self._run_on_device(self._solve, problems)
            return answers
        finally:
            if watchdog is not None:
                watchdog.cancel()

    def _lose_device(self) -> None:
        """The solve at hand is taken to be stuck: nobody is left waiting for it, and nobody else may begin to."""
        self._refusal = "the solver does not come back, so this server ends; try another"
        self._fail_all(partial(UnavailableError, self._refusal))
        self.stuck.set()

    async def _isolate(self, batch: list[Job[ProblemT, AnswerT]], error: Exception) -> None:
        """A batch failed: solve its jobs one by one, so that only the guilty one errors."""
        if len(batch) > 1:
            for job in batch:
                if job.reply.done():
                    continue
                late = self._admission.too_late(job, self._clock.now())
                if late is not None:
                    self._refuse(job, late)
                else:
                    await self._solve_batch([job])
            return
        if not batch[0].reply.done():
            self._refuse(batch[0], error)


def _same(error: Exception) -> Exception:
    return error
