"""vllm-ascend: the expert map that it records (`expert_map_record_path`) and starts from (`expert_map_path`).

For each MoE layer, and each device, the experts that it holds; dense layers are not counted, and layers and devices go
by their position. Loads are not written to files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from trimtab.formats.checks import as_placement, check_filled, check_rectangular
from trimtab.formats.errors import FileError, FormatError
from trimtab.formats.format import NOTHING, PLACEMENT, Held
from trimtab.formats.source import Source, quote
from trimtab.formats.stored import LoadWindows, StoredPlacement

NAME = "vllm-ascend"
READS = "expert maps, expert_map.json; it writes no loads to files"
PLACEMENT_ENDINGS = (".json",)
USUAL_NAME = "expert_map.json"

_LAYERS, _NUM_LAYERS, _LAYER = "layer_list", "moe_layer_count", "layer_id"
_DEVICES, _NUM_DEVICES, _DEVICE, _EXPERTS = "device_list", "device_count", "device_id", "device_expert"


def holds(source: Source) -> Held:
    """Told by the keys."""
    return PLACEMENT if {_LAYERS, _NUM_LAYERS} <= {*source.keys} else NOTHING


def read_loads(sources: Sequence[Source], at_most: int | None) -> LoadWindows:  # noqa: ARG001  # as every format has it
    """Raises: vllm-ascend has no files of loads."""
    raise FileError(sources[0].name, f"{NAME} writes no loads to files; give a recording of another engine, or arrays")


def read_placement(source: Source) -> StoredPlacement:
    """Slots device by device."""
    if not {_LAYERS, _NUM_LAYERS} <= {*source.keys}:
        raise FileError(source.name, f"must hold an object with {_NUM_LAYERS} and {_LAYERS}; is it an expert map?")
    layers = _list(source, source.json, _LAYERS, "it")
    if len(layers) != source.json[_NUM_LAYERS]:
        rule = f"{_NUM_LAYERS} is {quote(source.json[_NUM_LAYERS])}, but {_LAYERS} has {len(layers)} layers"
        raise FileError(source.name, f"{rule}; was it put together by hand?")
    rows = []
    for number, layer in enumerate(layers):
        devices = _list(source, layer, _DEVICES, f"layer {number}")
        rows.append([_list(source, device, _EXPERTS, f"a device of layer {number}") for device in devices])
    check_rectangular(source, rows, _DEVICES, "the same devices, and each device as many experts as the others")
    if not rows or not rows[0] or not rows[0][0]:
        raise FileError(source.name, f"must have layers, devices and experts, has {quote(source.json)}")
    return as_placement(source, np.array(rows).reshape(len(rows), -1), num_gpus=len(rows[0]))


def _list(source: Source, content: Any, key: str, where: str) -> list[Any]:
    if not isinstance(content, dict) or not isinstance(content.get(key), list):
        raise FileError(source.name, f"{where} must have a list {key}, is {quote(content)}")
    found: list[Any] = content[key]
    return found


def placement_bytes(placement: StoredPlacement, ending: str) -> bytes:  # noqa: ARG001  # there is one ending
    """An expert map; layers are numbered from 0, whatever their numbers in the model.

    Raises:
        FormatError: the number of GPUs is not known, a slot is empty, or a device has an expert twice.
    """
    if placement.num_gpus is None:
        raise FormatError("an expert map is written device by device; say with --gpus how many there are")
    check_filled(placement, NAME)
    slots = placement.physical_to_logical
    devices = slots.reshape(len(slots), placement.num_gpus, -1)
    _check_once(placement, np.sort(devices, axis=2))
    layers = [
        {
            _LAYER: number,
            _NUM_DEVICES: placement.num_gpus,
            _DEVICES: [{_DEVICE: device, _EXPERTS: experts} for device, experts in enumerate(layer)],
        }
        for number, layer in enumerate(devices.tolist())
    ]
    return json.dumps({_NUM_LAYERS: len(layers), _LAYERS: layers}).encode()


def _check_once(placement: StoredPlacement, experts: Any) -> None:
    """It finds an expert's place on a device by its number.

    Args:
        placement: what is written.
        experts: [num_layers, num_gpus, slots_per_gpu], ascending.
    """
    twice = experts[..., 1:] == experts[..., :-1]
    if twice.any():
        row, device, place = (int(i) for i in np.unravel_index(int(twice.argmax()), twice.shape))
        rule = f"layer {placement.layers[row]} has expert {experts[row, device, place]} twice on GPU {device}"
        raise FormatError(f"{rule}, which {NAME} can't tell apart; place without duplicates")
