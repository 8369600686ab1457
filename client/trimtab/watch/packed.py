"""Arrays, windows and placements as values of a line of JSON."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np

from trimtab.formats import LoadWindows, StoredPlacement
from trimtab.formats.stored import Array

Packed = dict[str, Any]
_FAST = 1
"""Loads are noise in their low bytes: trying harder gains a tenth and takes ten times as long."""


def pack_array(array: Array) -> Packed:
    """An array of numbers, compressed."""
    content = zlib.compress(np.ascontiguousarray(array).tobytes(), _FAST)
    return {"type": array.dtype.str, "shape": list(array.shape), "zlib": base64.b64encode(content).decode()}


def unpack_array(packed: Packed) -> Array:
    """The same array again.

    Raises:
        ValueError, KeyError, TypeError, zlib.error: it was not packed here.
    """
    content = zlib.decompress(base64.b64decode(packed["zlib"], validate=True))
    array: Array = np.frombuffer(content, np.dtype(packed["type"])).reshape(packed["shape"])
    return array


def pack_windows(windows: LoadWindows) -> Packed:
    """Loads and the numbers of their layers; not the placement that they were counted under."""
    return {"load": pack_array(windows.load), "layers": windows.layers.tolist(), "num_read": windows.num_read}


def unpack_windows(packed: Packed) -> LoadWindows:
    """The same again; raises as `unpack_array` does."""
    layers = np.array(packed["layers"], np.int64)
    return LoadWindows(unpack_array(packed["load"]), layers, int(packed["num_read"]))


def pack_placement(placement: StoredPlacement | None) -> Packed | None:
    """Slots, the numbers of their layers, and GPUs; None stays None."""
    if placement is None:
        return None
    slots = pack_array(placement.physical_to_logical.astype(np.int32))
    return {"slots": slots, "layers": placement.layers.tolist(), "num_gpus": placement.num_gpus}


def unpack_placement(packed: Packed | None) -> StoredPlacement | None:
    """The same again; raises as `unpack_array` does."""
    if packed is None:
        return None
    slots = unpack_array(packed["slots"]).astype(np.int64)
    return StoredPlacement(slots, np.array(packed["layers"], np.int64), packed["num_gpus"])
