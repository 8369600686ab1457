"""How long whole processes take, imports and their end included: the command without a server, and a server's start.

Run: python -m benchmarks.start [--rounds N] [--loads FILE]

Each runs once untimed, so that kernels are compiled and files are in memory, then in turn with the others: as it is,
and where torch is imported first. Beside them, Python that imports numpy and ends.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.measuring import Spread, machine, print_table, seconds, verdict
from trimtab.cli.server_process import running_server
from trimtab.formats import write_loads
from trimtab.synthetic import generate_loads

NUM_LAYERS, NUM_EXPERTS = 61, 256
FROM_NOTHING = "trimtab rebalance, from nothing"
TORCH = "import torch; "

Timed = Callable[[str], float]
"""Seconds of a process that first does what it is given."""


def timed_process(code: str, *arguments: object) -> Timed:
    """From its start to its end."""

    def timed(first: str) -> float:
        command = [sys.executable, "-c", first + code, *map(str, arguments)]
        return seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))

    return timed


def timed_server(first: str) -> float:
    """From its start until it serves."""
    begin = time.perf_counter()
    with running_server("--drain-pause=0", command=("-c", f"{first}from trimtab_server.__main__ import main; main()")):
        return time.perf_counter() - begin


def make_cases(loads: Path, folder: Path) -> dict[str, Timed]:
    """Every process by its name; the one that writes a placement comes before the one that starts from it."""
    command, placement = "from trimtab.cli import main; main()", folder / "placement.json"
    place = ("rebalance", loads, "--gpus", 32, "--replicas", 288, "--target", "local", "-o")
    return {
        "python, numpy alone": timed_process("import numpy"),
        "trimtab --help": timed_process(command, "--help"),
        FROM_NOTHING: timed_process(command, *place, placement),
        "trimtab rebalance --previous": timed_process(command, *place, folder / "next.json", "--previous", placement),
        "trimtab-server, until it serves": timed_server,
    }


def measure(cases: dict[str, Timed], rounds: int) -> dict[tuple[str, str], list[float]]:
    """Seconds by the name and by what was done first."""
    samples: dict[tuple[str, str], list[float]] = {(name, first): [] for name in cases for first in ("", TORCH)}
    for done in range(rounds + 1):
        for (name, first), found in samples.items():
            found.append(cases[name](first))
        print(f"round {done} of {rounds}", file=sys.stderr, flush=True)
    return {key: found[1:] for key, found in samples.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help="times that each runs (default: 10)")
    parser.add_argument("--loads", type=Path, help="a load file (default: 61 x 256 loads are made up, as .json)")
    arguments = parser.parse_args()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        loads = arguments.loads or Path(folder, "loads.json")
        if arguments.loads is None:
            write_loads(loads, generate_loads(NUM_LAYERS, NUM_EXPERTS))
        cases = make_cases(loads, Path(folder))
        found = {key: Spread.of(samples) for key, samples in measure(cases, arguments.rounds).items()}
    print_table(
        "Whole processes, seconds",
        ("what", "as it is", "with torch imported first"),
        [(name, f"{found[name, '']:.2f}", f"{found[name, TORCH]:.2f}") for name in cases],
    )
    print_table(
        "Wanted",
        ("what", "measured", "wanted", "met"),
        [verdict(f"{FROM_NOTHING}, s", found[FROM_NOTHING, ""].median, 1.5, at_most=True)],
    )


if __name__ == "__main__":
    main()
