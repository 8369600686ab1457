"""Memory, start and import: the server's resident size after 1,000 requests and its growth over 20,000 more.

Run: python -m benchmarks.memory [--requests N]
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time

import numpy as np
import psutil

from benchmarks.measuring import Spread, machine, print_table, seconds, verdict
from benchmarks.workload import NUM_PACKS, Weight, request_weights
from trimtab import AsyncClient
from trimtab.cli.server_process import running_server

CALLERS = 16


async def send(target: str, count: int, weights: list[Weight]) -> None:
    """So many requests, 16 at a time; one restart each, since the solver's work is not what is measured."""
    async with AsyncClient(target) as client:
        left = iter(range(count))

        async def call(weight: Weight) -> None:
            for serial in left:
                await client.pack(weight, NUM_PACKS, num_restarts=1, seed=serial)

        await asyncio.gather(*(call(weight) for weight in weights))


def resident(process: psutil.Process) -> float:
    """MB."""
    return float(process.memory_info().rss / 1e6)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000, help="after the first 1,000 (default: 20000)")
    arguments = parser.parse_args()
    weights = request_weights(CALLERS)
    print(machine(), flush=True)
    begin = time.perf_counter()
    with running_server() as server:
        start = time.perf_counter() - begin
        process = psutil.Process(server.process.pid)
        asyncio.run(send(server.listen, 1000, weights))
        warm = resident(process)
        points = []
        for part in range(10):
            asyncio.run(send(server.listen, arguments.requests // 10, weights))
            points.append(resident(process))
            print(f"{(part + 1) * 10} %: {points[-1]:.1f} MB", file=sys.stderr, flush=True)
    command = [sys.executable, "-c", "import trimtab"]
    empty = [sys.executable, "-c", "pass"]
    imports = [
        seconds(lambda: subprocess.run(command, check=True)) - seconds(lambda: subprocess.run(empty, check=True))
        for _ in range(10)
    ]
    rows = [
        verdict("resident after 1,000 requests, MB", warm, 600, at_most=True),
        verdict(f"growth over {arguments.requests:,} more, %", (points[-1] / warm - 1) * 100, 2, at_most=True),
        verdict("start to SERVING, s", start, 5, at_most=True),
        verdict("import trimtab, s", Spread.of(imports).median, 0.4, at_most=True),
    ]
    print_table("Memory and start", ("what", "measured", "wanted", "met"), rows)
    print(f"\nresident along the way, MB: {', '.join(f'{x:.1f}' for x in np.array([warm, *points]))}")


if __name__ == "__main__":
    main()
