"""Overload: many times what the server can do, and what becomes of every call.

Run: python -m tests.harness.soak [--times N] [--seconds S] [--device simulated|real]

First its peak is measured by callers who wait for their answers; then N times that is offered, without retries, by a
hog, three modest callers and one of low priority. Capacity is counted in layers a second, which is what a solve costs.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import NamedTuple

from benchmarks.measuring import machine, print_table, verdict

from tests.harness import asking
from tests.harness.generator import CallerPlan, Plan, run_offer, run_saturate
from tests.harness.ledger import OUTCOME_HEADER, Ledger, Outcome, outcome_rows, percentile
from tests.harness.simulated import SimulatedPacker, SimulatedSearcher, simulated_server
from tests.harness.watching import Memory, busy_of, by_label, reconciled, settled_samples
from trimtab.cli.server_process import running_server
from trimtab_server.engine import Engine
from trimtab_server.settings import Settings
from trimtab_server.solvers.cpu_packer import CpuPacker
from trimtab_server.solvers.cpu_searcher import CpuSearcher

_MODEST = ("modest-1", "modest-2", "modest-3")
_MODEST_SHARE, _LOW_SHARE = 0.1, 0.2
"""Of the capacity, what each of them asks for: less than an even share of it."""
_PEAK_CALLERS = 24
_WARM_SECONDS = 10.0
"""Until memory is counted from: queues are full then, and everything was allocated once."""


@dataclass(frozen=True)
class Options:
    """How much of what."""

    times: float = 10.0
    seconds: float = 60.0
    peak_seconds: float = 6.0
    device: str = "simulated"
    seconds_per_row: float = 0.003
    generators: int = 1
    seed: int = 1
    flags: tuple[str, ...] = ()


class Soaked(NamedTuple):
    """What was seen."""

    peak: Ledger
    peak_rows: float
    """Layers a second when nobody asks for more than there is."""
    busy: float
    """Processors that the server kept busy under load."""
    load: Ledger
    load_rows: float
    memory: Memory
    reconciled: list[tuple[str, str, str, str]]
    rejections: dict[str, int]


def soak(options: Options) -> Soaked:
    """Start a server, find its peak, offer many times that."""
    simulated = options.device == "simulated"
    cost = asking.SMALL if simulated else asking.HEAVY
    engine = Engine(SimulatedPacker(), SimulatedSearcher()) if simulated else Engine(CpuPacker(), CpuSearcher())
    oracle = asking.Oracle(engine)
    asks, low = asking.valid_asks(cost, oracle), asking.valid_asks(cost, oracle, low=True)
    with ExitStack() as stack:
        flags = options.flags
        process = simulated_server(options.seconds_per_row, *flags) if simulated else running_server(*flags)
        server = stack.enter_context(process)
        spawn = multiprocessing.get_context("spawn")  # gRPC does not outlive a fork
        pool = stack.enter_context(ProcessPoolExecutor(options.generators, spawn))
        plan = Plan(server.listen, [CallerPlan("peak", 1.0, asks)], (), options.peak_seconds, options.seed)
        peak = pool.submit(run_saturate, plan, _PEAK_CALLERS).result()
        # What is asked together is answered together: the span is that of the answers
        span = max(entry.ended for entry in peak.entries)
        peak_rows, capacity = peak.rows_per_second(0.0, span), peak.count(Outcome.ANSWERED) / span
        _say(f"peak: {capacity:.0f} calls/s, {peak_rows:.0f} layers/s; now {options.times:g} times that")
        callers = _callers(capacity, options.times, asks, low)
        odd = [*asking.bad_asks(), asking.describe_ask()]
        plan = Plan(server.listen, callers, odd, options.seconds, options.seed)
        memory = Memory(server.process.pid)
        with memory.watched(), busy_of(server.process.pid) as busy:
            load = _offer(pool, plan, options)
        samples = settled_samples(server)
    load_rows = load.rows_per_second(min(1.0, options.seconds / 4), options.seconds)
    books = Ledger()
    for part in (peak, load):
        books.add(part)
    rejections = dict(by_label(samples, "trimtab_rejected_total", "reason"))
    return Soaked(peak, peak_rows, busy[0], load, load_rows, memory, reconciled(books, samples), rejections)


def _offer(pool: ProcessPoolExecutor, plan: Plan, options: Options) -> Ledger:
    shared = [replace(caller, rate=caller.rate / options.generators) for caller in plan.callers]
    plans = [replace(plan, callers=shared, seed=plan.seed + i) for i in range(options.generators)]
    futures = [pool.submit(run_offer, part) for part in plans]
    begin = time.monotonic()
    while not all(future.done() for future in futures):
        time.sleep(min(5.0, plan.seconds / 4))
        _say(f"{time.monotonic() - begin:.0f} s of {plan.seconds:g} s")
    ledger = Ledger()
    for future in futures:
        ledger.add(future.result())
    return ledger


def _callers(capacity: float, times: float, asks: Sequence[asking.Ask], low: Sequence[asking.Ask]) -> list[CallerPlan]:
    rest = max(times - len(_MODEST) * _MODEST_SHARE - _LOW_SHARE, 0.1)
    return [
        CallerPlan("hog", rest * capacity, asks, odd=0.15),
        *(CallerPlan(name, _MODEST_SHARE * capacity, asks) for name in _MODEST),
        CallerPlan("low", _LOW_SHARE * capacity, low),
    ]


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def verdicts(soaked: Soaked, options: Options) -> list[tuple[str, str, str, str]]:
    """What was wanted, and what came."""
    load, goodput = soaked.load, 0.95 if options.device == "simulated" else 0.7
    longest = Settings().max_queue_seconds + 2 * load.longest_solve
    rows = [
        verdict("lost or wrong, calls", load.broken + soaked.peak.broken, 0, at_most=True),
        verdict("goodput over peak, layers", soaked.load_rows / soaked.peak_rows, goodput, at_most=False),
        verdict("answered p99, s", percentile(load.seconds(Outcome.ANSWERED), 99), round(longest, 2), at_most=True),
        verdict("answered to low, calls", load.of("low").count(Outcome.ANSWERED), 1, at_most=False),
        verdict("books that disagree", sum(row[3] == "NO" for row in soaked.reconciled), 0, at_most=True),
    ]
    if refused := load.seconds(Outcome.REFUSED):
        rows.append(verdict("refused p99, ms", percentile(refused, 99) * 1e3, 20, at_most=True))
    if options.seconds > 2 * _WARM_SECONDS:
        growth = soaked.memory.growth(_WARM_SECONDS) * 100
        rows.append(verdict(f"memory growth after {_WARM_SECONDS:g} s, %", growth, 2, at_most=True))
    return rows


def _caller_rows(load: Ledger) -> Iterable[tuple[str, ...]]:
    for name in load.callers:
        books = load.of(name)
        asked = books.sent - books.count(Outcome.INVALID, Outcome.CANCELLED)
        answered, taken = books.count(Outcome.ANSWERED), books.seconds(Outcome.ANSWERED)
        share = answered / max(asked, 1)
        p50, p99 = percentile(taken, 50), percentile(taken, 99)
        yield name, str(books.sent), str(answered), f"{share:.1%}", f"{p50:.2f}", f"{p99:.2f}"


def report(soaked: Soaked, options: Options) -> bool:
    """Print what was seen; whether all that was wanted came."""
    load = soaked.load
    print_table(
        f"{options.times:g} times capacity for {options.seconds:g} s, {options.device} device: "
        f"{load.sent / options.seconds:.0f} calls/s",
        OUTCOME_HEADER,
        list(outcome_rows(load)),
    )
    header = ("caller", "sent", "answered", "of what it asked for", "p50, s", "p99, s")
    print_table("Callers", header, list(_caller_rows(load)))
    print_table("Statuses, peak and load", ("status", "client", "server", "agree"), soaked.reconciled)
    rows = verdicts(soaked, options)
    print_table("Overload", ("what", "measured", "wanted", "met"), rows)
    print(
        f"\npeak {soaked.peak_rows:.0f}, under load {soaked.load_rows:.0f} layers/s; sent at most {load.lag:.2f} s late"
    )
    memory = soaked.memory
    before, warm, last = memory.at(0), memory.at(_WARM_SECONDS), memory.samples[-1][1]
    print(f"resident {before:.1f} MB before, {warm:.1f} at {_WARM_SECONDS:g} s, {last:.1f} at the end")
    print(f"the server kept {soaked.busy:.2f} processors busy")
    print(f"the server's reasons: { {reason: count for reason, count in soaked.rejections.items() if count} }")
    for said, count in [*load.refusals.most_common(5), *(load.causes + soaked.peak.causes).most_common(10)]:
        print(f"{count} x {said}")
    return all(row[-1] == "yes" for row in rows)


def main() -> None:
    """Measure, print, and fail where a call was lost or a figure missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Options()
    parser.add_argument("--times", type=float, default=default.times, help="capacity (default: 10)")
    parser.add_argument("--seconds", type=float, default=default.seconds, help="of load (default: 60)")
    parser.add_argument("--peak-seconds", type=float, default=default.peak_seconds, help="before it (default: 6)")
    parser.add_argument("--device", choices=("simulated", "real"), default=default.device, help="what solves")
    parser.add_argument("--seconds-per-row", type=float, default=default.seconds_per_row, help="simulated")
    parser.add_argument("--generators", type=int, default=default.generators, help="processes that send (default: 1)")
    parser.add_argument("--seed", type=int, default=default.seed, help="of the mix (default: 1)")
    parser.add_argument("flags", nargs="*", help="of trimtab-server, after --")
    given = vars(parser.parse_args())
    options = Options(**{**given, "flags": tuple(given["flags"])})
    print(machine(), flush=True)
    sys.exit(0 if report(soak(options), options) else 1)


if __name__ == "__main__":
    main()
