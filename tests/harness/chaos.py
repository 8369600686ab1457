"""Servers come and go, and no call of a client with its default retries fails, or gets another answer.

Run: python -m tests.harness.chaos [--seconds S] [--kills N] [--restarts N] [--freezes N] [--renewals N]

Three servers with TLS and tokens, one client that knows all of them, callers with small and large requests. All events
happen, one after the other; the run takes at least the seconds given, and ends unfinished (a failure) after five times
as long.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from benchmarks.measuring import machine, print_table, verdict

import trimtab
from tests.harness.events import CERTIFICATE, FREEZE, KILL, RESTART, TOKEN, Event, plan
from tests.harness.fleet import Fleet, running_fleet
from tests.harness.identity import SERVER_NAME
from tests.harness.ledger import OUTCOME_HEADER, Entry, Ledger, Outcome, outcome_rows
from trimtab.synthetic import generate_loads

_FLAGS = ("--solver-threads=1",)
_PAUSE = 0.3
"""Seconds between events, so that a connection is back before the next is gone."""


@dataclass(frozen=True)
class Options:
    """How much of what."""

    seconds: float = 60.0
    kills: int = 10
    restarts: int = 6
    freezes: int = 3
    renewals: int = 2
    """Of the certificate, and of the token."""
    callers: int = 4
    seed: int = 1

    @property
    def events(self) -> dict[Event, int]:
        """How often each is to happen."""
        return {
            KILL: self.kills,
            RESTART: self.restarts,
            FREEZE: self.freezes,
            CERTIFICATE: self.renewals,
            TOKEN: self.renewals,
        }


@dataclass(frozen=True)
class Job:
    """What is asked for, and the answer of the solver itself."""

    kind: str
    weight: Any
    num_packs: int
    num_restarts: int
    expected: tuple[bytes, ...]


@dataclass
class Seen:
    """What came of it."""

    ledger: Ledger = field(default_factory=Ledger)
    events: Counter[str] = field(default_factory=Counter)
    timeline: list[str] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    failed_event: str = ""


def _bytes_of(packing: trimtab.Packing) -> tuple[bytes, ...]:
    arrays = (packing.pack_index, packing.rank_in_pack, packing.max_load, packing.lower_bound, packing.winning_restart)
    return tuple(np.ascontiguousarray(array).tobytes() for array in arrays)


def make_jobs() -> list[Job]:
    """Some of 67 kB and one of 2 MB, solved in this process."""
    sizes = [("67 kB", 58, 288, 32, 1, 4), ("2 MB", 64, 8192, 512, 1, 1)]
    jobs = []
    with trimtab.Client("local") as direct:
        for kind, layers, items, packs, restarts, count in sizes:
            for seed in range(count):
                weight = generate_loads(layers, items, seed=seed).astype(np.float32)
                packing = direct.pack(weight, packs, num_restarts=restarts)
                jobs.append(Job(kind, weight, packs, restarts, _bytes_of(packing)))
    return jobs


async def _call(client: trimtab.AsyncClient, job: Job, seen: Seen, begin: float) -> None:
    seen.ledger.send()
    sent = time.perf_counter()
    outcome, cause = Outcome.ANSWERED, ""
    try:
        packing = await client.pack(job.weight, job.num_packs, num_restarts=job.num_restarts)
    except trimtab.TrimtabError as error:  # with the default retries, none may come through
        outcome, cause = Outcome.WRONG, f"{type(error).__name__}: {str(error)[:300]}"
    else:
        if _bytes_of(packing) != job.expected:
            outcome, cause = Outcome.WRONG, "the answer is not that of the solver"
    now = time.perf_counter()
    if cause:
        seen.timeline.append(f"{now - begin:6.1f} s  {job.kind} sent at {sent - begin:.1f} s: {cause}")
    entry = Entry(job.kind, job.kind, outcome, now - sent, len(job.weight), now - begin)
    seen.ledger.settle(entry, cause)


async def _happen(fleet: Fleet, events: Sequence[Event], dice: random.Random, seen: Seen) -> None:
    begin = time.perf_counter()
    for number, event in enumerate(events, 1):
        at = time.perf_counter() - begin
        print(f"{at:6.1f} s  {event.name} ({number} of {len(events)})", file=sys.stderr, flush=True)
        seen.timeline.append(f"{at:6.1f} s  {event.name}")
        await event.do(fleet, dice)
        seen.events[event.name] += 1
        await asyncio.sleep(_PAUSE)


def _client_of(fleet: Fleet) -> trimtab.AsyncClient:
    """A client with default retries."""
    return trimtab.AsyncClient(fleet.target, server_name=SERVER_NAME, **fleet.identity.client_settings)


async def chaos(options: Options) -> Seen:
    """Start the fleet, let callers call while everything happens."""
    jobs, dice, seen = make_jobs(), random.Random(options.seed), Seen()  # noqa: S311  # repeatable, not secret
    events = plan(options.events, dice)
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="trimtab-chaos-"))
        fleet = await stack.enter_async_context(running_fleet(3, Path(folder), *_FLAGS))
        client = await stack.enter_async_context(_client_of(fleet))
        begin, done = time.perf_counter(), asyncio.Event()
        calm = begin + options.seconds

        async def caller(number: int) -> None:
            mine = random.Random(options.seed + number)  # noqa: S311  # as above
            large, small = [job for job in jobs if job.kind == "2 MB"], [job for job in jobs if job.kind != "2 MB"]
            while not done.is_set() or time.perf_counter() < calm:
                await _call(client, mine.choice(small if number else large), seen, begin)
                await asyncio.sleep(mine.uniform(0, 0.02))

        callers = [asyncio.create_task(caller(number)) for number in range(options.callers)]
        try:
            await asyncio.wait_for(_happen(fleet, events, dice, seen), 5 * options.seconds)
        except Exception as error:  # noqa: BLE001  # told in the table; the callers have to end in any case
            seen.failed_event = f"{type(error).__name__}: {error}"
        done.set()
        await asyncio.gather(*callers)
        seen.starts = [taken for member in fleet.members for taken in member.starts]
    seen.ledger.balance()
    return seen


def report(seen: Seen, options: Options) -> bool:
    """Print what was seen; whether no call failed and every event happened."""
    wanted = options.events.items()
    events = [verdict(event.name, seen.events[event.name], count, at_most=False) for event, count in wanted]
    for kind in seen.ledger.callers:
        books = seen.ledger.of(kind)
        print_table(f"Requests of {kind}", OUTCOME_HEADER, list(outcome_rows(books)))
    rows = [
        *events,
        verdict("failed or wrong calls", seen.ledger.broken, 0, at_most=True),
        verdict("events that went wrong", int(bool(seen.failed_event)), 0, at_most=True),
    ]
    print_table("Chaos", ("what", "measured", "wanted", "met"), rows)
    print(f"\nstarts took {min(seen.starts):.1f} to {max(seen.starts):.1f} s, {len(seen.starts)} of them")
    if seen.ledger.broken or seen.failed_event:
        print(seen.failed_event)
        print("\n".join(seen.timeline))
    return all(row[-1] == "yes" for row in rows)


def main() -> None:
    """Let it all happen, print, and fail where a call did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Options()
    parser.add_argument("--seconds", type=float, default=default.seconds, help="at least (default: 60)")
    parser.add_argument("--kills", type=int, default=default.kills, help="by SIGKILL (default: 10)")
    parser.add_argument("--restarts", type=int, default=default.restarts, help="of all three in turn (default: 6)")
    parser.add_argument("--freezes", type=int, default=default.freezes, help="by SIGSTOP (default: 3)")
    parser.add_argument("--renewals", type=int, default=default.renewals, help="of certificate and token (default: 2)")
    parser.add_argument("--callers", type=int, default=default.callers, help="at a time (default: 4)")
    parser.add_argument("--seed", type=int, default=default.seed, help="of the events (default: 1)")
    options = Options(**vars(parser.parse_args()))
    print(machine(), flush=True)
    sys.exit(0 if report(asyncio.run(chaos(options)), options) else 1)


if __name__ == "__main__":
    main()
