"""The code of the serving engines that the plug-ins are for, from their own wheels; kept in .cache between runs.

Only their Python files, pinned. The engines need GPUs and a hundred packages to run, and none to be imported: what is
absent is stood in for (`tests/engine_standins.py`).
"""

from __future__ import annotations

import fcntl
import fnmatch
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from tests.kept_venv import ROOT

VLLM = "vllm==0.33.0"
VLLM_OF_THREE_MAPS = "vllm==0.18.1"
"""The last line of releases whose policies answer with three maps."""
SGLANG = "sglang==0.5.23"
MSGSPEC = "msgspec==0.21.1"
"""What SGLang can't be imported without, and nothing can stand in for."""

PYTHON = (3, 11)
"""The oldest that these releases are for, and the one whose wheels are taken."""


def why_not_here() -> str:
    """Why this Python can't import them; empty where it can."""
    if sys.version_info[:2] >= PYTHON:
        return ""
    here, oldest = (".".join(map(str, version)) for version in (sys.version_info[:2], PYTHON))
    return f"THE PLUG-INS ARE NOT TESTED AGAINST THEIR ENGINES HERE: those need Python {oldest}, this is {here}"


def engine_code(requirement: str, files: str = "*.py") -> Path:
    """A folder that has the files of a package, to be put on `sys.path`; downloaded where it is missing.

    Args:
        requirement: name and version, as `vllm==0.33.0`.
        files: which of them, as a pattern of their paths; Python's alone are the same for every machine.

    Raises:
        subprocess.CalledProcessError: pip can't download it; it has said why on standard error.
    """
    cache = ROOT / ".cache"
    cache.mkdir(exist_ok=True)
    machine = "" if files.endswith(".py") else f"-{sys.implementation.cache_tag}"
    folder = cache / f"engine-{requirement.replace('==', '-')}{machine}"
    with Path(f"{folder}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs in one checkout download it once
        if not folder.exists():
            print(f"downloading {requirement} ...", file=sys.stderr, flush=True)  # noqa: T201
            with tempfile.TemporaryDirectory(dir=cache) as temporary:
                downloaded = Path(temporary)
                _download(requirement, _ANY_MACHINE if files.endswith(".py") else (), downloaded)
                (wheel,) = downloaded.glob("*.whl")
                _unpack(wheel, files, downloaded / "code")
                (downloaded / "code").rename(folder)
    return folder


_ANY_MACHINE = (
    f"--python-version={'.'.join(map(str, PYTHON))}",
    *(f"--platform=manylinux_2_{minor}_x86_64" for minor in (28, 31, 34)),
)


def _download(requirement: str, machine: Sequence[str], into: Path) -> None:
    alone = ("--no-deps", "--only-binary=:all:", *machine)
    quiet = ("-qq", "--disable-pip-version-check", "--no-cache-dir")  # a wheel has 300 MB, and is not needed again
    subprocess.run([sys.executable, "-m", "pip", "download", *quiet, *alone, "-d", into, requirement], check=True)


def _unpack(wheel: Path, files: str, into: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(into, fnmatch.filter(packed.namelist(), files))
