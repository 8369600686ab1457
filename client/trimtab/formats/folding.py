"""Windows put together as they come: all of them, or sums of neighbours, so that any recording fits in a request."""

from __future__ import annotations

import math

import numpy as np

from trimtab.formats.errors import FileError
from trimtab.formats.source import Source
from trimtab.formats.stored import Array

_BLOCK = 64
"""Windows looked at together."""
_BLOCK_BYTES = 1 << 26
"""Of a block of windows; so large a one is given back to the system when it is let go."""
_MOST_EXACT = 1 << 40
"""Larger counts are summed as floats, since sums of millions of them may not fit an int64."""
_RANKS = (2, 3)
"""Without and with windows."""


class Folding:
    """Takes windows of one shape, one after the other."""

    def __init__(self, at_most: int | None) -> None:
        self._kept = _Windows() if at_most is None else _Sums(at_most)
        self._shape: tuple[int, ...] | None = None
        self.num_read = 0

    def add(self, source: Source, load: Array) -> None:
        """Take more windows, [num_windows, num_layers, num_experts], or one, [num_layers, num_experts].

        Raises:
            FileError: another shape, also than that of windows before, or a load that is none.
        """
        self._check_shape(source, load)
        load = load.reshape(-1, *load.shape[-2:])
        for begin in range(0, len(load), _BLOCK):
            _check_values(source, load[begin : begin + _BLOCK], begin)
        self._kept.take(load)
        self.num_read += len(load)

    def _check_shape(self, source: Source, load: Array) -> None:
        if load.ndim not in _RANKS or not load.size:
            rule = "must have shape [layers, experts] or [windows, layers, experts], none of them 0"
            raise FileError(source.name, f"its loads have shape {list(load.shape)}; they {rule}")
        shape = load.shape[-2:]
        self._shape = self._shape or shape
        if shape != self._shape:
            rule = f"has {list(shape)} layers and experts, those before have {list(self._shape)}"
            raise FileError(source.name, f"{rule}; windows must be of one shape, give those of one model")

    def windows(self) -> Array:
        """[num_windows, num_layers, num_experts]: what was taken; at least one window must have been."""
        return self._kept.windows()


class _Windows:
    """Every window: as it came, where it came alone or with many others, else in blocks."""

    def __init__(self) -> None:
        self._blocks: list[Array] = []
        self._open: Array | None = None
        """The last block while it has room."""
        self._filled = 0
        """Windows in it."""

    def take(self, load: Array) -> None:
        if load.nbytes >= _BLOCK_BYTES:
            self._close()
            self._blocks.append(load)
            return
        while len(load):
            if self._open is None or self._filled == len(self._open) or self._open.dtype != load.dtype:
                self._close()
                in_block = max(len(load), _BLOCK_BYTES // load[0].nbytes)
                self._open = np.empty((in_block, *load.shape[1:]), load.dtype)  # its memory is used as it fills
            room = self._open[self._filled :]
            number = min(len(room), len(load))
            room[:number] = load[:number]
            self._filled += number
            load = load[number:]

    def _close(self) -> None:
        if self._open is not None:
            self._blocks.append(self._open[: self._filled])
        self._open, self._filled = None, 0

    def windows(self) -> Array:
        self._close()
        if len(self._blocks) > 1:
            self._blocks = [self._joined()]
        return self._blocks[0]

    def _joined(self) -> Array:
        """All blocks, which are let go one by one, so that there never are two of everything."""
        dtype = np.result_type(*(block.dtype for block in self._blocks))
        windows = np.empty((sum(map(len, self._blocks)), *self._blocks[0].shape[1:]), dtype)
        begin = 0
        while self._blocks:
            block = self._blocks.pop(0)
            windows[begin : begin + len(block)] = block
            begin += len(block)
        return windows


class _Sums:
    """At most so many windows: whenever there would be more, neighbours are summed by two.

    So all sums stand for equally many windows, but the last, which may stand for fewer; if it stands for less than half
    of what the others do, it is added to the one before it.
    """

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._kept: list[Array] = []
        """[num_layers, num_experts] each."""
        self._each = 1
        """Windows that a sum stands for, when it is complete."""
        self._in_last = 0
        """Those that the last sum has so far."""

    def take(self, load: Array) -> None:
        for window in load:
            self._add(window)

    def _add(self, window: Array) -> None:
        if self._in_last == self._each or not self._kept:
            self._kept.append(np.zeros(window.shape, np.int64))
            self._in_last = 0
        if window.dtype.kind == "f" or window.max() > _MOST_EXACT:
            self._kept[-1] = self._kept[-1].astype(np.float64, copy=False)
        self._kept[-1] += window
        self._in_last += 1
        if len(self._kept) == 2 * self._at_most:
            self._halve()

    def _halve(self) -> None:
        if len(self._kept) % 2 == 0:
            self._in_last += self._each
        pairs = [self._kept[index : index + 2] for index in range(0, len(self._kept), 2)]
        self._kept = [sum(pair[1:], pair[0]) for pair in pairs]
        self._each *= 2

    def windows(self) -> Array:
        if len(self._kept) > self._at_most:
            self._halve()
        if len(self._kept) > 1 and 2 * self._in_last < self._each:
            last = self._kept.pop()
            self._kept[-1] = self._kept[-1] + last
            self._in_last += self._each
        return np.stack(self._kept)


def _check_values(source: Source, load: Array, first: int) -> None:
    if load.min() >= 0 and load.max() < math.inf:  # neither is true of a NaN
        return
    wrong = ~np.isfinite(load) | (load < 0)
    where = [int(i) for i in np.unravel_index(int(wrong.argmax()), load.shape)]
    window = [where[0] + first, *where[1:]]
    raise FileError(source.name, f"every load must be finite and at least 0, got {load[tuple(where)]} at {window}")
