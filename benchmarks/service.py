"""The service: what it adds to a solve, and what batching gains, at 1, 8 and 64 callers.

    python -m benchmarks.service [--seconds S] [--rounds N]

Side by side, in turn: the server, the same server with batches capped at one request, an echo of the same payloads
(all three real processes behind real sockets, called through the same client), and the solver in process on batches
of the sizes that the service was seen to make.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from benchmarks.measuring import Spread, machine, print_table, verdict
from benchmarks.workload import NUM_PACKS, Weight, request_weights
from trimtab import AsyncClient
from trimtab.cli.server_process import running_server
from trimtab_server.devices import make_packer
from trimtab_server.solvers.packing import solve_packs
from trimtab_server.solvers.problem import Packer, PackProblem

CALLERS = (1, 8, 64)


@dataclass
class Window:
    """What callers saw in a window of time."""

    seconds: float
    latency: list[float] = field(default_factory=list)
    overhead: list[float] = field(default_factory=list)  # latency minus the solve that it waited for
    batches: list[int] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Requests per second."""
        return len(self.latency) / self.seconds


async def drive(target: str, callers: int, seconds: float, weights: list[Weight]) -> Window:
    """Closed loop: every caller sends its next request when it has its answer."""
    async with AsyncClient(target) as client:
        await asyncio.gather(*(client.pack(weights[i], NUM_PACKS) for i in range(callers)))
        window = Window(0)
        begin = time.perf_counter()

        async def call(weight: Weight) -> None:
            while time.perf_counter() - begin < seconds:
                sent = time.perf_counter()
                execution = (await client.pack(weight, NUM_PACKS)).execution
                took = time.perf_counter() - sent
                window.latency.append(took)
                window.overhead.append(took - execution.solve_seconds)
                window.batches.append(execution.batch_requests)

        await asyncio.gather(*(call(weights[i]) for i in range(callers)))
        window.seconds = time.perf_counter() - begin
    return window


def in_process(packer: Packer, batches: list[int], weights: list[Weight]) -> float:
    """Requests per second of the solver alone, on batches of the sizes that answers reported (each b times)."""
    sizes = sorted(batches)[:: max(1, len(batches) // 8)]  # a sample of the requests: sizes come weighted by requests
    done, taken = 0, 0.0
    for size in sizes:
        problems = [PackProblem(weights[i], NUM_PACKS) for i in range(size)]
        begin = time.perf_counter()
        solve_packs(problems, packer)
        taken += (time.perf_counter() - begin) / size  # seconds a request of that kind of batch
        done += 1
    return done / taken


@contextmanager
def echo_server() -> Iterator[str]:
    """The address of an echo in its own process."""
    command = [sys.executable, "-m", "benchmarks.echo_server"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None  # noqa: S101  # it was asked for as a pipe
    try:
        yield process.stdout.readline().strip()
    finally:
        process.communicate(timeout=30)


@dataclass
class Measured:
    """All rounds of one number of callers."""

    service: list[Window] = field(default_factory=list)
    single: list[Window] = field(default_factory=list)
    echo: list[Window] = field(default_factory=list)
    solver_rate: list[float] = field(default_factory=list)


def measure(targets: tuple[str, str, str], seconds: float, rounds: int) -> dict[int, Measured]:
    """Every system in turn, `rounds` times, for each number of callers."""
    weights = request_weights(max(CALLERS))
    packer = make_packer("auto")
    measured = {callers: Measured() for callers in CALLERS}
    for turn in range(rounds):
        for callers, kept in measured.items():
            print(f"round {turn + 1} of {rounds}, {callers} callers", file=sys.stderr, flush=True)
            for target, windows in zip(targets, (kept.service, kept.single, kept.echo), strict=True):
                windows.append(asyncio.run(drive(target, callers, seconds, weights)))
            kept.solver_rate.append(in_process(packer, kept.service[-1].batches, weights))
    return measured


def latency_row(name: str, callers: int, windows: list[Window]) -> tuple[str, ...]:
    """Median and tail over all rounds, rate with its spread."""
    latency = np.concatenate([window.latency for window in windows]) * 1e3
    rate = Spread.of([window.rate for window in windows])
    batch = statistics.mean(b for window in windows for b in window.batches)
    cells = (f"{np.percentile(latency, p):.2f}" for p in (50, 99))
    return name, str(callers), *cells, f"{rate:.0f}", f"{batch:.1f}"


def figures(measured: dict[int, Measured]) -> list[tuple[str, str, str, str]]:
    """What was promised, against what was measured."""
    one, many = measured[1], measured[64]
    overhead = statistics.median(x for window in one.service for x in window.overhead)
    echo = statistics.median(x for window in one.echo for x in window.latency)
    of_solver = [w.rate / rate for w, rate in zip(many.service, many.solver_rate, strict=True)]
    of_single = [w.rate / s.rate for w, s in zip(many.service, many.single, strict=True)]
    return [
        verdict("one caller: p50 minus solve, ms", overhead * 1e3, 1.0, at_most=True),
        verdict("one caller: p50 minus solve, over the echo's p50", overhead / echo, 2.0, at_most=True),
        verdict("64 callers: rate over the solver's in process", statistics.median(of_solver), 0.85, at_most=False),
        verdict("64 callers: rate over batches of one", statistics.median(of_single), 1.6, at_most=False),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a window (default: 4)")
    parser.add_argument("--rounds", type=int, default=5, help="windows of each cell (default: 5)")
    arguments = parser.parse_args()
    print(machine(), flush=True)
    with running_server() as service, running_server("--max-batch-requests=1") as single, echo_server() as echo:
        measured = measure((service.listen, single.listen, echo), arguments.seconds, arguments.rounds)
    rows = [
        row
        for callers, kept in measured.items()
        for row in (
            latency_row("service", callers, kept.service),
            latency_row("service, batches of one", callers, kept.single),
            latency_row("echo", callers, kept.echo),
            ("solver in process", str(callers), "", "", f"{Spread.of(kept.solver_rate):.0f}", ""),
        )
    ]
    print_table(
        "Service, 58 layers x 288 items into 32 packs, default options",
        ("system", "callers", "p50 ms", "p99 ms", "requests per second", "mean batch"),
        rows,
    )
    print_table("Figures", ("what", "measured", "wanted", "met"), figures(measured))


if __name__ == "__main__":
    main()
