"""numpy's `.npy` and `.npz`, never with pickled objects in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trimtab.formats.errors import FileError

KEYS = ("logical_count", "load", "weight")
_ARRAY, _ARCHIVE = b"\x93NUMPY", b"PK"
_MOST_NAMES = 8


def read_npy(path: Path) -> Any:
    """The array of a `.npy` file.

    Raises:
        FileError: an archive instead, or neither.
    """
    _check_start(path, _ARRAY, f"one array, as numpy.save writes it{_other(path, _ARCHIVE, '.npz')}")
    # Mapped first: a header that claims more than the file has is then refused, rather than allocated.
    with np.errstate(over="ignore"):
        return np.array(np.load(path, mmap_mode="r", allow_pickle=False))


def read_npz(path: Path, keys: Sequence[str] = KEYS) -> Any:
    """The array of an archive that has one of these names, the first of them before the others, or its only array.

    Raises:
        FileError: one array instead of an archive, or neither, or none of those names in it.
    """
    _check_start(path, _ARCHIVE, f"an archive of arrays, as numpy.savez writes it{_other(path, _ARRAY, '.npy')}")
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive, np.errstate(over="ignore"):
        names = archive.files
        named = [key for key in keys if key in names] or (names if len(names) == 1 else [])
        if not named:
            found = ", ".join(names[:_MOST_NAMES]) or "no arrays"
            raise FileError(path, f"must hold one array, or one named {', '.join(keys)}; holds {found}")
        return archive[named[0]]


def _starts_with(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


def _check_start(path: Path, magic: bytes, expected: str) -> None:
    """Our own check, since numpy takes what it does not know for a pickle, and advises to load it unsafely."""
    if not _starts_with(path, magic):
        raise FileError(path, f"is not {expected}")


def _other(path: Path, magic: bytes, ending: str) -> str:
    return f"; it looks like {ending}, give it that ending" if _starts_with(path, magic) else "; save it again"


def write_npy(path: Path, load: Any) -> None:
    """Write an array of loads."""
    with path.open("wb") as file:  # numpy adds an ending to names that lack one, not to open files
        np.save(file, load, allow_pickle=False)


def write_npz(path: Path, load: Any) -> None:
    """Write an array of loads."""
    with path.open("wb") as file:
        np.savez_compressed(file, logical_count=load)
