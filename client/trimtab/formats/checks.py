"""What every format checks of the arrays it found."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from trimtab import wire
from trimtab.errors import InvalidArgumentError
from trimtab.formats.errors import FileError, FormatError
from trimtab.formats.source import Source, quote
from trimtab.formats.stored import Array, Layers, StoredPlacement, all_layers

_EMPTY = -1
_MOST_LAYERS = 1 << 12
"""More is a number gone wrong; SGLang's files have a row for every layer up to the last."""


def as_array(source: Source, values: Any) -> Array:
    """Numbers of a type that a request carries: int32, int64, float32 or float64; smaller types are upcast.

    Raises:
        FileError: not numbers, or not rectangular.
    """
    try:
        return wire.to_array(values, source.name)
    except InvalidArgumentError as error:
        raise FileError(source.name, f"does not hold numbers ({error.violations[0].description})") from None


def as_placement(
    source: Source, values: Any, layers: Layers | None = None, num_gpus: int | None = None
) -> StoredPlacement:
    """A placement of slots [num_layers, num_replicas]; its layers are counted from 0 where nothing else is said.

    Raises:
        FileError: another shape, a slot that holds no expert's number and no -1, or more experts than slots.
    """
    slots = as_array(source, values)
    if slots.ndim != 2 or not slots.size:  # noqa: PLR2004  # layers and slots
        raise FileError(source.name, f"its placement has shape {list(slots.shape)}; it must have shape [layers, slots]")
    whole = slots.dtype.kind == "i"
    wrong = slots < _EMPTY if whole else slots != np.rint(slots)
    if wrong.any() or not whole:
        where = [int(i) for i in np.unravel_index(int(wrong.argmax()), slots.shape)]
        rule = "every slot must hold a whole number, that of its expert, or -1 where it is empty"
        raise FileError(source.name, f"{rule}, got {slots[tuple(where)]} at {where}")
    num_slots = slots.shape[1]
    if not 0 <= slots.max() < num_slots:
        rule = f"has {slots.max()} as the highest expert of layers with {num_slots} slots"
        raise FileError(source.name, f"{rule}; every expert needs a slot and they count from 0, is it a placement?")
    if num_gpus is not None and (num_gpus < 1 or num_slots % num_gpus):
        raise FileError(source.name, f"has {num_slots} slots a layer on {num_gpus} GPUs, which must hold equally many")
    return StoredPlacement(slots.astype(np.int64), all_layers(slots) if layers is None else layers, num_gpus)


def as_layers(source: Source, numbers: Sequence[int]) -> Layers:
    """The model's numbers of layers, ascending.

    Raises:
        FileError: none, one twice, or one that no model has.
    """
    layers = sorted(numbers)
    if not layers or not 0 <= layers[0] <= layers[-1] < _MOST_LAYERS:
        span = f"go from {layers[0]} to {layers[-1]}" if layers else "are missing"
        raise FileError(source.name, f"the numbers of its layers {span}; they must be from 0 to {_MOST_LAYERS - 1}")
    twice = [layer for layer, following in pairwise(layers) if layer == following]
    if twice:
        raise FileError(source.name, f"has layer {twice[0]} twice; give each layer once")
    return np.array(layers, np.int64)


def check_rectangular(source: Source, values: Any, key: str, whole_row: str) -> None:
    """Nested lists of numbers, level by level, since numpy's own words about ragged lists help nobody.

    Raises:
        FileError: rows of different lengths, or not numbers; says to give each layer a `whole_row`.
    """
    level = [values]
    while level and all(isinstance(part, list) for part in level):
        lengths = sorted({len(part) for part in level})
        if len(lengths) > 1:
            rule = f"the rows of {key} must be of one length, they have from {lengths[0]} to {lengths[-1]} values"
            raise FileError(source.name, f"{rule}; give each layer {whole_row}")
        level = [part for whole in level for part in whole]
    others = [part for part in level if not isinstance(part, (int, float)) or isinstance(part, bool)]
    if others:
        raise FileError(source.name, f"{key} must hold numbers and nothing else, holds {quote(others[0])}")


def check_filled(placement: StoredPlacement, engine: str) -> None:
    """For engines that know no empty slots.

    Raises:
        FormatError: the placement has one.
    """
    empty = placement.physical_to_logical == _EMPTY
    if empty.any():
        row, slot = (int(i) for i in np.unravel_index(int(empty.argmax()), empty.shape))
        rule = f"layer {placement.layers[row]} has no expert in slot {slot}, and {engine} takes no empty slots"
        raise FormatError(f"{rule}; place without inactive GPUs, on those that are left")
