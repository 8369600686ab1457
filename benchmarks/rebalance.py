"""Rebalancing: how balanced, how many moves and how fast, from nothing and from a previous placement.

Real loads are read from a folder (TRIMTAB_TRACES, --traces); where it has none, all is of generated loads. Every table
is measured in turn with a placement as DeepSeek's EPLB makes it (benchmarks/rebalance_baseline.py). Balancedness, moves
and duplicates are counted here, and every answer is seen to be valid.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.baselines import numpy_greedy, plain_greedy
from benchmarks.measuring import Spread, machine, print_table, side_by_side, verdict
from benchmarks.placement_quality import Quality
from benchmarks.rebalance_baseline import Placement, place_experts, placed_by, torch_greedy
from benchmarks.rebalance_cases import (
    TRACES,
    Case,
    Profiles,
    Request,
    Section,
    Solver,
    Wanted,
    drifted,
    from_nothing,
    in_turn,
    many_windows,
    one_window,
)
from benchmarks.solver_cases import check_same, milliseconds, progress
from benchmarks.workload import NUM_PACKS as NUM_GPUS
from benchmarks.workload import NUM_REPLICAS

_MISSING = """NO REAL LOADS: no decode_*.json or prefill_*.json in {}; set TRIMTAB_TRACES to the folder that has them.
GENERATED LOADS stand for them, and the figures that are wanted of real ones are left out."""
_AT_ONCE = 64
_HEADER = (
    "load",
    "moves allowed",
    "balancedness",
    "moves",
    "duplicates",
    "ms",
    "x the baseline's speed",
    "baseline: balancedness",
    "baseline: moves",
    "wanted",
    "met",
)


def _baseline(request: Request) -> Placement:
    return place_experts(request.load, NUM_REPLICAS, NUM_GPUS)


def _ours(solver: Solver, case: Case) -> Callable[[], object]:
    return in_turn(lambda request: solver.place([request], case.max_moves), case.requests)


def _paired(base: npt.ArrayLike, samples: npt.ArrayLike) -> float:
    """How many times as long the baseline took, round by round."""
    return float(np.median(np.divide(base, samples)))


def _allowed(case: Case) -> str:
    if case.requests[0].previous is None:
        return ""
    return "any" if case.max_moves is None else f"{case.max_moves:,}"


def _moves(quality: Quality) -> str:
    return "" if math.isnan(quality.moves) else f"{quality.moves:,.0f}"


def _verdicts(wanted: Wanted, quality: Quality, taken: Spread, speed: float) -> tuple[str, str]:
    """What was wanted, and whether all of it was met."""
    figures = [
        ("balancedness", quality.balancedness, wanted.balancedness, False),
        ("moves", quality.moves, wanted.moves, True),
        ("ms", taken.median * 1e3, wanted.milliseconds, True),
        ("x", speed, wanted.speed, False),
    ]
    rows = [
        verdict(name, value, bound, at_most=at_most) for name, value, bound, at_most in figures if bound is not None
    ]
    missed = [name for name, _, _, met in rows if met != "yes"]
    met = f"NO: {', '.join(missed)}" if missed else "yes"
    return ", ".join(f"{name} {bound}" for name, _, bound, _ in rows), met if rows else ""


def print_section(section: Section, solver: Solver, rounds: int) -> None:
    """Measure and print a table."""
    progress(section.title)
    fresh = {
        request: Quality.of(_baseline(request), request.load, NUM_GPUS, request.previous)
        for request in section.requests
    }
    ours = [solver.quality(case) for case in section.cases]
    calls = [in_turn(_baseline, section.requests), *(_ours(solver, case) for case in section.cases)]
    base, *samples = side_by_side(calls, rounds, after_long=True)
    rows: list[tuple[str, ...]] = []
    for case, quality, taken in zip(section.cases, ours, samples, strict=True):
        speed = _paired(base, taken)
        theirs = Quality.mean(fresh[request] for request in case.requests)
        rows.append(
            (
                case.name,
                _allowed(case),
                f"{quality.balancedness:.5f}",
                _moves(quality),
                f"{quality.duplicates:g}",
                milliseconds(Spread.of(taken)),
                f"{speed:.3g}",
                f"{theirs.balancedness:.5f}",
                _moves(theirs),
                *_verdicts(case.wanted, quality, Spread.of(taken), speed),
            )
        )
    rows.append(("the baseline", "", "", "", "", milliseconds(Spread.of(base)), "1", "", "", "", ""))
    print_table(section.title, _HEADER, rows)


def print_baseline(request: Request, rounds: int) -> None:
    """The baseline beside the same greedy without torch: how much of its time is its scalars."""
    progress("the baseline")
    forms = {
        "the baseline: scalars of torch": torch_greedy,
        "the same, numbers of Python": plain_greedy,
        "the same, one argmin of numpy a replica": numpy_greedy,
    }
    calls = [partial(placed_by, pack, request.load, NUM_REPLICAS, NUM_GPUS) for pack in forms.values()]
    samples = side_by_side(calls, rounds)
    rows = []
    for name, call, taken in zip(forms, calls, samples, strict=True):
        quality = Quality.of(call(), request.load, NUM_GPUS, None)
        figures = f"{quality.balancedness:.5f}", f"{quality.duplicates:g}"
        rows.append((name, milliseconds(Spread.of(taken)), f"{_paired(samples[0], taken):.3g}", *figures))
    header = ("what", "ms", "x the baseline's speed", "balancedness", "duplicates")
    print_table("The baseline, and what of it is Python and torch", header, rows)


def _batch_row(case: Case, solver: Solver, rounds: int) -> tuple[str, ...]:
    requests, allowed = case.requests, case.max_moves
    alone = [solver.place([request], allowed)[0] for request in requests]
    check_same(f"{case.name}, alone and in a batch", alone, solver.place(requests, allowed))
    samples = side_by_side(
        [
            in_turn(_baseline, requests),
            lambda: [solver.place([request], allowed) for request in requests],
            lambda: solver.place(requests, allowed),
        ],
        rounds,
    )
    base, one, many = (np.array(taken) for taken in samples)
    one, many = one / len(requests), many / len(requests)
    _, _, wanted, met = verdict("", _paired(many, one), 1, at_most=True)
    times = (milliseconds(Spread.of(taken.tolist())) for taken in (one, many))
    return case.name, _allowed(case), *times, f"{_paired(base, many):.3g}", f"{_paired(many, one):.3f}", wanted, met


def print_batches(cases: Sequence[Case], solver: Solver, rounds: int) -> None:
    """What a request takes alone and among 64; the answers must be the same bytes."""
    progress(f"{_AT_ONCE} requests at once")
    rows = [_batch_row(case, solver, rounds) for case in cases]
    header = (
        "load",
        "moves allowed",
        "ms a request, alone",
        f"ms a request, {_AT_ONCE} in a batch",
        "x the baseline's speed",
        "batch over alone",
        "wanted",
        "met",
    )
    print_table(f"{_AT_ONCE} requests at once, experts permuted in each", header, rows)


def _batch_cases(sections: Sequence[Section]) -> list[Case]:
    """The first load of each section, asked for 64 times with experts by other ids; 3,462 moves where there are any."""
    return [
        Case(section.title, [section.requests[0].permuted(seed) for seed in range(_AT_ONCE)], 3462)
        for section in sections
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rebalance",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=15, help="samples of each cell (default: 15)")
    parser.add_argument("--traces", type=Path, default=TRACES, help=f"the folder of real loads (default: {TRACES})")
    arguments = parser.parse_args()
    rounds, profiles, solver = arguments.rounds, Profiles.read(arguments.traces), Solver()
    missing = "" if profiles.real else f"\n{_MISSING.format(arguments.traces)}"
    shape = f"{profiles.loads.shape[1]} layers, {profiles.loads.shape[2]} experts in {NUM_REPLICAS} slots of {NUM_GPUS}"
    print(f"cpu; {shape} GPUs; {machine()}{missing}", flush=True)
    fresh, known = from_nothing(profiles), one_window(profiles, solver)
    print_baseline(fresh.requests[0], rounds)
    for section in (fresh, known, *many_windows(profiles, solver), drifted(solver)):
        print_section(section, solver, rounds)
    print_batches(_batch_cases([fresh, known]), solver, rounds)
    print(missing, end="\n" if missing else "")


if __name__ == "__main__":
    main()
