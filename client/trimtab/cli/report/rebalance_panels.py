"""The drawings and tables of a rebalance, each with the words that say what is to be seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trimtab.cli.figures import Figures, worst_layers
from trimtab.cli.report.drawing import as_svg
from trimtab.cli.report.findings import HotExpert
from trimtab.cli.report.gpu_loads import GpuLoads, pool_size, told_range
from trimtab.cli.report.heatmaps import (
    MOST_PLACES,
    Scale,
    draw_levels,
    pooled_levels,
    told_level,
)
from trimtab.cli.report.lines import Kind, draw_curve, draw_layers, told_gain
from trimtab.cli.report.page import make_figure, make_grid, make_paragraph, make_table, sentence
from trimtab.cli.report.rebalance_words import IN_ORDER, told_balancedness
from trimtab.cli.report.rebalanced import Rebalanced

_WIDTH, _HEIGHT = 420, 250
_LEAST_MAP, _MOST_MAP, _PER_LAYER = 130, 330, 5
"""Heights of a map."""
_MOST_GPUS_NAMED = 16
_NUM_WORST = 3


def make_maps(found: Rebalanced) -> str:
    """What each GPU carries of each layer, before and after, on one scale."""
    kinds = {name: loads for name, loads in titles(found).items() if loads is not None}
    scale = Scale.of(*(loads.level for loads in kinds.values()))
    maps = [
        _make_map(found, name, loads.level, scale, f"map{place}") for place, (name, loads) in enumerate(kinds.items())
    ]
    return make_paragraph(_what_maps_show(found)) + make_grid(*maps)


def titles(found: Rebalanced) -> dict[str, GpuLoads | None]:
    """The maps by what they are called."""
    before = "Before" if found.previous is not None else f"Not placed: {IN_ORDER}"
    return {before: found.gpus_before, "After": found.gpus_after}


def _what_maps_show(found: Rebalanced) -> str:
    windows, layers, _ = found.windows.shape
    speed = " over its speed" if found.gpus.gpu_speed is not None else ""
    what = f"The load of each GPU{speed} over its layer's mean"
    told = [f"{what}: 1, in mid grey, is balance; brighter is more, darker less"]
    if windows > 1:
        told.append(f"The mean of {windows} windows: what is heavy in one of them only shows less")
    if found.previous is None and found.gpus_before is not None:
        told.append("No placement before was given: it is compared with experts in order, as engines start without one")
    elif found.gpus_before is None:
        told.append("No placement before was given, so this shows the one made")
    blank = [
        *(["layers without load"] if found.without_load else []),
        *([] if found.gpus.live.all() else ["inactive GPUs"]),
    ]
    if blank:
        told.append(f"Hatched: {' and '.join(blank)}")
    shared = [
        f"{size} neighbouring {what}"
        for what, size in (
            ("GPUs", pool_size(found.gpus.num_gpus, MOST_PLACES)),
            ("layers", pool_size(layers, MOST_PLACES)),
        )
        if size > 1
    ]
    if shared:
        told.append(f"{' and '.join(shared)} share a place, which shows the heaviest")
    return f"{'. '.join(told)}."


def _make_map(found: Rebalanced, name: str, level: Figures, scale: Scale, key: str) -> str:
    layers, gpus = found.layers, range(found.gpus.num_gpus)
    height = min(max(60 + _PER_LAYER * len(layers), _LEAST_MAP), _MOST_MAP)
    text = _extremes(level, layers)
    draw = draw_levels({"": level}, layers, scale)
    svg = as_svg(draw, _WIDTH, height, key, f"{name}: load by layer and GPU. {text}")
    shown = pooled_levels(level)
    rows, columns = (pool_size(count, MOST_PLACES) for count in level.shape)
    heads = ("layer", *(told_range("GPU", gpus, place, columns) for place in range(shown.shape[1])))
    cells = (
        (told_range("layer", layers, place, rows), *map(told_level, values))
        for place, values in enumerate(shown.tolist())
    )
    return make_figure(name, text, svg, make_table(f"{name}: load over the layer's mean", heads, cells))


def _extremes(level: Figures, layers: Sequence[int]) -> str:
    """Where the heaviest and the lightest GPU are."""
    if np.isnan(level).all():
        return "No layer has load."
    places = [divmod(int(find(level)), level.shape[1]) for find in (np.nanargmax, np.nanargmin)]
    heavy, light = (f"{level[row, gpu]:.3f} (layer {layers[row]}, GPU {gpu})" for row, gpu in places)
    return f"Heaviest {heavy}, lightest {light}."


def make_balance(found: Rebalanced) -> str:
    """Balancedness by layer, and against moves."""
    after = found.balancedness_after
    if after is None or not len(found.placement.curve):
        return make_grid(_make_layers(found))
    if not found.points:
        return make_grid(_make_layers(found)) + make_paragraph("No number of moves would gain anything.")
    return make_grid(_make_layers(found), _make_curve(found, after))


def _make_layers(found: Rebalanced) -> str:
    placement, before = found.placement, found.layers_before
    name = "before" if found.previous is not None else IN_ORDER
    worst = [found.layers[row] for row in worst_layers(placement.balancedness_after)[:_NUM_WORST]]
    text = f"Worst after: {_told_layers(worst)}." if worst else "No layer has load."
    kinds: dict[Kind, Figures] = {"bound": placement.bound, "after": placement.balancedness_after}
    kinds |= {} if before is None else {"before": before}
    told = f"Balancedness by layer: {', '.join(kinds)}. {text}"
    svg = as_svg(draw_layers(kinds, name, found.layers), _WIDTH, _HEIGHT, "layers", told)
    columns: list[tuple[str, Kind]] = [(name, "before"), ("after", "after"), ("bound", "bound")]
    shown = {head: kinds[kind] for head, kind in columns if kind in kinds}
    rows = (
        (str(layer), *(told_balancedness(each[row]) for each in shown.values()), f"{placement.moves[row]:,}")
        for row, layer in enumerate(found.layers)
    )
    numbers = make_table("Balancedness by layer", ("layer", *shown, "moves"), rows)
    return make_figure("Balancedness by layer", text, svg, numbers)


def _told_layers(layers: list[int]) -> str:
    return f"{'layers' if len(layers) > 1 else 'layer'} {', '.join(map(str, layers))}"


def _make_curve(found: Rebalanced, after: float) -> str:
    curve, points = found.placement.curve, found.points
    stops = [f"{told_gain(point)} takes {point.moves:,} moves" for point in points]
    everything = f"all of it {curve[-1, 0]:,.0f}, to {curve[-1, 1]:.4f}"
    text = sentence(f"{', '.join(stops)}, {everything}")
    draw = draw_curve(curve, points, (found.num_moves, after))
    rows = [(f"{moves:,.0f}", f"{value:.4f}") for moves, value in curve.tolist()]
    numbers = make_table("What moves buy", ("moves", "balancedness"), rows)
    svg = as_svg(draw, _WIDTH, _HEIGHT, "curve", f"Balancedness against moves. {text}")
    return make_figure("What moves buy", text, svg, numbers)


def make_hottest(found: Rebalanced) -> str:
    """The experts with the largest shares of their layers."""
    if not found.hottest:
        return make_paragraph("No layer has any load.")
    has_before = found.previous is not None
    heads = ["layer", "expert", "load/mean", "replicas", "GPUs"]
    if has_before:
        heads = ["layer", "expert", "load/mean", "replicas before", "after", "GPUs before", "GPUs after"]
    words = {5, 6} if has_before else {4}
    rows = [_hot_row(found.layers[hot.layer], hot, has_before=has_before) for hot in found.hottest]
    caption = f"The {len(rows)} with the most load over the mean of their layer's experts; a GPU holds each replica"
    return make_table(caption, heads, rows, words)


def _hot_row(layer: int, hot: HotExpert, *, has_before: bool) -> list[str]:
    kinds = [hot.gpus_before, hot.gpus_after] if has_before else [hot.gpus_after]
    counts, gpus = [str(len(each)) for each in kinds], [_gpus(each) for each in kinds]
    return [str(layer), str(hot.expert), f"{hot.share:.1f}", *counts, *gpus]


def _gpus(gpus: tuple[int, ...]) -> str:
    named = ", ".join(map(str, gpus[:_MOST_GPUS_NAMED])) or "none"
    more = len(gpus) - _MOST_GPUS_NAMED
    return f"{named} and {more} more" if more > 0 else named
