"""The service: what it adds to a solve, and what batching gains, at 1, 8 and 64 callers.

Run: python -m benchmarks.service [--solver auto|torch|cpu] [--no-refine] [--seconds S] [--rounds N]

Side by side, in turn: the server, the same server with batches capped at one request, an echo of the same payloads, an
echo that sleeps as long as a solve takes (all real processes behind real sockets, called through the same client), and
the solver in process on batches of the sizes that the service was seen to make.
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
from trimtab_server.solvers.problem import Packer, PackOptions, PackProblem

CALLERS = (1, 8, 64)
Verdict = tuple[str, str, str, str]


@dataclass(frozen=True)
class Ask:
    """What callers send: each its own loads, all the same options."""

    weights: list[Weight]
    refine: bool


@dataclass
class Window:
    """What callers saw in a window of time."""

    seconds: float = 0.0
    latency: list[float] = field(default_factory=list)
    solve: list[float] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Requests per second."""
        return len(self.latency) / self.seconds


async def drive(target: str, callers: int, seconds: float, ask: Ask) -> Window:
    """Closed loop: every caller sends its next request when it has its answer."""
    async with AsyncClient(target) as client:
        await asyncio.gather(*(client.pack(ask.weights[i], NUM_PACKS, refine=ask.refine) for i in range(callers)))
        window = Window()
        begin = time.perf_counter()

        async def call(weight: Weight) -> None:
            while time.perf_counter() - begin < seconds:
                sent = time.perf_counter()
                execution = (await client.pack(weight, NUM_PACKS, refine=ask.refine)).execution
                window.latency.append(time.perf_counter() - sent)
                window.solve.append(execution.solve_seconds)
                window.batches.append(execution.batch_requests)

        await asyncio.gather(*(call(ask.weights[i]) for i in range(callers)))
        window.seconds = time.perf_counter() - begin
    return window


def in_process(packer: Packer, batches: list[int], ask: Ask, seconds: float) -> float:
    """Requests per second of the solver alone, on batches of the sizes that answers reported."""
    sizes = sorted(batches)[:: max(1, len(batches) // 8)]  # of a sample of requests: large batches come up more often
    taken: list[float] = []
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds or len(taken) < len(sizes):
        size = sizes[len(taken) % len(sizes)]
        problems = [PackProblem(ask.weights[i], NUM_PACKS, PackOptions(refine=ask.refine)) for i in range(size)]
        start = time.perf_counter()
        solve_packs(problems, packer)
        taken.append((time.perf_counter() - start) / size)
    return 1 / statistics.mean(taken)


@contextmanager
def echo_server(pause: float = 0.0) -> Iterator[str]:
    """The address of an echo in its own process."""
    command = [sys.executable, "-m", "benchmarks.echo_server", str(pause)]
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
    paused: list[Window] = field(default_factory=list)
    solver_rate: list[float] = field(default_factory=list)


def measure(targets: tuple[str, ...], packer: Packer, ask: Ask, seconds: float, rounds: int) -> dict[int, Measured]:
    """Every system in turn, `rounds` times, for each number of callers."""
    measured = {callers: Measured() for callers in CALLERS}
    for turn in range(rounds):
        for callers, kept in measured.items():
            print(f"round {turn + 1} of {rounds}, {callers} callers", file=sys.stderr, flush=True)
            for target, windows in zip(targets, (kept.service, kept.single, kept.echo, kept.paused), strict=True):
                if callers == 1 or windows is not kept.paused:  # a pause says something of one caller only
                    windows.append(asyncio.run(drive(target, callers, seconds, ask)))
            kept.solver_rate.append(in_process(packer, kept.service[-1].batches, ask, seconds / 2))
    return measured


def latency_row(name: str, callers: int, windows: list[Window]) -> tuple[str, ...]:
    """Median and tail over all rounds, rate with its spread."""
    latency = np.concatenate([window.latency for window in windows]) * 1e3
    rate = Spread.of([window.rate for window in windows])
    batch = statistics.mean(b for window in windows for b in window.batches)
    cells = (f"{np.percentile(latency, p):.2f}" for p in (50, 99))
    return name, str(callers), *cells, f"{rate:.0f}", f"{batch:.1f}" if batch else ""


def rows_of(measured: dict[int, Measured]) -> Iterator[tuple[str, ...]]:
    """All that was measured."""
    for callers, kept in measured.items():
        yield latency_row("service", callers, kept.service)
        yield latency_row("service, batches of one", callers, kept.single)
        yield latency_row("echo", callers, kept.echo)
        if kept.paused:
            yield latency_row("echo that sleeps as long as a solve", callers, kept.paused)
        yield "solver in process", str(callers), "", "", f"{Spread.of(kept.solver_rate):.0f}", ""


def figures(measured: dict[int, Measured], pause: float, *, torch: bool) -> list[Verdict]:
    """What was promised, against what was measured."""
    one, many = measured[1], measured[64]
    over = [took - solve for window in one.service for took, solve in zip(window.latency, window.solve, strict=True)]
    overhead = statistics.median(over)
    echo = statistics.median(x for window in one.echo for x in window.latency)
    paused = statistics.median(x for window in one.paused for x in window.latency) - pause
    of_solver = [w.rate / rate for w, rate in zip(many.service, many.solver_rate, strict=True)]
    of_single = [w.rate / s.rate for w, s in zip(many.service, many.single, strict=True)]
    rate = verdict(
        "64 callers: rate over the solver's", statistics.median(of_solver), 0.85 if torch else 0.9, at_most=False
    )
    batching = verdict("64 callers: rate over batches of one", statistics.median(of_single), 1.6, at_most=False)
    return [
        verdict("one caller: p50 minus solve, ms", overhead * 1e3, 1.0, at_most=True),
        verdict(
            "one caller: p50 minus solve, over the echo's p50", overhead / echo, 2.0 if torch else 1.5, at_most=True
        ),
        ("one caller: the same of the echo that sleeps, ms", f"{paused * 1e3:.3g}", "", ""),
        rate,
        *([batching] if torch else []),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--solver", choices=("auto", "torch", "cpu"), default="auto", help="as trimtab-server takes it")
    parser.add_argument("--no-refine", dest="refine", action="store_false", help="greedy restarts alone")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a window (default: 4)")
    parser.add_argument("--rounds", type=int, default=5, help="windows of each cell (default: 5)")
    arguments = parser.parse_args()
    packer = make_packer("auto", arguments.solver)
    ask = Ask(request_weights(max(CALLERS)), arguments.refine)
    print(f"{packer.name} on {packer.device}; {machine()}", flush=True)
    flag = f"--solver={arguments.solver}"
    with (
        running_server(flag) as service,
        running_server(flag, "--max-batch-requests=1") as single,
        echo_server() as echo,
    ):
        pause = statistics.median(asyncio.run(drive(service.listen, 1, 1.0, ask)).solve)
        with echo_server(pause) as paused:
            targets = (service.listen, single.listen, echo, paused)
            measured = measure(targets, packer, ask, arguments.seconds, arguments.rounds)
    print_table(
        "Service, 58 layers x 288 items into 32 packs, default options",
        ("system", "callers", "p50 ms", "p99 ms", "requests per second", "mean batch"),
        list(rows_of(measured)),
    )
    promised = figures(measured, pause, torch=packer.name == "torch")
    print_table("Figures", ("what", "measured", "wanted", "met"), promised)


if __name__ == "__main__":
    main()
