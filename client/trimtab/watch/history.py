"""The windows that decisions are made from: the latest so many, all of one shape."""

from __future__ import annotations

from collections import deque

import numpy as np

from trimtab.formats import LoadWindows
from trimtab.formats.stored import Array, Layers


class History:
    """At most `most` windows, the latest last."""

    def __init__(self, most: int) -> None:
        self._windows: deque[Array] = deque(maxlen=most)
        self._layers: Layers | None = None

    def __len__(self) -> int:
        return len(self._windows)

    @property
    def most(self) -> int:
        """Windows that it keeps."""
        return self._windows.maxlen or 0

    @property
    def shape(self) -> str:
        """Its layers and experts, as words."""
        return "nothing" if self._layers is None else _shape(self._layers, self._windows[-1])

    def fits(self, windows: LoadWindows) -> bool:
        """Whether these have the layers and experts of those it has; anything fits where it has none."""
        if self._layers is None:
            return True
        same_layers = np.array_equal(self._layers, windows.layers)
        return same_layers and self._windows[-1].shape == windows.load.shape[1:]

    def add(self, windows: LoadWindows) -> None:
        """Take windows; those of another shape push all others out."""
        if not self.fits(windows):
            self.clear()
        self._layers = windows.layers
        self._windows.extend(windows.load[-self.most :])

    def clear(self) -> None:
        """Forget all windows."""
        self._windows.clear()
        self._layers = None

    @property
    def windows(self) -> LoadWindows | None:
        """All of them; None where there are none."""
        if self._layers is None:
            return None
        return LoadWindows(np.stack(self._windows), self._layers, len(self._windows))


def told_shape(windows: LoadWindows) -> str:
    """Layers and experts, as words."""
    return _shape(windows.layers, windows.load[0])


def _shape(layers: Layers, window: Array) -> str:
    return f"{len(layers)} layers ({layers[0]} to {layers[-1]}) of {window.shape[1]} experts"
