"""The table of shapes, solvers, restarts and batches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from benchmarks.baselines import numpy_greedy
from benchmarks.measuring import Spread, print_table, seconds, side_by_side
from benchmarks.solver_cases import Bench, Gap, Shape, check_same, make_task, milliseconds, progress
from trimtab_server.solvers.problem import PackOptions

BATCHES = (1, 8, 64)
RESTARTS = (1, 8, 64)
SKIPPED = "skipped"

_LOOP, _GREEDY = "torch loop", "numpy greedy"
_SECONDS_A_CELL = 1.0
_LEAST_ROUNDS = 3


class Cell(NamedTuple):
    """One measurement."""

    solver: str
    restarts: int
    requests: int


class Timed(NamedTuple):
    """What it gave."""

    seconds: Spread  # a request
    ratio: float  # the baseline's time over it


def is_measured(bench: Bench, shape: Shape, cell: Cell) -> bool:
    """Whether a cell is small enough for its solver.

    The limits are in item steps (layers x items x restarts x requests), and in those times the packs for the loop.
    """
    steps = shape.layers * shape.items * cell.restarts * cell.requests
    on_cpu = bench.device == "cpu"
    if cell.solver == _GREEDY:
        return steps <= 1 << 20
    if cell.solver == _LOOP:
        most = (26 if bench.quick else 29) if on_cpu else 34
        return steps <= 1 << 26 and steps * shape.packs <= 1 << most
    if cell.solver == "torch":  # a reference, written to be right
        return steps <= 1 << 18 and cell.requests == 1 if on_cpu else steps <= 1 << 24
    return steps <= 1 << (26 if cell.solver == "cpu" else 30)


def baseline_cell(bench: Bench, shape: Shape) -> Cell:
    """The loop with the default restarts, or with one where a round of those would take half a minute."""
    usual = Cell(_LOOP, 8, 1)
    return usual if is_measured(bench, shape, usual) else usual._replace(restarts=1)


def check_shape(bench: Bench, shape: Shape) -> None:
    """See that all solvers give the same bytes for the first seed, the baselines among them, before they are timed."""
    for restarts in RESTARTS:
        refined, plain = (make_task(shape, PackOptions(restarts, refine=refine)) for refine in (True, False))
        name = f"{shape}, {restarts} restarts"
        if is_measured(bench, shape, Cell("torch", restarts, 1)):
            check_same(f"{name}, torch and cpu", bench.cpu.pack(refined)[:3], bench.torch.pack(refined)[:3])
        if is_measured(bench, shape, Cell(_LOOP, restarts, 1)) and bench.device == "cpu":
            check_same(f"{name}, torch loop and cpu", bench.cpu.pack(plain)[:1], [bench.loop.pack(plain)])
        if restarts == 1 and is_measured(bench, shape, Cell(_GREEDY, 1, 1)):
            check_same(f"{name}, numpy and cpu", bench.cpu.pack(plain)[:1], [numpy_greedy(plain.whole, shape.packs)])


def _call(bench: Bench, shape: Shape, cell: Cell) -> Callable[[], object]:
    refine = cell.solver != _LOOP
    task = make_task(shape, PackOptions(cell.restarts, refine=refine), range(cell.requests))
    if cell.solver == _GREEDY:
        return lambda: numpy_greedy(task.whole, task.num_packs)
    pack = bench.loop.pack if cell.solver == _LOOP else bench.solvers[cell.solver].pack
    return lambda: pack(task)


def _first_seconds(call: Callable[[], object]) -> float:
    """Of a first call, or of a second where the first may be little but warming up."""
    first = seconds(call)
    return min(first, seconds(call)) if first < _SECONDS_A_CELL / 2 else first


def _rounds(taken: float, most: int) -> int:
    """`most`, half of it, or the least: cells with the same number are measured in turn."""
    wanted = _SECONDS_A_CELL / taken
    return next((rounds for rounds in (most, most // 2) if _LEAST_ROUNDS <= rounds <= wanted), min(most, _LEAST_ROUNDS))


def measure(
    baseline: Callable[[], object], calls: Mapping[Cell, Callable[[], object]], most: int
) -> tuple[Spread, dict[Cell, Timed]]:
    """The baseline's seconds and what each cell took beside it; slow cells have fewer rounds."""
    first = _first_seconds(baseline)
    groups: dict[int, list[Cell]] = defaultdict(list)
    for cell, call in calls.items():
        groups[_rounds(first + _first_seconds(call), most)].append(cell)
    timed, kept = {}, [first]
    for rounds, cells in groups.items():
        base, *samples = side_by_side([baseline, *(calls[cell] for cell in cells)], rounds, warm=0)
        kept = max(kept, base, key=len)
        for cell, taken in zip(cells, samples, strict=True):
            a_request = np.array(taken) / cell.requests
            timed[cell] = Timed(Spread.of(a_request.tolist()), float(np.median(np.array(base) / a_request)))
    return Spread.of(kept), timed


