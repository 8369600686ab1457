"""The image's start: until it serves, beside the same server started from .venv, and what its imports take.

Run: python -m benchmarks.image [--rounds N]

Builds the image where it is not up to date. A cold start is one whose files the page cache has been told to forget.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from collections import Counter
from collections.abc import Sequence

from deploy.image.build import build
from deploy.image.run import command

from benchmarks.measuring import Spread, machine, print_table, side_by_side, verdict
from trimtab.cli.server_process import ServerProcess, running_server

PYTHON = "/opt/trimtab/bin/python"
WANTED_SECONDS = 6
LOOPBACK = {
    "TRIMTAB_LISTEN": "127.0.0.1:0",
    "TRIMTAB_METRICS_LISTEN": "127.0.0.1:0",
    "TRIMTAB_DEVICE": "cpu",
}
FORGET = """
import os
for folder, _, names in os.walk("/opt/trimtab"):
    for name in names:
        file = os.open(os.path.join(folder, name), os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)
"""


def start_image() -> None:
    """Until it serves; ended then, which is quick beside it."""
    line, nothing = command("cpu", environment=LOOPBACK), subprocess.DEVNULL
    process = subprocess.Popen(line, stdin=nothing, stdout=nothing, stderr=subprocess.PIPE, text=True)
    server = ServerProcess(process)
    try:
        server.wait_for(event="serving")
    finally:
        process.kill()
        server.stop()


def start_cold() -> float:
    """Seconds until an image serves whose files have to be read from the disk."""
    subprocess.run(command("cpu", program=[PYTHON, "-c", FORGET], user="0:0"), check=True)
    begin = time.perf_counter()
    start_image()
    return time.perf_counter() - begin


def start_venv() -> None:
    """The same of this environment, its kernels compiled before."""
    with running_server("--device=cpu") as server:
        server.process.kill()


def imports() -> Sequence[tuple[str, float]]:
    """Milliseconds of the imports of a server in the image, by package, most first."""
    program = [PYTHON, "-X", "importtime", "-c", "import trimtab_server.server"]
    result = subprocess.run(command("cpu", program=program), capture_output=True, text=True, check=True)
    packages: Counter[str] = Counter()
    for line in result.stderr.splitlines()[1:]:
        microseconds, _, name = line.removeprefix("import time:").split("|")
        packages[name.strip().partition(".")[0]] += int(microseconds)
    return [(name, microseconds / 1000) for name, microseconds in packages.most_common()]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="starts of each (default: 5)")
    arguments = parser.parse_args()
    built = build("cpu")
    print(machine(), flush=True)
    image, venv = (Spread.of(samples) for samples in side_by_side([start_image, start_venv], arguments.rounds))
    cold = Spread.of([start_cold() for _ in range(arguments.rounds)])
    rows = [
        ("image", f"{image:.2f}", f"{image.median / venv.median:.2f}"),
        ("image, cold", f"{cold:.2f}", f"{cold.median / venv.median:.2f}"),
        (".venv", f"{venv:.2f}", "1"),
    ]
    print_table(f"Start to SERVING; the image has {built.size}", ("what", "seconds", "ratio"), rows)
    wanted = verdict("cold start, s", cold.median, WANTED_SECONDS, at_most=True)
    print_table("Wanted", ("what", "measured", "wanted", "met"), [wanted])
    largest = [(name, f"{milliseconds:.0f}") for name, milliseconds in imports()[:8]]
    print_table("Imports of a server in the image, timed one by one, which slows them", ("package", "ms"), largest)


if __name__ == "__main__":
    main()
