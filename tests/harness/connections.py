"""Thousands of connections that only stand there, and what they cost the one caller who works.

Run: python -m tests.harness.connections [--idle N] [--half-open N] [--calls N]
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
from benchmarks.measuring import machine, print_table, verdict

from tests.harness.asking import SERVICE, SMALL, Ask, Oracle, valid_asks
from tests.harness.ledger import percentile
from tests.harness.raw_sockets import Crowd, crowd, open_half, open_idle, still_open
from tests.harness.watching import Memory
from trimtab.cli.server_process import ServerProcess, running_server
from trimtab_server.engine import Engine
from trimtab_server.solvers.cpu_packer import CpuPacker
from trimtab_server.solvers.cpu_searcher import CpuSearcher

_SPARE_FILES = 200
_SETTLING = 1.0
"""Seconds between the last connection and the first timed call."""


@dataclass(frozen=True)
class Options:
    """How many of what."""

    idle: int = 5000
    half_open: int = 500
    calls: int = 300


@dataclass
class Seen:
    """What was seen."""

    before: list[float] = field(default_factory=list)
    during: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)
    opening: float = 0.0
    closed: dict[str, int] = field(default_factory=dict)
    half_open: dict[str, int] = field(default_factory=dict)
    megabytes: list[float] = field(default_factory=list)
    """Resident, before, during and after."""
    alive: bool = False


def enough_files(options: Options) -> bool:
    """Whether this process, and so a child of it, may open so many."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft >= options.idle + options.half_open + _SPARE_FILES


async def _timed(channel: grpc.aio.Channel, ask: Ask, calls: int) -> list[float]:
    method: Any = channel.unary_unary(SERVICE + ask.method)
    taken = []
    for _ in range(calls):
        begin = time.perf_counter()
        await method(ask.raw, timeout=20)
        taken.append(time.perf_counter() - begin)
    return taken


async def crowded(server: ServerProcess, options: Options) -> Seen:
    """Time one caller alone, in the crowd, and after it."""
    seen, memory = Seen(), Memory(server.process.pid)
    ask = valid_asks(SMALL, Oracle(Engine(CpuPacker(1), CpuSearcher(1))))[0]
    host, _, port = server.listen.rpartition(":")
    async with grpc.aio.insecure_channel(server.listen) as channel:
        await _timed(channel, ask, 50)
        seen.before = await _timed(channel, ask, options.calls)
        seen.megabytes.append(memory.sample())
        with crowd() as opened:
            begin = time.perf_counter()
            await open_idle(opened, (host, int(port)), options.idle)
            await asyncio.to_thread(open_half, opened, (host, int(port)), options.half_open)
            seen.opening = time.perf_counter() - begin
            await asyncio.sleep(_SETTLING)
            seen.during = await _timed(channel, ask, options.calls)
            seen.megabytes.append(memory.sample())
            _count(seen, opened)
        await asyncio.sleep(_SETTLING)
        seen.after = await _timed(channel, ask, options.calls)
        seen.megabytes.append(memory.sample())
    async with grpc.aio.insecure_channel(server.listen) as another:  # the door is still open
        await _timed(another, ask, 1)
    seen.alive = server.process.poll() is None
    return seen


def _count(seen: Seen, opened: Crowd) -> None:
    seen.closed = dict(opened.closed)
    seen.half_open = still_open(opened)


def verdicts(seen: Seen, options: Options) -> list[tuple[str, str, str, str]]:
    """What was wanted, and what came."""
    ratio = percentile(seen.during, 50) / percentile([*seen.before, *seen.after], 50)  # machines drift
    kept = options.idle - seen.closed.get("idle", 0)
    return [
        verdict("p50 in the crowd over p50 alone", ratio, 1.5, at_most=True),
        verdict("idle connections kept", kept, options.idle, at_most=False),
        verdict("server answers at the end", int(seen.alive), 1, at_most=False),
    ]


def report(seen: Seen, options: Options) -> bool:
    """Print what was seen; whether all that was wanted came."""
    spans = (("alone", seen.before), ("in the crowd", seen.during), ("after it", seen.after))
    rows = [
        (name, f"{percentile(taken, 50) * 1e3:.2f}", f"{percentile(taken, 99) * 1e3:.2f}", f"{megabytes:.1f}")
        for (name, taken), megabytes in zip(spans, seen.megabytes, strict=True)
    ]
    title = f"One caller beside {options.idle} idle connections and {options.half_open} half-open ones"
    print_table(title, ("when", "p50, ms", "p99, ms", "resident, MB"), rows)
    kinds = [(kind, str(left)) for kind, left in seen.half_open.items()]
    print_table("Half-open ones that the server still holds", ("kind", "open"), kinds)
    wanted = verdicts(seen, options)
    print_table("Connections", ("what", "measured", "wanted", "met"), wanted)
    print(f"\nopened in {seen.opening:.1f} s; of the idle ones closed or asked to go: {seen.closed}")
    return all(row[-1] == "yes" for row in wanted)


def main() -> None:
    """Open them, measure, print, and fail where a figure is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Options()
    parser.add_argument("--idle", type=int, default=default.idle, help="idle connections (default: 5000)")
    parser.add_argument("--half-open", type=int, default=default.half_open, help="half-open ones (default: 500)")
    parser.add_argument("--calls", type=int, default=default.calls, help="timed, each time (default: 300)")
    options = Options(**vars(parser.parse_args()))
    if not enough_files(options):
        sys.exit(f"too few files may be open (ulimit -n) for {options.idle + options.half_open} connections")
    print(machine(), flush=True)
    with running_server() as server:
        sys.exit(0 if report(asyncio.run(crowded(server, options)), options) else 1)


if __name__ == "__main__":
    main()
