"""What `trimtab demo` shows: a real server, one packing, a burst, a rebalance, and the metrics that moved."""

from __future__ import annotations

import asyncio
import http.client
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from trimtab.answers import Packing
from trimtab.async_client import AsyncClient
from trimtab.cli.demo_drift import BUDGET, Drifted, rebalance_drifted, show_drifted
from trimtab.cli.demo_metrics import Series, moved_rows, read_series
from trimtab.cli.failures import ServerFailure, told
from trimtab.cli.figures import mean_and_worst
from trimtab.cli.pack import Items, PackReport, run_pack
from trimtab.cli.server_process import ServerProcess, ServerProcessError, running_server
from trimtab.cli.tables import show_pack, show_table
from trimtab.client import Client

NUM_ALONE = 16
NUM_BURST = 64
_TIMEOUT = 120.0
_CALLER = "trimtab-demo"


@dataclass(frozen=True)
class Burst:
    """The answers to requests that were sent one at a time, and to others sent all at once."""

    alone: list[Packing]
    alone_seconds: float
    together: list[Packing]
    together_seconds: float

    @property
    def batches(self) -> dict[int, int]:
        """Batches of the burst, by how many requests they held."""
        requests = Counter(packing.execution.batch_requests for packing in self.together)
        return {size: count // size for size, count in sorted(requests.items())}

    @property
    def alone_rate(self) -> float:
        """Requests per second, one at a time."""
        return len(self.alone) / self.alone_seconds

    @property
    def together_rate(self) -> float:
        """Requests per second, all at once."""
        return len(self.together) / self.together_seconds


def run_demo(console: Console, name: str, items: Items, num_packs: int) -> None:
    """Do it all, in front of the user.

    Raises:
        ServerFailure: the server did not come up, did not answer, or did not end as it should.
    """
    console.print("1. starting a server in its own process (the first on a machine compiles for a minute or so) ...")
    begin = time.perf_counter()
    with _serving() as server:
        took = time.perf_counter() - begin
        where = f"on {server.listen}, metrics on http://{server.metrics}/metrics"
        console.print(f"   serving after {took:.1f} s {where}, device {server.serving['device']}", soft_wrap=True)
        before = _scrape(server)
        with told(server.listen):
            report = _pack(console, server, name, items, num_packs)
            burst = _burst(console, server, report)
            drifted = _drift(console, server, report)
        rows = moved_rows(before, _scrape(server))
        show_table(console, "5. the metrics that moved", "metric", "count", "mean", rows=rows)
        console.print()
        _stop(console, server)
    _sum_up(console, report, burst, drifted)


@contextmanager
def _serving() -> Iterator[ServerProcess]:
    """A server, ended on the way out, also where that way is SIGTERM."""
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with running_server("--log-level=info") as server:
            yield server
    except ServerProcessError as error:
        hint = "where a module is missing: pip install 'trimtab[server]'"
        raise ServerFailure(f"the demo's server {error}\n({hint})") from error
    finally:
        signal.signal(signal.SIGTERM, previous)


def _scrape(server: ServerProcess) -> Series:
    try:
        return read_series(server.scrape())
    except (OSError, http.client.HTTPException) as error:
        raise ServerFailure(f"the demo server's metrics can't be read ({error})") from error


def _pack(console: Console, server: ServerProcess, name: str, items: Items, num_packs: int) -> PackReport:
    console.print("2. packing through the client ...")
    with Client(server.listen, timeout=_TIMEOUT, caller=_CALLER) as client:
        report = run_pack(client, items, num_packs)
    console.print()
    show_pack(console, name, report)
    console.print()
    return report


def _burst(console: Console, server: ServerProcess, report: PackReport) -> Burst:
    console.print(f"3. the same again {NUM_ALONE} times, one at a time, then {NUM_BURST} times at once ...")
    burst = asyncio.run(_fire(server.listen, report))
    if not np.array_equal(burst.together[0].pack_index, report.packing.pack_index):
        raise ServerFailure("the same request got another answer in a batch than alone: a bug, please report it")
    rows = [(str(size), str(count), "#" * count) for size, count in burst.batches.items()]
    show_table(console, f"How the {NUM_BURST} were batched", "requests", "batches", "", rows=rows)
    console.print(f"{burst.together_rate:.0f} requests per second; one at a time {burst.alone_rate:.0f}")
    return burst


async def _fire(target: str, report: PackReport) -> Burst:
    """Seeds differ, so that no request repeats another; the first of the burst is the one already packed."""
    weight, num_packs = report.items.weight, report.num_packs
    async with AsyncClient(target, timeout=_TIMEOUT, caller=_CALLER) as client:
        await client.describe()  # connect
        begin = time.perf_counter()
        alone = [await client.pack(weight, num_packs, seed=NUM_BURST + i) for i in range(NUM_ALONE)]
        middle = time.perf_counter()
        together = await asyncio.gather(*(client.pack(weight, num_packs, seed=i) for i in range(NUM_BURST)))
        return Burst(alone, middle - begin, together, time.perf_counter() - middle)


def _drift(console: Console, server: ServerProcess, report: PackReport) -> Drifted:
    console.print()
    console.print(f"4. the load drifts; rebalancing within {BUDGET:.0%} of the slots, and from nothing instead ...")
    with Client(server.listen, timeout=_TIMEOUT, caller=_CALLER) as client:
        drifted = rebalance_drifted(client, report)
    show_drifted(console, drifted)
    return drifted


def _stop(console: Console, server: ServerProcess) -> None:
    console.print("6. stopping the server with SIGTERM ...")
    code = server.stop()
    if code != 0:
        raise ServerFailure(f"the demo's server ended with exit code {code}, not 0")
    console.print("   it drained and ended with exit code 0")


def _sum_up(console: Console, report: PackReport, burst: Burst, drifted: Drifted) -> None:
    before, after = mean_and_worst(report.before), mean_and_worst(report.packing.balancedness)
    console.print()
    if before and after:
        console.print(f"Balancedness went from {before[0]:.3f} to {after[0]:.4f}, mean over the layers with load.")
    batches = sum(burst.batches.values())
    console.print(
        f"{NUM_BURST} requests at once were solved in {batches} batches, {burst.together_rate:.0f} requests per "
        f"second; one at a time it was {burst.alone_rate:.0f} per second."
    )
    console.print("The answer was the same bytes alone and in a batch.")
    begin, end = (
        mean_and_worst(drifted.rebalanced.balancedness_before),
        mean_and_worst(drifted.rebalanced.balancedness_after),
    )
    if begin and end:
        console.print(
            f"After the drift, {drifted.rebalanced.moves.sum():,} moves took balancedness from {begin[0]:.3f} to "
            f"{end[0]:.4f}; a placement from nothing would have made {drifted.fresh_moves:,}."
        )
