"""Files of expert loads, read and written by the ending of their name; one small module a kind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trimtab import wire
from trimtab.errors import InvalidArgumentError, TrimtabError
from trimtab.formats import json_file, numpy_file, torch_file
from trimtab.formats.errors import LoadFileError

__all__ = ["READERS", "WRITERS", "LoadFileError", "read_loads", "write_loads"]

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
_LONGEST_REASON = 160


def read_loads(path: str | os.PathLike[str]) -> Loads:
    """The loads in a file: [num_layers, num_experts] or [num_windows, num_layers, num_experts], as stored.

    The dtype is one that a request can carry (int32, int64, float32 or float64; smaller types are upcast).

    Raises:
        LoadFileError: no such file, empty, a folder, of an unknown kind, not what its ending says, or not loads.
    """
    path = Path(path)
    reader = READERS[_known_ending(path, READERS, "read")]
    try:
        _check_there(path)
        return _checked(path, reader(path))
    except TrimtabError:
        raise
    except OSError as error:
        raise LoadFileError(path, f"can't be read ({error.strerror or error})") from error
    except Exception as error:  # what foreign parsers raise at a broken file is without end
        raise LoadFileError(path, _unreadable(path, error)) from error


def write_loads(path: str | os.PathLike[str], load: Loads) -> None:
    """Write loads as they are, under the key `logical_count` where the kind has keys.

    Raises:
        LoadFileError: a kind that is not written, or no room or right to write it there.
    """
    path = Path(path)
    writer = WRITERS[_known_ending(path, WRITERS, "written")]
    try:
        writer(path, load)
    except OSError as error:
        raise LoadFileError(path, f"can't be written ({error.strerror or error})") from error


def _known_ending(path: Path, known: dict[str, Any], done: str) -> str:
    ending = path.suffix.lower()
    if ending not in known:
        kinds = ", ".join(known)
        raise LoadFileError(path, f"its ending {ending!r} is none of those that can be {done}: {kinds}")
    return ending


def _check_there(path: Path) -> None:
    if path.is_dir():
        raise LoadFileError(path, "is a folder; name one file in it")
    if not path.exists():
        raise LoadFileError(path, "there is no such file; check the path")
    if path.is_file() and path.stat().st_size == 0:
        raise LoadFileError(path, "is empty; whatever should have written it did not")


def _unreadable(path: Path, error: Exception) -> str:
    reason = " ".join(str(error).split())[:_LONGEST_REASON] or type(error).__name__
    return f"can't be read as {path.suffix.lower()} ({reason}); save it again, as numbers, or give it its true ending"


def _checked(path: Path, values: Any) -> Loads:
    try:
        load = wire.to_array(values, "loads")
    except InvalidArgumentError as error:
        raise LoadFileError(path, f"does not hold numbers ({error.violations[0].description})") from None
    if load.ndim not in (2, 3) or not load.size:
        rule = "must have shape [layers, experts] or [windows, layers, experts], none of them 0"
        raise LoadFileError(path, f"its loads have shape {list(load.shape)}; they {rule}")
    wrong = ~np.isfinite(load) | (load < 0)
    if wrong.any():
        where = [int(i) for i in np.unravel_index(int(wrong.argmax()), load.shape)]
        raise LoadFileError(path, f"every load must be finite and at least 0, got {load[tuple(where)]} at {where}")
    return load
