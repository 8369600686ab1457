"""`.safetensors` with many equal tensors, read one by one: the format's own library maps and holds all of a file.

A file is the length of a header (8 bytes), the header (JSON: for each name the type, shape and place), and the data.
"""

from __future__ import annotations

import json
import os
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from trimtab.formats.errors import FileError
from trimtab.formats.source import Source, quote
from trimtab.formats.stored import Array

_LENGTH = 8
_LONGEST_HEADER = 100_000_000
"""The format's own limit."""
_TYPES: dict[str, np.dtype[Any]] = {"I32": np.dtype("<i4"), "I64": np.dtype("<i8")}
_FIELDS = {"dtype", "shape", "data_offsets"}
_ABOUT = "__metadata__"


class EqualTensors:
    """Tensors of counts, all of one type and one length; each is read when it is asked for."""

    def __init__(self, source: Source, file: BinaryIO) -> None:
        """Read the header.

        Args:
            source: what messages name.
            file: its bytes, unbuffered; it has to stay open.

        Raises:
            FileError: not whole, or tensors of other types or shapes.
        """
        self._source, self._file = source, file
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(_LENGTH), "little")
        if not 0 < length <= min(_LONGEST_HEADER, size - _LENGTH):
            raise self._broken(f"its header claims {length} bytes, the file has {size}")
        kinds, places = self._header(file.read(length))
        self._data = _LENGTH + length
        self._dtype, self.length = self._kind(kinds)
        if self.length > size:
            raise self._broken(f"its header tells of tensors of length {quote(self.length)}, the file has {size} bytes")
        self._num_bytes = self.length * self._dtype.itemsize
        self.names = list(places)
        self._begins = np.array(list(places.values()))
        """[num_tensors]: bytes into the data."""
        expected = np.arange(len(places)) * self._num_bytes
        if size - self._data != expected.size * self._num_bytes or not np.array_equal(np.sort(self._begins), expected):
            raise self._broken(f"its data have {size - self._data} bytes, not those that its header tells of")

    def _broken(self, problem: str) -> FileError:
        return FileError(self._source.name, f"is no whole .safetensors file: {problem}; was it cut off?")

    def _header(self, text: bytes) -> tuple[set[Any], dict[str, int]]:
        """Types and shapes, and where each tensor begins."""
        kinds = set()

        def begin_of(pairs: list[tuple[str, Any]]) -> Any:
            """Made as soon as it is parsed: there can be half a million tensors, and dictionaries are large."""
            found = dict(pairs)
            if found.keys() != _FIELDS:
                return found
            kinds.add((found["dtype"], *found["shape"]))
            return found["data_offsets"][0]

        try:
            places = json.loads(text, object_pairs_hook=begin_of)
        except (ValueError, RecursionError, TypeError, LookupError) as error:
            raise self._broken(f"its header is not as the format has it ({error})") from None
        if isinstance(places, dict):
            places.pop(_ABOUT, None)
        if not isinstance(places, dict) or not places or not all(type(begin) is int for begin in places.values()):
            raise self._broken(f"its header holds {quote(places)}")
        return kinds, places

    def _kind(self, kinds: set[Any]) -> tuple[np.dtype[Any], int]:
        found = sorted(map(str, kinds))
        if len(kinds) != 1:
            raise FileError(self._source.name, f"its tensors must be of one type and length, are {quote(found)}")
        dtype, *shape = kinds.pop()
        length = shape[0] if len(shape) == 1 else None
        if dtype not in _TYPES or not isinstance(length, int) or length < 1:
            rule = f"its tensors must be lists of type {' or '.join(_TYPES)}"
            raise FileError(self._source.name, f"{rule}, have type and shape {found[0]}")
        return _TYPES[dtype], length

    def read(self, indices: npt.NDArray[np.int64]) -> Array:
        """Tensors by their index into `names`, each once, [num_tensors, length]."""
        begins, size = self._begins[indices], self._num_bytes
        first, number = int(begins.min()), len(begins)
        if begins.max() == first + (number - 1) * size:  # side by side, as its own library puts names in order
            whole = self._read_at(first, number * size).reshape(number, self.length)
            return whole.take((begins - first) // size, axis=0)
        return np.stack([self._read_at(begin, size) for begin in begins.tolist()])

    def _read_at(self, begin: int, size: int) -> Array:
        return np.frombuffer(os.pread(self._file.fileno(), size, self._data + begin), self._dtype)
