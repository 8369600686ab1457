"""The figures of the solvers: how fast and how close, against what was promised; and gap against time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle

import numpy as np

from benchmarks.baselines import numpy_greedy
from benchmarks.measuring import Spread, print_table, side_by_side, verdict
from benchmarks.solver_cases import COMMON, SEEDS, Bench, Gap, Turns, make_task, milliseconds, problems, progress
from trimtab_server.solvers.packing import solve_packs
from trimtab_server.solvers.problem import PackOptions

Verdict = tuple[str, str, str, str]

VERDICTS = ("what", "measured", "wanted", "met")
_LOOP = PackOptions(8, refine=False)
_ONE = PackOptions(1, target_gap=3.5e-4)
_DEFAULT = PackOptions()
_CLOSEST = PackOptions(8, target_gap=0)
_VARIANTS = {
    "1 restart, target_gap 3.5e-4": _ONE,
    "all defaults": _DEFAULT,
    "8 restarts, target_gap 0": _CLOSEST,
}
_TARGETS = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 0.0)
_MANY = 64


def _paired(base: Sequence[float], samples: Sequence[float]) -> float:
    """How many times as long the baseline took, round by round."""
    return float(np.median(np.divide(base, samples)))


def _service_turns(bench: Bench, options: PackOptions, requests: int = 1) -> Callable[[], object]:
    """A call with all that stands around a solver: quantising, bounds, noise tables and figures."""
    batches = cycle([problems(COMMON, options, range(seed, seed + requests)) for seed in range(SEEDS)])
    return lambda: solve_packs(next(batches), bench.fastest)


def _cpu_verdicts(ratios: dict[str, tuple[float, float]], gaps: dict[str, Gap]) -> list[Verdict]:
    one, default, closest = _VARIANTS
    return [
        verdict(f"{one}: x the torch loop, 8 restarts", ratios[one][0], 35, at_most=False),
        verdict(f"{one}: x the numpy greedy", ratios[one][1], 30, at_most=False),
        verdict(f"{one}: mean gap", gaps[one].mean, 3.3e-4, at_most=True),
        verdict(f"{default}: x the torch loop, 8 restarts", ratios[default][0], 15, at_most=False),
        verdict(f"{default}: mean gap", gaps[default].mean, 1e-4, at_most=True),
        verdict(f"{default}: worst row", gaps[default].worst, 3e-4, at_most=True),
        verdict(f"{closest}: mean gap", gaps[closest].mean, 3e-5, at_most=True),
    ]


def _gpu_verdicts(bench: Bench, ratio: float, alone: float, around: float) -> list[Verdict]:
    """Of the default options, from the seconds of one request and those of 64 measured here."""
    many = make_task(COMMON, _DEFAULT, range(_MANY))
    pack, service = side_by_side(
        [lambda: bench.fastest.pack(many), _service_turns(bench, _DEFAULT, _MANY)], bench.rounds, warm=3
    )
    return [
        verdict("one request, the solver alone, us", alone * 1e6, 300, at_most=True),
        verdict("one request, with all around it, us", around * 1e6, 300, at_most=True),
        verdict("64 requests, the solver alone, ms", Spread.of(pack).median * 1e3, 4, at_most=True),
        verdict("64 requests, with all around it, ms", Spread.of(service).median * 1e3, 4, at_most=True),
        verdict("one request: x the torch loop on the same GPU", ratio, 50, at_most=False),
    ]


def print_figures(bench: Bench) -> None:
    """Measure the variants that figures were promised for, and print both."""
    progress("figures")
    calls: list[Callable[[], object]] = [
        Turns(bench.loop.pack, COMMON, _LOOP),
        Turns(lambda task: numpy_greedy(task.whole, task.num_packs), COMMON, _LOOP),
        *(Turns(bench.fastest.pack, COMMON, options) for options in _VARIANTS.values()),
        *(_service_turns(bench, options) for options in _VARIANTS.values()),
    ]
    loop, greedy, *samples = side_by_side(calls, SEEDS if bench.quick else 3 * SEEDS, warm=3)
    alone, around = samples[: len(_VARIANTS)], samples[len(_VARIANTS) :]
    ratios = {
        name: (_paired(loop, taken), _paired(greedy, taken)) for name, taken in zip(_VARIANTS, alone, strict=True)
    }
    gaps = {name: Gap.of(bench.fastest, COMMON, options) for name, options in _VARIANTS.items()}
    rows: list[tuple[str, ...]] = [
        (f"torch loop on {bench.device}, 8 restarts", milliseconds(Spread.of(loop)), "", "", "", "", ""),
        ("numpy greedy", milliseconds(Spread.of(greedy)), "", "", "", "", ""),
    ]
    for name, solver, service in zip(_VARIANTS, alone, around, strict=True):
        times = (milliseconds(Spread.of(taken)) for taken in (solver, service))
        rows.append((name, *times, *(f"{ratio:.3g}" for ratio in ratios[name]), *gaps[name].cells()))
    header = (
        "what",
        "ms, the solver alone",
        "ms, with all around it",
        "x the loop",
        "x numpy",
        "mean gap",
        "worst gap",
    )
    print_table(f"{bench.fastest.name}: one request, {COMMON}, {SEEDS} seeds", header, rows)
    medians = (Spread.of(taken[list(_VARIANTS).index("all defaults")]).median for taken in (alone, around))
    met = _cpu_verdicts(ratios, gaps)
    if bench.cuda:
        met = _gpu_verdicts(bench, ratios["all defaults"][0], *medians)
    print_table("Figures", VERDICTS, met)


def print_curve(bench: Bench) -> None:
    """What a smaller target gap costs, for 1 restart and for 8."""
    progress("gap against time")
    cells = [PackOptions(restarts, target_gap=target) for restarts in (1, 8) for target in _TARGETS]
    calls = [Turns(bench.loop.pack, COMMON, _LOOP), *(Turns(bench.fastest.pack, COMMON, cell) for cell in cells)]
    loop, *samples = side_by_side(calls, SEEDS // 4 if bench.quick else SEEDS)
    rows = [
        (
            str(options.num_restarts),
            f"{options.target_gap:g}",
            milliseconds(Spread.of(taken)),
            f"{_paired(loop, taken):.3g}",
            *Gap.of(bench.fastest, COMMON, options).cells(),
        )
        for options, taken in zip(cells, samples, strict=True)
    ]
    header = ("restarts", "target_gap", "ms", "x the loop", "mean gap", "worst gap")
    print_table(f"Gap against time, {bench.fastest.name}, {COMMON}", header, rows)
