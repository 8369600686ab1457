"""The drawings of the status page, as SVG: lines over the last minutes, and the layers of a solve."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby, pairwise

import numpy as np

from trimtab_server.history import KEPT_SECONDS, Series
from trimtab_server.recent_solves import Solve

_WIDTH, _HEIGHT = 480, 128
"""In the units of a drawing, which is stretched to its place: whole ones are fine enough, and short."""
_COLUMN, _STRIP_HEIGHT = 10, 128
_MOST_COLUMNS = 58
"""Of a solve's layers: as many as DeepSeek-V3 has; where there are more, neighbours share one."""
_STEPS = (1, 2, 2.5, 5, 10)


def ceiling(largest: float) -> float:
    """The round number that an axis ends at."""
    if largest <= 0:
        return 1.0
    power: float = 10.0 ** math.floor(math.log10(largest))
    return next(step * power for step in _STEPS if step * power >= largest * (1 - 1e-9))


def lines_chart(title: str, series: Sequence[Series], top: float, now: float) -> str:
    """Lines over the last minutes, from 0 to the top: the first solid on a shade, the others dashed.

    Args:
        title: what is to be seen, for those who can't.
        series: moments and figures; a line is broken where there is none.
        top: the figure at the upper edge.
        now: the moment at the right edge.
    """

    def x(at: float) -> float:
        return _WIDTH * (1 - (now - at) / KEPT_SECONDS)

    def y(figure: float) -> float:
        return _HEIGHT * (1 - min(figure / top, 1))

    drawn = []
    for i, line in enumerate(series):
        runs = list(_runs(line))
        if i == 0:
            shade = "".join(_shade([(x(at), y(figure)) for at, figure in run]) for run in runs)
            drawn.append(f'<path class="shade" d="{shade}"/>')
        path = "".join(_line([(x(at), y(figure)) for at, figure in run]) for run in runs)
        drawn.append(f'<path class="line{i}" d="{path}"/>')
    grid = f'<path class="grid" d="M0 0H{_WIDTH}M0 {_HEIGHT // 2}H{_WIDTH}M0 {_HEIGHT}H{_WIDTH}"/>'
    return _svg("chart", title, _WIDTH, _HEIGHT, grid + "".join(drawn))


def _runs(line: Series) -> Iterable[list[tuple[float, float]]]:
    """The stretches of a series without gaps."""
    for known, points in groupby(line, key=lambda point: point[1] is not None):
        if known:
            yield [(at, figure) for at, figure in points if figure is not None]


def _line(points: Sequence[tuple[float, float]]) -> str:
    """A path through points, from each to the next in whole units; a lone one is a dot."""
    whole = [(round(x), round(y)) for x, y in points]
    steps = [f"{x - left} {y - last}" for (left, last), (x, y) in pairwise(whole)] or ["0 0"]
    return f"M{whole[0][0]} {whole[0][1]}l{' '.join(steps)}"


def _shade(points: Sequence[tuple[float, float]]) -> str:
    return f"{_line(points)}V{_HEIGHT}H{points[0][0]:.0f}z"


def floor_of(solve: Solve) -> float:
    """The balancedness at the lower edge of a solve's strip, a tenth."""
    lowest = float(np.fmin.reduce([*solve.before.by_layer, *solve.after.by_layer]))
    return 0.9 if math.isnan(lowest) else min(math.floor(lowest * 10) / 10, 0.9)


def layers_strip(title: str, solve: Solve) -> str:
    """Balancedness by layer, from `floor_of` to 1: bars before, a stepped line after; each tells its numbers.

    Of layers that share a column, the worst is shown.
    """
    floor, share = floor_of(solve), -(-solve.layers // _MOST_COLUMNS)
    firsts = range(0, solve.layers, share)
    before, after = (np.fmin.reduceat(each.by_layer, firsts).tolist() for each in (solve.before, solve.after))

    def y(balancedness: float) -> str:
        return f"{_STRIP_HEIGHT * (1 - (balancedness - floor) / (1 - floor)):.0f}"

    columns = range(0, _COLUMN * len(firsts), _COLUMN)
    bars = [
        f"M{x + _COLUMN // 2} {_STRIP_HEIGHT}V{y(old)}"
        for x, old in zip(columns, before, strict=True)
        if not math.isnan(old)
    ]
    lines = [f"M{x} {y(new)}h{_COLUMN}" for x, new in zip(columns, after, strict=True) if not math.isnan(new)]
    named = [_layers(first, min(first + share, solve.layers) - 1) for first in firsts]
    told = [
        f'<rect x="{x}"><title>{name}: {_change(old, new)}</title></rect>'
        for x, name, old, new in zip(columns, named, before, after, strict=True)
    ]
    drawn = f'<path class="bars" d="{"".join(bars)}"/><path class="line0" d="{"".join(lines)}"/>'
    return _svg("strip", title, columns.stop, _STRIP_HEIGHT, f'{drawn}<g class="hover">{"".join(told)}</g>')


def _layers(first: int, last: int) -> str:
    return f"layer {first}" if first == last else f"layers {first} to {last}, the worst"


def _change(old: float, new: float) -> str:
    if math.isnan(new):
        return "no load"
    return f"{new:.4f}" if math.isnan(old) else f"{old:.4f} to {new:.4f}"


def _svg(kind: str, title: str, width: int, height: int, content: str) -> str:
    text = escape(title)
    frame = f'class="{kind}" viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img" aria-label="{text}"'
    return f"<svg {frame}>{content}</svg>"
