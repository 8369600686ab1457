"""Virtual environments beside the project's own, for packages that can't live in it; kept in .cache between runs."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEWEST_PYTHON_OF_2024 = (3, 12)
"""The newest Python that the packages of early 2024 (grpcio 1.62 and its time) have wheels for."""


def kept_venv(name: str, *requirements: str) -> Path:
    """The interpreter of an environment with these packages, made where it is missing or its packages are others.

    Raises:
        subprocess.CalledProcessError: pip can't install them; it has said why on standard error.
    """
    cache = ROOT / ".cache"
    cache.mkdir(exist_ok=True)
    folder = cache / f"{name}-{sys.implementation.cache_tag}"
    python, made_with = folder / "bin" / "python", folder / "made-with.txt"
    wanted = "\n".join(requirements)
    with (cache / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs in one checkout make it once
        if not made_with.exists() or made_with.read_text() != wanted or not python.exists():
            print(f"setting up .cache/{folder.name} ...", file=sys.stderr, flush=True)  # noqa: T201
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
            install = ("-m", "pip", "install", "-qq", "--disable-pip-version-check", "--only-binary=:all:")
            subprocess.run([python, *install, *requirements], check=True)
            made_with.write_text(wanted)
    return python
