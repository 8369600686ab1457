"""Arrays to `Tensor` messages and back, with every check of bytes against shape.

A tensor on the wire is raw, row-major, little-endian. Decoding never copies and never allocates: the array is a
read-only view of the message's bytes, made only after shape and length agree.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from trimtab.errors import InvalidArgumentError
from trimtab.v1 import placement_pb2 as pb

Array = npt.NDArray[Any]

DTYPES: dict[int, np.dtype[Any]] = {
    pb.DATA_TYPE_INT16: np.dtype("<i2"),
    pb.DATA_TYPE_INT32: np.dtype("<i4"),
    pb.DATA_TYPE_INT64: np.dtype("<i8"),
    pb.DATA_TYPE_FLOAT32: np.dtype("<f4"),
    pb.DATA_TYPE_FLOAT64: np.dtype("<f8"),
}
_DATA_TYPES = {dtype: data_type for data_type, dtype in DTYPES.items()}

REQUEST_TYPES = (pb.DATA_TYPE_INT32, pb.DATA_TYPE_INT64, pb.DATA_TYPE_FLOAT32, pb.DATA_TYPE_FLOAT64)
ANSWER_TYPES = (pb.DATA_TYPE_INT16, pb.DATA_TYPE_INT32)

INT16_MAX = 32767


def encode(array: Array) -> pb.Tensor:
    """The tensor of an array whose dtype is one of DTYPES.

    Raises:
        KeyError: the dtype has no place on the wire; `to_array` upcasts before.
    """
    dtype = array.dtype.newbyteorder("<")
    return pb.Tensor(data_type=_DATA_TYPES[dtype], shape=array.shape, data=array.astype(dtype, copy=False).tobytes())  # type: ignore[arg-type]  # an enum is an int


def answer_dtype(*dimensions: int) -> np.dtype[Any]:
    """The dtype of ids in an answer: INT16 where every dimension fits, else INT32; never decided by values."""
    return DTYPES[pb.DATA_TYPE_INT16 if max(dimensions) <= INT16_MAX else pb.DATA_TYPE_INT32]


def decode(tensor: pb.Tensor, field: str, *, ndim: Collection[int], data_types: Collection[int]) -> Array:
    """The array of a tensor, a read-only view of its bytes.

    Args:
        tensor: as it came from the wire.
        field: its name in the message, for errors.
        ndim: the ranks it may have.
        data_types: the DataType values it may have.

    Raises:
        InvalidArgumentError: type, rank, sizes and bytes do not agree; names the field and the numbers.
    """
    if tensor.data_type not in data_types:
        raise InvalidArgumentError.of(f"{field}.data_type", _type_rule(tensor.data_type, data_types))
    if len(tensor.shape) not in ndim:
        allowed = " or ".join(map(str, sorted(ndim)))
        raise InvalidArgumentError.of(f"{field}.shape", f"must have rank {allowed}, got rank {len(tensor.shape)}")
    shape = tuple(tensor.shape)
    if min(shape) < 1:
        raise InvalidArgumentError.of(f"{field}.shape", f"every size must be at least 1, got {list(shape)}")
    dtype = DTYPES[tensor.data_type]
    data = tensor.data  # once: each access makes a new bytes object
    needed = math.prod(shape) * dtype.itemsize
    if len(data) != needed:
        kind = pb.DataType.Name(tensor.data_type).removeprefix("DATA_TYPE_")
        rule = f"shape {list(shape)} of {kind} needs {needed} bytes, got {len(data)}"
        raise InvalidArgumentError.of(f"{field}.data", rule)
    return np.frombuffer(data, dtype).reshape(shape)


def _type_rule(got: int, allowed: Collection[int]) -> str:
    names = ", ".join(pb.DataType.Name(t).removeprefix("DATA_TYPE_") for t in allowed)
    known = pb.DataType.DESCRIPTOR.values_by_number.get(got)
    return f"must be one of {names}, got {known.name.removeprefix('DATA_TYPE_') if known else got}"


def to_array(values: Any, field: str) -> Array:
    """What a caller has (numpy, torch, nested lists) as an array that a request can carry.

    Small types are upcast without loss: half precision to float32, small integers and bool to int32, uint32 to int64.

    Raises:
        InvalidArgumentError: not numbers, ragged lists, or unsigned numbers above what an int64 holds.
    """
    array = _as_numpy(values, field)
    if array.dtype.newbyteorder("<") in _DATA_TYPES and array.dtype.newbyteorder("<") != np.int16:
        return array
    for kinds, size, target in (("f", 2, np.float32), ("iub", 2, np.int32), ("u", 4, np.int64)):
        if array.dtype.kind in kinds and array.dtype.itemsize <= size:
            return array.astype(target)
    if array.dtype == np.uint64:
        largest = int(array.max(initial=0))
        if largest > np.iinfo(np.int64).max:
            raise InvalidArgumentError.of(field, f"must fit an int64, got {largest}")
        return array.astype(np.int64)
    raise InvalidArgumentError.of(field, f"must hold integers or floats of up to 64 bits, got dtype {array.dtype}")


def _as_numpy(values: Any, field: str) -> Array:
    if hasattr(values, "detach"):  # a torch tensor, without importing torch
        values = values.detach().cpu()
        if "bfloat16" in str(values.dtype):  # numpy has no such type
            values = values.float()
        return np.asarray(values.numpy())
    try:
        return np.asarray(values)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidArgumentError.of(field, f"is not a rectangular array of numbers: {error}") from None
