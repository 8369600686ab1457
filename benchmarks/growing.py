"""Growing past one machine: the rate of 2 and 4 replicas over that of one, behind Envoy and by the client's balancing.

Run: python -m benchmarks.growing [--seconds S] [--rounds N]     (after make tools: Envoy comes from there)

Servers, Envoy and callers are real and share this machine. So the device is simulated: it sleeps 80 ms a request, one
at a time (--max-batch-requests 1), and what grows with the replicas is their devices, while the processor has little to
do. What Envoy costs is measured apart, with a device that takes no time at all, so that nothing hides it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from tests.harness.simulated import simulated_server
from tests.secure import Certificates
from tests.system.envoy import running_envoy, shown

from benchmarks.measuring import Spread, machine, print_table, verdict
from benchmarks.service import Ask, Verdict, Window, drive
from benchmarks.workload import NUM_LAYERS, request_weights

SOLVE_SECONDS = 0.08
CALLERS_A_REPLICA = 8
"""Enough that no device waits for a caller, few enough that no queue is full."""
WANTED = {2: 1.9, 4: 3.7}
BY_ENVOY, BY_CLIENT = "Envoy", "client"
CALLERS_OF_COST = (1, 8)

Case = tuple[str, int]
"""A way and a number of replicas, or of callers."""


def growing_targets(stack: ExitStack) -> dict[Case, str]:
    """What to call for each way and number of replicas; all of it runs all the time, so that they can take turns."""
    slow = (SOLVE_SECONDS / NUM_LAYERS, "--max-batch-requests=1")
    servers = [stack.enter_context(simulated_server(*slow)) for _ in range(max(WANTED))]
    targets = {}
    for count in (1, *WANTED):
        listen = [server.listen for server in servers[:count]]
        targets[BY_ENVOY, count] = envoy_before(stack, listen)
        targets[BY_CLIENT, count] = "ipv4:" + ",".join(listen)
    return targets


def cost_targets(stack: ExitStack) -> dict[Case, str]:
    """One server whose device takes no time, through Envoy and without it."""
    server = stack.enter_context(simulated_server(0.0))
    ways = {"direct": server.listen, BY_ENVOY: envoy_before(stack, [server.listen])}
    return {(way, callers): target for callers in CALLERS_OF_COST for way, target in ways.items()}


def envoy_before(stack: ExitStack, listen: list[str]) -> str:
    """The address of an Envoy of these servers alone."""
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="trimtab-envoy-")))
    shown(Certificates(folder))
    return stack.enter_context(running_envoy(folder, listen)).h2c


def measure(targets: Mapping[Case, str], callers_each: int, seconds: float, rounds: int) -> dict[Case, list[Window]]:
    """Every case in turn, `rounds` times."""
    ask = Ask(request_weights(callers_each * max(number for _, number in targets)), refine=True)
    windows: dict[Case, list[Window]] = {case: [] for case in targets}
    for turn in range(rounds):
        for (way, number), target in targets.items():
            print(f"round {turn + 1} of {rounds}: {way}, {number}", file=sys.stderr, flush=True)
            windows[way, number].append(asyncio.run(drive(target, callers_each * number, seconds, ask)))
    return windows


def ratios(windows: Mapping[Case, list[Window]], case: Case, base: Case) -> Spread:
    """Rates of a case over those of another in the same round."""
    pairs = zip(windows[case], windows[base], strict=True)
    return Spread.of([window.rate / other.rate for window, other in pairs])


def rows_of(windows: Mapping[Case, list[Window]], bases: Mapping[Case, Case]) -> Iterator[tuple[str, ...]]:
    """All that was measured, each case beside its base."""
    for (way, number), base in bases.items():
        kept = windows[way, number]
        latency = np.concatenate([window.latency for window in kept]) * 1e3
        cells = (f"{np.percentile(latency, p):.2f}" for p in (50, 99))
        rate, ratio = Spread.of([window.rate for window in kept]), ratios(windows, (way, number), base)
        yield way, str(number), *cells, f"{rate:.1f}", f"{ratio:.2f}"


def figures(windows: Mapping[Case, list[Window]]) -> list[Verdict]:
    """What was wanted, against what was measured."""
    return [
        verdict(
            f"{way}: rate of {count} replicas over one",
            ratios(windows, (way, count), (way, 1)).median,
            wanted,
            at_most=False,
        )
        for way in (BY_ENVOY, BY_CLIENT)
        for count, wanted in WANTED.items()
    ]


def main() -> None:
    """Measure, print, and fail where a figure is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0, help="length of a window (default: 8)")
    parser.add_argument("--rounds", type=int, default=3, help="windows of each cell (default: 3)")
    given = parser.parse_args()
    print(machine(), flush=True)
    with ExitStack() as stack:
        grown = measure(growing_targets(stack), CALLERS_A_REPLICA, given.seconds, given.rounds)
    with ExitStack() as stack:
        cost = measure(cost_targets(stack), 1, given.seconds, given.rounds)
    columns = ("p50 ms", "p99 ms", "requests per second")
    rows = list(rows_of(grown, {(way, count): (way, 1) for way, count in grown}))
    title = f"Growing, {SOLVE_SECONDS * 1e3:g} ms a request, {CALLERS_A_REPLICA} callers a replica"
    print_table(title, ("balanced by", "replicas", *columns, "over one replica"), rows)
    rows = list(rows_of(cost, {(way, callers): ("direct", callers) for way, callers in cost}))
    print_table("What Envoy costs, a device that takes no time", ("way", "callers", *columns, "over direct"), rows)
    wanted = figures(grown)
    print_table("Figures", ("what", "measured", "wanted", "met"), wanted)
    sys.exit(0 if all(row[-1] == "yes" for row in wanted) else 1)


if __name__ == "__main__":
    main()
