"""The batcher: the sole owner of the queue and of the device thread.

Handlers call `submit` and wait. One task takes what waits, groups what may share a solve, and hands it to the one
device thread; while that works, arrivals pile up, and the pile is the next batch. No timer is needed for that;
`max_queue_delay_seconds` is there for devices that gain from fuller batches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol

from trimtab.errors import CancelledError, DeadlineExceededError, InternalError, OverloadedError, UnavailableError
from trimtab_server.clock import Clock
from trimtab_server.fair_queue import FairQueue, Priority
from trimtab_server.jobs import AnswerT, Job, ProblemT, Solved


class Observer(Protocol):
    """Who is told what the batcher does; metrics, or nobody."""

    def queue_changed(self, num_rows: int, num_bytes: int) -> None:
        """So much waits now."""

    def rejected(self, reason: str) -> None:
        """A job ended without being solved, or broke the solver."""

    def waited(self, seconds: float) -> None:
        """A job went from the queue into a batch."""

    def solved(self, problems: Sequence[Any], answers: Sequence[Any], seconds: float) -> None:
        """A batch was solved."""


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
    max_queue_seconds: float = 5.0
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
        self._queue: FairQueue[Job[ProblemT, AnswerT]] = FairQueue()
        self._queued_rows = 0
        self._queued_bytes = 0
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False
        self._seconds_per_row = 0.0
        self._in_hand: list[Job[ProblemT, AnswerT]] = []
        self._owner: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the owner task."""
        self._owner = asyncio.create_task(self._own(), name="batcher")

    async def submit(
        self, problem: ProblemT, *, caller: str, priority: Priority = Priority.NORMAL, deadline: float | None = None
    ) -> Solved[AnswerT]:
        """The answer to a problem.

        Args:
            problem: what to solve.
            caller: whose line it joins.
            priority: its weight next to others.
            deadline: on the batcher's clock; a job that has not begun by then is dropped.

        Raises:
            UnavailableError: the server drains.
            OverloadedError: the queue is full.
            DeadlineExceededError: the deadline passed while it waited.
            Exception: whatever the solver raised for this problem alone.
        """
        self._admit(problem, deadline)
        reply: asyncio.Future[Solved[AnswerT]] = asyncio.get_running_loop().create_future()
        job = Job(problem, caller, priority, deadline, self._clock.now(), reply)
        self._queue.add(job)
        self._count(job, 1)
        self._arrived.set()
        self._idle.clear()
        try:
            return await reply
        except asyncio.CancelledError:
            self._abandon(job)
            raise

    async def drain(self) -> None:
        """Take no new work, and wait until all that was taken is answered."""
        self._draining = True
        self._arrived.set()  # whoever waits for a fuller batch need not
        await self._idle.wait()

    async def stop(self) -> None:
        """End the owner task; what still waits gets UnavailableError."""
        self._draining = True
        if self._owner is not None:
            self._owner.cancel()
            await asyncio.gather(self._owner, return_exceptions=True)
        self._fail_all(UnavailableError("the server stopped before this request was answered; try another"))

    def _admit(self, problem: ProblemT, deadline: float | None) -> None:
        error: OverloadedError | UnavailableError | DeadlineExceededError
        limits = self._limits
        if self._draining:
            error = UnavailableError("the server is draining; try another")
        elif deadline is not None and deadline <= self._clock.now():
            error = DeadlineExceededError("the deadline had passed when the request arrived")
        elif self._queued_rows + problem.num_rows > limits.max_queue_rows:
            error = self._full(
                f"{self._queued_rows} layers wait, {problem.num_rows} more", limits.max_queue_rows, "rows"
            )
        elif self._queued_bytes + problem.num_bytes > limits.max_queue_bytes:
            held = f"{self._queued_bytes} bytes wait, {problem.num_bytes} more"
            error = self._full(held, limits.max_queue_bytes, "bytes")
        else:
            return
        self._observer.rejected(error.reason)
        raise error

    def _full(self, held: str, limit: int, unit: str) -> OverloadedError:
        # Half of what waits will be gone after half of its solve time: room for most, without a herd at one instant.
        wait = min(max(self._queued_rows * self._seconds_per_row / 2, 0.02), 10.0)
        return OverloadedError(f"the queue is full: {held} would pass max_queue_{unit} = {limit}", wait)

    def _count(self, job: Job[ProblemT, AnswerT], sign: int) -> None:
        self._queued_rows += sign * job.problem.num_rows
        self._queued_bytes += sign * job.problem.num_bytes
        self._observer.queue_changed(self._queued_rows, self._queued_bytes)

    def _abandon(self, job: Job[ProblemT, AnswerT]) -> None:
        """Nobody waits for the job any more: forget it at once, so that its room is free."""
        if self._queue.discard(job):
            self._count(job, -1)
            expired = job.deadline is not None and job.deadline <= self._clock.now()
            self._observer.rejected(DeadlineExceededError.reason if expired else CancelledError.reason)

    def _drop(self, job: Job[ProblemT, AnswerT], error: Exception) -> None:
        self._queue.discard(job)
        self._count(job, -1)
        self._observer.rejected(getattr(error, "reason", InternalError.reason))
        if not job.reply.done():
            job.reply.set_exception(error)

    def _fail_all(self, error: Exception) -> None:
        """Whatever waits or is being solved ends with this error."""
        for job in self._in_hand:
            if not job.reply.done():
                job.reply.set_exception(error)
        while self._queue:
            (job,) = self._queue.first(1)
            self._drop(job, error)

    async def _own(self) -> None:
        while True:
            try:
                await self._serve_next()
            except Exception as error:  # noqa: BLE001, PERF203  # a fault of ours must not leave callers waiting for ever
                self._fail_all(error)

    async def _serve_next(self) -> None:
        self._in_hand = []  # an idle server must not hold on to the loads of its last batch
        if not self._queue:
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
        limits = self._limits
        rows, requests = self._queued_rows, len(self._queue)
        return self._draining or rows >= limits.max_batch_rows or requests >= limits.max_batch_requests

    def _take_batch(self, batch: list[Job[ProblemT, AnswerT]]) -> None:
        """Into `batch`: the next job in fair order, and those behind it that may share its solve, up to the caps."""
        now = self._clock.now()
        rows = 0
        for job in self._queue.first(_SCAN * self._limits.max_batch_requests):
            if job.deadline is not None and job.deadline <= now:
                self._drop(job, DeadlineExceededError("the deadline passed while the request waited for the solver"))
            elif not batch or (
                rows + job.num_rows <= self._limits.max_batch_rows and job.share_key == batch[0].share_key
            ):
                self._queue.take(job)
                batch.append(job)
                self._count(job, -1)
                self._observer.waited(now - job.admitted)
                rows += job.num_rows
            if len(batch) == self._limits.max_batch_requests or rows >= self._limits.max_batch_rows:
                break

    async def _solve_batch(self, batch: list[Job[ProblemT, AnswerT]]) -> None:
        started = self._clock.now()
        problems = [job.problem for job in batch]
        try:
            answers = await self._run_on_device(self._solve, problems)
            replies = list(zip(batch, answers, strict=True))
        except Exception as error:  # noqa: BLE001  # whatever a solver raises, it must not end the service
            await self._isolate(batch, error)
            return
        seconds = self._clock.now() - started
        rows = sum(problem.num_rows for problem in problems)
        per_row = seconds / rows
        self._seconds_per_row += (per_row - self._seconds_per_row) * (0.2 if self._seconds_per_row else 1.0)
        for job, answer in replies:
            if not job.reply.done():
                job.reply.set_result(Solved(answer, started - job.admitted, seconds, len(batch), rows))
        self._observer.solved(problems, answers, seconds)

    async def _isolate(self, batch: list[Job[ProblemT, AnswerT]], error: Exception) -> None:
        """A batch failed: solve its jobs one by one, so that only the guilty one errors."""
        if len(batch) > 1:
            now = self._clock.now()
            for job in batch:
                if not job.reply.done() and (job.deadline is None or job.deadline > now):
                    await self._solve_batch([job])
                elif not job.reply.done():
                    job.reply.set_exception(DeadlineExceededError("the deadline passed while the batch was solved"))
            return
        self._observer.rejected(InternalError.reason)
        if not batch[0].reply.done():
            batch[0].reply.set_exception(error)
