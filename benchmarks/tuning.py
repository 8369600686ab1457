"""What each setting moves: one server a value, in turn, the same callers, throughput and latency beside each other.

Run: python -m benchmarks.tuning [--seconds S] [--rounds N] [--plot FILE]

Requests are Packs of DeepSeek-V3's size (58 layers x 288 items into 32 packs), each caller with its own loads. A caller
sends its next request when it has its answer; refused ones count as refused and come back after a tenth of a second.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc.aio
import numpy as np
from matplotlib.figure import Figure

from benchmarks.measuring import Spread, machine, print_table
from benchmarks.workload import NUM_PACKS, Weight, request_weights
from trimtab import wire
from trimtab.cli.server_process import running_server
from trimtab.v1 import placement_pb2 as pb
from trimtab.v1.placement_pb2_grpc import PlacementServiceStub

_BACK_OFF_SECONDS = 0.1


@dataclass(frozen=True)
class Curve:
    """One setting over its values, under so many callers."""

    setting: str
    values: Sequence[float]
    callers: int
    moves: str
    """What it trades for what."""


CURVES = (
    Curve("solver-threads", (1, 2), 8, "one thread a core; more are of no use"),
    Curve("max-batch-requests", (1, 4, 16, 64), 32, "fuller batches share the work around a solve"),
    Curve("max-batch-seconds", (0.02, 0.05, 0.25, 1.0), 32, "longer batches answer more at once, and all later"),
    Curve("max-queue-delay", (0.0, 0.005, 0.02), 4, "an idle device waits for company: for GPUs alone"),
    Curve("max-queue-seconds", (0.1, 0.25, 1.0, 5.0), 64, "a longer queue refuses less, and makes all wait longer"),
)


@dataclass
class Point:
    """All rounds of one value."""

    value: float
    rates: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    refused: int = 0

    @property
    def refused_ratio(self) -> float:
        """Part of calls that were refused."""
        return self.refused / max(self.refused + len(self.latencies), 1)

    def percentile(self, percent: float) -> float:
        """Of the answered calls, in milliseconds."""
        return float(np.percentile(self.latencies, percent)) * 1e3


async def drive(target: str, weights: Sequence[Weight], seconds: float, point: Point) -> None:
    """All callers for so long; what they see goes into the point. No retries: the server's own answers count."""
    requests = [pb.PackRequest(weight=wire.encode(weight), num_packs=NUM_PACKS) for weight in weights]
    async with grpc.aio.insecure_channel(target, [("grpc.enable_retries", 0)]) as channel:
        stub = PlacementServiceStub(channel)
        await stub.Pack(requests[0])
        begin, answered = time.perf_counter(), 0

        async def call(caller: int) -> None:
            nonlocal answered
            metadata = (("x-trimtab-caller", f"caller-{caller}"),)
            while time.perf_counter() - begin < seconds:
                sent = time.perf_counter()
                try:
                    await stub.Pack(requests[caller], metadata=metadata, timeout=30)
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                        raise
                    point.refused += 1
                    await asyncio.sleep(_BACK_OFF_SECONDS)
                    continue
                answered += 1
                point.latencies.append(time.perf_counter() - sent)

        await asyncio.gather(*(call(caller) for caller in range(len(requests))))
        point.rates.append(answered / (time.perf_counter() - begin))


def measure(curve: Curve, seconds: float, rounds: int) -> list[Point]:
    """Every value in turn, `rounds` times."""
    weights = request_weights(curve.callers)
    points = [Point(value) for value in curve.values]
    for turn in range(rounds):
        for point in points:
            print(f"round {turn + 1} of {rounds}: --{curve.setting} {point.value:g}", file=sys.stderr, flush=True)
            with running_server(f"--{curve.setting}={point.value:g}") as server:
                asyncio.run(drive(server.listen, weights, seconds, point))
    return points


def plot(measured: Sequence[tuple[Curve, list[Point]]], path: Path) -> None:
    """Throughput and latency against each setting, a panel each."""
    figure = Figure(figsize=(3.2 * len(measured), 3.4), layout="constrained")
    for panel, (curve, points) in zip(figure.subplots(1, len(measured)), measured, strict=True):
        places = range(len(points))
        panel.set_title(f"--{curve.setting}\n{curve.callers} callers", fontsize=9)
        panel.set_xticks(places, [f"{point.value:g}" for point in points])
        panel.set_ylim(0, 1.25 * max(statistics.median(point.rates) for point in points))
        panel.plot(places, [statistics.median(point.rates) for point in points], "o-", color="#0072b2")
        panel.set_ylabel("answers per second, solid", color="#0072b2")
        later = panel.twinx()
        later.set_ylim(0, 1.25 * max(point.percentile(99) for point in points))
        later.plot(places, [point.percentile(99) for point in points], "s--", color="#d55e00")
        later.set_ylabel("p99, ms, dashed", color="#d55e00")
    figure.savefig(path)


def main() -> None:
    """Measure, print, and draw where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a window (default: 4)")
    parser.add_argument("--rounds", type=int, default=3, help="windows of each value (default: 3)")
    parser.add_argument("--plot", type=Path, help="where to draw the curves, as .svg or .png")
    arguments = parser.parse_args()
    print(machine(), flush=True)
    measured = [(curve, measure(curve, arguments.seconds, arguments.rounds)) for curve in CURVES]
    for curve, points in measured:
        print_table(
            f"--{curve.setting}, {curve.callers} callers: {curve.moves}",
            ("value", "answers per second", "p50 ms", "p99 ms", "refused"),
            [
                (
                    f"{point.value:g}",
                    f"{Spread.of(point.rates):.0f}",
                    f"{point.percentile(50):.0f}",
                    f"{point.percentile(99):.0f}",
                    f"{point.refused_ratio:.0%}",
                )
                for point in points
            ],
        )
    if arguments.plot:
        plot(measured, arguments.plot)
        print(f"\nwritten to {arguments.plot}")


if __name__ == "__main__":
    main()
