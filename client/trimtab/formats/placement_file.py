"""Placements: `{"physical_to_logical_map": [layers][slots]}`, as SGLang's `--init-expert-location` takes it.

Dense layers have rows too. Of numpy's kinds the map alone is read, as the only array or under the same name.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trimtab.formats import by_ending, json_file, numpy_file
from trimtab.formats.errors import FileError

KEY = "physical_to_logical_map"
READERS: dict[str, Callable[[Path], Any]] = {
    ".json": partial(json_file.read, key=KEY, whole_row="every slot, -1 where it is empty"),
    ".npy": numpy_file.read_npy,
    ".npz": partial(numpy_file.read_npz, keys=(KEY,)),
}
WRITERS = (".json",)
_EMPTY = -1


def read_placement(path: str | os.PathLike[str]) -> npt.NDArray[np.int64]:
    """The placement in a file: [num_layers, num_replicas], the expert of each slot, -1 where it is empty.

    Raises:
        FileError: no such file, empty, a folder, of an unknown kind, not what its ending says, or no placement.
    """
    return by_ending.read(Path(path), READERS, _check_placement).astype(np.int64)


def _check_placement(path: Path, slots: by_ending.Array) -> by_ending.Array:
    if slots.ndim != 2 or not slots.size:  # noqa: PLR2004  # layers and slots
        raise FileError(path, f"its placement has shape {list(slots.shape)}; it must have shape [layers, slots]")
    whole = slots.dtype.kind == "i"
    wrong = slots < _EMPTY if whole else slots != np.rint(slots)
    if wrong.any() or not whole:
        where = [int(i) for i in np.unravel_index(int(wrong.argmax()), slots.shape)]
        rule = "every slot must hold a whole number, that of its expert, or -1 where it is empty"
        raise FileError(path, f"{rule}, got {slots[tuple(where)]} at {where}")
    return slots


def write_placement(path: str | os.PathLike[str], physical_to_logical: npt.NDArray[np.int64]) -> None:
    """Write a placement [num_layers, num_replicas], whole or not at all: who reads the file meets the old or the new.

    Raises:
        FileError: a kind that is not written, or no room or right to write it there.
    """
    path = Path(path)
    by_ending.known_ending(path, WRITERS, "written")
    beside = path.resolve().with_name(f".{path.name}.{os.getpid()}")  # on the same disk, so that a rename is one step
    try:
        json_file.write(beside, physical_to_logical, KEY)
        beside.replace(path.resolve())
    except OSError as error:
        raise FileError(path, f"can't be written ({error.strerror or error})") from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
