"""The servicer: check, delegate, map."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import grpc.aio
import structlog

from trimtab.v1 import placement_pb2 as pb
from trimtab.v1.placement_pb2_grpc import PlacementServiceServicer
from trimtab_server import contract, rebalance_contract
from trimtab_server.access import caller_name
from trimtab_server.batching import Batcher
from trimtab_server.clock import Clock
from trimtab_server.engine import AnyAnswer, AnyProblem
from trimtab_server.fair_queue import Priority
from trimtab_server.jobs import Solved
from trimtab_server.settings import Settings
from trimtab_server.solvers.problem import Packer
from trimtab_server.tracing import call_trace

Context = grpc.aio.ServicerContext[Any, Any]


class PlacementService(PlacementServiceServicer):
    """The placement service over a batcher."""

    def __init__(
        self,
        batcher: Batcher[AnyProblem, AnyAnswer],
        packer: Packer,
        settings: Settings,
        answered: Callable[[AnyAnswer], None],
        clock: Clock,
    ) -> None:
        """Serve what a batcher solves; `answered` is told every answer, once it is on its way."""
        self._batcher = batcher
        self._packer = packer
        self._limits = settings.request_limits
        self._answered = answered
        self._clock = clock
        self._description = contract.write_description(packer, settings.limits)

    async def Pack(self, request: pb.PackRequest, context: Context) -> pb.PackResponse:
        """Put the items of every layer into packs."""
        problem, priority = contract.read_pack(request, self._limits)
        del request  # a third copy of the loads, not to be held while this waits
        structlog.contextvars.bind_contextvars(shape=list(problem.weight.shape), packs=problem.num_packs)
        solved = await self._solve(problem, priority, context)
        self._tell_later(solved.answer)
        return contract.write_pack(solved)

    async def Rebalance(self, request: pb.RebalanceRequest, context: Context) -> pb.RebalanceResponse:
        """Place the experts of every layer on GPUs."""
        problem, priority = rebalance_contract.read_rebalance(request, self._limits)
        del request  # as above
        structlog.contextvars.bind_contextvars(
            shape=list(problem.load.shape), replicas=problem.num_replicas, gpus=problem.num_gpus
        )
        solved = await self._solve(problem, priority, context)
        structlog.contextvars.bind_contextvars(moves=int(solved.answer.moves.sum()))
        self._tell_later(solved.answer)
        return rebalance_contract.write_rebalance(solved)

    async def Describe(self, request: pb.DescribeRequest, context: Context) -> pb.DescribeResponse:  # noqa: ARG002
        """Tell what this server is."""
        return self._description

    def _tell_later(self, answer: AnyAnswer) -> None:
        asyncio.get_running_loop().call_soon(self._answered, answer)

    async def _solve(self, problem: Any, priority: Priority, context: Context) -> Solved[Any]:
        trace = call_trace.get()
        if trace is not None:
            trace.admitted = time.monotonic_ns()
        solved = await self._batcher.submit(
            problem, caller=caller_name.get(), priority=priority, deadline=self._deadline(context), trace=trace
        )
        if trace is not None:
            trace.solved = solved
        structlog.contextvars.bind_contextvars(
            queue_seconds=round(solved.queue_seconds, 6),
            solve_seconds=round(solved.solve_seconds, 6),
            batch_requests=solved.batch_requests,
        )
        return solved

    def _deadline(self, context: Context) -> float | None:
        remaining = context.time_remaining()
        return None if remaining is None else self._clock.now() + remaining