def _measure_shape(bench: Bench, shape: Shape) -> dict[Cell, Timed]:
    base = baseline_cell(bench, shape)
    names = [_LOOP, *bench.solvers]
    cells = [Cell(name, restarts, requests) for name in names for restarts in RESTARTS for requests in BATCHES]
    cells = [cell for cell in [Cell(_GREEDY, 1, 1), *cells] if cell != base and is_measured(bench, shape, cell)]
    progress(f"{shape}: {len(cells)} cells")
    taken, timed = measure(_call(bench, shape, base), {cell: _call(bench, shape, cell) for cell in cells}, bench.rounds)
    return {base: Timed(taken, 1.0), **timed}


def _gap(bench: Bench, shape: Shape, name: str, restarts: int) -> tuple[str, str]:
    """From the fastest solver, for all give the same bytes."""
    if not is_measured(bench, shape, Cell("cuda" if bench.cuda else "cpu", restarts, 1)):
        return SKIPPED, SKIPPED
    return Gap.of(bench.fastest, shape, PackOptions(restarts, refine=name in bench.solvers)).cells()


def _row(bench: Bench, shape: Shape, name: str, restarts: int, found: list[Timed | None]) -> tuple[str, ...]:
    times = [milliseconds(cell.seconds) if cell else SKIPPED for cell in found]
    if name == _GREEDY:
        times[1:] = ["", ""]  # it knows no batches
    ratios = [f"{cell.ratio:.3g}" if cell else "" for cell in found]
    gap = _gap(bench, shape, name, restarts) if any(found) else ("", "")
    return str(shape), name, str(restarts), *times, *ratios, *gap


def _shape_rows(bench: Bench, shape: Shape) -> list[tuple[str, ...]]:
    timed = _measure_shape(bench, shape)
    progress(f"{shape}: gaps")
    lines = [(_GREEDY, 1), *((name, restarts) for name in [_LOOP, *bench.solvers] for restarts in RESTARTS)]
    return [
        _row(bench, shape, name, restarts, [timed.get(Cell(name, restarts, requests)) for requests in BATCHES])
        for name, restarts in lines
    ]


def print_shapes(bench: Bench, shapes: list[Shape]) -> None:
    """Measure and print the table."""
    rows = []
    for shape in shapes:
        progress(f"{shape}: seeing that the answers agree")
        check_shape(bench, shape)
        rows += _shape_rows(bench, shape)
    header = (
        "layers x items x packs",
        "solver",
        "restarts",
        *(f"ms a request, {requests} in a batch" for requests in BATCHES),
        *(f"x the loop, {requests}" for requests in BATCHES),
        "mean gap",
        "worst gap",
    )
    print_table(f"Solvers, default options but for the restarts, torch on {bench.device}", header, rows)
    small = [str(shape) for shape in shapes if baseline_cell(bench, shape).restarts == 1]
    note = f" (with 1 restart for {', '.join(small)})" if small else ""
    print(f"\nThe loop: torch, 8 restarts{note}, no refinement, one request.")
    same = ", ".join([*bench.solvers, *([_LOOP, _GREEDY] if bench.device == "cpu" else [_GREEDY])])
    print(f"Seen to give the same bytes, at one request and wherever not skipped: {same}.")
