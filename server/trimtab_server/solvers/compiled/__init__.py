"""The restart packer and the search of placements, compiled for the CPU by numba: `rows.solve_rows`, `walks.walk_rows`.

Compiled code is kept on disk, so that a server starts without compiling. Numba trusts what it kept as long as the file
of the function itself is unchanged, and does not look at the files it calls into: so the folder is named after the
contents of all of them, and after where they lie, since numba keeps nothing for the same file elsewhere. Nor does it
look whether what it kept is still whole, and damaged machine code ends the process: so the folder has the digests of
its files, and what does not match them is compiled again. Its place is numba's own setting (NUMBA_CACHE_DIR), else the
user's cache folder.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba
import numba.core.config

NUMBA: Any = numba.core.config  # its settings are made at run time, so no checker knows them
_HERE = Path(__file__).parent
_SOURCES = [*sorted(_HERE.glob("*.py")), _HERE.parent / "rules.py", _HERE.parent / "numbers.py"]
_KEPT = "*/*.nb[ic]"
_SUMS = "SHA256SUMS"
_ROOM = 4 << 20
"""Bytes that have to fit on the disk: some times what all compiled code takes."""


def _digest() -> str:
    digest = hashlib.sha256(f"{numba.__version__} {_HERE}".encode())
    for source in _SOURCES:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _usable_folder() -> Path | None:
    try:
        base = Path(NUMBA.CACHE_DIR) if NUMBA.CACHE_DIR else Path.home() / ".cache" / "trimtab"
        place = base / f"kernels-{_digest()}"
        folder = place if _is_writable(place) else _copy(place)
        if folder is not None:
            _drop_damaged(folder)
    except (OSError, RuntimeError):  # of what is kept, nothing can be read; or no home
        return None
    return folder


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_ROOM))
    except OSError:  # a read-only file system, somebody else's folder, a full disk
        return False
    return True


def _copy(folder: Path) -> Path | None:
    """A folder of this process's own with what another holds, if anything: numba reads only where it can write."""
    kept = [*folder.glob(_KEPT), *folder.glob(_SUMS)]
    if not kept:
        return None
    copy = Path(tempfile.mkdtemp(prefix="trimtab-kernels-"))
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    for file in kept:
        place = copy / file.relative_to(folder)
        place.parent.mkdir(exist_ok=True)
        shutil.copyfile(file, place)
    return copy if _is_writable(copy) else None


def _sums(folder: Path) -> list[str]:
    """A line a file of compiled code, as `sha256sum` writes and checks them."""
    files = sorted(folder.glob(_KEPT))
    return [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(folder)}" for file in files]


def _drop_damaged(folder: Path) -> None:
    sums = folder / _SUMS
    known = sums.read_text(errors="replace").splitlines() if sums.exists() else []
    for line in set(_sums(folder)).difference(known):
        (folder / line.partition("  ")[2]).unlink(missing_ok=True)


CACHE_FOLDER = _usable_folder()
"""Where compiled code is kept; None where nothing is and nothing can be written, so that each start compiles."""


def load_compiled(use: Callable[[], object]) -> None:
    """Load what `use` calls, or compile it and keep it."""
    before = _changed()
    try:
        use()
    except Exception:  # noqa: BLE001  # whatever a corrupt file of compiled code does to its reader
        forget_compiled()
        use()
    if _changed() != before:
        keep_compiled()


def _changed() -> dict[Path, int]:
    """When numba last put a file into each of its folders, in nanoseconds."""
    folders = {file.parent for file in CACHE_FOLDER.glob(_KEPT)} if CACHE_FOLDER is not None else ()
    return {folder: folder.stat().st_mtime_ns for folder in folders}


def keep_compiled() -> None:
    """Write down the digests of what is kept: the next start takes what still has them."""
    if CACHE_FOLDER is not None:
        with suppress(OSError):  # then the next start compiles
            new = CACHE_FOLDER / f"{_SUMS}.{os.getpid()}"
            new.write_text("\n".join(_sums(CACHE_FOLDER)))
            new.replace(CACHE_FOLDER / _SUMS)


def forget_compiled() -> None:
    """Throw away what was kept: it is made again when it is next needed."""
    if CACHE_FOLDER is not None:
        for file in CACHE_FOLDER.glob(_KEPT):
            file.unlink(missing_ok=True)
