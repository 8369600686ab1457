"""What tracing costs: three servers side by side; one traces nothing, one as by default, and one every call.

Run: python -m benchmarks.tracing [--seconds S] [--rounds N] [--callers N...]

The collector is real OTLP over a real socket, in a process of its own, as are the servers; callers take turns between
the three. Packs of DeepSeek-V3's size, and packs of one small layer, of which tracing costs the largest part.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from benchmarks.measuring import Spread, machine, print_table, verdict
from benchmarks.service import Ask, drive
from benchmarks.workload import request_weights
from trimtab.cli.server_process import running_server

CALLERS = (1, 8, 64)
_COLLECTOR = """
from tests.collector import collecting
with collecting() as collector:
    print(collector.address, flush=True)
    input()
    print(len(collector.spans), flush=True)
"""


@contextmanager
def collector_process() -> Iterator[str]:
    """The address of a collector; it must have received something in the end."""
    command = [sys.executable, "-c", _COLLECTOR]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None  # noqa: S101  # it was asked for as a pipe
    try:
        yield process.stdout.readline().strip()
    finally:
        received, _ = process.communicate("\n", timeout=60)
        print(f"the collector received {received.strip()} spans", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a window (default: 4)")
    parser.add_argument("--rounds", type=int, default=5, help="windows of each cell (default: 5)")
    parser.add_argument("--callers", type=int, nargs="+", default=CALLERS, help="at a time (default: 1 8 64)")
    arguments = parser.parse_args()
    small = np.random.default_rng(0).lognormal(size=(1, 288)).astype(np.float32)
    asks = {
        "58 x 288": Ask(request_weights(max(arguments.callers)), refine=True),
        "1 x 288": Ask([small] * max(arguments.callers), refine=True),
    }
    print(machine(), flush=True)
    rows, ratios = [], {}
    with (
        collector_process() as address,
        running_server() as plain,
        running_server(f"--otlp-endpoint={address}") as traced,
        running_server(f"--otlp-endpoint={address}", "--trace-rate=1e9") as all_traced,
    ):
        for shape, ask in asks.items():
            for callers in arguments.callers:
                print(f"{shape}, {callers} callers", file=sys.stderr, flush=True)
                rates = [
                    [
                        asyncio.run(drive(each.listen, callers, arguments.seconds, ask)).rate
                        for each in (plain, traced, all_traced)
                    ]
                    for _ in range(arguments.rounds)
                ]
                ratio, of_all = ([round_[i] / round_[0] for round_ in rates] for i in (1, 2))
                ratios[shape, callers] = statistics.median(ratio)
                off = Spread.of([round_[0] for round_ in rates])
                rows.append((shape, str(callers), f"{off:.0f}", f"{Spread.of(ratio):.3f}", f"{Spread.of(of_all):.3f}"))
    print_table(
        "Requests per second without traces, and the ratio of those with",
        ("layers x items", "callers", "untraced", "traced, 100 a second at most", "every call traced"),
        rows,
    )
    print_table(
        "Figures",
        ("what", "measured", "wanted", "met"),
        [
            verdict(f"{shape}, {callers} callers: traced over untraced", ratio, 0.9, at_most=False)
            for (shape, callers), ratio in ratios.items()
        ],
    )


if __name__ == "__main__":
    main()
