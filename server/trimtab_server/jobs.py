"""Jobs: a problem on its way through the batcher, and the answer that comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from trimtab_server.fair_queue import Priority


class Problem(Protocol):
    """What the batcher has to know of a problem."""

    @property
    def num_rows(self) -> int:
        """Rows it adds to a batch."""
        ...

    @property
    def num_bytes(self) -> int:
        """Bytes it holds while it waits."""
        ...

    @property
    def num_steps(self) -> int:
        """A bound of its work, in the steps that `max_item_steps` limits."""
        ...

    @property
    def share_key(self) -> Hashable:
        """Problems with equal keys can share a solve."""
        ...

    @property
    def kind(self) -> Hashable:
        """Problems of equal kind take about equally long a row."""
        ...


ProblemT = TypeVar("ProblemT", bound=Problem)
AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True)
class Solved(Generic[AnswerT]):
    """An answer, and how it came about."""

    answer: AnswerT
    started: float
    """On the batcher's clock."""
    queue_seconds: float
    solve_seconds: float
    batch_requests: int
    batch_rows: int


@dataclass(eq=False)
class Job(Generic[ProblemT, AnswerT]):
    """A problem on its way through, with its own reply."""

    problem: ProblemT
    caller: str
    priority: Priority
    deadline: float | None
    admitted: float
    cost: float
    """Seconds that it will probably take."""
    reply: asyncio.Future[Solved[AnswerT]] = field(repr=False)
    trace: Any = None
    """What its observers may want to know of it."""
    share_key: Hashable = field(init=False)

    def __post_init__(self) -> None:
        self.share_key = self.problem.share_key

    @property
    def num_rows(self) -> int:
        """Rows it adds to a batch."""
        return self.problem.num_rows

    @property
    def num_bytes(self) -> int:
        """Bytes it holds while it waits."""
        return self.problem.num_bytes
