"""The files that commands are given: what they hold together, and whether an answer can be written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trimtab.cli.failures import InputFailure
from trimtab.formats import read_loads
from trimtab.synthetic import generate_loads

Windows = npt.NDArray[Any]
"""[num_windows, num_layers, num_experts], the latest last."""

_MOST_LOADS = 1 << 27
"""1 GiB of counts: more is a slip of the hand."""


def read_windows(files: Sequence[Path]) -> Windows:
    """All windows of load files, file by file, in the order given; a file without that dimension is one window.

    Raises:
        FileError: one is not a file of loads.
        InputFailure: they are not of one shape.
    """
    parts = [_with_windows(read_loads(file)) for file in files]
    shapes = [list(part.shape[1:]) for part in parts]
    for file, shape in zip(files, shapes, strict=True):
        if shape != shapes[0]:
            rule = f"{file} has {shape} layers and experts, {files[0]} has {shapes[0]}"
            raise InputFailure(f"{rule}; windows must be of one shape, give those of one model")
    return np.concatenate(parts)


def _with_windows(load: Windows) -> Windows:
    return load if load.ndim == 3 else load[None]  # noqa: PLR2004  # windows, layers, experts


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


def told_files(files: Sequence[Path]) -> str:
    """The first name, and how many there are more."""
    return f"{files[0]}" + (f" and {len(files) - 1} more" if len(files) > 1 else "")


def check_output(option: str, output: Path, ending: str, inputs: Sequence[Path] = ()) -> None:
    """Find out that an answer can't be written before it is asked for.

    Raises:
        InputFailure: another ending, no such folder, a folder, or a file that is an input.
    """
    problem = None
    if output.suffix.lower() != ending:
        problem = f"must end in {ending}"
    elif not output.parent.is_dir():
        problem = f"there is no folder {output.parent}"
    elif output.is_dir():
        problem = "is a folder"
    elif output.exists() and any(file.exists() and output.samefile(file) for file in inputs):
        problem = "is a file with loads; name another"
    if problem:
        raise InputFailure(f"{option} {output}: {problem}")
