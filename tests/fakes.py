"""Stand-ins for what a test wants to hold in its hand: time, and a solver that waits to be told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from trimtab_server.observer import Observer


class FakeClock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []
        self._timers: list[tuple[float, asyncio.TimerHandle, Callable[[], None]]] = []

    def now(self) -> float:
        """The time."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Until the test has moved time that far."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._now + seconds, future))
        await future

    def call_later(self, seconds: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """When the test has moved time that far, unless it is cancelled."""
        handle = asyncio.TimerHandle(0, callback, (), asyncio.get_running_loop())
        self._timers.append((self._now + seconds, handle, callback))
        return handle

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds
        due, self._timers = (
            [timer for timer in self._timers if (timer[0] <= self._now) is passed] for passed in (True, False)
        )
        for _, handle, callback in due:
            if not handle.cancelled():
                callback()
        for end, future in self._sleepers:
            if end <= self._now and not future.done():
                future.set_result(None)


@dataclass(frozen=True, eq=False)
class FakeProblem:
    """A problem that knows its cost and whom it may share a solve with; `guilty` breaks the solver."""

    name: str
    num_rows: int = 1
    num_bytes: int = 8
    share_key: Hashable = "same"
    guilty: bool = False

    @property
    def num_steps(self) -> int:
        """As many as rows."""
        return self.num_rows

    @property
    def kind(self) -> Hashable:
        """As they share."""
        return self.share_key


class GatedSolver:
    """Records the batches it gets; each waits until the test releases it. Answers with the problems' names."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self._gate = asyncio.Semaphore(0)
        self.on_solve: Callable[[], None] = lambda: None

    def release(self, count: int = 1) -> None:
        """Let so many batches through."""
        for _ in range(count):
            self._gate.release()

    def solve(self, problems: Sequence[FakeProblem]) -> list[str]:
        """The names; or the failure of a guilty one."""
        self.on_solve()
        if any(problem.guilty for problem in problems):
            raise RuntimeError("broken by a guilty problem")
        return [problem.name for problem in problems]

    async def run(self, function: Callable[..., Any], problems: Sequence[FakeProblem]) -> Any:
        """As the device thread: one batch at a time, when released."""
        self.batches.append([problem.name for problem in problems])
        await self._gate.acquire()
        return function(problems)


class Recorder(Observer):
    """An observer that writes down what it is told."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.waits: list[float] = []
        self.solves: list[tuple[int, float]] = []

    def rejected(self, reason: str) -> None:
        """Somebody got no answer."""
        self.reasons.append(reason)

    def waited(self, job: Any, seconds: float) -> None:  # noqa: ARG002
        """Somebody's turn came."""
        self.waits.append(seconds)

    def solved(self, jobs: Sequence[Any], answers: Sequence[Any], started: float, seconds: float) -> None:  # noqa: ARG002
        """A batch is done."""
        assert len(answers) == len(jobs)
        self.solves.append((len(jobs), seconds))
