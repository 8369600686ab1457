"""Files of expert loads and of placements, read and written by the ending of their name; one small module a kind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trimtab.formats import by_ending, json_file, numpy_file, torch_file
from trimtab.formats.errors import FileError
from trimtab.formats.placement_file import read_placement, write_placement

__all__ = ["READERS", "WRITERS", "FileError", "read_loads", "read_placement", "write_loads", "write_placement"]

Loads = npt.NDArray[Any]

READERS: dict[str, Callable[[Path], Any]] = {
    ".json": json_file.read,
    ".npy": numpy_file.read_npy,
    ".npz": numpy_file.read_npz,
    ".pt": torch_file.read,
}
WRITERS: dict[str, Callable[[Path, Loads], None]] = {
    ".json": json_file.write,
    ".npy": numpy_file.write_npy,
    ".npz": numpy_file.write_npz,
}


def read_loads(path: str | os.PathLike[str]) -> Loads:
    """The loads in a file: [num_layers, num_experts] or [num_windows, num_layers, num_experts], as stored.

    The dtype is one that a request can carry (int32, int64, float32 or float64; smaller types are upcast).

    Raises:
        FileError: no such file, empty, a folder, of an unknown kind, not what its ending says, or not loads.
    """
    return by_ending.read(Path(path), READERS, _check_loads)


def write_loads(path: str | os.PathLike[str], load: Loads) -> None:
    """Write loads as they are, under the key `logical_count` where the kind has keys.

    Raises:
        FileError: a kind that is not written, or no room or right to write it there.
    """
    path = Path(path)
    writer = WRITERS[by_ending.known_ending(path, WRITERS, "written")]
    try:
        writer(path, load)
    except OSError as error:
        raise FileError(path, f"can't be written ({error.strerror or error})") from error


def _check_loads(path: Path, load: Loads) -> Loads:
    if load.ndim not in (2, 3) or not load.size:
        rule = "must have shape [layers, experts] or [windows, layers, experts], none of them 0"
        raise FileError(path, f"its loads have shape {list(load.shape)}; they {rule}")
    wrong = ~np.isfinite(load) | (load < 0)
    if wrong.any():
        where = [int(i) for i in np.unravel_index(int(wrong.argmax()), load.shape)]
        raise FileError(path, f"every load must be finite and at least 0, got {load[tuple(where)]} at {where}")
    return load
