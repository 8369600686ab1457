"""Mutants: the code is broken in every small way that cosmic-ray knows, and the tests have to notice.

Run: python -m tests.harness.mutants [--modules wire,errors]

Works on copies under .cache, one for each processor. A mutant that no test notices survives; the table counts them, and
survivors.txt shows each as a difference.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from benchmarks.measuring import machine, print_table, verdict
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome

from tests.kept_venv import ROOT

FOLDER = ROOT / ".cache" / "mutants"
LEAST_KILLED = 0.85
_TIMEOUT_SECONDS = 30.0
_CONFIG = """\
[cosmic-ray]
module-path = "{module}"
timeout = {timeout}
excluded-modules = []
test-command = "{python} -m pytest -x -q -p no:cacheprovider --timeout 5 {tests}"

[cosmic-ray.distributor]
name = "local"

# In these modules `|` only joins types in annotations, which are never evaluated: no test could notice
[cosmic-ray.filters.operators-filter]
exclude-operators = ["core/ReplaceBinaryOperator_BitOr_.*"]
"""
SUBJECTS = {
    "batching": ("server/trimtab_server/batching.py", "tests/test_batching.py"),
    "admission": ("server/trimtab_server/admission.py", "tests/test_admission.py tests/test_batching.py"),
    "waiting_room": ("server/trimtab_server/waiting_room.py", "tests/test_waiting_room.py tests/test_batching.py"),
    "forecast": ("server/trimtab_server/forecast.py", "tests/test_forecast.py tests/test_batching.py"),
    "fair_queue": ("server/trimtab_server/fair_queue.py", "tests/test_fair_queue.py tests/test_batching.py"),
    "wire": ("client/trimtab/wire.py", "tests/test_wire.py"),
    "errors": ("client/trimtab/errors.py", "tests/test_errors.py"),
}
"""What is mutated, and the tests that have to notice."""


@dataclass(frozen=True)
class Fate:
    """What became of the mutants of a module."""

    name: str
    mutants: int
    survivors: list[str]

    @property
    def killed(self) -> float:
        """The part that was noticed."""
        return 1 - len(self.survivors) / self.mutants


def copy_of_the_tree(number: int) -> Path:
    """The files of the working tree that git knows or would know, in a folder of their own."""
    folder = FOLDER / str(number)
    shutil.rmtree(folder, ignore_errors=True)
    names = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True)
    for name in names.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def run_mutants(name: str, folder: Path) -> Fate:
    """Break a module in every way, in this copy of the tree."""
    module, tests = SUBJECTS[name]
    config, session = folder / f"{name}.toml", folder / f"{name}.sqlite"
    config.write_text(_CONFIG.format(module=module, tests=tests, timeout=_TIMEOUT_SECONDS, python=sys.executable))
    environment = {**os.environ, "PYTHONPATH": f"{folder / 'client'}:{folder / 'server'}:{folder}"}
    steps = (
        ("cosmic_ray.cli", "init", config.name, session.name),
        ("cosmic_ray.tools.filters.operators_filter", session.name, config.name),
        ("cosmic_ray.cli", "baseline", config.name),
        ("cosmic_ray.cli", "exec", config.name, session.name),
    )
    for step in steps:
        result = subprocess.run(
            [sys.executable, "-m", *step],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            raise RuntimeError(f"{' '.join(step)} failed:\n{result.stdout[-3000:]}{result.stderr[-3000:]}")
    with use_db(str(session), WorkDB.Mode.open) as database:
        results = [
            (item, result)
            for item, result in database.completed_work_items
            if result.worker_outcome is not WorkerOutcome.SKIPPED
        ]
    survivors = [result.diff or "" for _, result in results if result.test_outcome == TestOutcome.SURVIVED]
    return Fate(name, len(results), survivors)


def run_all(names: list[str]) -> list[Fate]:
    """Every module, as many at a time as there are processors."""
    free: SimpleQueue[Path] = SimpleQueue()
    processors = os.cpu_count() or 1
    for number in range(processors):
        free.put(copy_of_the_tree(number))

    def work(name: str) -> Fate:
        folder = free.get()
        fate = run_mutants(name, folder)
        free.put(folder)
        print(f"{name}: {fate.mutants} mutants, {len(fate.survivors)} survive", file=sys.stderr, flush=True)
        return fate

    with ThreadPoolExecutor(processors) as pool:
        return list(pool.map(work, names))


def main() -> None:
    """Break, count, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modules", default=",".join(SUBJECTS), help=f"some of {','.join(SUBJECTS)} (default: all)")
    names = parser.parse_args().modules.split(",")
    if unknown := set(names) - SUBJECTS.keys():
        parser.error(f"no such modules: {', '.join(sorted(unknown))}")
    print(machine(), flush=True)
    fates = run_all(names)
    (FOLDER / "survivors.txt").write_text("\n".join(diff for fate in fates for diff in fate.survivors))
    print_table(
        "Mutants",
        ("module", "mutants", "survive", "killed"),
        [(fate.name, str(fate.mutants), str(len(fate.survivors)), f"{fate.killed:.1%}") for fate in fates],
    )
    figures = [verdict(f"{fate.name}: mutants killed", fate.killed, LEAST_KILLED, at_most=False) for fate in fates]
    print_table("Figures", ("what", "measured", "wanted", "met"), figures)
    print(f"\nsurvivors are in {FOLDER / 'survivors.txt'}")
    sys.exit(any(fate.killed < LEAST_KILLED for fate in fates))


if __name__ == "__main__":
    main()
