"""The solver: against a plain greedy in Python, and what batches of 1, 4 and 16 requests gain.

Run: python -m benchmarks.solver [--rounds N]
"""

from __future__ import annotations

import argparse

import numpy as np
import numpy.typing as npt

from benchmarks.baselines import plain_greedy
from benchmarks.measuring import Spread, machine, print_table, side_by_side, verdict
from benchmarks.workload import NUM_PACKS, Weight, request_weights
from trimtab_server.devices import make_packer
from trimtab_server.solvers.packing import solve_packs
from trimtab_server.solvers.problem import PackOptions, PackProblem

BATCHES = (1, 4, 16)


def gap(weight: Weight, packs: npt.NDArray[np.int64]) -> float:
    """Mean over layers of max load over mean load, minus 1."""
    loads = np.stack([np.bincount(p, row, NUM_PACKS) for p, row in zip(packs, weight, strict=True)])
    return float((loads.max(1) / loads.mean(1)).mean() - 1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="samples of each cell (default: 15)")
    parser.add_argument("--solver", choices=("auto", "torch", "cpu", "cuda"), default="auto", help="as trimtab-server")
    parser.add_argument("--no-refine", dest="refine", action="store_false", help="greedy restarts alone")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    arguments = parser.parse_args()
    packer = make_packer(arguments.device, arguments.solver)
    weights = request_weights(max(BATCHES))

    def solve(count: int, restarts: int) -> list[npt.NDArray[np.int32]]:
        problems = [
            PackProblem(weight, NUM_PACKS, PackOptions(restarts, refine=arguments.refine)) for weight in weights[:count]
        ]
        return [answer.pack_index for answer in solve_packs(problems, packer)]

    cells = [(count, restarts) for restarts in (1, 8) for count in BATCHES]
    timed = [lambda c=count, r=restarts: solve(c, r) for count, restarts in cells]
    print(f"{packer.name} on {packer.device}; {machine()}", flush=True)
    baseline, *samples = side_by_side([lambda: plain_greedy(weights[0], NUM_PACKS), *timed], arguments.rounds)
    plain = Spread.of(baseline).scaled(1e3)
    rows = [
        (
            "plain Python greedy",
            "1",
            "1",
            f"{plain:.1f}",
            "1",
            f"{gap(weights[0], plain_greedy(weights[0], NUM_PACKS)):.1e}",
        )
    ]
    per_request: dict[tuple[int, int], float] = {}
    for (count, restarts), taken in zip(cells, samples, strict=True):
        spread = Spread.of(taken).scaled(1e3 / count)
        per_request[count, restarts] = spread.median
        quality = gap(weights[0], solve(1, restarts)[0].astype(np.int64))
        ratio = f"{plain.median / spread.median:.1f}"
        rows.append((packer.name, str(restarts), str(count), f"{spread:.1f}", ratio, f"{quality:.1e}"))
    header = ("solver", "restarts", "requests in the batch", "ms a request", "times the plain greedy's speed", "gap")
    print_table("Solver, 58 layers x 288 items into 32 packs", header, rows)
    gain = per_request[1, 8] / per_request[16, 8]
    if packer.name == "torch":  # a compiled solver has little left that a batch could share
        figures = [verdict("16 in a batch, speed-up a request", gain, 1.6, at_most=False)]
        print_table("Figures", ("what", "measured", "wanted", "met"), figures)


if __name__ == "__main__":
    main()
