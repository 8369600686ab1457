"""Matrices drawn as maps of colours that go from dark to light, so that they can be read in grey too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trimtab.cli.figures import Figures
from trimtab.cli.report.drawing import COLOURS, Draw, Drawing, Margins, Mark, number_layers
from trimtab.cli.report.gpu_loads import pool, pool_size, told_range
from trimtab.cli.report.page import told_count
from trimtab.cli.report.transfers import Copies, Transfers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.image import AxesImage

MOST_PLACES = 128
"""In a row or a column of a map: of what is finer, neighbours share a place."""
_COLOURS = "cividis"
_MARGINS = Margins(left=54, right=68)
_TITLES_HEIGHT = 48
"""At the top, where a name and titles stand there."""
_SCALE_GAP, _SCALE_WIDTH = 10, 9
_OVER_MEAN = "load / mean"
_NO_SPREAD = 0.01
"""A scale goes so far to both sides at least, that rounding does not look like imbalance."""
_LEAST_SIDE = 0.25
"""Of one side of a scale to the other, that the smaller one looks smaller."""


@dataclass(frozen=True)
class Scale:
    """What the ends of the colours stand for; the middle colour is 1, so balance always looks the same."""

    low: float
    high: float

    @classmethod
    def of(cls, *maps: Figures) -> Scale:
        """From the least to the largest figure of all of them."""
        known = np.concatenate([each[~np.isnan(each)] for each in maps])
        spread = max(float(np.abs(known - 1).max(initial=0.0)) * _LEAST_SIDE, _NO_SPREAD)
        return cls(max(float(known.min(initial=1 - spread)), 0.0), float(known.max(initial=1 + spread)))

    @property
    def ticks(self) -> list[float]:
        """The ends, the middle, and half way."""
        return [self.low, (self.low + 1) / 2, 1.0, (1 + self.high) / 2, self.high]


def draw_levels(levels: Mapping[str, Figures], layers: Sequence[int], scale: Scale, name: str = "") -> Draw:
    """Maps of layers by GPUs, side by side, on one scale.

    Args:
        levels: [num_layers, num_gpus] each, by title.
        layers: [num_layers], the number of each.
        scale: of all of them.
        name: stands above them.
    """

    def draw(drawing: Drawing) -> None:
        drawing.add_name(name)
        top = _MARGINS.top if not name else _TITLES_HEIGHT
        width = (drawing.width - _MARGINS.right) / len(levels)
        for place, (title, level) in enumerate(levels.items()):
            right = drawing.width - (place + 1) * width
            axes = drawing.add_axes(Margins(place * width + _MARGINS.left, right, top=top))
            image = _draw_level(drawing, axes, level, layers, scale)
            axes.set(title=title, xlabel="GPU", ylabel="layer")
        _draw_scale(drawing, image, top, _OVER_MEAN, scale.ticks)

    return draw


def pooled_levels(level: Figures) -> Figures:
    """What a map shows: of GPUs and layers that share a place, the heaviest."""
    found: Figures = pool(level, MOST_PLACES, np.fmax)
    return found


def _draw_level(drawing: Drawing, axes: Axes, level: Figures, layers: Sequence[int], scale: Scale) -> AxesImage:
    from matplotlib.colors import TwoSlopeNorm  # noqa: PLC0415  # only who draws needs it

    shown, gpus = pooled_levels(level), range(level.shape[1])
    rows, columns = (pool_size(count, MOST_PLACES) for count in level.shape)

    def told(row: int, column: int) -> str:
        where = f"{told_range('layer', layers, row, rows)}, {told_range('GPU', gpus, column, columns)}"
        return f"{where}: {told_level(shown[row, column])}"

    axes.patch.set(facecolor=COLOURS["panel"], edgecolor=COLOURS["rule"], hatch="/////", linewidth=0)
    image = _draw_map(axes, shown, TwoSlopeNorm(1.0, scale.low, scale.high), (rows, columns))
    number_layers(axes.yaxis, layers)
    _mark_places(drawing, axes, (rows, columns), shown.shape, told)
    return image


def told_level(level: float) -> str:
    """A figure of a map."""
    return "none" if np.isnan(level) else f"{level:.3f}"


def _draw_map(axes: Axes, shown: npt.NDArray[Any], norm: Normalize, sizes: tuple[int, int]) -> AxesImage:
    """The map itself; what has no figure shows the ground."""
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415  # as above

    height, width = (count * size for count, size in zip(shown.shape, sizes, strict=True))
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    image = axes.imshow(shown, _COLOURS, aspect="auto", norm=norm, extent=extent)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    axes.spines[:].set_visible(True)
    return image


def _draw_scale(
    drawing: Drawing, image: AxesImage, top: float, what: str, ticks: Sequence[float] | None = None
) -> None:
    """To the right of all maps."""
    left = drawing.width - _MARGINS.right + _SCALE_GAP
    axes = drawing.add_axes(Margins(left, drawing.width - left - _SCALE_WIDTH, top=top))
    bar = drawing.figure.colorbar(image, cax=axes, label=what, ticks=ticks, format="%.2f")
    bar.outline.set_edgecolor(COLOURS["soft"])
    bar.solids.set_rasterized(True)  # type: ignore[union-attr]  # a scale that is filled has them


def _mark_places(
    drawing: Drawing,
    axes: Axes,
    sizes: tuple[int, int],
    shape: tuple[int, ...],
    told: Callable[[int, int], str],
) -> None:
    rows, columns = sizes
    drawing.marks.extend(
        Mark(
            axes,
            left=column * columns - 0.5,
            right=(column + 1) * columns - 0.5,
            bottom=(row + 1) * rows - 0.5,
            top=row * rows - 0.5,
            told=told(row, column),
        )
        for row in range(shape[0])
        for column in range(shape[1])
    )


def draw_transfers(transfers: Transfers, gib_per_copy: float) -> Draw:
    """A map of GPUs that send by GPUs that receive, below it what is loaded from storage, where something is."""

    def draw(drawing: Drawing) -> None:
        from matplotlib.colors import PowerNorm  # noqa: PLC0415  # as above

        axes = drawing.add_axes(_MARGINS)
        copies, gpus = pooled_transfers(transfers), range(len(transfers.loaded))
        size = pool_size(len(gpus), MOST_PLACES)
        has_loaded = len(copies) > copies.shape[1]

        def told(row: int, column: int) -> str:
            source = told_range("GPU", gpus, row, size) if row < copies.shape[1] else "storage"
            what = f"{told_count(copies[row, column], 'copy', 'copies')}, {gib[row, column]:.2f} GiB"
            return f"{source} to {told_range('GPU', gpus, column, size)}: {what}"

        gib = copies * gib_per_copy
        norm = PowerNorm(0.5, 0.0, float(gib.max()))  # so that one copy beside many is seen too
        image = _draw_map(axes, gib, norm, (size, size))
        _mark_places(drawing, axes, (size, size), copies.shape, told)
        axes.set(xlabel="to GPU", ylabel="from GPU")
        if has_loaded:
            _name_last_row(axes, copies.shape[1] * size, size)
        _draw_scale(drawing, image, _MARGINS.top, "GiB")

    return draw


def pooled_transfers(transfers: Transfers) -> Copies:
    """[places, places]: copies by who sends and who receives; one row more, of what is loaded, where there is any."""
    sent, loaded = (pool(each, MOST_PLACES, np.add) for each in (transfers.sent, transfers.loaded[None]))
    return np.concatenate([sent, loaded]) if loaded.any() else sent


def _name_last_row(axes: Axes, top: int, size: int) -> None:
    """That of storage, which is no GPU."""
    ticks = [tick for tick in axes.get_yticks() if 0 <= tick < top - size]
    axes.set_yticks([*ticks, top + (size - 1) / 2], [*(f"{tick:.0f}" for tick in ticks), "storage"])
    axes.axhline(top - 0.5, color=COLOURS["text"], linewidth=1)
