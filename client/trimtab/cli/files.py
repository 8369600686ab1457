"""The files that commands are given: what they hold together, and whether an answer can be written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from trimtab.cli.failures import InputFailure
from trimtab.formats import (
    STANDARD,
    FileError,
    LoadWindows,
    Source,
    StoredPlacement,
    format_to_write,
    read_loads,
    read_placement,
)
from trimtab.formats.stored import Layers
from trimtab.synthetic import generate_loads

Windows = npt.NDArray[Any]
"""[num_windows, num_layers, num_experts], the latest last."""

_MOST_LOADS = 1 << 27
"""1 GiB of counts: more is a slip of the hand."""


@dataclass(frozen=True)
class Reading:
    """How load files are to be read, where what is in them does not tell; the options of `reading_options`."""

    format_name: str | None = None
    first_layer: int | None = None
    layers: tuple[int, int] | None = None
    """First and last."""
    max_windows: int | None = None

    def loads(self, files: Sequence[Path | Source]) -> LoadWindows:
        """All windows of load files, in the order given.

        Raises:
            FileError: one is not a file of loads, or they don't go together.
            InputFailure: they have none of the layers.
        """
        read = read_loads(files, format_name=self.format_name, at_most=self.max_windows)
        if self.first_layer is not None:
            read = read.numbered_from(self.first_layer)
        return read if self.layers is None else read.only(self._chosen(read.layers))

    def placement(self, file: Path | Source, num_gpus: int | None) -> StoredPlacement:
        """The placement in a file, on so many GPUs where the file does not tell.

        Raises:
            FileError: it is not a file with a placement.
            InputFailure: it has none of the layers, or it is on another number of GPUs.
        """
        read = read_placement(file, format_name=self.format_name)
        if self.first_layer is not None:
            read = read.numbered_from(self.first_layer)
        if self.layers is not None:
            read = read.only(self._chosen(read.layers))
        return on_gpus(read, num_gpus)

    def _chosen(self, there: Layers) -> Layers:
        assert self.layers is not None  # noqa: S101  # asked only where layers are chosen
        first, last = self.layers
        chosen = there[(first <= there) & (there <= last)]
        if len(chosen) < last - first + 1:
            rule = f"--layers {first}-{last}: the files have layers {span(there)}"
            raise InputFailure(f"{rule}; choose among those, or say with --first-layer how they are numbered")
        return chosen

    def previous(self, placement: StoredPlacement, loads: LoadWindows) -> tuple[StoredPlacement, LoadWindows]:
        """The placement in force and the loads, row by row of the same layers.

        A placement that has as many rows as the loads and counts them from 0 is taken to be of the loads' layers.
        Layers that only the placement has get loads of 0, so that they stay as they are.

        Raises:
            InputFailure: the placement lacks layers that the loads have.
        """
        if len(placement.layers) == len(loads.layers) and placement.layers[0] == 0:
            placement = replace(placement, layers=loads.layers)
        missing = np.setdiff1d(loads.layers, placement.layers)
        if missing.size:
            rule = f"--previous has layers {span(placement.layers)}, the loads have {span(loads.layers)}"
            raise InputFailure(f"{rule}; say with --first-layer how the loads are numbered, or choose with --layers")
        if self.layers is not None:
            return placement.only(loads.layers), loads
        return placement, _with_layers(loads, placement.layers)


def _with_layers(loads: LoadWindows, layers: Layers) -> LoadWindows:
    if np.array_equal(loads.layers, layers):
        return loads
    num_windows, _, num_experts = loads.load.shape
    load = np.zeros((num_windows, len(layers), num_experts), loads.load.dtype)
    load[:, np.searchsorted(layers, loads.layers)] = loads.load
    return replace(loads, load=load, layers=layers)


class Cluster(NamedTuple):
    """What experts are placed on."""

    num_gpus: int
    num_replicas: int


def cluster_of(num_gpus: int | None, num_replicas: int | None, placement: StoredPlacement | None) -> Cluster:
    """The cluster as typed, and for what was not, as the placement in force tells.

    Raises:
        InputFailure: neither tells.
    """
    if placement is not None:
        num_gpus = num_gpus or placement.num_gpus
        num_replicas = num_replicas or placement.physical_to_logical.shape[1]
    if num_gpus is None:
        raise InputFailure("--gpus: say how many there are, the files do not tell")
    if num_replicas is None:
        raise InputFailure("--replicas: say how many slots a layer has, or name a placement in force with --previous")
    return Cluster(num_gpus, num_replicas)


def on_gpus(placement: StoredPlacement, num_gpus: int | None) -> StoredPlacement:
    """A placement that is known to be on so many GPUs, where anybody said so.

    Raises:
        InputFailure: its file says another number, or they do not divide its slots.
    """
    if num_gpus is None:
        return placement
    if placement.num_gpus not in (None, num_gpus):
        raise InputFailure(f"--gpus {num_gpus}: the placement is on {placement.num_gpus} GPUs, as its file says")
    num_slots = placement.physical_to_logical.shape[1]
    if num_slots % num_gpus:
        raise InputFailure(f"--gpus {num_gpus}: must divide the {num_slots} slots of the placement")
    return replace(placement, num_gpus=num_gpus)


def span(layers: Layers) -> str:
    """Layers by number, as `3 to 60`."""
    return f"{layers[0]} to {layers[-1]}"


def make_loads(layers: int, experts: int, windows: int | None, drift: float, seed: int) -> Windows:
    """Generated loads, [layers, experts] where `windows` is None.

    Raises:
        InvalidArgumentError: what the generator does not take.
        InputFailure: more than anybody means.
    """
    size = layers * experts * (windows or 1)
    if size > _MOST_LOADS:
        raise InputFailure(f"{size} loads are too many; make at most {_MOST_LOADS} at once")
    return generate_loads(layers, experts, windows, drift, seed)


def told_files(files: Sequence[Path], loads: LoadWindows | None = None) -> str:
    """The first name, how many there are more, and how their windows were summed."""
    name = "standard input" if files[0] == STANDARD else str(files[0])
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    summed = ""
    if loads is not None and loads.num_read > len(loads.load) > 1:
        summed = f" ({loads.num_read:,} windows read, summed to {len(loads.load)})"
    return f"{name}{more}{summed}"


def check_output(option: str, output: Path, ending: str, inputs: Sequence[Path] = ()) -> None:
    """Find out that an answer can't be written before it is asked for.

    Raises:
        InputFailure: another ending, no such folder, a folder, or a file that is an input.
    """
    if output.suffix.lower() != ending:
        raise InputFailure(f"{option} {output}: must end in {ending}")
    check_place(option, output, inputs)


def check_placement_output(output: Path, format_name: str | None, inputs: Sequence[Path] = ()) -> None:
    """The same for a placement, which standard output takes too.

    Raises:
        InputFailure: no format has that ending, no such folder, a folder, or a file that is an input.
    """
    try:
        format_to_write(output, format_name)
    except FileError as error:
        raise InputFailure(f"-o {error}") from None
    if output != STANDARD:
        check_place("-o", output, inputs)


def check_place(option: str, output: Path, inputs: Sequence[Path]) -> None:
    """The same whatever the ending.

    Raises:
        InputFailure: no such folder, a folder, or a file that is an input.
    """
    problem = None
    if not output.parent.is_dir():
        problem = f"there is no folder {output.parent}"
    elif output.is_dir():
        problem = "is a folder"
    elif output.exists() and any(file.exists() and output.samefile(file) for file in inputs):
        problem = "is a file with loads; name another"
    if problem:
        raise InputFailure(f"{option} {output}: {problem}")
