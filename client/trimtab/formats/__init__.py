"""Files of expert loads and of placements, as the engines write and read them; one module an engine.

What a file holds decides how it is read, unless the caller names the format. What a format needs beyond numpy is loaded
when a file of it is met.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import groupby

import numpy as np

from trimtab.formats import plain, sglang, tensorrt_llm
from trimtab.formats.choice import FORMATS, NAMES, format_of, format_to_write, what_is_in
from trimtab.formats.errors import FileError, FormatError
from trimtab.formats.folding import Folding
from trimtab.formats.source import STANDARD, Source, told
from trimtab.formats.stored import Array, LoadWindows, PathLike, StoredPlacement, all_layers, as_path
from trimtab.formats.whole_file import write_whole

__all__ = [
    "FORMATS",
    "LOAD_ENDINGS",
    "NAMES",
    "STANDARD",
    "FileError",
    "FormatError",
    "LoadWindows",
    "Source",
    "StoredPlacement",
    "format_to_write",
    "read_loads",
    "read_placement",
    "what_is_in",
    "write_loads",
    "write_placement",
]

LOAD_ENDINGS = (*sglang.PLACEMENT_ENDINGS, *plain.PLACEMENT_ENDINGS)
"""Of the loads that are written: under SGLang's name, or as arrays."""


def read_loads(
    paths: PathLike | Source | Sequence[PathLike | Source],
    *,
    format_name: str | None = None,
    at_most: int | None = None,
) -> LoadWindows:
    """All windows of load files, in the order given; a file without that dimension is one window.

    Args:
        paths: files, folders of them, `-` for standard input, or what was opened of these before.
        format_name: one of NAMES; by default what is in each decides.
        at_most: windows to keep; where there are more, neighbours are summed. By default all are kept.

    Raises:
        FileError: one is not there, of no known format, or not as its format has it; or they don't go together.
    """
    several: Sequence[PathLike | Source] = [paths] if isinstance(paths, (str, os.PathLike, Source)) else paths
    sources = [inner for path in several for inner in _opened(path)]
    parts = []
    for name, group in groupby(sources, lambda source: _told_format(source, format_name, alone=len(sources) == 1)):
        members = list(group)
        parts.append((members[0], FORMATS[name].read_loads(members, at_most)))
    return parts[0][1] if len(parts) == 1 else _together(parts, at_most)


def _opened(path: PathLike | Source) -> list[Source]:
    """The path itself, or what is in a folder that no format reads as a whole."""
    whole = path if isinstance(path, Source) else Source(as_path(path))
    with told(whole):
        if whole.kind != "folder" or tensorrt_llm.holds(whole):
            return [whole]
        files = sorted(file for file in whole.path.iterdir() if file.is_file() and not file.name.startswith("."))
    if not files:
        raise FileError(whole.name, "is a folder without files; name one with dumps in it")
    return [Source(file) for file in files]


def _told_format(source: Source, name: str | None, *, alone: bool) -> str:
    with told(source):
        found = format_of(source, name, "loads").NAME
    if not alone:
        source.forget()
    return found


def _together(parts: Sequence[tuple[Source, LoadWindows]], at_most: int | None) -> LoadWindows:
    """Windows of files of several formats, one after the other."""
    folding = Folding(at_most)
    layers = parts[0][1].layers
    for source, part in parts:
        folding.add(source, part.load)
        if not np.array_equal(part.layers, layers):
            rule = f"its layers are {_span(part.layers)}, those of {parts[0][0].name} are {_span(layers)}"
            raise FileError(source.name, f"{rule}; windows must be of one model's layers")
    placements = [part.placement for _, part in parts if part.placement is not None]
    num_read = sum(part.num_read for _, part in parts)
    return LoadWindows(folding.windows(), layers, num_read, placements[-1] if placements else None)


def _span(layers: Array) -> str:
    return f"{layers[0]} to {layers[-1]}"


def write_loads(path: PathLike, load: Array) -> None:
    """Write loads [..., num_layers, num_experts] as they are, whole or not at all.

    Raises:
        FileError: an ending that is not written, or no room or right to write it there.
    """
    path = as_path(path)
    ending = ".json" if path == STANDARD else path.suffix.lower()
    if ending not in LOAD_ENDINGS:
        kinds = ", ".join(LOAD_ENDINGS)
        raise FileError(path, f"its ending {ending!r} is none of those that can be written: {kinds}")
    is_sglang = ending in sglang.PLACEMENT_ENDINGS
    content = sglang.loads_bytes(load, ending) if is_sglang else plain.array_bytes(load, plain.LOAD_KEYS[0], ending)
    write_whole(path, content)


def read_placement(path: PathLike | Source, *, format_name: str | None = None) -> StoredPlacement:
    """The placement in a file, or in standard input.

    Args:
        path: the file, or what was opened of it before; `-` is standard input.
        format_name: one of NAMES; by default what is in it decides.

    Raises:
        FileError: it is not there, of no known format, or not as its format has it.
    """
    source = path if isinstance(path, Source) else Source(as_path(path))
    if source.kind == "folder":
        raise FileError(source.name, "is a folder; name one file in it")
    with told(source):
        return format_of(source, format_name, "placement").read_placement(source)


def write_placement(path: PathLike, placement: StoredPlacement | Array, *, format_name: str | None = None) -> None:
    """Write a placement, whole or not at all: who reads the file meets the old or the new.

    Args:
        path: where to; `-` is standard output.
        placement: with its layers' numbers and its GPUs, or the slots alone, [num_layers, num_replicas].
        format_name: one of NAMES; by default the ending decides.

    Raises:
        FormatError: the placement lacks what the format tells.
        FileError: an ending that the format has not, or no room or right to write it there.
    """
    if not isinstance(placement, StoredPlacement):
        placement = StoredPlacement(placement, all_layers(placement))
    module, ending = format_to_write(path, format_name)
    write_whole(as_path(path), module.placement_bytes(placement, ending))
