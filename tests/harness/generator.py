"""Load, offered at a rate and not as answers allow, by callers of several kinds; every call goes into the books."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from tests.harness.asking import SERVICE, Ask, promise_of, solve_seconds_of
from tests.harness.ledger import PATIENCE, Entry, Ledger, Outcome, outcome_of

_CHANNELS = 16
"""Connections: a server lets only so many calls wait on each."""


@dataclass(frozen=True)
class CallerPlan:
    """One caller: who, what, and how much of it."""

    name: str
    rate: float
    """Calls a second."""
    asks: Sequence[Ask]
    odd: float = 0.0
    """The share of calls that are bad or Describe, have a short deadline, or are cancelled: a third each."""


@dataclass(frozen=True)
class Plan:
    """What a generator process does."""

    target: str
    callers: Sequence[CallerPlan]
    odd_asks: Sequence[Ask]
    seconds: float
    seed: int
    deadline: float = 15.0


class Sender:
    """Sends asks by raw stubs, without retries, and books how they end."""

    def __init__(self, target: str, ledger: Ledger) -> None:
        options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
        self._channels = [grpc.aio.insecure_channel(target, options) for _ in range(_CHANNELS)]
        self._calls: list[dict[str, Any]] = [
            {method: channel.unary_unary(SERVICE + method) for method in ("Pack", "Rebalance", "Describe")}
            for channel in self._channels
        ]
        self._ledger = ledger
        self._begin = time.perf_counter()

    async def connect(self) -> None:
        """Wait for all connections, so that none of them counts as a slow call."""
        ready = asyncio.gather(*(channel.channel_ready() for channel in self._channels))
        await asyncio.wait_for(ready, 20)

    @property
    def now(self) -> float:
        """Seconds since the books were opened."""
        return time.perf_counter() - self._begin

    async def send(self, caller: str, ask: Ask, deadline: float, cancel_after: float | None = None) -> Outcome:
        """One call, from start to its place in the books."""
        self._ledger.send()
        method = self._calls[self._ledger.sent % len(self._calls)][ask.method]
        begin = time.perf_counter()
        call = method(ask.raw, timeout=deadline, metadata=(("x-trimtab-caller", caller),))
        timer = None if cancel_after is None else asyncio.get_running_loop().call_later(cancel_after, call.cancel)
        outcome, cause = await self._end_of(call, ask, deadline, cancelled=timer is not None)
        if timer is not None:
            timer.cancel()
        taken = time.perf_counter() - begin
        self._ledger.settle(Entry(caller, ask.kind, outcome, taken, ask.rows, self.now), cause)
        return outcome

    async def _end_of(self, call: Any, ask: Ask, deadline: float, *, cancelled: bool) -> tuple[Outcome, str]:
        done, _ = await asyncio.wait({asyncio.ensure_future(call.code())}, timeout=deadline + PATIENCE)
        if not done:
            call.cancel()
            return Outcome.LOST, f"no answer {PATIENCE:g} s after a deadline of {deadline:g} s"
        code = done.pop().result()
        outcome = outcome_of(code, cancelled=cancelled)
        if outcome is Outcome.ANSWERED:
            answer = await call
            self._ledger.longest_solve = max(self._ledger.longest_solve, solve_seconds_of(ask.method, answer))
            return _judge(ask, answer)
        said = str(await call.details())
        if outcome is Outcome.REFUSED:
            self._ledger.refusals["".join("#" if c.isdigit() else c for c in said)[:100]] += 1
        if outcome is Outcome.INVALID and ask.valid:
            return Outcome.WRONG, f"a valid request was called invalid: {said[:200]}"
        return outcome, f"{code.name}: {said[:200]}"

    async def close(self) -> None:
        """Give the connections back."""
        await asyncio.gather(*(channel.close() for channel in self._channels))


def _judge(ask: Ask, answer: bytes) -> tuple[Outcome, str]:
    if not ask.valid:
        return Outcome.WRONG, "an invalid request was answered"
    if ask.expected is not None and promise_of(ask.method, answer) != ask.expected:
        return Outcome.WRONG, "the answer is not that of the solver"
    return Outcome.ANSWERED, ""


async def offer(plan: Plan) -> Ledger:
    """Open loop: calls leave when they are due, whatever became of those before."""
    ledger, dice = Ledger(), random.Random(plan.seed)  # noqa: S311  # load, not secrets
    sender = Sender(plan.target, ledger)
    await sender.connect()
    calls: set[asyncio.Task[Outcome]] = set()
    rates = [caller.rate for caller in plan.callers]
    due = start = sender.now
    while (due := due + dice.expovariate(sum(rates))) < start + plan.seconds:
        wait = due - sender.now
        if wait > 0:
            await asyncio.sleep(wait)
        else:
            ledger.lag = max(ledger.lag, -wait)
            await asyncio.sleep(0)
        (caller,) = dice.choices(plan.callers, rates)
        call = asyncio.create_task(_one(sender, caller, plan, dice))
        calls.add(call)
        call.add_done_callback(calls.discard)
    await asyncio.gather(*calls)
    await sender.close()
    ledger.balance()
    return ledger


def _one(sender: Sender, caller: CallerPlan, plan: Plan, dice: random.Random) -> Any:
    ask, deadline, cancel_after = dice.choice(caller.asks), plan.deadline, None
    if dice.random() < caller.odd:
        which = dice.randrange(3)
        if which == 0:
            ask = dice.choice(plan.odd_asks)
        elif which == 1:
            deadline = dice.uniform(0.05, 2.0)
        else:
            cancel_after = dice.expovariate(5.0)
    return sender.send(caller.name, ask, deadline, cancel_after)


async def saturate(plan: Plan, callers: int) -> Ledger:
    """Closed loop: so many callers, each of whom sends its next call when it has its answer."""
    ledger = Ledger()
    sender = Sender(plan.target, ledger)
    await sender.connect()
    mix = [ask for caller in plan.callers for ask in caller.asks]

    async def call(number: int) -> None:
        dice = random.Random(plan.seed + number)  # noqa: S311  # as above
        while sender.now < plan.seconds:
            await sender.send(f"caller-{number}", dice.choice(mix), plan.deadline)

    await asyncio.gather(*(call(number) for number in range(callers)))
    await sender.close()
    ledger.balance()
    return ledger


def run_offer(plan: Plan) -> Ledger:
    """`offer`, as what a process runs."""
    return asyncio.run(offer(plan))


def run_saturate(plan: Plan, callers: int) -> Ledger:
    """`saturate`, likewise."""
    return asyncio.run(saturate(plan, callers))
