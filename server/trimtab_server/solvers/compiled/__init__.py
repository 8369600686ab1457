"""The restart packer, compiled for the CPU by numba; `rows.solve_rows` is the whole of it.

Compiled code is kept on disk, so that a server starts without compiling. Numba trusts what it kept as long as the file
of the function itself is unchanged, and does not look at the files it calls into: so the folder is named after the
contents of all of them. Its place is numba's own setting (NUMBA_CACHE_DIR), else the user's cache folder.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numba
import numba.core.config

NUMBA: Any = numba.core.config  # its settings are made at run time, so no checker knows them
_HERE = Path(__file__).parent
_SOURCES = [*sorted(_HERE.glob("*.py")), _HERE.parent / "rules.py", _HERE.parent / "numbers.py"]


def _digest() -> str:
    digest = hashlib.sha256(numba.__version__.encode())
    for source in _SOURCES:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _usable_folder() -> Path | None:
    try:
        base = Path(NUMBA.CACHE_DIR) if NUMBA.CACHE_DIR else Path.home() / ".cache" / "trimtab"
        folder = base / f"kernels-{_digest()}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").touch()
    except (OSError, RuntimeError):  # a read-only file system, or no home
        return None
    return folder


CACHE_FOLDER = _usable_folder()
"""Where compiled code is kept; None where nothing can be written, and each start compiles."""


def forget_compiled() -> None:
    """Throw away what was kept: it is made again when it is next needed."""
    if CACHE_FOLDER is not None:
        for folder in CACHE_FOLDER.glob("*/"):
            shutil.rmtree(folder, ignore_errors=True)
