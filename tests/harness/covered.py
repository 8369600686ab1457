"""What the tests reach: lines and branches of server and client, from the data that `make coverage` gathers.

Triton's kernels are left out, by name: what they do is compiled, and seen by no tool that watches Python.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.measuring import machine, print_table, verdict

from tests.kept_venv import ROOT

LEAST_LINES, LEAST_BRANCHES = 0.95, 0.90
NEED_CUDA = ("cuda_kernels.py", "cuda_refine_kernels.py", "cuda_search_kernels.py")
_SHOWN = 12


def measured() -> dict[str, Any]:
    """Figures of every file."""
    report = ROOT / ".cache" / "coverage.json"
    command = [sys.executable, "-m", "coverage", "json", "-q", "-o", str(report)]
    subprocess.run(command, cwd=ROOT, check=True)
    files: dict[str, Any] = json.loads(report.read_text())["files"]
    return {name: each for name, each in files.items() if Path(name).name not in NEED_CUDA}


def main() -> None:
    """Print what is reached; 1 where it is too little."""
    files = measured()
    sums = {
        key: sum(each["summary"][key] for each in files.values())
        for key in ("covered_lines", "num_statements", "covered_branches", "num_branches")
    }
    least = sorted(files.items(), key=lambda item: -item[1]["summary"]["missing_lines"])[:_SHOWN]
    print(machine())
    print_table(
        "Files with the most lines that no test reaches",
        ("file", "lines", "not reached", "which"),
        [
            (
                name,
                str(each["summary"]["num_statements"]),
                str(each["summary"]["missing_lines"]),
                " ".join(map(str, each["missing_lines"][:_SHOWN])),
            )
            for name, each in least
        ],
    )
    lines = sums["covered_lines"] / sums["num_statements"]
    branches = sums["covered_branches"] / sums["num_branches"]
    figures = [
        verdict(f"lines reached, of {sums['num_statements']}", lines, LEAST_LINES, at_most=False),
        verdict(f"branches reached, of {sums['num_branches']}", branches, LEAST_BRANCHES, at_most=False),
    ]
    print_table("Coverage", ("what", "measured", "wanted", "met"), figures)
    print(f"\nleft out, since they run as Triton compiles them: {', '.join(NEED_CUDA)}")
    sys.exit(lines < LEAST_LINES or branches < LEAST_BRANCHES)


if __name__ == "__main__":
    main()
