"""Arrays and nothing else: numpy's `.npy` and `.npz`, never with pickled objects in them, and JSON lists."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from trimtab.formats.checks import as_array, as_placement, check_rectangular
from trimtab.formats.errors import FileError
from trimtab.formats.folding import Folding
from trimtab.formats.format import EITHER, LOADS, NOTHING, PLACEMENT, Held
from trimtab.formats.source import Source, told
from trimtab.formats.stored import Array, LoadWindows, StoredPlacement, all_layers

NAME = "plain"
READS = ".npy, .npz and JSON lists of loads [layers, experts], [windows, layers, experts] or slots [layers, slots]"
PLACEMENT_ENDINGS = (".npy", ".npz")

LOAD_KEYS = ("logical_count", "load", "weight")
PLACEMENT_KEYS = ("physical_to_logical_map", "physical_to_logical")
_MOST_NAMES = 8


def holds(source: Source) -> Held:
    """Arrays without a name can be either."""
    if source.kind == "npz":
        names = _names(source)
        named = [held for held, keys in ((LOADS, LOAD_KEYS), (PLACEMENT, PLACEMENT_KEYS)) if {*keys} & {*names}]
        return named[0] if len(named) == 1 else EITHER
    is_list = source.kind == "json" and source.head.lstrip().startswith(b"[")
    return EITHER if source.kind == "npy" or is_list else NOTHING


def read_loads(sources: Sequence[Source], at_most: int | None) -> LoadWindows:
    """As stored; without windows it is one."""
    folding = Folding(at_most)
    for source in sources:
        with told(source):
            folding.add(source, as_array(source, _read(source, LOAD_KEYS)))
    load = folding.windows()
    return LoadWindows(load, all_layers(load), folding.num_read)


def read_placement(source: Source) -> StoredPlacement:
    """As stored."""
    return as_placement(source, _read(source, PLACEMENT_KEYS))


def _read(source: Source, keys: Sequence[str]) -> Any:
    if source.kind == "npy":
        return _read_npy(source)
    if source.kind == "npz":
        return _read_npz(source, keys)
    check_rectangular(source, source.json, "the list", "as many values as the others")
    return source.json


def _read_npy(source: Source) -> Any:
    with np.errstate(over="ignore"):
        if source.is_standard:
            return np.load(source.open(), allow_pickle=False)
        # Mapped first: a header that claims more than the file has is then refused, rather than allocated.
        np.load(source.path, mmap_mode="r", allow_pickle=False)
        return np.load(source.path, allow_pickle=False)


def _names(source: Source) -> list[str]:
    with source.open() as file, np.load(file, allow_pickle=False) as archive:
        return list(archive.files)


def _read_npz(source: Source, keys: Sequence[str]) -> Any:
    """The array of an archive that has one of these names, the first of them before the others, or its only array."""
    names = _names(source)
    named = [key for key in keys if key in names] or (names if len(names) == 1 else [])
    if not named:
        found = ", ".join(names[:_MOST_NAMES]) or "no arrays"
        raise FileError(source.name, f"must hold one array, or one named {', '.join(keys)}; holds {found}")
    with source.open() as file, np.load(file, allow_pickle=False) as archive, np.errstate(over="ignore"):
        return archive[named[0]]


def placement_bytes(placement: StoredPlacement, ending: str) -> bytes:
    """The rows of a placement, its layers' numbers left out."""
    return array_bytes(placement.physical_to_logical, PLACEMENT_KEYS[0], ending)


def array_bytes(array: Array, key: str, ending: str) -> bytes:
    """An array as `.npy`, or under its name as `.npz`."""
    file = io.BytesIO()
    if ending == ".npy":
        np.save(file, array, allow_pickle=False)
    else:
        named: dict[str, Any] = {key: array}
        np.savez_compressed(file, **named)
    return file.getvalue()
