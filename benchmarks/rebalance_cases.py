"""What the rebalance benchmark solves, and with what: real profiles of a deployment, or loads made up to look alike."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import numpy as np

from benchmarks.placement_quality import Loads, Quality, find_faults
from benchmarks.rebalance_baseline import Placement
from benchmarks.workload import NUM_PACKS as NUM_GPUS
from benchmarks.workload import NUM_REPLICAS
from trimtab.synthetic import generate_loads
from trimtab_server.solvers.cpu_packer import CpuPacker
from trimtab_server.solvers.cpu_searcher import CpuSearcher
from trimtab_server.solvers.placement import RebalanceProblem
from trimtab_server.solvers.placing import solve_rebalances

TRACES = Path(os.environ.get("TRIMTAB_TRACES") or Path(__file__).resolve().parents[2] / "shared" / "traces")

BUDGETS = (928, 1842, 3462, None)
"""Moves allowed; 928 are 16 a layer, a fresh placement takes about 16,000."""
_SEEDS = range(5)
_DRIFT = 0.1
"""Loads of one window to the next; see `generate_loads`."""


@dataclass(frozen=True, eq=False)
class Request:
    """What is asked, but for how many moves are allowed."""

    load: Loads
    previous: Placement | None = None

    def permuted(self, seed: int) -> Request:
        """As hard a request of other bytes: the experts go by other ids."""
        new_id = np.random.default_rng(seed).permutation(self.load.shape[2])
        load = self.load[:, :, new_id.argsort()]
        return Request(load, None if self.previous is None else new_id[self.previous].astype(np.int32))


@dataclass(frozen=True)
class Wanted:
    """The figures that were promised, where any were."""

    balancedness: float | None = None
    milliseconds: float | None = None
    moves: int | None = None
    speed: float | None = None
    """Times that of the baseline."""


@dataclass(frozen=True)
class Case:
    """A row of a table: one request, or several that are measured in turn."""

    name: str
    requests: Sequence[Request]
    max_moves: int | None
    wanted: Wanted = field(default_factory=Wanted)


@dataclass(frozen=True)
class Section:
    """A table."""

    title: str
    cases: list[Case]

    @property
    def requests(self) -> list[Request]:
        """Of all its cases, each once."""
        return list(dict.fromkeys(request for case in self.cases for request in case.requests))


class Solver:
    """The solver for CPUs, with all that stands around it."""

    def __init__(self) -> None:
        self._packer, self._searcher = CpuPacker(), CpuSearcher()

    def place(self, requests: Sequence[Request], max_moves: int | None) -> list[Placement]:
        """Solve the requests as one batch."""
        problems = [
            RebalanceProblem(
                request.load,
                num_replicas=NUM_REPLICAS,
                num_gpus=NUM_GPUS,
                previous=request.previous,
                max_moves=None if request.previous is None else max_moves,
            )
            for request in requests
        ]
        return [answer.physical_to_logical for answer in solve_rebalances(problems, self._packer, self._searcher)]

    def quality(self, case: Case) -> Quality:
        """Mean over the requests of a case.

        Raises:
            SystemExit: an answer is not valid; the message says why.
        """
        found = []
        for request in case.requests:
            (placement,) = self.place([request], case.max_moves)
            faults = find_faults(placement, request.load, NUM_GPUS, previous=request.previous, max_moves=case.max_moves)
            if faults:
                raise SystemExit(f"{case.name}, {case.max_moves} moves allowed: {'; '.join(faults)}")
            found.append(Quality.of(placement, request.load, NUM_GPUS, request.previous))
        return Quality.mean(found)


def in_turn(solve: Callable[[Request], object], requests: Sequence[Request]) -> Callable[[], object]:
    """A call that goes round the requests: another one each time."""
    turns = cycle(requests)
    return lambda: solve(next(turns))


@dataclass(frozen=True, eq=False)
class Profiles:
    """Loads of one deployment under several kinds of traffic; decode before prefill, by name."""

    names: list[str]
    loads: Loads  # [num_profiles, num_layers, num_experts], layers without load left out
    real: bool

    @classmethod
    def read(cls, folder: Path) -> Profiles:
        """Those of a folder, or made-up ones where it has none.

        Raises:
            SystemExit: it has too few for the cases.
        """
        paths = [path for kind in ("decode", "prefill") for path in sorted(folder.glob(f"{kind}_*.json"))]
        if not paths:
            return cls._made_up()
        loads = np.array([json.loads(path.read_text())["logical_count"] for path in paths], np.float64)
        profiles = cls([path.stem for path in paths], loads[:, (loads > 0).any(axis=2).all(axis=0)], real=True)
        if len(profiles.of("decode")) < 2 or not len(profiles.of("prefill")):
            raise SystemExit(f"{folder}: there must be two decode_*.json and one prefill_*.json at least")
        return profiles

    @classmethod
    def _made_up(cls) -> Profiles:
        names = [f"decode_made_up_{i}" for i in range(3)] + [f"prefill_made_up_{i}" for i in range(4)]
        # real profiles correlate by 0.7 to 0.9; these by 0.95 from one to the next and 0.74 from first to last
        return cls(names, generate_loads(num_windows=len(names), drift=0.05).astype(np.float64), real=False)

    def of(self, kind: str) -> Loads:
        """[num_windows, num_layers, num_experts]: the profiles whose names begin so."""
        loads: Loads = self.loads[[name.startswith(kind) for name in self.names]]
        return loads


def from_nothing(profiles: Profiles) -> Section:
    """A fresh placement for each profile."""
    wanted = Wanted(balancedness=0.9995, milliseconds=10, speed=50) if profiles.real else Wanted()
    loads = zip(profiles.names, profiles.loads, strict=True)
    return Section("From nothing", [Case(name, [Request(load[None])], None, wanted) for name, load in loads])


def one_window(profiles: Profiles, solver: Solver) -> Section:
    """Placed on the first profile, serving the second."""
    first, second = profiles.of("decode")[:2]
    wanted = {
        928: Wanted(balancedness=0.972, milliseconds=12),
        1842: Wanted(balancedness=0.993, milliseconds=12),
        3462: Wanted(balancedness=0.9993, milliseconds=12),
        None: Wanted(balancedness=0.9997, milliseconds=12, moves=4800),
    }
    request = _placed_on(first[None], second[None], solver)
    cases = [Case("known load", [request], budget, wanted[budget] if profiles.real else Wanted()) for budget in BUDGETS]
    return Section(f"From {profiles.names[0]} to {profiles.names[1]}", cases)


def many_windows(profiles: Profiles, solver: Solver) -> Iterator[Section]:
    """Placed on the first profile of a set, serving all of it."""
    sets: dict[str, dict[int | None, Wanted]] = {
        "decode": {3462: Wanted(0.990, 25), None: Wanted(0.9945, 25, moves=5700)},
        "prefill": {3462: Wanted(0.9945, 25)},
        "": {3462: Wanted(0.970, 60), None: Wanted(0.987, 60)},
    }
    for kind, wanted in sets.items():
        load = profiles.of(kind)
        request = _placed_on(load[:1], load, solver)
        time = Wanted(milliseconds=wanted[3462].milliseconds)
        cases = [
            Case(f"{len(load)} windows", [request], budget, wanted.get(budget, time) if profiles.real else Wanted())
            for budget in BUDGETS
        ]
        first = next(name for name in profiles.names if name.startswith(kind))
        yield Section(f"From {first} to the {len(load)} {kind or 'decode and prefill'} profiles as windows", cases)


def drifted(solver: Solver) -> Section:
    """Placed on a window of generated loads, serving the next; figures are means over seeds."""
    windows = [generate_loads(num_windows=2, drift=_DRIFT, seed=seed).astype(np.float64) for seed in _SEEDS]
    requests = [_placed_on(pair[:1], pair[1:], solver) for pair in windows]
    cases = [Case(f"seeds 0 to {_SEEDS[-1]}", requests, budget) for budget in BUDGETS]
    return Section(f"Generated loads, drift {_DRIFT:g}: from a window to the next", cases)


def _placed_on(before: Loads, load: Loads, solver: Solver) -> Request:
    (previous,) = solver.place([Request(before)], None)
    return Request(load, previous)
