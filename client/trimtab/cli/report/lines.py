"""Figures drawn as lines and dots, told apart by marker and dash as well as by colour."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from trimtab.cli.figures import Figures
from trimtab.cli.report.drawing import COLOURS, Draw, Drawing, Margins, Mark, name_ends, number_layers
from trimtab.cli.report.findings import GainPoint
from trimtab.cli.report.gpu_loads import pool_size, told_range

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Kind = Literal["bound", "before", "after"]
MOST_COLUMNS = 128
"""Of a drawing of layers: where there are more, neighbours share one."""
_LOOKS: dict[Kind, dict[str, Any]] = {
    "bound": {"color": COLOURS["soft"], "marker": "_", "markersize": 6, "linestyle": ""},
    "before": {
        "color": COLOURS["second"],
        "marker": "s",
        "markersize": 5.5,  # seen around what came after, where that is the same
        "markerfacecolor": "none",
        "linestyle": "",
    },
    "after": {"color": COLOURS["first"], "marker": "o", "linestyle": ""},
}
_STOP: dict[str, Any] = {
    "color": COLOURS["text"],
    "markerfacecolor": COLOURS["panel"],
    "markersize": 7,
    "linestyle": "",
}
_MINE: dict[str, Any] = {"color": COLOURS["second"], "marker": "D", "markersize": 7, "linestyle": ""}
_NAMED, _PLAIN = Margins(left=64, right=104), Margins(left=64, right=12)
"""Around lines with names at their ends, and others."""
_POINT_MARKERS = "v^<>"
_MOST_MARKERS = 30
_ALIKE = 1e-6
"""Figures that differ by less."""


def draw_layers(balancedness: Mapping[Kind, Figures], name_before: str, layers: Sequence[int]) -> Draw:
    """Balancedness by layer, nan without load; of layers that share a column, the worst.

    Args:
        balancedness: [num_layers] each; "before" may be missing.
        name_before: how that is called.
        layers: [num_layers], the number of each.
    """

    def draw(drawing: Drawing) -> None:
        axes = drawing.add_axes(_NAMED)
        size = pool_size(len(layers), MOST_COLUMNS)
        firsts = np.arange(0, len(layers), size)
        middles = firsts + (size - 1) / 2
        shown = {kind: np.fmin.reduceat(each, firsts) for kind, each in balancedness.items()}
        names = {kind: name_before if kind == "before" else kind for kind in shown}
        if "before" in shown:
            axes.vlines(middles, shown["before"], shown["after"], colors=COLOURS["rule"], linewidth=1.5, zorder=0)
        for kind, each in shown.items():
            axes.plot(middles, each, **_LOOKS[kind])
        _frame(axes, "layer", "balancedness")
        _spread(axes, list(shown.values()))
        margin = 0.5 + size * len(firsts) / 100
        axes.set_xlim(-margin, size * len(firsts) - 1 + margin)
        number_layers(axes.xaxis, layers)
        for place, first in enumerate(firsts.tolist()):
            numbers = ", ".join(f"{names[kind]} {_told(each[place])}" for kind, each in shown.items())
            _mark_column(
                drawing, axes, first - 0.5, first + size - 0.5, f"{told_range('layer', layers, place, size)}: {numbers}"
            )
        name_ends(axes, {names[kind]: (_last(each), _LOOKS[kind]) for kind, each in shown.items()})

    return draw


def draw_curve(curve: Figures, points: Sequence[GainPoint], mine: tuple[int, float]) -> Draw:
    """What moves buy, [points, 2], with the points at which to stop, and where this placement did."""

    def draw(drawing: Drawing) -> None:
        axes = drawing.add_axes(_PLAIN)
        axes.plot(curve[:, 0], curve[:, 1], color=COLOURS["first"], zorder=1)
        marked = [(told_gain(point), point.moves, point.balancedness) for point in points]
        for (label, *at), marker in zip(marked, _POINT_MARKERS, strict=False):
            axes.plot(*at, marker=marker, label=f"{label}: {at[0]:,} moves", **_STOP)
        axes.plot(*mine, label=f"this placement: {mine[0]:,} moves", **_MINE)
        _frame(axes, "moves", "balancedness")
        axes.legend(loc="lower right", labelspacing=0.6, handletextpad=0.3, borderpad=0.2)
        _mark_points(drawing, axes, curve)

    return draw


def told_gain(point: GainPoint) -> str:
    """Half of the gain, or 90 % of it."""
    return "half of the gain" if point.share == 0.5 else f"{point.share:.0%} of the gain"  # noqa: PLR2004


def _mark_points(drawing: Drawing, axes: Axes, curve: Figures) -> None:
    """Each point of a curve tells its numbers, as far as half the way to its neighbours."""
    moves = curve[:, 0]
    low, high = axes.get_xlim()
    edges = [low, *((moves[1:] + moves[:-1]) / 2).tolist(), high]
    for (left, right), (at, value) in zip(pairwise(edges), curve.tolist(), strict=True):
        _mark_column(drawing, axes, left, right, f"{at:,.0f} moves: balancedness {value:.4f}")


def draw_series(
    what: str,
    lines: dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]],
    looks: dict[str, dict[str, Any]],
    show: Callable[[float], str],
) -> Draw:
    """Lines over windows, each with its name at its end.

    Args:
        what: the axis says.
        lines: windows and values, by name.
        looks: by name.
        show: a value in words.
    """

    def draw(drawing: Drawing) -> None:
        axes = drawing.add_axes(_NAMED)
        draw_lines(axes, what, lines, looks)
        axes.set_xlabel("window")
        windows = next(iter(lines.values()))[0]
        for place, window in enumerate(windows.tolist()):
            numbers = ", ".join(f"{name} {_told(value[place], show)}" for name, (_, value) in lines.items())
            _mark_column(drawing, axes, window - 0.5, window + 0.5, f"window {window}: {numbers}")

    return draw


def draw_lines(
    axes: Axes,
    what: str,
    lines: dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]],
    looks: dict[str, dict[str, Any]],
) -> None:
    """The same in axes that are there, without the numbers that a page tells."""
    for name, (window, value) in lines.items():
        axes.plot(window, value, markevery=max(len(window) // _MOST_MARKERS, 1), **looks[name])
    _frame(axes, "", what)
    _spread(axes, [value for _, value in lines.values()])
    name_ends(axes, {name: (_last(value), looks[name]) for name, (_, value) in lines.items()})


def _frame(axes: Axes, across: str, up: str) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator  # noqa: PLC0415  # only who draws needs it

    axes.set(xlabel=across, ylabel=up)
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def _spread(axes: Axes, values: Sequence[npt.NDArray[Any]]) -> None:
    """Keep an axis from magnifying nothing: of figures that are all alike, or of none."""
    known = np.concatenate(values)
    known = known[~np.isnan(known)]
    if not known.size:
        axes.set_ylim(0.0, 1.0)
    elif np.ptp(known) < _ALIKE:
        axes.set_ylim(known.min() - 0.1, known.max() + 0.01)


def _mark_column(drawing: Drawing, axes: Axes, left: float, right: float, told: str) -> None:
    bottom, top = axes.get_ylim()
    drawing.marks.append(Mark(axes, left, right, bottom, top, told))


def _last(values: npt.NDArray[Any]) -> float:
    """The last that there is."""
    known = values[~np.isnan(values)]
    return float(known[-1]) if len(known) else float("nan")


def _told(value: float, show: Callable[[float], str] = "{:.4f}".format) -> str:
    return "none" if np.isnan(value) else show(value)
